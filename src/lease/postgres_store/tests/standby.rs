//! The primary is lost, and its standby takes its place.

use super::storm::storm;
use super::*;
use crate::postgres::testing::PASSWORD;

fn url(primary: &TestServer, standby: &TestServer, schema: &str) -> String {
    let (one, other) = (primary.port, standby.port);
    format!(
        "postgres://postgres:{PASSWORD}@127.0.0.1:{one},127.0.0.1:{other}/postgres?schema={schema}\
         &target_session_attrs=read-write"
    )
}

fn wait_for(server: &TestServer, sql: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !server.execute(sql)[0].get::<_, bool>(0) {
        assert!(Instant::now() < deadline, "{sql}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn set(server: &TestServer, setting: &str) {
    server.execute(&format!("ALTER SYSTEM SET {setting}"));
    server.execute("SELECT pg_reload_conf()");
}

#[test]
fn a_synchronous_standby_knows_all_that_was_acknowledged() {
    let Some(mut primary) = TestServer::start(&[]) else { return };
    let standby = primary.standby("standby");
    set(&primary, "synchronous_standby_names = 'standby'");
    wait_for(&primary, "SELECT EXISTS (SELECT FROM pg_stat_replication WHERE sync_state = 'sync')");
    let (schema, folder) = (TestServer::new_schema(), tempfile::tempdir().unwrap());
    let url = url(&primary, &standby, &schema);
    let manager = open(&url, folder.path(), options("kept")).unwrap();
    let mut kept = Vec::new();
    storm(&url, folder.path(), |storm| {
        storm.last();
        kept.extend((0..50).map(|n| acquired(&manager, &format!("kept {n}"))));
        primary.kill();
        standby.execute("SELECT pg_promote()");
    });
    for lease in &kept {
        assert_eq!(manager.get(&lease.task_id, &lease.phase, soon()).unwrap().as_ref(), Some(lease));
    }
    assert_eq!(manager.stats(soon()).unwrap().total_leases, 50);
    assert!(acquired(&manager, "after").fencing_token > kept[49].fencing_token);
}

#[test]
fn without_its_synchronous_standby_a_primary_acknowledges_nothing() {
    let Some(primary) = TestServer::start(&[]) else { return };
    let mut standby = primary.standby("standby");
    let (schema, folder) = (TestServer::new_schema(), tempfile::tempdir().unwrap());
    let manager = open(&primary.url(&schema), folder.path(), options("a")).unwrap();
    set(&primary, "synchronous_standby_names = 'standby'");
    wait_for(&primary, "SELECT EXISTS (SELECT FROM pg_stat_replication WHERE sync_state = 'sync')");
    acquired(&manager, "1");
    standby.kill();
    let impatient = Patience::lasting(Duration::from_millis(300));
    let error = manager.acquire(&t("2"), &t("PLAN"), impatient).unwrap_err();
    assert_eq!(error.code(), "SERVER_UNREACHABLE", "{error}");
    standby.run();
    // What was not acknowledged is done once the standby is back, and taken back.
    assert!(release(&manager, "1"));
    let deadline = Instant::now() + Duration::from_secs(20);
    while manager.stats(soon()).unwrap().total_leases > 0 {
        assert!(Instant::now() < deadline);
    }
}

/// Not what anybody wants, but what the documentation says, and what it says to do about it.
#[test]
fn an_asynchronous_standby_forgets_what_it_was_not_sent_and_repeats_tokens_unless_they_are_moved_on() {
    let Some(mut primary) = TestServer::start(&[]) else { return };
    let standby = primary.standby("standby");
    let place =
        Place { server: &standby, schema: TestServer::new_schema(), folder: tempfile::tempdir().unwrap() };
    let manager = place.manager_at(&url(&primary, &standby, &place.schema), options("a")).unwrap();
    let early = acquired(&manager, "early");
    let leases = format!("{}.leases", quoted(&place.schema));
    wait_for(&standby, &format!("SELECT to_regclass('{leases}') IS NOT NULL"));
    wait_for(&standby, &format!("SELECT EXISTS (SELECT FROM {leases})"));
    set(&standby, "primary_conninfo = ''");
    wait_for(&standby, "SELECT NOT EXISTS (SELECT FROM pg_stat_wal_receiver)");

    let late: Vec<Lease> = (0..40).map(|n| acquired(&manager, &n.to_string())).collect();
    primary.kill();
    standby.execute("SELECT pg_promote()");
    assert_eq!(manager.get(&t("early"), &t("PLAN"), soon()).unwrap(), Some(early));
    assert_eq!(manager.get(&t("39"), &t("PLAN"), soon()).unwrap(), None);
    // It was told that it has it, and somebody else gets it.
    assert!(manager.holds(&t("39"), &t("PLAN"), Patience::Now).unwrap());
    let other = acquired(&place.manager("b"), "39");
    assert!(other.fencing_token <= late[39].fencing_token);

    place.number("SELECT setval('@.tokens', nextval('@.tokens') + 1000000)");
    assert!(acquired(&place.manager("b"), "38").fencing_token > late[39].fencing_token);
}

/// A port of this machine that takes connections up to a point, and then says nothing, as a machine does that is gone.
#[cfg(target_os = "linux")]
fn silent() -> (std::net::TcpListener, Vec<std::net::TcpStream>, u16) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let address = listener.local_addr().unwrap();
    let connect = || std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200));
    let waiting = std::iter::from_fn(|| connect().ok()).collect();
    (listener, waiting, address.port())
}

#[test]
#[cfg(target_os = "linux")]
fn a_host_that_says_nothing_keeps_nobody_from_the_next_one() {
    let Some(server) = TestServer::shared() else { return };
    let (_listener, _waiting, silent) = silent();
    // The system takes its connections, and nobody answers.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.port;
    for first in [silent, mute.local_addr().unwrap().port()] {
        let place = Place::on(server);
        let url = format!(
            "postgres://postgres:{PASSWORD}@127.0.0.1:{first},127.0.0.1:{port}/postgres?schema={}&\
             target_session_attrs=read-write",
            place.schema
        );
        acquired(&place.manager_at(&url, options("a")).unwrap(), "t");
    }
}
