//! The preloaded shim: building it, starting a process under it, and telling it what is to fail.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// Names the job that a copy of this test does.
pub(crate) const JOB: &str = "FAULT_JOB";

/// Names the process among those that do the same job.
pub(crate) const WRITER: &str = "FAULT_WRITER";

/// A kind of file operation, as the shim numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Open,
    Write,
    Truncate,
    Rename,
    Sync,
    Mkdir,
    Unlink,
    Allocate,
    Read,
    Stat,
}

/// What fails, when and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    pub class: Class,
    /// How many calls of the class succeed before.
    pub after: i32,
    /// How many fail then.
    pub times: i32,
    pub errno: i32,
    /// Whether the first failing write writes half of its bytes.
    pub half: bool,
}

/// Whether the long form of the tests was asked for.
pub(crate) fn is_long() -> bool {
    std::env::var("DRIFTLOCK_FAULTS").is_ok_and(|value| value == "long")
}

/// A folder whose syncs cost nothing, if there is one.
pub(crate) fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let builder = |path: &Path| tempfile::Builder::new().prefix("driftlock-faults-").tempdir_in(path);
    builder(memory).or_else(|_| builder(&std::env::temp_dir())).unwrap()
}

/// Runs a job of [`super::job`] in a process of its own, below a folder of its own, and fails if it does.
pub(crate) fn run_job(name: &str, environment: &[(&str, &str)]) {
    let folder = folder();
    check_output(&start_job(name, folder.path(), environment));
}

/// Fails, with what the process said, if it did.
pub(crate) fn check_output(output: &Output) {
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Runs a job on the files below `folder`.
pub(crate) fn start_job(name: &str, folder: &Path, environment: &[(&str, &str)]) -> Output {
    let control = tempfile::NamedTempFile::new().unwrap();
    control.as_file().set_len(4096).unwrap();
    job_command(name, folder)
        .env("LD_PRELOAD", library())
        .env("FAULT_CONTROL", control.path())
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

/// Runs a job in several processes at once, each with its own value of the variable [`WRITER`], and fails if one does.
/// What they do with files is written down in `record`, in the order in which it happened.
pub(crate) fn record_jobs(
    name: &str,
    folder: &Path,
    record: &Path,
    writers: usize,
    environment: &[(&str, &str)],
) {
    let start = |writer: usize| {
        job_command(name, folder)
            .env("LD_PRELOAD", library())
            .env("FAULT_RECORD", record)
            .env(WRITER, writer.to_string())
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let children: Vec<_> = (0..writers).map(start).collect();
    for child in children {
        check_output(&child.wait_with_output().unwrap());
    }
}

/// A process that does a job on the files below `folder`, without the shim.
pub(crate) fn job_command(name: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["job", "--exact", "--nocapture"]).env(JOB, name).env("FAULT_FOLDER", folder);
    command
}

/// The folder of the job that this process does.
pub(crate) fn job_folder() -> PathBuf {
    std::env::var_os("FAULT_FOLDER").unwrap().into()
}

/// Compiles the shim once for all tests of this process.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = LIBRARY.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("shim.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/shim.c");
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
        let status = Command::new(compiler)
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([&library, &source])
            .args(["-ldl", "-lpthread"])
            .status()
            .unwrap();
        assert!(status.success(), "the shim does not compile");
        (folder, library)
    });
    path
}

/// The words that the shim of this process looks at.
pub(crate) struct Shim(File);

impl Shim {
    pub(crate) fn of_this_process() -> Self {
        let path = std::env::var_os("FAULT_CONTROL").unwrap();
        Self(File::options().read(true).write(true).open(path).unwrap())
    }

    /// Lets a fault happen.
    pub(crate) fn arm(&self, fault: Fault) {
        let errno = if fault.half { -fault.errno } else { fault.errno };
        for (word, value) in [(1, fault.after), (2, fault.times), (3, errno), (4, 0)] {
            self.set(word, value);
        }
        self.set(0, 1 << fault.class as i32);
    }

    /// Ends the faults; says how often one happened.
    pub(crate) fn disarm(&self) -> i32 {
        self.set(0, 0);
        self.get(4)
    }

    fn set(&self, word: u64, value: i32) {
        self.0.write_all_at(&value.to_ne_bytes(), word * 4).unwrap();
    }

    fn get(&self, word: u64) -> i32 {
        let mut bytes = [0; 4];
        self.0.read_exact_at(&mut bytes, word * 4).unwrap();
        i32::from_ne_bytes(bytes)
    }
}
