//! TLS: with whom one speaks, and who may listen.

use std::process::{Command, Stdio};

use super::*;
use crate::postgres::testing::PASSWORD;

/// A certificate for `localhost`, and its key.
fn make_certificate(folder: &Path) {
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
        .arg(folder.join("server.key"))
        .arg("-out")
        .arg(folder.join("server.crt"))
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(made.success());
}

#[test]
fn the_server_is_who_its_certificate_says_unless_that_is_not_asked_for() {
    let Some(server) = TestServer::start_with(&["ssl = on"], make_certificate) else { return };
    let schema = TestServer::new_schema();
    let folder = tempfile::tempdir().unwrap();
    let roots = server.data().join("server.crt");
    let open = |host: &str, rest: &str| {
        let port = server.port;
        let rest = rest.replace('@', &roots.display().to_string());
        let url = format!("postgres://postgres:{PASSWORD}@{host}:{port}/postgres?schema={schema}&{rest}");
        open(&url, folder.path(), options("a"))
    };
    let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
        WHERE ssl AND application_name = 'driftlock' AND client_addr IS NOT NULL";
    for (host, rest) in [
        ("localhost", "sslmode=verify-full&sslrootcert=@"),
        ("127.0.0.1", "sslmode=require"),
        ("127.0.0.1", "sslmode=prefer"),
        ("127.0.0.1", "connect_timeout=6"),
    ] {
        let before: i64 = server.execute(encrypted)[0].get(0);
        let manager = open(host, rest).unwrap();
        assert_eq!(server.execute(encrypted)[0].get::<_, i64>(0), before + 1, "{host} {rest}");
        acquired(&manager, "t");
        assert!(release(&manager, "t"));
        drop(manager);
        let deadline = Instant::now() + Duration::from_secs(10);
        while server.execute(encrypted)[0].get::<_, i64>(0) > before {
            assert!(Instant::now() < deadline);
        }
    }
    let plain = open("127.0.0.1", "sslmode=disable").unwrap();
    assert_eq!(server.execute(encrypted)[0].get::<_, i64>(0), 0);
    acquired(&plain, "t");
    for (host, rest) in [
        // Another name than the certificate's, and a certificate that nobody of the system's vouches for.
        ("127.0.0.1", "sslmode=verify-full&sslrootcert=@"),
        ("localhost", "sslmode=verify-full"),
    ] {
        let error = open(host, rest).err().expect("refused");
        assert_eq!(error.code(), "SERVER", "{error}");
        assert!(error.to_string().contains("sslrootcert"), "{error}");
        assert!(error.to_string().contains("certificate"), "{error}");
    }
}
