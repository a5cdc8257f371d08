//! The schema, and what operators do to it.

use super::*;
use crate::attestation::BaselineUpdate;
use crate::error::Error;

#[test]
fn what_must_not_block_does_not_ask_the_server_and_nothing_is_connected_to_before_a_call() {
    let url = "postgres://ada:s3cret@127.0.0.1:1/agents";
    let (ledger, attestations) = (ledger(url), attestations(url));
    assert!(ledger.is_remote() && attestations.is_remote());
    let shown = format!("{} {}", ledger.location(), attestations.location());
    assert!(shown.contains("127.0.0.1:1/agents") && !shown.contains("s3cret") && !shown.contains("ada"));
    let now = Patience::Now;
    assert!(matches!(
        ledger.append(&[&step("t", "1")], Durability::Process, now),
        Err(Error::DatabaseLocked)
    ));
    assert!(matches!(ledger.verify(now), Err(Error::DatabaseLocked)));
    let prompts = [&prompt("t", "1")];
    assert!(matches!(attestations.attest(&prompts, Durability::Process, now), Err(Error::DatabaseLocked)));
    assert!(matches!(attestations.history(&t("t"), now), Err(Error::DatabaseLocked)));
    let error = ledger.stats(Patience::lasting(Duration::from_millis(50))).unwrap_err();
    assert_eq!(error.code(), "SERVER_UNREACHABLE", "{error}");
}

#[test]
fn another_version_of_the_schema_is_used_as_it_is_and_an_older_one_upgraded() {
    let Some(server) = TestServer::shared() else { return };
    let place = Place::on(server);
    let schema = quoted(&place.schema);
    // Each as another process, which looks anew.
    let use_it = |name: &str| {
        let url = another(&place.url(), name);
        append(&ledger(&url), name, "1");
        attest(&attestations(&url), name, "1");
    };
    use_it("a");
    for change in [
        "UPDATE @.versions SET version = 1000",
        "ALTER TABLE @.entries ADD COLUMN later text",
        "ALTER TABLE @.attestations ADD COLUMN later text",
        "ALTER TABLE @.baselines ADD COLUMN later text",
    ] {
        server.execute(&change.replace('@', &schema));
    }
    use_it("b");
    assert_eq!(place.number("SELECT min(version) FROM @.versions"), 1000);
    for change in ["UPDATE @.versions SET version = 0", "DROP FUNCTION @.iso_1(timestamptz)"] {
        server.execute(&change.replace('@', &schema));
    }
    use_it("c");
    assert_eq!(ledger(&place.url()).stats(soon()).unwrap().total_entries, 3);
    assert_eq!(attestations(&place.url()).stats(soon()).unwrap().total_attestations, 3);
}

#[test]
fn whoever_may_not_make_the_schema_is_told_and_goes_on_once_it_is_there() {
    let Some(server) = TestServer::shared() else { return };
    let place = Place::on(server);
    let (schema, role) = (quoted(&place.schema), format!("records_{}", place.schema.replace(' ', "_")));
    server.execute(&format!("CREATE ROLE {role} LOGIN"));
    let url = place.url().replace("user=postgres", &format!("user={role}"));
    let (ledger, attestations) = (ledger(&url), attestations(&url));
    let error = ledger.initialize(Durability::Process, soon()).unwrap_err();
    assert!(error.to_string().contains("give the role the right"), "{error}");
    server.execute(&format!("CREATE SCHEMA {schema} AUTHORIZATION {role}"));
    // By the same connection.
    append(&ledger, "a", "1");
    attest(&attestations, "a", "1");
}

#[test]
fn another_isolation_level_is_refused_with_what_to_do() {
    let Some(server) = TestServer::shared() else { return };
    let place = Place::on(server);
    let url = format!("{}&options=-cdefault_transaction_isolation%3Dserializable", place.url());
    let error = ledger(&url).append(&[&step("a", "1")], Durability::Process, soon()).unwrap_err();
    assert!(error.to_string().contains("ALTER ROLE"), "{error}");
    let error = attestations(&url).attest(&[&prompt("a", "1")], Durability::Process, soon()).unwrap_err();
    assert!(error.to_string().contains("ALTER ROLE"), "{error}");
}

#[test]
fn what_is_to_survive_a_power_cut_is_in_the_log_whatever_the_server_s_default_is() {
    let Some(server) = TestServer::shared() else { return };
    let place = Place::on(server);
    let schema = quoted(&place.schema);
    let url = format!("{}&options=-csynchronous_commit%3Doff", place.url());
    let (ledger, attestations) = (ledger(&url), attestations(&url));
    ledger.initialize(Durability::Process, soon()).unwrap();
    attestations.initialize(Durability::Process, soon()).unwrap();
    server.execute(&format!("CREATE TABLE {schema}.seen (waits text)"));
    server.execute(&format!(
        "CREATE FUNCTION {schema}.see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           INSERT INTO {schema}.seen VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$"
    ));
    for table in ["entries", "attestations", "baseline_updates"] {
        server.execute(&format!(
            "CREATE CONSTRAINT TRIGGER see AFTER INSERT ON {schema}.{table} DEFERRABLE INITIALLY DEFERRED
               FOR EACH ROW EXECUTE FUNCTION {schema}.see()"
        ));
    }
    for durability in [Durability::Process, Durability::PowerCut] {
        ledger.append(&[&step("a", "1")], durability, soon()).unwrap();
        attestations.attest(&[&prompt("a", "1")], durability, soon()).unwrap();
        attestations
            .reset(&t("a"), &t("VERIFY"), &t("h"), BaselineUpdate::default(), durability, soon())
            .unwrap();
    }
    assert_eq!(place.number("SELECT count(*) FROM @.seen WHERE waits = 'off'"), 3);
    assert_eq!(place.number("SELECT count(*) FROM @.seen WHERE waits = 'on'"), 3);
}

#[test]
fn old_records_can_be_removed_and_are_still_counted() {
    let Some(server) = TestServer::shared() else { return };
    let place = Place::on(server);
    let attestations = attestations(&place.url());
    for context in ["1", "2", "1", "2"] {
        attest(&attestations, "a", context);
    }
    let stats = attestations.stats(soon()).unwrap();
    let kept = attestations.history(&t("a"), soon()).unwrap().split_off(3);
    server.execute(&format!(
        "UPDATE {}.attestations SET at = at - interval '1 year' WHERE number <= 3",
        quoted(&place.schema)
    ));
    let prune = "SELECT @.prune_attestations_1(now() - interval '90 days', 2)";
    assert_eq!([place.number(prune), place.number(prune), place.number(prune)], [2, 1, 0]);
    assert_eq!(attestations.history(&t("a"), soon()).unwrap(), kept);
    assert_eq!(attestations.stats(soon()).unwrap(), stats);
    // And compared with.
    assert!(attest(&attestations, "a", "2").drift.is_drift());
}

#[test]
fn what_clients_of_before_have_counted_is_added_up() {
    let Some(server) = TestServer::shared() else { return };
    let place = Place::on(server);
    let schema = quoted(&place.schema);
    for name in ["a", "b", "c"] {
        let attestations = attestations(&another(&place.url(), name));
        attest(&attestations, "t", name);
        attest(&attestations, "t", "a");
    }
    let stats = attestations(&place.url()).stats(soon()).unwrap();
    for _ in 0..2 {
        server.execute(&format!(
            "UPDATE {schema}.attestation_counts SET counted_at = now() - interval '2 hours'"
        ));
        server.execute(&format!("SELECT {schema}.fold_counts_1()"));
        assert_eq!(place.number("SELECT count(*) FROM @.attestation_counts"), 2);
        assert_eq!(attestations(&place.url()).stats(soon()).unwrap(), stats);
    }
}

#[test]
fn what_was_changed_in_the_ledger_is_found() {
    let Some(server) = TestServer::shared() else { return };
    let place = Place::on(server);
    let ledger = ledger(&place.url());
    for phase in ["1", "2", "3", "4"] {
        append(&ledger, "a", phase);
    }
    let execute = |sql: &str| server.execute(&sql.replace('@', &quoted(&place.schema)));
    execute(
        "UPDATE @.entries SET line = convert_to(replace(convert_from(line, 'UTF8'), '\"to_phase\":\"2\"',
           '\"to_phase\":\"5\"'), 'UTF8')",
    );
    let found = ledger.verify(soon()).unwrap();
    assert_eq!((found.tampered_entries.len(), found.broken_chain_at), (1, None));
    execute("DELETE FROM @.entries WHERE number = 3");
    assert_eq!(ledger.verify(soon()).unwrap().broken_chain_at, Some(2));
    execute("UPDATE @.entries SET line = 'no JSON' WHERE number = 1");
    assert_eq!(ledger.verify(soon()).unwrap().unreadable_line, Some(1));
}

/// The system itself gives up a connection over which nothing comes, however long the caller would wait.
#[test]
#[cfg(target_os = "linux")]
fn the_system_looks_after_connections() {
    use std::net::SocketAddr;
    use std::os::fd::OwnedFd;
    use std::time::Instant;

    use rustix::net::sockopt;
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

    use crate::postgres::proxy::Proxy;
    use crate::postgres::{Address, Pool};

    let Some(server) = TestServer::shared() else { return };
    // At a port of its own this connection is found among those of other tests.
    let proxy = Proxy::of(server.port);
    let address = Address::parse(&Place::on(server).url_by(proxy.port)).unwrap();
    let _session = Pool::new(address).connect(Instant::now() + Duration::from_secs(20)).unwrap();
    let to_proxy = |descriptor: &OwnedFd| {
        let peer = rustix::net::getpeername(descriptor).ok()?;
        SocketAddr::try_from(peer?).ok().filter(|peer| peer.port() == proxy.port)
    };
    let this = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    let sockets: Vec<OwnedFd> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        // A copy: others close theirs meanwhile.
        .filter_map(|number| pidfd_getfd(&this, number, PidfdGetfdFlags::empty()).ok())
        .filter(|descriptor| to_proxy(descriptor).is_some())
        .collect();
    let [socket] = &sockets[..] else { panic!("{sockets:?}") };
    assert_eq!(sockopt::tcp_user_timeout(socket).unwrap(), 10_000);
    assert!(sockopt::socket_keepalive(socket).unwrap());
    assert_eq!(sockopt::tcp_keepidle(socket).unwrap(), Duration::from_secs(15));
    assert_eq!(sockopt::tcp_keepintvl(socket).unwrap(), Duration::from_secs(5));
    assert_eq!(sockopt::tcp_keepcnt(socket).unwrap(), 3);
}
