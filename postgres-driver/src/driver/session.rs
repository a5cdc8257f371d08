//! One connection, driven by the thread that uses it.

use std::error::Error as _;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use postgres_types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{AsyncMessage, Client, Config, Connection, Row, Socket};

use super::endpoint::Endpoint;
use super::tls::{Connector, Stream};
use crate::client::Problem;
use crate::wire::{Reader, Writer};

/// A connection to the server.
pub(super) struct Session {
    client: Client,
    connection: Connection<Socket, Stream<Socket>>,
    /// Has no thread of its own. `None` only while the session is dropped.
    runtime: Option<Runtime>,
}

impl Session {
    /// Connects to the first host that it can be had of, within the address's own time limit and `deadline`. Of that time
    /// each host has its share, so that one that says nothing keeps nobody from those after it.
    pub(super) fn connect(endpoint: &Endpoint, deadline: Instant) -> Result<Self, Problem> {
        let connector = endpoint.connector()?;
        let limit = (Instant::now() + endpoint.connect_timeout()).min(deadline);
        let hosts = endpoint.each();
        let mut left = u32::try_from(hosts.len()).unwrap_or(u32::MAX);
        let mut failed = Problem::Unusable("one without a host".to_owned());
        for host in hosts {
            let share = limit.saturating_duration_since(Instant::now()) / left;
            match Self::connect_to(host, connector.clone(), share) {
                Ok(session) => return Ok(session),
                Err(problem) => failed = problem,
            }
            left -= 1;
        }
        Err(failed)
    }

    fn connect_to(host: &Config, connector: Connector, patience: Duration) -> Result<Self, Problem> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Problem::Connection(format!("the system refused a connection: {error}")))?;
        let connected =
            runtime.block_on(async { tokio::time::timeout(patience, host.connect(connector)).await });
        let result = match connected {
            Ok(Ok((client, connection))) => {
                return Ok(Self { client, connection, runtime: Some(runtime) });
            }
            Ok(Err(error)) => problem(&error),
            Err(_) => Problem::Connection("connecting took too long".to_owned()),
        };
        // The look-up of a name may still be under way.
        runtime.shutdown_background();
        Err(result)
    }

    /// Runs the statement of a request.
    pub(super) fn query(&mut self, request: &[u8], deadline: Instant) -> Result<Vec<u8>, Problem> {
        let (sql, parameters) = statement(request)
            .ok_or_else(|| Problem::Unusable("a statement that the driver does not understand".to_owned()))?;
        let parameters: Vec<(&(dyn ToSql + Sync), Type)> =
            parameters.iter().map(|(value, kind)| (value as &(dyn ToSql + Sync), kind.clone())).collect();
        let rows = self.drive(deadline, |client| client.query_typed(&sql, &parameters))?;
        reply(&rows).map_err(|error| problem(&error))
    }

    /// Runs statements without parameters, in one exchange of messages.
    pub(super) fn batch(&mut self, sql: &str, deadline: Instant) -> Result<(), Problem> {
        self.drive(deadline, |client| client.batch_execute(sql))
    }

    /// Waits until the server notifies this connection of something, for so long; whether it did.
    pub(super) fn await_notification(&mut self, timeout: Duration) -> Result<bool, Problem> {
        let Self { connection, runtime, .. } = self;
        let Some(runtime) = runtime else { return Err(closed()) };
        let message = poll_fn(|cx| {
            loop {
                match connection.poll_message(cx) {
                    Poll::Ready(Some(Ok(AsyncMessage::Notification(_)))) => return Poll::Ready(Ok(true)),
                    Poll::Ready(Some(Ok(_))) => {}
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(problem(&error))),
                    Poll::Ready(None) => return Poll::Ready(Err(closed())),
                    Poll::Pending => return Poll::Pending,
                }
            }
        });
        runtime.block_on(async { tokio::time::timeout(timeout, message).await }).unwrap_or(Ok(false))
    }

    fn drive<'c, T, F>(
        &'c mut self,
        deadline: Instant,
        start: impl FnOnce(&'c Client) -> F,
    ) -> Result<T, Problem>
    where
        F: Future<Output = Result<T, tokio_postgres::Error>>,
    {
        let Self { client, connection, runtime } = self;
        let Some(runtime) = runtime else { return Err(closed()) };
        runtime.block_on(async {
            let mut request = pin!(start(client));
            let answer = poll_fn(|cx| {
                loop {
                    // What came before the connection's end counts, so the request is asked first.
                    if let Poll::Ready(answer) = request.as_mut().poll(cx) {
                        return Poll::Ready(answer.map_err(|error| problem(&error)));
                    }
                    let end = match connection.poll_message(cx) {
                        Poll::Ready(Some(Ok(_))) => continue,
                        Poll::Ready(Some(Err(error))) => Some(problem(&error)),
                        Poll::Ready(None) => Some(closed()),
                        Poll::Pending => None,
                    };
                    return match (request.as_mut().poll(cx), end) {
                        (Poll::Ready(Ok(answer)), _) => Poll::Ready(Ok(answer)),
                        // Of a connection that has ended the request knows only that.
                        (_, Some(end)) => Poll::Ready(Err(end)),
                        (Poll::Ready(Err(error)), None) => Poll::Ready(Err(problem(&error))),
                        (Poll::Pending, None) => Poll::Pending,
                    };
                }
            });
            match tokio::time::timeout_at(deadline.into(), answer).await {
                Ok(answer) => answer,
                Err(_) => Err(Problem::Connection("the answer took too long".to_owned())),
            }
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn closed() -> Problem {
    Problem::Connection("the connection was closed".to_owned())
}

fn problem(error: &tokio_postgres::Error) -> Problem {
    match error.as_db_error() {
        Some(answer) => Problem::Server {
            state: answer.code().code().to_owned(),
            message: answer.message().to_owned(),
            hint: answer.hint().map(str::to_owned),
        },
        // Those name what went wrong on the way, never what was sent.
        None => Problem::Connection(match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        }),
    }
}

/// A value as it is on the wire.
#[derive(Debug)]
struct Raw<'a>(Option<&'a [u8]>);

impl ToSql for Raw<'_> {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        let Some(value) = self.0 else { return Ok(IsNull::Yes) };
        out.extend_from_slice(value);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(Some(raw)))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(None))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

fn statement(request: &[u8]) -> Option<(String, Vec<(Raw<'_>, Type)>)> {
    let mut reader = Reader::new(request);
    let sql = reader.text()?;
    let count = reader.number()?;
    let mut parameters = Vec::new();
    for _ in 0..count {
        let kind = Type::from_oid(reader.number()?)?;
        let value = reader.place()?;
        parameters.push((Raw(value.and_then(|place| request.get(place))), kind));
    }
    Some((sql, parameters))
}

fn reply(rows: &[Row]) -> Result<Vec<u8>, tokio_postgres::Error> {
    let mut writer = Writer::default();
    let columns = rows.first().map_or(&[][..], Row::columns);
    writer.number(u32::try_from(columns.len()).unwrap_or(u32::MAX));
    for column in columns {
        writer.bytes(column.name().as_bytes());
        writer.number(column.type_().oid());
    }
    writer.number(u32::try_from(rows.len()).unwrap_or(u32::MAX));
    for row in rows {
        for position in 0..columns.len() {
            writer.value(row.try_get::<_, Raw<'_>>(position)?.0);
        }
    }
    Ok(writer.finish())
}
