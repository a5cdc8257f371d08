//! Opening: the schema, errors, credentials.

use super::abandoned::deadline;
use super::*;
use crate::lease::LeaseStore;
use crate::lease::{Closing, LeaseKey, Renewal, Wait};
use crate::postgres::proxy::Proxy;
use crate::postgres::testing::PASSWORD;

/// What a call on a store says that can't be had.
fn message(url: &str, patience: Duration) -> (String, &'static str) {
    let folder = tempfile::tempdir().unwrap();
    let store = PostgresLeaseStore::open(url, folder.path(), &clock()).unwrap();
    let manager = LeaseManager::with_store(Arc::new(store), clock(), options("a")).unwrap();
    let error = manager.latest_event(Patience::lasting(patience)).unwrap_err();
    (format!("{error} {error:?}"), error.code())
}

#[test]
fn errors_name_the_server_and_the_next_step_and_no_password() {
    let Some(server) = TestServer::shared() else { return };
    let port = server.port;
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let cases = [
        (format!("postgres://postgres:wr0ng@127.0.0.1:{port}/postgres"), "SERVER", "check user and password"),
        (format!("postgres://nobody:wr0ng@127.0.0.1:{port}/postgres"), "SERVER", "check user and password"),
        (format!("postgres://postgres:{PASSWORD}@127.0.0.1:{port}/nowhere"), "SERVER", "create the database"),
        (
            format!("postgres://postgres:wr0ng@127.0.0.1:{port}/postgres?sslmode=require"),
            "SERVER",
            "switch TLS on",
        ),
        (
            format!("postgres://postgres:wr0ng@127.0.0.1:{unused}/x?connect_timeout=1"),
            "SERVER_UNREACHABLE",
            "refused",
        ),
        (
            format!("postgres://postgres:wr0ng@127.0.0.1:{port}/x?sslrootcert=/n&sslmode=verify-full"),
            "SERVER",
            "/n",
        ),
    ];
    std::thread::scope(|scope| {
        for (url, code, words) in &cases {
            scope.spawn(move || {
                // What may be different the next time is tried for as long as the call may last.
                let patience = Duration::from_secs(if *code == "SERVER" { 20 } else { 1 });
                let (message, found) = message(url, patience);
                assert_eq!(found, *code, "{message}");
                assert!(message.contains(words), "{message}");
                assert!(message.contains("127.0.0.1:"), "{message}");
                assert!(!message.contains("wr0ng") && !message.contains(PASSWORD), "{message}");
            });
        }
    });
}

#[test]
fn many_who_open_an_empty_database_at_once_find_a_schema_that_one_of_them_has_made() {
    const OPENERS: i64 = 6;
    let Some(server) = TestServer::shared() else { return };
    let place = Place::on(server);
    let store = place.store_at(&server.url(&place.schema)).unwrap();
    let mut session = store.server.pool.connect(deadline()).unwrap();
    let lock =
        format!("SELECT pg_advisory_xact_lock(hashtextextended('driftlock schema {}', 0))", place.schema);
    session.batch(&format!("BEGIN; {lock}"), deadline()).unwrap();
    std::thread::scope(|scope| {
        for n in 0..OPENERS {
            let place = &place;
            scope.spawn(move || acquired(&place.manager(&n.to_string()), &n.to_string()));
        }
        let waiting = format!(
            "SELECT count(*) FROM pg_stat_activity
             WHERE wait_event = 'advisory' AND strpos(query, 'driftlock schema '' || ''{}''') > 0",
            place.schema
        );
        let end = deadline();
        while place.number(&waiting) < OPENERS && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(place.number(&waiting), OPENERS);
        session.batch("ROLLBACK", deadline()).unwrap();
    });
    assert_eq!(place.number("SELECT count(*) FROM @.leases"), OPENERS);
    // Whoever makes it again replaces its functions, in a transaction of its own.
    let replaced = format!(
        "SELECT count(*) FROM pg_proc AS f JOIN pg_namespace AS s ON f.pronamespace = s.oid
         WHERE s.nspname = '{}' AND f.xmin <> s.xmin",
        place.schema
    );
    assert_eq!(place.number(&replaced), 0);
}

#[test]
fn a_schema_of_a_later_version_is_used_as_it_is_and_an_older_one_upgraded() {
    let Some(server) = TestServer::shared() else { return };
    let place = Place::on(server);
    // Each as another process, which looks anew.
    let manager = |agent: &str| {
        let url = format!("{}&application_name={agent}", server.url(&place.schema));
        place.manager_at(&url, options(agent)).unwrap()
    };
    acquired(&manager("a"), "1");
    let schema = quoted(&place.schema);
    server.execute(&format!("UPDATE {schema}.versions SET version = 1000"));
    server.execute(&format!("ALTER TABLE {schema}.leases ADD COLUMN later text"));
    acquired(&manager("b"), "2");
    assert_eq!(place.number("SELECT version FROM @.versions"), 1000);
    server.execute(&format!("UPDATE {schema}.versions SET version = 0"));
    server.execute(&format!("DROP FUNCTION {schema}.sweep_1()"));
    acquired(&manager("c"), "3");
    assert_eq!(place.number("SELECT @.sweep_1()"), 0);
    assert_eq!(place.number("SELECT count(*) FROM @.leases"), 3);
}

#[test]
fn a_role_that_may_not_make_schemas_uses_the_one_that_was_made_for_it() {
    let Some(server) = TestServer::shared() else { return };
    let place = Place::on(server);
    let (schema, role) = (quoted(&place.schema), quoted(&format!("role of {}", place.schema)));
    server.execute(&format!("CREATE ROLE {role} LOGIN"));
    let url = server
        .url(&place.schema)
        .replace("user=postgres", &format!("user={}", role.trim_matches('"').replace(' ', "%20")));
    let error = place.manager_at(&url, options("a")).err().unwrap();
    assert!(error.to_string().contains("give the role the right"), "{error}");
    server.execute(&format!("CREATE SCHEMA {schema} AUTHORIZATION {role}"));
    acquired(&place.manager_at(&url, options("a")).unwrap(), "t");
}

#[test]
fn another_isolation_level_is_refused_with_what_to_do() {
    let Some(server) = TestServer::shared() else { return };
    let place = Place::on(server);
    place.manager("a");
    let url = format!("{}&options=-cdefault_transaction_isolation%3Dserializable", server.url(&place.schema));
    let error =
        place.manager_at(&url, options("a")).unwrap().acquire(&t("t"), &t("PLAN"), soon()).unwrap_err();
    assert_eq!(error.code(), "SERVER");
    assert!(error.to_string().contains("ALTER ROLE"), "{error}");
}

#[test]
fn what_a_holder_relies_on_is_in_the_log_whatever_the_server_s_default_is() {
    let Some(server) = TestServer::shared() else { return };
    let place = Place::on(server);
    let url = format!("{}&options=-csynchronous_commit%3Doff", server.url(&place.schema));
    let reentrant = LeaseOptions { is_reentrant: true, ..options("a") };
    let manager = place.manager_at(&url, reentrant).unwrap();
    manager.stats(soon()).unwrap();
    let schema = quoted(&place.schema);
    server.execute(&format!("CREATE TABLE {schema}.seen (waits text)"));
    server.execute(&format!(
        "CREATE FUNCTION {schema}.see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           INSERT INTO {schema}.seen VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$"
    ));
    server.execute(&format!(
        "CREATE CONSTRAINT TRIGGER see AFTER INSERT OR UPDATE ON {schema}.leases DEFERRABLE INITIALLY DEFERRED
           FOR EACH ROW EXECUTE FUNCTION {schema}.see()"
    ));
    let lease = acquired(&manager, "t");
    acquired(&manager, "t");
    assert!(matches!(manager.renew(&t("t"), &t("PLAN"), soon()), Ok(Renewal::Renewed { .. })));
    let closing = Closing::default();
    let store = place.store_at(&url).unwrap();
    let key = LeaseKey { task: &t("t"), phase: &t("PLAN") };
    assert!(store.extend(key, &lease.lease_id, 1000, Wait::new(soon(), &closing)).unwrap());
    assert_eq!(place.number("SELECT count(*) FROM @.seen WHERE waits = 'on'"), 4);
    assert_eq!(place.number("SELECT count(*) FROM @.seen"), 4);
}

#[test]
fn two_schemas_are_two_workspaces() {
    let Some(server) = TestServer::shared() else { return };
    let (one, other) = (Place::on(server), Place::on(server));
    acquired(&one.manager("a"), "t");
    acquired(&other.manager("b"), "t");
}

#[test]
fn opening_touches_nothing_and_looking_makes_no_schema() {
    let Some(server) = TestServer::shared() else { return };
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let place = Place::on(server);
    let nowhere = place.store_at(&url_at(unused, &place.schema)).unwrap();
    assert_eq!(nowhere.exists(Duration::ZERO).unwrap_err().code(), "SERVER_UNREACHABLE");
    let store = place.store_at(&server.url(&place.schema)).unwrap();
    assert!(!store.exists(Duration::from_secs(20)).unwrap());
    acquired(&place.manager("a"), "t");
    assert!(store.exists(Duration::from_secs(20)).unwrap());
    let folders = std::fs::read_dir(place.folder()).unwrap().count();
    assert_eq!(folders, 1, "only the manager has announced itself");
}

#[test]
fn a_store_in_use_is_found_by_its_address() {
    let Some(server) = TestServer::shared() else { return };
    let place = Place::on(server);
    let address = place.store_at(&server.url(&place.schema)).unwrap().server().unwrap();
    assert!(PostgresLeaseStore::in_use_at(&address).is_none());
    let manager = place.manager("a");
    assert_eq!(manager.server().as_deref(), Some(&*address));
    assert_eq!(PostgresLeaseStore::in_use_at(&address).unwrap().server(), Some(address));
}

#[test]
fn a_closed_store_is_not_taken_for_a_dead_one() {
    let Some(server) = TestServer::shared() else { return };
    let place = Place::on(server);
    let manager = place.manager("a");
    acquired(&manager, "t");
    let holders = place.folder().join("state/postgres/lease-holders");
    assert_eq!(std::fs::read_dir(&holders).unwrap().count(), 1);
    manager.close();
    assert!(!holders.exists());
}

#[test]
fn calls_that_come_too_late_for_an_answer_are_not_sent() {
    let Some(server) = TestServer::shared() else { return };
    let place = Place::on(server);
    let manager = place.manager("a");
    let asked = Instant::now();
    let error = manager.acquire(&t("t"), &t("PLAN"), Patience::Until(asked)).unwrap_err();
    assert_eq!(error.code(), "SERVER_UNREACHABLE");
    assert_eq!(place.number("SELECT count(*) FROM @.leases"), 0);
}

#[test]
fn calls_behind_one_that_got_no_answer_do_not_wait_as_long_again() {
    let Some(server) = TestServer::shared() else { return };
    let (place, proxy) = (Place::on(server), Proxy::of(server.port));
    let manager = place.manager_by(proxy.port, "a");
    let asked = Instant::now();
    let hour = Duration::from_secs(3600);
    assert!(matches!(manager.patience(asked, hour), Patience::Until(end) if end > asked + hour));
    proxy.cut_off(true);
    assert!(manager.acquire(&t("t"), &t("PLAN"), Patience::lasting(Duration::from_millis(50))).is_err());
    assert_eq!(manager.patience(asked, hour), Patience::Until(asked + hour));
    let asked = Instant::now();
    assert!(matches!(manager.patience(asked, hour), Patience::Until(end) if end > asked + hour));
}
