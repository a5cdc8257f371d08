//! No call reads a whole table, however its plan came about, and none has its plan compiled.

use super::super::{Address, Pool};
use super::*;

/// For the client `$client`, in the schema `@`.
const ATTEST: &str =
    "SELECT * FROM @.attest_1(ARRAY[gen_random_uuid()], false, '{1}', '{\\x01}', '{1}', '{t}', '{p}', '{h}', '{low}',
       '{NULL}', '{NULL}', '{NULL}', '{NULL}', $client, false, NULL, NULL, NULL, NULL)";

/// How often calls, made on a connection of their own, read whole tables.
fn whole_reads(place: &Place<'_>, calls: &[&str]) -> i64 {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    let mut session = Pool::new(Address::parse(&place.url()).unwrap()).connect(deadline).unwrap();
    session.batch("BEGIN", deadline).unwrap();
    let schema = quoted(&place.schema);
    for call in calls {
        session.query(&call.replace('@', &schema), &[], deadline).unwrap();
    }
    let sql = "SELECT coalesce(sum(seq_scan), 0)::bigint FROM pg_stat_xact_user_tables WHERE schemaname = $1";
    session.query(sql, &[(&place.schema, postgres_types::Type::TEXT)], deadline).unwrap()[0].get(0)
}

#[test]
fn plans_that_were_made_while_tables_were_empty_are_good_for_full_ones() {
    let Some(server) = TestServer::shared() else { return };
    let place = Place::on(server);
    let folder = tempfile::tempdir().unwrap();
    place.leases("a", folder.path()).stats(soon()).unwrap();
    attestations(&place.url()).stats(soon()).unwrap();
    // A server that has cleaned up an empty table knows that it is empty.
    for table in ["leases", "waiters", "sessions", "baselines", "attestations"] {
        server.execute(&format!("VACUUM ANALYZE {}.{table}", quoted(&place.schema)));
    }
    let client = "'6f0a4c54-9d3b-4d4f-8f0f-4f6eb5d0c3a1'::uuid";
    let calls = [
        "SELECT * FROM @.acquire_1(1, '\\x01', 't', 'p', 'a', gen_random_uuid(), 1000, 'p@h', 'b', $client)",
        "SELECT * FROM @.renew_1('\\x01', 'a', 1000, 10, gen_random_uuid(), 'p@h', 'b')",
        "SELECT @.extend_1('\\x01', gen_random_uuid(), 1000, 'p@h', 'b')",
        "SELECT * FROM @.places_1('p@h', 'b')",
        "SELECT * FROM @.claim_1('{1}', '{1}', '{\\x01}', '{t}', '{p}', ARRAY[gen_random_uuid()], 'b', 1000, false, NULL,
           NULL, 1000, gen_random_uuid(), NULL, '{}', 'p@h', 'b', $client)",
        "SELECT @.release_1(1, '\\x01', 'a', NULL, $client, gen_random_uuid(), false)",
        ATTEST,
    ];
    let calls: Vec<String> = calls.iter().map(|call| call.replace("$client", client)).collect();
    for call in &calls {
        // By itself, to know which one it is. Those before are needed for what it does.
        let before: Vec<&str> = calls.iter().map(String::as_str).take_while(|other| other != call).collect();
        let with: Vec<&str> = before.iter().copied().chain([call.as_str()]).collect();
        assert_eq!(whole_reads(&place, &with), whole_reads(&place, &before), "{call}");
    }
}

#[test]
fn the_first_entry_of_a_task_costs_no_more_among_many_entries_of_others() {
    let Some(server) = TestServer::shared() else { return };
    let place = Place::on(server);
    ledger(&place.url()).initialize(Durability::Process, soon()).unwrap();
    let entries = format!("{}.entries", quoted(&place.schema));
    server.execute(&format!(
        "INSERT INTO {entries} (number, task_key, tasks, hash, line) SELECT n, 1, 1, '', '' FROM generate_series(1, 5000) AS n"
    ));
    server.execute(&format!("VACUUM ANALYZE {entries}"));
    let append =
        "SELECT * FROM @.append_1(gen_random_uuid(), false, ARRAY[gen_random_uuid()], '{2}', '{x}', '{NULL}',
        '{x}', false, NULL, NULL, NULL, NULL)";
    assert_eq!(whole_reads(&place, &[append]), 0);
}

#[cfg(target_os = "linux")]
#[test]
fn adding_up_old_counts_is_not_compiled() {
    let Some(server) = TestServer::shared() else { return };
    let place = Place::on(server);
    attestations(&place.url()).initialize(Durability::Process, soon()).unwrap();
    let schema = quoted(&place.schema);
    // One call in a thousand adds up: each does here.
    server.execute(&format!(
        "CREATE FUNCTION {schema}.random() RETURNS float8 LANGUAGE sql AS 'SELECT 0.0::float8'"
    ));
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    let mut session = Pool::new(Address::parse(&place.url()).unwrap()).connect(deadline).unwrap();
    session.batch(&format!("SET search_path = {schema}, pg_catalog"), deadline).unwrap();
    let attest = ATTEST.replace('@', &schema).replace("$client", "gen_random_uuid()");
    session.query(&attest, &[], deadline).unwrap();
    let pid: i32 = session.query("SELECT pg_backend_pid()", &[], deadline).unwrap()[0].get(0);
    let libraries = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    assert!(!libraries.contains("llvmjit"));
}
