//! Something between client and server that loses what it is told to lose.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

/// What is lost, and the connection with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The next request, before the server has seen it.
    Request,
    /// The answer to the next request: by then the server has committed.
    Reply,
}

/// Passes on what comes to a port of this machine.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    state: Arc<State>,
}

struct State {
    server: u16,
    next_loss: Mutex<Option<Loss>>,
    /// How often something was lost.
    losses: AtomicU32,
    is_cut_off: AtomicBool,
    connections: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// One in front of the server at this port.
    pub(crate) fn of(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            server,
            next_loss: Mutex::default(),
            losses: AtomicU32::new(0),
            is_cut_off: AtomicBool::new(false),
            connections: Mutex::default(),
        });
        let for_thread = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                for_thread.connect(client);
            }
        });
        Self { port, state }
    }

    /// Loses something once.
    pub(crate) fn lose(&self, loss: Loss) {
        *self.state.next_loss.lock().unwrap() = Some(loss);
    }

    /// How often something was lost.
    pub(crate) fn losses(&self) -> u32 {
        self.state.losses.load(Ordering::SeqCst)
    }

    /// Ends all connections and lets none be made, until told otherwise.
    pub(crate) fn cut_off(&self, is_cut_off: bool) {
        self.state.is_cut_off.store(is_cut_off, Ordering::SeqCst);
        for connection in self.state.connections.lock().unwrap().drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

impl State {
    fn connect(self: &Arc<Self>, client: TcpStream) {
        if self.is_cut_off.load(Ordering::SeqCst) {
            return;
        }
        let Ok(server) = TcpStream::connect(("127.0.0.1", self.server)) else { return };
        client.set_nodelay(true).unwrap();
        server.set_nodelay(true).unwrap();
        let clone = |stream: &TcpStream| stream.try_clone().unwrap();
        self.connections.lock().unwrap().extend([clone(&client), clone(&server)]);
        let loses_reply = Arc::new(AtomicBool::new(false));
        let (state, flag) = (Arc::clone(self), Arc::clone(&loses_reply));
        let (from, to) = (clone(&client), clone(&server));
        std::thread::spawn(move || state.pass_requests(from, to, &flag));
        let state = Arc::clone(self);
        std::thread::spawn(move || state.pass_replies(server, client, &loses_reply));
    }

    fn pass_requests(&self, mut client: TcpStream, mut server: TcpStream, loses_reply: &AtomicBool) {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(length @ 1..) = client.read(&mut buffer) {
            match self.next_loss.lock().unwrap().take() {
                Some(Loss::Request) => {
                    self.losses.fetch_add(1, Ordering::SeqCst);
                    break;
                }
                Some(Loss::Reply) => loses_reply.store(true, Ordering::SeqCst),
                None => {}
            }
            if server.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        end(&client, &server);
    }

    fn pass_replies(&self, mut server: TcpStream, mut client: TcpStream, loses_reply: &AtomicBool) {
        /// How the message ends that says that the transaction has.
        const READY: &[u8] = b"Z\0\0\0\x05";
        let mut buffer = vec![0; 1 << 16];
        while let Ok(length @ 1..) = server.read(&mut buffer) {
            if loses_reply.load(Ordering::SeqCst) {
                if buffer[..length].windows(READY.len()).any(|bytes| bytes == READY) {
                    self.losses.fetch_add(1, Ordering::SeqCst);
                    break;
                }
            } else if client.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        end(&client, &server);
    }
}

fn end(client: &TcpStream, server: &TcpStream) {
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
}
