//! A PostgreSQL server for tests, in a temporary folder.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::{Address, Failure, Pool, Row};

/// The superuser's password, which must not show up anywhere.
pub(crate) const PASSWORD: &str = "s3cret";

/// A server that ends with this process, however that ends.
pub(crate) struct TestServer {
    binaries: PathBuf,
    folder: tempfile::TempDir,
    /// A shell that ends the server when its standard input does.
    keeper: Option<Child>,
    pub(crate) port: u16,
}

impl TestServer {
    /// The server that tests share, each in a schema of its own; `None`, and a word about it, where PostgreSQL isn't
    /// installed.
    pub(crate) fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<TestServer>> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&["max_connections = 200"])).as_ref()
    }

    /// A server with these settings.
    pub(crate) fn start(settings: &[&str]) -> Option<Self> {
        Self::start_with(settings, |_| ())
    }

    /// A server with these settings, and with what `prepare` puts into its folder of data.
    pub(crate) fn start_with(settings: &[&str], prepare: impl FnOnce(&Path)) -> Option<Self> {
        let Some(binaries) = binaries() else {
            let required = std::env::var_os("DRIFTLOCK_TEST_POSTGRES_REQUIRED").is_some();
            assert!(!required, "PostgreSQL is not installed");
            // Not by `eprintln`, which the test runner swallows.
            let _ = writeln!(
                std::io::stderr(),
                "NOT RUN on PostgreSQL: it is not installed (Debian: postgresql)"
            );
            return None;
        };
        let mut server = Self::new(binaries);
        server.make();
        let configuration = format!("listen_addresses = '127.0.0.1'\n{}\n", settings.join("\n"));
        std::fs::write(server.data().join("postgresql.auto.conf"), configuration).unwrap();
        prepare(&server.data());
        server.own();
        server.run();
        Some(server)
    }

    fn new(binaries: PathBuf) -> Self {
        let folder = tempfile::tempdir().unwrap();
        open_to_all(folder.path());
        let port = free_port();
        Self { binaries, folder, keeper: None, port }
    }

    /// A standby that follows this server, and calls itself by this name there.
    pub(crate) fn standby(&self, name: &str) -> Self {
        let mut standby = Self::new(self.binaries.clone());
        let folder = self.folder.path().display();
        let made = standby
            .command("pg_basebackup")
            .arg(format!("--dbname=host={folder} port={} user=postgres application_name={name}", self.port))
            .arg("--pgdata")
            .arg(standby.data())
            .args(["--checkpoint=fast", "--no-sync", "--write-recovery-conf"])
            .status()
            .unwrap();
        assert!(made.success(), "pg_basebackup failed");
        standby.run();
        standby
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// What this process has put into the server's folder becomes the server's.
    fn own(&self) {
        use std::os::unix::fs::MetadataExt as _;
        let owner = self.data().metadata().unwrap();
        for entry in std::fs::read_dir(self.data()).unwrap().flatten() {
            std::os::unix::fs::chown(entry.path(), Some(owner.uid()), Some(owner.gid())).unwrap();
        }
    }

    fn make(&self) {
        let password = self.folder.path().join("password");
        std::fs::write(&password, PASSWORD).unwrap();
        open_to_all(self.folder.path());
        let arguments =
            ["--no-sync", "--username=postgres", "--auth-local=trust", "--auth-host=scram-sha-256"];
        let made = self
            .command("initdb")
            .arg("-D")
            .arg(self.data())
            .args(arguments)
            .arg(format!("--pwfile={}", password.display()))
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(made.success(), "initdb failed");
    }

    /// Runs it, again after [`Self::kill`] or if it has ended by itself, and waits until it answers.
    pub(crate) fn run(&mut self) {
        self.end();
        let script = r#""$0" -D "$1" -p "$2" -k "$3" -c fsync=off -c log_min_messages=fatal </dev/null &
            read _; kill -INT $!; wait"#;
        let log = std::fs::File::create(self.folder.path().join("log")).unwrap();
        let keeper = as_unprivileged("sh")
            .args(["-c", script])
            .arg(self.binaries.join("postgres"))
            .arg(self.data())
            .arg(self.port.to_string())
            .arg(self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.keeper = Some(keeper);
        let deadline = Instant::now() + Duration::from_secs(8);
        while let Err(failure) = self.try_execute("SELECT 1") {
            assert!(Instant::now() < deadline, "the server does not start: {failure:?}: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills it as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        let pid = std::fs::read_to_string(self.data().join("postmaster.pid")).unwrap();
        let pid = pid.lines().next().unwrap();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        assert!(Command::new("kill").args(["-9", pid]).status().unwrap().success());
        self.end();
        // Its children end once they notice, and a new one must not start before.
        let deadline = Instant::now() + Duration::from_secs(20);
        while children.split_whitespace().any(|child| Path::new("/proc").join(child).exists()) {
            assert!(Instant::now() < deadline, "the server's processes stay");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ends what runs it, and waits for that: its shell waits for the end of its input.
    fn end(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            drop(keeper.stdin.take());
            let _ = keeper.wait();
        }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// A schema that nobody else uses.
    pub(crate) fn new_schema() -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        format!("test {}", NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The server's socket.
    pub(crate) fn url(&self, schema: &str) -> String {
        let folder = self.folder.path().display();
        format!("postgres:///postgres?user=postgres&host={folder}&port={}&schema={schema}", self.port)
    }

    /// Runs a statement, as its administrator would.
    pub(crate) fn execute(&self, sql: &str) -> Vec<Row> {
        self.try_execute(sql).unwrap_or_else(|failure| panic!("{sql}: {failure:?}"))
    }

    /// The same, where it may fail.
    pub(crate) fn try_execute(&self, sql: &str) -> Result<Vec<Row>, Failure> {
        let address = Address::parse(&self.url("none")).unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut session = Pool::new(address).connect(deadline)?;
        session.query(sql, &[], deadline)
    }

    fn command(&self, name: &str) -> Command {
        as_unprivileged(self.binaries.join(name))
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.end();
    }
}

/// A schema of the server that tests share.
pub(crate) struct TestSchema {
    server: &'static TestServer,
    name: String,
}

impl TestSchema {
    /// One that nobody else uses; `None` where PostgreSQL isn't installed.
    pub(crate) fn new() -> Option<Self> {
        Some(Self { server: TestServer::shared()?, name: TestServer::new_schema() })
    }

    /// A URL that leads there, by connections of its own.
    pub(crate) fn url(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        format!("{}&application_name=driftlock{number}", self.server.url(&self.name))
    }

    /// From now on it is this time there, in milliseconds since the Unix epoch.
    pub(crate) fn stop_clock(&self, ms: i64) {
        self.server.execute(&format!(
            "CREATE OR REPLACE FUNCTION {}.now_1() RETURNS timestamptz LANGUAGE sql VOLATILE AS
               'SELECT to_timestamp({ms} / 1000.0)'",
            super::quoted(&self.name)
        ));
    }
}

/// A port that stays free while the server is down: not one of those that the system gives to clients.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(61);
    loop {
        let offset = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        let port = 20_000 + u16::try_from(offset).unwrap();
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// The server, or something between, at a port of this machine.
pub(crate) fn url_at(port: u16, schema: &str) -> String {
    format!("postgres://postgres:{PASSWORD}@127.0.0.1:{port}/postgres?schema={schema}")
}

/// A command that is run as the server is, and may read and write this folder.
pub(crate) fn unprivileged(program: &str, folder: &Path) -> Command {
    open_to_all(folder);
    as_unprivileged(program)
}

fn binaries() -> Option<PathBuf> {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .collect();
    versions.sort();
    versions.into_iter().rfind(|bin| bin.join("initdb").exists())
}

/// A command that a server's programs, which refuse to run as root, are run by.
fn as_unprivileged(program: impl AsRef<std::ffi::OsStr>) -> Command {
    use std::os::unix::fs::MetadataExt as _;
    let is_root = tempfile::tempfile().unwrap().metadata().unwrap().uid() == 0;
    if !is_root {
        return Command::new(program);
    }
    let mut command = Command::new("runuser");
    command.args(["-u", "postgres", "--"]).arg(program);
    // The folder of the tests may not be open to that user.
    command.current_dir("/");
    command
}

fn open_to_all(folder: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o777)).unwrap();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        std::fs::set_permissions(entry.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    }
}
