//! A network that is cut: the holder on one side, server and others on the other. Nobody is told; packets just don't come.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::faults::hold;
use super::*;
use crate::postgres::testing::PASSWORD;

const URL: &str = "DRIFTLOCK_TEST_PARTITION_URL";
const FOLDER: &str = "DRIFTLOCK_TEST_PARTITION_FOLDER";
const DURATION_MS: i64 = 3_000;

/// A network of two: this machine, and a namespace of its own.
struct Network {
    name: String,
    here: String,
    there: String,
}

impl Network {
    /// `None`, and a word about it, where there can't be one.
    fn new() -> Option<Self> {
        // Of a block that nobody routes (RFC 2544), by the process, so that two runs don't meet.
        let id = std::process::id();
        let subnet = format!("198.18.{}", id % 256);
        let name = format!("dl{}", id % 10_000_000);
        let network = Self { name, here: format!("{subnet}.1"), there: format!("{subnet}.2") };
        let name = &network.name;
        let why = match ip(&["netns", "add", name]) {
            Ok(true) => return Some(network.connect()),
            Ok(false) => "no namespace can be made here",
            Err(_) => {
                let required = std::env::var_os("DRIFTLOCK_TEST_POSTGRES_REQUIRED").is_some();
                assert!(!required, "iproute2 is not installed");
                "iproute2 is not installed"
            }
        };
        // Not by `eprintln`, which the test runner swallows.
        let _ = writeln!(std::io::stderr(), "NOT RUN: a cut network ({why})");
        None
    }

    fn connect(self) -> Self {
        let Self { name, here, there } = &self;
        let (near, far) = (format!("{name}h"), format!("{name}t"));
        for arguments in [
            vec!["link", "add", &near, "type", "veth", "peer", "name", &far, "netns", name],
            vec!["addr", "add", &format!("{here}/24"), "dev", &near],
            vec!["link", "set", &near, "up"],
            vec!["-n", name, "addr", "add", &format!("{there}/24"), "dev", &far],
            vec!["-n", name, "link", "set", "lo", "up"],
            vec!["-n", name, "link", "set", &far, "up"],
        ] {
            assert!(ip(&arguments).unwrap(), "ip {arguments:?}");
        }
        self
    }

    /// Cuts the network, or mends it.
    fn set(&self, state: &str) {
        assert!(ip(&["link", "set", &format!("{}h", self.name), state]).unwrap());
    }

    /// A program on the other side.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // With it both ends go.
        let _ = ip(&["netns", "del", &self.name]);
    }
}

fn ip(arguments: &[&str]) -> std::io::Result<bool> {
    Ok(Command::new("ip").args(arguments).stderr(Stdio::null()).status()?.success())
}

struct Holder {
    process: Child,
    folder: PathBuf,
}

impl Holder {
    /// What the holder has written there, once it has.
    fn says(&self, name: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            match std::fs::read_to_string(self.folder.join(name)) {
                Ok(text) if text.ends_with('\n') => return text.trim().to_owned(),
                _ => assert!(Instant::now() < deadline, "the holder says no word about {name}"),
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_holder_behind_a_cut_network_is_told_before_another_gets_its_lease_and_its_late_writes_are_refused() {
    let Some(network) = Network::new() else { return };
    let listen = format!("listen_addresses = '127.0.0.1,{}'", network.here);
    let allow = |data: &Path| {
        let mut file = std::fs::OpenOptions::new().append(true).open(data.join("pg_hba.conf")).unwrap();
        writeln!(file, "host all all {}/32 scram-sha-256", network.there).unwrap();
    };
    let Some(server) = TestServer::start_with(&[&listen], allow) else { return };
    let place = Place::on(&server);
    let short = LeaseOptions { lease_duration_ms: DURATION_MS, ..options("b") };
    let b = place.manager_at(&server.url(&place.schema), short).unwrap();
    let folder = place.folder().to_owned();
    let process = network
        .command(&std::env::current_exe().unwrap())
        .args(["--exact", "lease::postgres_store::tests::partition::holder", "--nocapture"])
        .env(
            URL,
            format!(
                "postgres://postgres:{PASSWORD}@{}:{}/postgres?schema={}&sslmode=disable",
                network.here, server.port, place.schema
            ),
        )
        .env(FOLDER, &folder)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let holder = Holder { process, folder: folder.clone() };
    holder.says("held");
    // It is renewed as long as the network is whole.
    let renewed = Instant::now() + Duration::from_millis(u64::try_from(DURATION_MS).unwrap());
    while Instant::now() < renewed {
        assert!(matches!(acquire(&b, "t"), Acquisition::Held { .. }));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(!folder.join("lost").exists());

    network.set("down");
    let asked_ms = loop {
        let asked_ms = clock().boot_ms();
        if matches!(acquire(&b, "t"), Acquisition::Acquired(_)) {
            break asked_ms;
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let told = holder.says("lost");
    let (told_ms, cause) = told.split_once(' ').unwrap();
    assert!(told_ms.parse::<i64>().unwrap() <= asked_ms, "told at {told_ms}, acquired after {asked_ms}");
    assert!(cause.contains("could not be renewed in time"), "{cause}");

    network.set("up");
    std::fs::write(folder.join("mended"), "").unwrap();
    assert_eq!(holder.says("written"), "FENCED");
    assert!(!folder.join("work").exists());
}

/// The process on the other side; nothing in an ordinary run.
#[test]
fn holder() {
    let (Ok(url), Some(folder)) = (std::env::var(URL), std::env::var_os(FOLDER)) else { return };
    let folder = Path::new(&folder);
    let say = |name: &str, what: &str| {
        std::fs::write(folder.join(name), format!("{what}\n")).unwrap();
    };
    // A machine of its own has a folder of its own.
    let manager = open(&url, &folder.join("there"), options("a")).unwrap();
    let (held, loss) = hold(&manager, "t", DURATION_MS);
    let fence = held.fence();
    say("held", "");
    let cause = loss.recv_timeout(Duration::from_secs(60)).unwrap();
    say("lost", &format!("{} {cause}", clock().boot_ms()));
    while !folder.join("mended").exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut work = || {
        say("work", "");
        Ok(())
    };
    let written = manager.fenced(&fence, &mut work, soon());
    say("written", written.map_or_else(|error| error.code(), |()| "written"));
}
