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

/// Keeps a server until the shell's input ends.
const WITH_INPUT: &str = r#""$0" -D "$1" -p "$2" -k "$3" -c fsync=off -c log_min_messages=fatal </dev/null &
    read _; kill -INT $!; wait"#;
/// Keeps a server until another process has ended, and removes its folder then.
const WITH_PROCESS: &str = r#""$0" -D "$1" -p "$2" -k "$3" -c fsync=off -c log_min_messages=fatal </dev/null &
    while [ -d "/proc/$4" ]; do sleep 0.3; done; kill -INT $!; wait; rm -rf "$3""#;

/// A server that ends with this process, however that ends.
pub(crate) struct TestServer {
    binaries: PathBuf,
    folder: PathBuf,
    /// Removes the folder, unless whoever keeps the server does.
    _temporary: Option<tempfile::TempDir>,
    /// A shell that ends the server when its standard input does.
    keeper: Option<Child>,
    pub(crate) port: u16,
}

impl TestServer {
    /// The server that tests share, each in a schema of its own; `None`, and a word about it, where PostgreSQL isn't
    /// installed.
    pub(crate) fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<TestServer>> = OnceLock::new();
        SHARED.get_or_init(|| binaries().map(Self::of_this_run)).as_ref()
    }

    /// The server of a run of the tests, which whoever is the first to need it starts. To cargo-nextest each test is a
    /// process of its own; then it ends with that program, and otherwise with this process.
    fn of_this_run(binaries: PathBuf) -> Self {
        let (folder, process) = match std::env::var("NEXTEST_RUN_ID") {
            Ok(run) => {
                let folder = std::env::temp_dir().join(format!("driftlock-postgres-{run}"));
                (folder, std::os::unix::process::parent_id())
            }
            Err(_) => (tempfile::tempdir().unwrap().keep(), std::process::id()),
        };
        std::fs::create_dir_all(&folder).unwrap();
        let lock = std::fs::File::create(folder.join("lock")).unwrap();
        lock.lock().unwrap();
        let noted = folder.join("port");
        if let Ok(port) = std::fs::read_to_string(&noted) {
            return Self { binaries, folder, _temporary: None, keeper: None, port: port.parse().unwrap() };
        }
        open_to_all(&folder);
        let server = Self { binaries, folder, _temporary: None, keeper: None, port: free_port() };
        server.make(&["max_connections = 200"], |_| ());
        // So that it can be removed by whom the server runs as.
        server.own(&server.folder);
        drop(server.keep(WITH_PROCESS, &process.to_string(), Stdio::null()));
        server.wait_until_it_answers();
        std::fs::write(noted, server.port.to_string()).unwrap();
        server
    }

    /// A server with these settings.
    pub(crate) fn start(settings: &[&str]) -> Option<Self> {
        Self::start_with(settings, |_| ())
    }

    /// A server with these settings, and with what `prepare` puts into its folder of data.
    pub(crate) fn start_with(settings: &[&str], prepare: impl FnOnce(&Path)) -> Option<Self> {
        let mut server = Self::new(binaries()?);
        server.make(settings, prepare);
        server.run();
        Some(server)
    }

    fn new(binaries: PathBuf) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        open_to_all(temporary.path());
        let folder = temporary.path().to_owned();
        Self { binaries, folder, _temporary: Some(temporary), keeper: None, port: free_port() }
    }

    /// A standby that follows this server, and calls itself by this name there.
    pub(crate) fn standby(&self, name: &str) -> Self {
        let mut standby = Self::new(self.binaries.clone());
        let folder = self.folder.display();
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
        self.folder.join("data")
    }

    /// What this process has put into a folder, and the folder, become the server's.
    fn own(&self, folder: &Path) {
        use std::os::unix::fs::MetadataExt as _;
        let owner = self.data().metadata().unwrap();
        let inside = std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
        for path in inside.chain([folder.to_owned()]) {
            std::os::unix::fs::chown(path, Some(owner.uid()), Some(owner.gid())).unwrap();
        }
    }

    /// Makes its folder of data.
    fn make(&self, settings: &[&str], prepare: impl FnOnce(&Path)) {
        let password = self.folder.join("password");
        std::fs::write(&password, PASSWORD).unwrap();
        open_to_all(&self.folder);
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
        let configuration = format!("listen_addresses = '127.0.0.1'\n{}\n", settings.join("\n"));
        std::fs::write(self.data().join("postgresql.auto.conf"), configuration).unwrap();
        prepare(&self.data());
        self.own(&self.data());
    }

    /// Runs it, again after [`Self::kill`] or if it has ended by itself, and waits until it answers.
    pub(crate) fn run(&mut self) {
        self.end();
        self.keeper = Some(self.keep(WITH_INPUT, "", Stdio::piped()));
        self.wait_until_it_answers();
    }

    /// Has a shell run it.
    fn keep(&self, script: &str, parameter: &str, input: Stdio) -> Child {
        use std::os::unix::process::CommandExt as _;
        let log = std::fs::File::create(self.folder.join("log")).unwrap();
        as_unprivileged("sh")
            .args(["-c", script])
            .arg(self.binaries.join("postgres"))
            .arg(self.data())
            .arg(self.port.to_string())
            .arg(&self.folder)
            .arg(parameter)
            .stdin(input)
            .stdout(Stdio::null())
            .stderr(log)
            // An interrupted run ends the tests; the shell sees that, and has to be there to clean up.
            .process_group(0)
            .spawn()
            .unwrap()
    }

    fn wait_until_it_answers(&self) {
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
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// A schema that nobody else uses.
    pub(crate) fn new_schema() -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        format!("test {} {}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The server's socket.
    pub(crate) fn url(&self, schema: &str) -> String {
        let folder = self.folder.display();
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

/// Where the server's programs are; `None`, and a word about it, if they are nowhere.
fn binaries() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<PathBuf> = folders.map(|entry| entry.path().join("bin")).collect();
    versions.sort();
    let found = versions.into_iter().rfind(|bin| bin.join("initdb").exists());
    if found.is_none() {
        let required = std::env::var_os("DRIFTLOCK_TEST_POSTGRES_REQUIRED").is_some();
        assert!(!required, "PostgreSQL is not installed");
        // Not by `eprintln`, which the test runner swallows.
        let _ =
            writeln!(std::io::stderr(), "NOT RUN on PostgreSQL: it is not installed (Debian: postgresql)");
    }
    found
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
