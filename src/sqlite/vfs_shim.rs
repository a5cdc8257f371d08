//! Gives our copy of SQLite locks that another copy in the same process can't drop, and writes to the log that take one
//! system call; `vfs_shim.c` says how and why.

#[cfg(unix)]
#[allow(unsafe_code, reason = "SQLite takes replacements of system calls as C function pointers")]
pub(super) fn install() {
    use std::ffi::{CStr, c_int};
    use std::sync::Once;

    use rusqlite::ffi::{SQLITE_OK, sqlite3_initialize, sqlite3_syscall_ptr, sqlite3_vfs, sqlite3_vfs_find};

    // Of various types; SQLite knows which.
    unsafe extern "C" {
        fn driftlock_fcntl(descriptor: c_int, command: c_int, ...) -> c_int;
        #[cfg(target_os = "linux")]
        fn driftlock_open();
        #[cfg(target_os = "linux")]
        fn driftlock_close();
        #[cfg(target_os = "linux")]
        fn driftlock_pread();
        #[cfg(target_os = "linux")]
        fn driftlock_pwrite();
    }

    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let fcntl: unsafe extern "C" fn(c_int, c_int, ...) -> c_int = driftlock_fcntl;
        // SAFETY: SQLite casts the pointer back to this very type before it calls it, as the documentation of
        // `sqlite3_vfs.xSetSystemCall` says.
        let fcntl = unsafe {
            std::mem::transmute::<unsafe extern "C" fn(c_int, c_int, ...) -> c_int, unsafe extern "C" fn()>(
                fcntl,
            )
        };
        let replacements: &[(&CStr, unsafe extern "C" fn())] = &[
            (c"fcntl", fcntl),
            #[cfg(target_os = "linux")]
            (c"open", driftlock_open),
            #[cfg(target_os = "linux")]
            (c"close", driftlock_close),
            #[cfg(target_os = "linux")]
            (c"pread", driftlock_pread),
            #[cfg(target_os = "linux")]
            (c"pread64", driftlock_pread),
            #[cfg(target_os = "linux")]
            (c"pwrite", driftlock_pwrite),
            #[cfg(target_os = "linux")]
            (c"pwrite64", driftlock_pwrite),
        ];
        // SAFETY: each replacement has the type of what it replaces; the static VFS that `sqlite3_vfs_find` returns
        // lives as long as the process, and no connection exists yet, so nobody uses the table while it changes.
        unsafe {
            if sqlite3_initialize() != SQLITE_OK {
                return;
            }
            let vfs: *mut sqlite3_vfs = sqlite3_vfs_find(c"unix".as_ptr());
            let Some(set_system_call) = vfs.as_ref().and_then(|vfs| vfs.xSetSystemCall) else {
                return;
            };
            for (name, replacement) in replacements {
                let replacement: sqlite3_syscall_ptr = Some(*replacement);
                set_system_call(vfs, name.as_ptr(), replacement);
            }
        }
    });
}

// On Windows a lock belongs to a handle already.
#[cfg(not(unix))]
pub(super) fn install() {}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use rusqlite::Connection;

    /// What a crash leaves of a database, opened again.
    fn after_crash(folder: &std::path::Path) -> Connection {
        let copy = folder.join("copy.db");
        std::fs::copy(folder.join("file.db"), &copy).unwrap();
        std::fs::copy(folder.join("file.db-wal"), folder.join("copy.db-wal")).unwrap();
        Connection::open(copy).unwrap()
    }

    fn open(folder: &std::path::Path) -> Connection {
        super::install();
        let connection = Connection::open(folder.join("file.db")).unwrap();
        let script = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0;
            CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, filler TEXT)";
        connection.execute_batch(script).unwrap();
        connection
    }

    const SUM: &str = "SELECT count(*) || ' ' || coalesce(sum(n), 0) FROM t";

    fn sum(connection: &Connection) -> String {
        connection.query_row(SUM, [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn each_commit_is_in_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let connection = open(folder.path());
        for n in 1..=20 {
            connection.execute("INSERT INTO t (n) VALUES (?1)", [n]).unwrap();
            assert_eq!(sum(&after_crash(folder.path())), format!("{n} {}", n * (n + 1) / 2));
        }
    }

    /// A cache that is too small makes SQLite write pages more than once in a transaction, over their first frames,
    /// and the checksums of those after them again.
    #[test]
    fn frames_that_are_written_over_keep_their_checksums() {
        let folder = tempfile::tempdir().unwrap();
        let connection = open(folder.path());
        connection.execute_batch("PRAGMA cache_size = 3; PRAGMA cache_spill = 1; BEGIN").unwrap();
        for round in 0..5 {
            for id in 0..200 {
                connection
                    .execute("INSERT OR REPLACE INTO t VALUES (?1, ?2, hex(randomblob(500)))", [id, round])
                    .unwrap();
            }
        }
        connection.execute_batch("COMMIT").unwrap();
        let copy = after_crash(folder.path());
        assert_eq!(sum(&copy), "200 800");
        let check: String = copy.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(check, "ok");
    }
}
