//! tokio-postgres and rustls behind the C interface.
#![allow(unsafe_code, reason = "a driver is a C library")]

mod endpoint;
mod session;
mod tls;

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;
use std::time::{Duration, Instant};

use self::endpoint::Endpoint;
use self::session::Session;
use crate::client::Problem;
use crate::table::{DONE, FAILED, Reply, Slice, Status, Table, VERSION};
use crate::wire::Writer;

/// What this driver can do.
#[must_use]
pub fn table() -> &'static Table {
    static TABLE: Table =
        Table { version: VERSION, open, close, connect, disconnect, query, batch, listen, free };
    &TABLE
}

/// [`table`] for those who load this as a library.
// SAFETY: no other function of the process has this name.
#[unsafe(no_mangle)]
pub extern "C" fn driftlock_postgres_driver() -> *const Table {
    table()
}

unsafe extern "C" fn open(url: Slice, reply: *mut Reply) -> *mut c_void {
    // SAFETY: the caller keeps the slice there during the call.
    let url = unsafe { bytes(url) };
    let opened = guarded(|| {
        let url =
            std::str::from_utf8(url).map_err(|_| Problem::Unusable("one that is no UTF-8".to_owned()))?;
        let endpoint = Endpoint::parse(url)?;
        let name = endpoint.to_string().into_bytes();
        Ok((endpoint, name))
    });
    // SAFETY: the caller passes a reply of its own.
    unsafe { give(opened, reply) }
}

unsafe extern "C" fn close(endpoint: *mut c_void) {
    // SAFETY: `open` made it, and the caller gives it back once.
    drop(unsafe { Box::from_raw(endpoint.cast::<Endpoint>()) });
}

unsafe extern "C" fn connect(endpoint: *const c_void, timeout: u64, reply: *mut Reply) -> *mut c_void {
    // SAFETY: `open` made it, and the caller has not given it back.
    let endpoint = unsafe { &*endpoint.cast::<Endpoint>() };
    let connected = guarded(|| Ok((Session::connect(endpoint, deadline(timeout))?, Vec::new())));
    // SAFETY: the caller passes a reply of its own.
    unsafe { give(connected, reply) }
}

unsafe extern "C" fn disconnect(session: *mut c_void) {
    // SAFETY: `connect` made it, and the caller gives it back once.
    let session = unsafe { Box::from_raw(session.cast::<Session>()) };
    let _ = guarded(|| {
        drop(session);
        Ok(())
    });
}

unsafe extern "C" fn query(session: *mut c_void, request: Slice, timeout: u64, reply: *mut Reply) -> Status {
    // SAFETY: the caller keeps the slice there during the call.
    let request = unsafe { bytes(request) };
    // SAFETY: `connect` made it, and nobody else uses it.
    let session = unsafe { &mut *session.cast::<Session>() };
    // SAFETY: the caller passes a reply of its own.
    unsafe { answer(guarded(|| session.query(request, deadline(timeout))), reply) }
}

unsafe extern "C" fn batch(session: *mut c_void, sql: Slice, timeout: u64, reply: *mut Reply) -> Status {
    // SAFETY: the caller keeps the slice there during the call.
    let sql = String::from_utf8_lossy(unsafe { bytes(sql) });
    // SAFETY: `connect` made it, and nobody else uses it.
    let session = unsafe { &mut *session.cast::<Session>() };
    let done = guarded(|| session.batch(&sql, deadline(timeout)).map(|()| Vec::new()));
    // SAFETY: the caller passes a reply of its own.
    unsafe { answer(done, reply) }
}

unsafe extern "C" fn listen(session: *mut c_void, timeout: u64, reply: *mut Reply) -> Status {
    // SAFETY: `connect` made it, and nobody else uses it.
    let session = unsafe { &mut *session.cast::<Session>() };
    let heard = guarded(|| session.await_notification(Duration::from_nanos(timeout)));
    // SAFETY: the caller passes a reply of its own.
    unsafe { answer(heard.map(|heard| vec![u8::from(heard)]), reply) }
}

unsafe extern "C" fn free(reply: *mut Reply) {
    // SAFETY: the caller passes a reply of its own.
    let reply = unsafe { &mut *reply };
    if !reply.start.is_null() {
        // SAFETY: `put` took it apart, and its pointer is forgotten here.
        drop(unsafe { Vec::from_raw_parts(reply.start, reply.length, reply.capacity) });
        reply.start = null_mut();
    }
}

/// # Safety
/// The slice must be there for as long as the answer is used.
unsafe fn bytes<'a>(slice: Slice) -> &'a [u8] {
    // SAFETY: the caller says so.
    unsafe { std::slice::from_raw_parts(slice.start, slice.length) }
}

/// Gives a value to the caller, which gives it back by another function, with a reply; or null, with the problem.
///
/// # Safety
/// `reply` must be one that was not used yet.
unsafe fn give<T>(result: Result<(T, Vec<u8>), Problem>, reply: *mut Reply) -> *mut c_void {
    let (value, bytes) = match result {
        Ok((value, bytes)) => (Box::into_raw(Box::new(value)).cast(), bytes),
        Err(problem) => (null_mut(), Writer::default().problem(&problem)),
    };
    // SAFETY: the caller says so.
    unsafe { put(bytes, reply) };
    value
}

/// # Safety
/// As of [`give`].
unsafe fn answer(result: Result<Vec<u8>, Problem>, reply: *mut Reply) -> Status {
    let (status, bytes) = match result {
        Ok(bytes) => (DONE, bytes),
        Err(problem) => (FAILED, Writer::default().problem(&problem)),
    };
    // SAFETY: the caller says so.
    unsafe { put(bytes, reply) };
    status
}

/// # Safety
/// As of [`give`].
unsafe fn put(bytes: Vec<u8>, reply: *mut Reply) {
    let mut bytes = std::mem::ManuallyDrop::new(bytes);
    let filled = Reply { start: bytes.as_mut_ptr(), length: bytes.len(), capacity: bytes.capacity() };
    // SAFETY: the caller says so.
    unsafe { *reply = filled };
}

/// Nothing unwinds into the core, which may be another Rust's.
fn guarded<T>(work: impl FnOnce() -> Result<T, Problem>) -> Result<T, Problem> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(Problem::Connection("a defect of the driver; please report it".to_owned())))
}

fn deadline(timeout: u64) -> Instant {
    /// Longer than anybody waits, and short enough for a clock.
    const LONGEST: Duration = Duration::from_secs(31_536_000);
    Instant::now() + Duration::from_nanos(timeout).min(LONGEST)
}
