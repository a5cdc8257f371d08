//! A schema of our own, made and upgraded by whoever finds it missing or older.

use std::time::Instant;

use postgres_types::Type;

use super::failure::Failure;
use super::session::Session;

/// What the functions of all stores use; to be the first of a part's SQL.
pub(crate) const COMMON: &str = include_str!("sql/common.sql");

/// What functions are called with. Nobody waits for a lock longer than a call may last. Plans are made once a connection
/// and not for each call, and always go by the indexes: a plan that was made while a table was empty, or for values that
/// are more common than others, would read all of it later. Where there is no index, such a plan seems so dear that the
/// server would compile it, which takes far longer than it does.
const SETTINGS: &str = "SET lock_timeout = '4s' SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off SET jit = off";

/// What a store needs in the schema.
pub(crate) struct Upgrade<'a> {
    /// Names the part of the schema that is this store's.
    pub(crate) part: &'static str,
    /// Rises with every change of the SQL.
    pub(crate) version: i64,
    /// Each may run on any older version, and leaves what older programs use. `@schema@` stands for the schema, and
    /// `@settings@` for what functions are called with.
    pub(crate) sql: &'a [&'static str],
}

/// A name as SQL has it.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Brings the schema up to this version, unless it is there or beyond it. Others who do the same wait, and find it done.
pub(crate) fn upgrade(
    session: &mut Session,
    schema: &str,
    upgrade: &Upgrade<'_>,
    deadline: Instant,
) -> Result<(), Failure> {
    let Upgrade { part, version, .. } = upgrade;
    if self::version(session, schema, part, deadline)? >= *version {
        return Ok(());
    }
    let made = make(session, schema, upgrade, deadline);
    if made.is_err() {
        // Or whoever has the connection next would be told that the transaction has failed.
        let _ = session.batch("ROLLBACK", deadline);
    }
    made
}

fn make(
    session: &mut Session,
    schema: &str,
    upgrade: &Upgrade<'_>,
    deadline: Instant,
) -> Result<(), Failure> {
    let Upgrade { part, version, sql } = upgrade;
    let name = quoted(schema);
    let literal = format!("'{}'", schema.replace('\'', "''"));
    // Somebody else's schema of that name may be there, or one that an administrator made for us.
    let opening = format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED;
         SET LOCAL client_min_messages = warning;
         SET LOCAL standard_conforming_strings = on;
         SELECT pg_advisory_xact_lock(hashtextextended('driftlock schema ' || {literal}, 0));
         DO $do$ BEGIN
           IF to_regnamespace(quote_ident({literal})) IS NULL THEN CREATE SCHEMA {name}; END IF;
         END $do$;
         CREATE TABLE IF NOT EXISTS {name}.versions (part text PRIMARY KEY, version bigint NOT NULL);"
    );
    session.batch(&opening, deadline)?;
    // Whoever had to wait finds it done. Making it again would lock tables that others work with by now, in another
    // order than theirs.
    if self::version(session, schema, part, deadline)? >= *version {
        return session.batch("COMMIT", deadline);
    }
    let mut batch = String::new();
    for part in *sql {
        batch.push_str(
            &part
                .replace("'@schema@.", &format!("'{}.", name.replace('\'', "''")))
                .replace("@schema@", &name)
                .replace("@settings@", SETTINGS),
        );
        batch.push('\n');
    }
    let noted = format!(
        "INSERT INTO {name}.versions AS v VALUES ('{part}', {version})
           ON CONFLICT (part) DO UPDATE SET version = greatest(v.version, excluded.version);
         COMMIT;"
    );
    session.batch(&(batch + &noted), deadline)
}

/// The version of a part of the schema; 0 where there is none. Makes nothing.
pub(crate) fn version(
    session: &mut Session,
    schema: &str,
    part: &str,
    deadline: Instant,
) -> Result<i64, Failure> {
    let (schema, name) = (quoted(schema), format!("{}.versions", quoted(schema)));
    let exists = session.query("SELECT to_regclass($1) IS NOT NULL", &[(&name, Type::TEXT)], deadline)?;
    if !exists.first().and_then(|row| row.try_get(0).ok()).unwrap_or(false) {
        return Ok(0);
    }
    let sql = format!("SELECT version FROM {schema}.versions WHERE part = $1");
    let rows = session.query(&sql, &[(&part, Type::TEXT)], deadline)?;
    Ok(rows.first().and_then(|row| row.try_get(0).ok()).unwrap_or(0))
}
