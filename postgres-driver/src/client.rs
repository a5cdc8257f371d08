//! Using a driver: all that is unsafe about it, and nothing else.
#![allow(unsafe_code, reason = "a driver is a C library")]

use std::ffi::c_void;
use std::path::Path;
use std::ptr::null_mut;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use libloading::Library;
use postgres_types::{FromSql, IsNull, ToSql, Type};

use crate::table::{self, Reply, Slice, Status, Table};
use crate::wire::{Reader, Writer};

/// A value for a statement, with its type: so that the server need not be asked for it.
pub type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// The server said so.
    Server {
        /// The SQLSTATE, five characters.
        state: String,
        /// In the server's words.
        message: String,
        /// What to do about it, in the server's words.
        hint: Option<String>,
    },
    /// There was no connection, it ended, or the time was over. What was asked for may have been done.
    Connection(String),
    /// What was passed can't be used.
    Unusable(String),
}

/// Loads a driver, for as long as the process lives.
///
/// # Errors
/// In words, if there is none at `path`, or one of another version.
pub fn load(path: &Path) -> Result<&'static Table, String> {
    // SAFETY: what such a library does when it is loaded is what Rust's own runtime does: nothing.
    let library = unsafe { Library::new(path) }.map_err(|error| error.to_string())?;
    // SAFETY: a library that exports this name was made by this project, where it has this type in every version.
    let entry = unsafe { library.get::<table::Entry>(table::ENTRY) }.map_err(|error| error.to_string())?;
    // SAFETY: it takes nothing and answers a pointer to a static.
    let table = unsafe { entry() };
    // Threads may be in there at any time.
    std::mem::forget(library);
    // SAFETY: the number is the first field in every version, and a table of this version is what its type says.
    let version = unsafe { (*table).version };
    if version != table::VERSION {
        return Err(format!("it is of version {version}, and version {} is needed", table::VERSION));
    }
    // SAFETY: as above; it is never freed.
    Ok(unsafe { &*table })
}

/// A server that can be connected to.
pub struct Endpoint {
    table: &'static Table,
    pointer: *mut c_void,
    name: String,
}

// SAFETY: the interface says that any thread may use it, and an endpoint is only read.
unsafe impl Send for Endpoint {}
// SAFETY: as above.
unsafe impl Sync for Endpoint {}

impl Endpoint {
    /// Reads `postgres://user:password@host:port/database?sslmode=verify-full&…`. Connects to nothing.
    ///
    /// # Errors
    /// A [`Problem::Unusable`] that says what is wrong with the URL, without repeating any part of it.
    pub fn open(table: &'static Table, url: &str) -> Result<Self, Problem> {
        let mut reply = Answer::new(table);
        // SAFETY: the slice is there during the call, and the reply is one that was not used yet.
        let pointer = unsafe { (table.open)(slice(url.as_bytes()), reply.pointer()) };
        if pointer.is_null() {
            return Err(reply.problem());
        }
        Ok(Self { table, pointer, name: String::from_utf8_lossy(reply.bytes()).into_owned() })
    }

    /// `postgres://host:port/database`, for messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        // SAFETY: the driver made it, and it is given back once.
        unsafe { (self.table.close)(self.pointer) }
    }
}

/// A connection.
pub struct Session {
    table: &'static Table,
    pointer: *mut c_void,
}

// SAFETY: the interface says that any thread may use it, one at a time.
unsafe impl Send for Session {}

impl Session {
    /// Connects, within the endpoint's own limit and `timeout`.
    ///
    /// # Errors
    /// Any [`Problem`]; nothing was done then.
    pub fn connect(endpoint: &Endpoint, timeout: Duration) -> Result<Self, Problem> {
        let table = endpoint.table;
        let mut reply = Answer::new(table);
        // SAFETY: the endpoint is there during the call, and the reply is one that was not used yet.
        let pointer = unsafe { (table.connect)(endpoint.pointer, nanoseconds(timeout), reply.pointer()) };
        if pointer.is_null() { Err(reply.problem()) } else { Ok(Self { table, pointer }) }
    }

    /// Runs one statement, by one exchange of messages and without leaving anything prepared.
    ///
    /// # Errors
    /// [`Problem::Connection`]: the connection can't be used any more.
    pub fn query(
        &mut self,
        sql: &str,
        parameters: &[Parameter<'_>],
        timeout: Duration,
    ) -> Result<Vec<Row>, Problem> {
        let request = request(sql, parameters)?;
        let mut reply = Answer::new(self.table);
        // SAFETY: the session is this one's, the slice is there during the call, the reply was not used yet.
        let status = unsafe {
            (self.table.query)(self.pointer, slice(&request), nanoseconds(timeout), reply.pointer())
        };
        rows(reply.when(status)?).ok_or_else(not_understood)
    }

    /// Runs statements without parameters, in one exchange of messages.
    ///
    /// # Errors
    /// As of [`Self::query`].
    pub fn batch(&mut self, sql: &str, timeout: Duration) -> Result<(), Problem> {
        let mut reply = Answer::new(self.table);
        // SAFETY: as in `query`.
        let status = unsafe {
            (self.table.batch)(self.pointer, slice(sql.as_bytes()), nanoseconds(timeout), reply.pointer())
        };
        reply.when(status).map(drop)
    }

    /// Waits until the server notifies this connection of something, for so long; whether it did.
    ///
    /// # Errors
    /// [`Problem::Connection`]: the connection can't be used any more.
    pub fn await_notification(&mut self, timeout: Duration) -> Result<bool, Problem> {
        let mut reply = Answer::new(self.table);
        // SAFETY: as in `query`.
        let status = unsafe { (self.table.listen)(self.pointer, nanoseconds(timeout), reply.pointer()) };
        reply.when(status).map(|bytes| bytes == [1])
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: the driver made it, and it is given back once.
        unsafe { (self.table.disconnect)(self.pointer) }
    }
}

/// A row of an answer.
#[derive(Debug, Clone)]
pub struct Row {
    answer: Arc<RowsAnswer>,
    /// Of its first value in the answer's places.
    first: usize,
}

#[derive(Debug)]
struct RowsAnswer {
    bytes: Vec<u8>,
    columns: Vec<(String, Type)>,
    places: Vec<Option<std::ops::Range<usize>>>,
}

/// How a column is named: by its name, or by its position from 0 on.
pub trait Column: Copy {
    /// Its position among the names.
    fn position(&self, names: &[(String, Type)]) -> Option<usize>;
}

impl Column for &str {
    fn position(&self, names: &[(String, Type)]) -> Option<usize> {
        names.iter().position(|(name, _)| name == self)
    }
}

impl Column for usize {
    fn position(&self, names: &[(String, Type)]) -> Option<usize> {
        (*self < names.len()).then_some(*self)
    }
}

impl Row {
    /// The value of a column.
    ///
    /// # Errors
    /// In words, if there is no such column, or its value is of another type.
    pub fn try_get<'r, C: Column, T: FromSql<'r>>(&'r self, column: C) -> Result<T, String> {
        let RowsAnswer { bytes, columns, places } = &*self.answer;
        let position = column.position(columns).ok_or("a column is missing")?;
        let (name, kind) = &columns[position];
        if !T::accepts(kind) {
            return Err(format!("column {name} is of type {kind}"));
        }
        let value = places.get(self.first + position).cloned().flatten().and_then(|place| bytes.get(place));
        T::from_sql_nullable(kind, value).map_err(|error| format!("column {name}: {error}"))
    }

    /// The value of a column that is there.
    ///
    /// # Panics
    /// Where [`Self::try_get`] fails.
    pub fn get<'r, C: Column, T: FromSql<'r>>(&'r self, column: C) -> T {
        self.try_get(column).unwrap_or_else(|error| panic!("{error}"))
    }
}

/// A reply, given back when it is dropped.
struct Answer {
    table: &'static Table,
    reply: Reply,
}

impl Answer {
    fn new(table: &'static Table) -> Self {
        Self { table, reply: Reply { start: null_mut(), length: 0, capacity: 0 } }
    }

    fn pointer(&mut self) -> *mut Reply {
        &raw mut self.reply
    }

    fn bytes(&self) -> &[u8] {
        if self.reply.start.is_null() {
            return &[];
        }
        // SAFETY: the driver has written so many bytes there, and nobody changes them until they are given back.
        unsafe { std::slice::from_raw_parts(self.reply.start, self.reply.length) }
    }

    fn when(&self, status: Status) -> Result<&[u8], Problem> {
        if status == table::DONE { Ok(self.bytes()) } else { Err(self.problem()) }
    }

    fn problem(&self) -> Problem {
        Reader::new(self.bytes()).problem().unwrap_or_else(not_understood)
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // SAFETY: the driver filled it, if anybody did, and it is given back once.
        unsafe { (self.table.free)(&raw mut self.reply) }
    }
}

fn not_understood() -> Problem {
    Problem::Connection("the driver's answer is not understood".to_owned())
}

fn slice(bytes: &[u8]) -> Slice {
    Slice { start: bytes.as_ptr(), length: bytes.len() }
}

fn nanoseconds(timeout: Duration) -> u64 {
    u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX)
}

fn request(sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<u8>, Problem> {
    let mut writer = Writer::default();
    writer.bytes(sql.as_bytes());
    writer.number(u32::try_from(parameters.len()).unwrap_or(u32::MAX));
    let mut value = BytesMut::new();
    for (parameter, kind) in parameters {
        writer.number(kind.oid());
        value.clear();
        match parameter.to_sql_checked(kind, &mut value) {
            Ok(IsNull::No) => writer.value(Some(&value)),
            Ok(IsNull::Yes) => writer.value(None),
            Err(error) => return Err(Problem::Unusable(error.to_string())),
        }
    }
    Ok(writer.finish())
}

fn rows(bytes: &[u8]) -> Option<Vec<Row>> {
    let mut reader = Reader::new(bytes);
    let count = reader.number()?;
    let mut columns = Vec::new();
    for _ in 0..count {
        let name = reader.text()?;
        columns.push((name, Type::from_oid(reader.number()?).unwrap_or(Type::UNKNOWN)));
    }
    let rows = usize::try_from(reader.number()?).ok()?;
    let mut places = Vec::new();
    for _ in 0..rows * columns.len() {
        places.push(reader.place()?);
    }
    let width = columns.len();
    let answer = Arc::new(RowsAnswer { bytes: bytes.to_vec(), columns, places });
    Some((0..rows).map(|row| Row { answer: Arc::clone(&answer), first: row * width }).collect())
}
