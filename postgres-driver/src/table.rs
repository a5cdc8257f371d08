//! The C interface between the core and a driver.

use std::ffi::c_void;

/// Of this interface and of what `wire` says; a driver with another one is refused.
pub const VERSION: u32 = 1;

/// The function that a driver exports: it answers its [`Table`], which is there for as long as the process.
pub const ENTRY: &[u8] = b"driftlock_postgres_driver\0";

/// The type of the function that is called [`ENTRY`].
pub type Entry = unsafe extern "C" fn() -> *const Table;

/// Bytes of the caller, which the function called only reads while it runs.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Slice {
    /// The first byte.
    pub start: *const u8,
    /// How many there are.
    pub length: usize,
}

/// Bytes of the driver, which the caller gives back by [`Table::free`].
#[repr(C)]
pub struct Reply {
    /// The first byte; null before there is a reply.
    pub start: *mut u8,
    /// How many there are.
    pub length: usize,
    /// How many there is room for.
    pub capacity: usize,
}

/// How a call ended.
pub type Status = u32;

/// It was done. The reply is the answer.
pub const DONE: Status = 0;
/// It was not, or nobody knows. The reply is a problem.
pub const FAILED: Status = 1;

/// What a driver can do. Functions may be called from any thread, each endpoint and session by one at a time, and don't
/// unwind. Times are in nanoseconds from the call on.
#[repr(C)]
pub struct Table {
    /// [`VERSION`]. First, so that it can be read in any version.
    pub version: u32,
    /// Reads a URL: gives a pointer to an endpoint and its name without user and password, or null and a problem.
    pub open: unsafe extern "C" fn(url: Slice, reply: *mut Reply) -> *mut c_void,
    /// Frees an endpoint.
    pub close: unsafe extern "C" fn(endpoint: *mut c_void),
    /// Connects: gives a pointer to a session, or null and a problem.
    pub connect:
        unsafe extern "C" fn(endpoint: *const c_void, timeout: u64, reply: *mut Reply) -> *mut c_void,
    /// Ends a connection.
    pub disconnect: unsafe extern "C" fn(session: *mut c_void),
    /// Runs one statement with parameters.
    pub query:
        unsafe extern "C" fn(session: *mut c_void, request: Slice, timeout: u64, reply: *mut Reply) -> Status,
    /// Runs statements without parameters.
    pub batch:
        unsafe extern "C" fn(session: *mut c_void, sql: Slice, timeout: u64, reply: *mut Reply) -> Status,
    /// Waits for a notification: the reply is one byte, 1 if there was one.
    pub listen: unsafe extern "C" fn(session: *mut c_void, timeout: u64, reply: *mut Reply) -> Status,
    /// Frees a reply.
    pub free: unsafe extern "C" fn(reply: *mut Reply),
}
