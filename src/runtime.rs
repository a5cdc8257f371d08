//! The threads for work that would block the caller.

use std::sync::OnceLock;

use tokio::runtime::{Builder, Runtime};

/// The runtime of this process, started at first use. It lives as long as the process and keeps nothing alive.
///
/// # Panics
/// If the operating system refuses to start a thread.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("driftlock")
            .enable_time()
            .build()
            .unwrap_or_else(|error| panic!("cannot start a thread: {error}"))
    })
}
