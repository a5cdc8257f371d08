//! The server's notifications, on a connection of their own.
//!
//! Whoever ends a lease notifies the processes that are first in its queue. Through a pooler that changes connections
//! between transactions notifications don't come: whether they do is tried out.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use postgres_types::Type;
use uuid::Uuid;

use super::server::Server;
use crate::error::Result;
use crate::postgres::{Failure, Session, quoted};

/// For how long a notification that was asked for is awaited.
const TRIAL: Duration = Duration::from_secs(1);
/// Between two looks whether anybody still waits.
const LOOK: Duration = Duration::from_millis(500);
/// Until the next try, where notifications don't come, and where there was no connection.
const AGAIN: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(1));
/// How long this waits for the server.
const PATIENCE: Duration = Duration::from_secs(5);

/// Listens while somebody waits.
pub(super) fn start(server: &Arc<Server>) {
    if server.room.is_listening.swap(true, Ordering::AcqRel) {
        return;
    }
    let for_thread = Arc::clone(server);
    let thread = std::thread::Builder::new().name("driftlock-listen".to_owned());
    // Without the thread it is looked more often.
    if thread.spawn(move || work(&for_thread)).is_err() {
        server.room.is_listening.store(false, Ordering::Release);
    }
}

fn work(server: &Server) {
    let room = &server.room;
    while room.is_in_use() {
        let pause = match listen(server) {
            Ok(()) => AGAIN.0,
            Err(_) => AGAIN.1,
        };
        room.is_notified.store(false, Ordering::Release);
        let until = Instant::now() + pause;
        while room.is_in_use() && Instant::now() < until {
            std::thread::sleep(LOOK.min(pause));
        }
    }
    room.is_listening.store(false, Ordering::Release);
}

/// Listens until nobody waits, or until it turns out that nothing is to be heard.
fn listen(server: &Server) -> Result<(), Failure> {
    let Ok(presence) = server.announce() else { return Ok(()) };
    let file = presence.name().split('@').next().unwrap_or_default();
    let channel = format!("driftlock {file}");
    let mut session = server.pool.connect(Instant::now() + PATIENCE)?;
    session.batch(&format!("LISTEN {}", quoted(&channel)), Instant::now() + PATIENCE)?;
    if !is_heard(server, &mut session, &channel)? {
        return Ok(());
    }
    server.room.is_notified.store(true, Ordering::Release);
    // What happened before nobody has heard.
    server.room.nudge();
    while server.room.is_in_use() {
        if session.await_notification(LOOK)? {
            server.room.nudge();
        }
    }
    Ok(())
}

/// Whether the server's notifications come to this process.
pub(super) fn is_possible(server: &Server) -> Result<bool> {
    let began = Instant::now();
    let listen = || {
        let channel = format!("driftlock trial {}", Uuid::new_v4().simple());
        let mut session = server.pool.connect(began + PATIENCE)?;
        session.batch(&format!("LISTEN {}", quoted(&channel)), began + PATIENCE)?;
        is_heard(server, &mut session, &channel)
    };
    listen().map_err(|failure: Failure| failure.at(server.pool.address(), began.elapsed()))
}

fn is_heard(server: &Server, session: &mut Session, channel: &str) -> Result<bool, Failure> {
    let deadline = Instant::now() + TRIAL;
    let asked = server.pool.repeat(
        || deadline,
        || Ok(()),
        |attempt| {
            let sql = "SELECT pg_notify($1, '')";
            attempt.session.query(sql, &[(&channel, Type::TEXT)], attempt.deadline).map(drop)
        },
    );
    if asked.is_err() {
        return Err(Failure::Unreachable("no notification could be asked for".to_owned()));
    }
    session.await_notification(TRIAL)
}
