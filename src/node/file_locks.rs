//! `acquireLock` and `releaseLock`. `withFileLock` is made of them in JavaScript.

use std::cell::RefCell;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use napi::Env;
use napi::bindgen_prelude::{PromiseRaw, Unknown};
use napi_derive::napi;

use super::arguments::{Fields, number, path, whole_number};
use super::call::{Pending, settled};
use super::errors::{Family, to_js};
use crate::error::{Error, Result};
use crate::lock::{FileLocks, Limits, Owner};
use crate::log;
use crate::metrics::{self, FileLock};
use crate::runtime::runtime;

thread_local! {
    /// On whose behalf this JavaScript thread holds locks: they end with it.
    static OWNER: RefCell<Option<Owner>> = const { RefCell::new(None) };
}

fn owner(env: &Env) -> Owner {
    OWNER.with_borrow_mut(|slot| {
        if let Some(owner) = slot {
            return owner.clone();
        }
        let owner = slot.insert(Owner::new()).clone();
        let ended = owner.clone();
        // If the hook can't be set, the locks end with the process.
        let _ = env.add_env_cleanup_hook((), move |()| FileLocks::of_process().end(&ended));
        owner
    })
}

/// Locks a file: at most one holder among all processes of this machine that use this function, until
/// {@link releaseLock} or the end of the process.
///
/// The operating system keeps the lock (`flock`), so a holder that dies frees it at once and a living holder is never
/// robbed of it, however long it takes. Callers of one process are served in the order of their calls. Not
/// re-entrant: who holds a lock and asks for it again waits in vain. While held, the file contains
/// `{pid, hostname, acquiredAt}` as JSON; afterwards it is empty. Missing folders are made.
///
/// Locks do not exclude between machines on network file systems.
///
/// @param lockPath the file to lock
/// @param options how long and how often to try
/// @returns true if the lock was acquired; false if not, for whatever reason, bad arguments included (a warning in
/// the log says which)
#[napi(
    ts_args_type = "lockPath: string, options?: LockOptions",
    ts_return_type = "Promise<boolean>",
    catch_unwind
)]
pub fn acquire_lock<'env>(
    env: &'env Env,
    lock_path: Unknown<'env>,
    options: Option<Unknown<'env>>,
) -> napi::Result<PromiseRaw<'env, bool>> {
    let arguments = path(lock_path, "lockPath").and_then(|path| Ok((path, limits(options)?)));
    let (path, limits) = match arguments {
        Ok(arguments) => arguments,
        Err(error) => return settled(env, Family::FileLock, Ok(answer(Err(error), Duration::ZERO))),
    };
    let owner = owner(env);
    let acquired = match limits.max_retries {
        0 => Ok(false),
        _ => FileLocks::of_process().try_acquire(&path, &owner),
    };
    match acquired {
        Ok(false) if !limits.ends_at_once() => wait(env, path, limits, owner),
        acquired => settled(env, Family::FileLock, Ok(answer(acquired, Duration::ZERO))),
    }
}

fn wait(env: &Env, path: PathBuf, limits: Limits, owner: Owner) -> napi::Result<PromiseRaw<'_, bool>> {
    let (pending, promise) = Pending::new(env, Family::FileLock, None)?;
    let place =
        FileLocks::of_process().queue(&path, &owner).map_err(|error| to_js(env, Family::FileLock, &error))?;
    let asked = Instant::now();
    runtime().spawn(async move {
        let acquired = answer(place.wait(limits).await, asked.elapsed());
        // Nobody else would release a lock whose caller has ended, unless its whole thread has; then somebody else may
        // hold the lock by now.
        let undelivered = move || {
            if acquired {
                FileLocks::of_process().release_of(&path, &owner);
            }
        };
        pending.settle_or(Ok(acquired), undelivered);
    });
    Ok(promise)
}

/// Counts what became of a request; whether the lock is acquired.
fn answer(acquired: Result<bool>, waited: Duration) -> bool {
    let result = match &acquired {
        Ok(true) => FileLock::Acquired,
        Ok(false) => FileLock::Timeout,
        Err(_) => FileLock::Error,
    };
    metrics::file_lock(result, waited);
    acquired.unwrap_or_else(|error| failed(&error))
}

fn failed(error: &Error) -> bool {
    metrics::error(error);
    let message = "A file lock could not be acquired";
    log::warning(message, &[("code", error.code()), ("error", &error.to_string())]);
    false
}

/// Releases a lock that this process holds. No error if it holds none; the locks of other processes stay.
///
/// @param lockPath the file that was locked
#[napi(ts_args_type = "lockPath: string", ts_return_type = "Promise<void>", catch_unwind)]
pub fn release_lock<'env>(env: &'env Env, lock_path: Unknown<'env>) -> napi::Result<PromiseRaw<'env, ()>> {
    let released = path(lock_path, "lockPath").map(|path| FileLocks::of_process().release(&path));
    settled(env, Family::FileLock, released)
}

/// Throws if the arguments of `withFileLock` can't be used; it would else be told only that the lock was not
/// acquired.
#[napi(js_name = "__checkLockArguments", skip_typescript, catch_unwind)]
pub fn check_lock_arguments(
    env: Env,
    lock_path: Unknown<'_>,
    options: Option<Unknown<'_>>,
) -> napi::Result<()> {
    path(lock_path, "lockPath")
        .and_then(|_| limits(options))
        .map_err(|error| to_js(&env, Family::FileLock, &error))?;
    Ok(())
}

fn limits(options: Option<Unknown<'_>>) -> Result<Limits> {
    let fields = Fields::optional(options, "options")?;
    let milliseconds = |value: Unknown<'_>, name| {
        let expected = "a number of milliseconds from 0 on";
        let number = number(value, name, expected, |number| number >= 0.0)?;
        // Infinity, and whatever else is beyond 30 years, is as good as for ever.
        Ok(Duration::try_from_secs_f64(number / 1000.0).unwrap_or(FOREVER).min(FOREVER))
    };
    let default = Limits::default();
    Ok(Limits {
        timeout: fields.read("timeout", milliseconds)?.unwrap_or(default.timeout),
        retry_delay: fields.read("retryDelay", milliseconds)?.unwrap_or(default.retry_delay),
        max_retries: fields.read("maxRetries", whole_number)?.unwrap_or(default.max_retries),
    })
}

const FOREVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
