//! PgBouncer in transaction mode.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::testing::{PASSWORD, TestServer, unprivileged};

/// A pooler that changes connections between transactions, and ends with this.
pub(crate) struct Pooler {
    process: Child,
    pub(crate) port: u16,
    _folder: tempfile::TempDir,
}

impl Pooler {
    /// One before this server; `None` where PgBouncer is not installed.
    pub(crate) fn before(server: &TestServer) -> Option<Self> {
        let program =
            ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].into_iter().find(|path| Path::new(path).exists());
        let Some(program) = program else {
            assert!(
                std::env::var_os("DRIFTLOCK_TEST_POSTGRES_REQUIRED").is_none(),
                "PgBouncer is not installed"
            );
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        std::fs::write(folder.path().join("users"), format!("\"postgres\" \"{PASSWORD}\"\n")).unwrap();
        let configuration = format!(
            "[databases]\npostgres = host=127.0.0.1 port={} user=postgres password={PASSWORD}\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\n\
             auth_file = {}\npool_mode = transaction\ndefault_pool_size = 3\nlogfile = {}\n",
            server.port,
            folder.path().join("users").display(),
            folder.path().join("log").display(),
        );
        std::fs::write(folder.path().join("ini"), configuration).unwrap();
        let process = unprivileged(program, folder.path())
            .arg(folder.path().join("ini"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            let log = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "PgBouncer does not start: {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Self { process, port, _folder: folder })
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = Command::new("pkill").args(["-P", &self.process.id().to_string()]).status();
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
