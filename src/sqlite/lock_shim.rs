//! Gives our copy of SQLite locks that another copy in the same process can't drop; `ofd_locks.c` says why.

#[cfg(unix)]
#[allow(unsafe_code, reason = "SQLite takes replacements of system calls as C function pointers")]
pub(super) fn install() {
    use std::ffi::c_int;
    use std::sync::Once;

    use rusqlite::ffi::{SQLITE_OK, sqlite3_initialize, sqlite3_syscall_ptr, sqlite3_vfs, sqlite3_vfs_find};

    unsafe extern "C" {
        fn driftlock_ofd_fcntl(descriptor: c_int, command: c_int, ...) -> c_int;
    }

    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let replacement: unsafe extern "C" fn(c_int, c_int, ...) -> c_int = driftlock_ofd_fcntl;
        // SAFETY: SQLite casts the pointer back to this very type before it calls it, as the documentation of
        // `sqlite3_vfs.xSetSystemCall` says; the static VFS that `sqlite3_vfs_find` returns lives as long as the
        // process, and no connection exists yet, so nobody uses the table while it changes.
        unsafe {
            if sqlite3_initialize() != SQLITE_OK {
                return;
            }
            let vfs: *mut sqlite3_vfs = sqlite3_vfs_find(c"unix".as_ptr());
            let Some(set_system_call) = vfs.as_ref().and_then(|vfs| vfs.xSetSystemCall) else {
                return;
            };
            let replacement: sqlite3_syscall_ptr = Some(std::mem::transmute::<
                unsafe extern "C" fn(c_int, c_int, ...) -> c_int,
                unsafe extern "C" fn(),
            >(replacement));
            set_system_call(vfs, c"fcntl".as_ptr(), replacement);
        }
    });
}

// On Windows a lock belongs to a handle already.
#[cfg(not(unix))]
pub(super) fn install() {}
