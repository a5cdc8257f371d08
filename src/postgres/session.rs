//! One connection, driven by the thread that uses it.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, Client, Connection, Row, Socket};

use super::address::Address;
use super::failure::Failure;
use super::tls::{Connector, Stream};

/// A value for a statement, with its type: so that the server need not be asked for it.
pub(crate) type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// A connection to the server.
pub(crate) struct Session {
    client: Client,
    connection: Connection<Socket, Stream<Socket>>,
    /// Has no thread of its own. `None` only while the session is dropped.
    runtime: Option<Runtime>,
    is_broken: bool,
}

impl Session {
    /// Connects, within the address's own time limit and `deadline`.
    pub(super) fn connect(
        address: &Address,
        connector: &Connector,
        deadline: Instant,
    ) -> Result<Self, Failure> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::Unreachable(format!("the system refused a connection: {error}")))?;
        let limit = (Instant::now() + address.connect_timeout()).min(deadline);
        let connected = runtime.block_on(async {
            tokio::time::timeout_at(limit.into(), address.driver.connect(connector.clone())).await
        });
        let result = match connected {
            Ok(Ok((client, connection))) => {
                return Ok(Self { client, connection, runtime: Some(runtime), is_broken: false });
            }
            Ok(Err(error)) => Failure::of_connecting(&error),
            Err(_) => Failure::Unreachable("connecting took too long".to_owned()),
        };
        // The look-up of a name may still be under way.
        runtime.shutdown_background();
        Err(result)
    }

    /// Whether the connection can't be used any more.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Runs one statement, by one exchange of messages and without leaving anything prepared.
    pub(crate) fn query(
        &mut self,
        sql: &str,
        parameters: &[Parameter<'_>],
        deadline: Instant,
    ) -> Result<Vec<Row>, Failure> {
        self.drive(deadline, |client| client.query_typed(sql, parameters))
    }

    /// Runs statements without parameters, in one exchange of messages.
    pub(crate) fn batch(&mut self, sql: &str, deadline: Instant) -> Result<(), Failure> {
        self.drive(deadline, |client| client.batch_execute(sql))
    }

    /// Waits until the server notifies this connection of something, for so long; whether it did.
    pub(crate) fn await_notification(&mut self, timeout: Duration) -> Result<bool, Failure> {
        let Self { connection, runtime, is_broken, .. } = self;
        let Some(runtime) = runtime else { return Err(closed()) };
        let message = poll_fn(|cx| {
            loop {
                match connection.poll_message(cx) {
                    Poll::Ready(Some(Ok(AsyncMessage::Notification(_)))) => return Poll::Ready(Ok(true)),
                    Poll::Ready(Some(Ok(_))) => {}
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(Failure::from_driver(&error))),
                    Poll::Ready(None) => return Poll::Ready(Err(closed())),
                    Poll::Pending => return Poll::Pending,
                }
            }
        });
        let result =
            runtime.block_on(async { tokio::time::timeout(timeout, message).await }).unwrap_or(Ok(false));
        *is_broken |= result.is_err();
        result
    }

    fn drive<'c, T, F>(
        &'c mut self,
        deadline: Instant,
        start: impl FnOnce(&'c Client) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, tokio_postgres::Error>>,
    {
        let Self { client, connection, runtime, is_broken } = self;
        let Some(runtime) = runtime else { return Err(closed()) };
        let result = runtime.block_on(async {
            let mut request = pin!(start(client));
            let answer = poll_fn(|cx| {
                loop {
                    // What came before the connection's end counts, so the request is asked first.
                    if let Poll::Ready(answer) = request.as_mut().poll(cx) {
                        return Poll::Ready(answer.map_err(|error| Failure::from_driver(&error)));
                    }
                    let end = match connection.poll_message(cx) {
                        Poll::Ready(Some(Ok(_))) => continue,
                        Poll::Ready(Some(Err(error))) => Some(Failure::from_driver(&error)),
                        Poll::Ready(None) => Some(closed()),
                        Poll::Pending => None,
                    };
                    return match (request.as_mut().poll(cx), end) {
                        (Poll::Ready(Ok(answer)), _) => Poll::Ready(Ok(answer)),
                        // Of a connection that has ended the request knows only that.
                        (_, Some(end)) => Poll::Ready(Err(end)),
                        (Poll::Ready(Err(error)), None) => Poll::Ready(Err(Failure::from_driver(&error))),
                        (Poll::Pending, None) => Poll::Pending,
                    };
                }
            });
            match tokio::time::timeout_at(deadline.into(), answer).await {
                Ok(answer) => answer,
                Err(_) => Err(Failure::Unknown("the answer took too long".to_owned())),
            }
        });
        *is_broken |= connection_is_lost(&result);
        result
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn connection_is_lost<T>(result: &Result<T, Failure>) -> bool {
    matches!(result, Err(Failure::Unknown(_) | Failure::Unreachable(_)))
}

fn closed() -> Failure {
    Failure::Unknown("the connection was closed".to_owned())
}
