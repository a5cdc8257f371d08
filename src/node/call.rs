//! Answering a call with a promise: at once if the work can be done in the call, else from a lane.

use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use napi::Env;
use napi::bindgen_prelude::{PromiseRaw, ToNapiValue};

use super::deliveries::Deferred;
use super::errors::{Family, to_js};
use crate::budget;
use crate::error::{Error, Result};
use crate::lane::Lane;
use crate::metrics::{self, Operation};

/// A promise that has been given to JavaScript and not been kept yet.
pub(super) struct Pending<T: ToNapiValue + Send + 'static> {
    deferred: Option<Deferred>,
    family: Family,
    /// What is timed, and since when.
    operation: Option<(Operation, Instant)>,
    answer: PhantomData<fn(T)>,
}

impl<T: ToNapiValue + Send + 'static> Pending<T> {
    /// A new promise, which is the answer to an operation; one that is timed elsewhere is none here.
    pub(super) fn new<'env>(
        env: &Env,
        family: Family,
        operation: impl Into<Option<Operation>>,
    ) -> napi::Result<(Self, PromiseRaw<'env, T>)> {
        let (deferred, promise) = Deferred::new(env)?;
        let operation = operation.into().map(|operation| (operation, Instant::now()));
        Ok((Self { deferred: Some(deferred), family, operation, answer: PhantomData }, promise))
    }

    /// Keeps the promise, from any thread. `undelivered` is called if JavaScript has ended meanwhile.
    pub(super) fn settle_or(
        mut self,
        result: Result<T, Arc<Error>>,
        undelivered: impl FnOnce() + Send + 'static,
    ) {
        let Some(deferred) = self.deferred.take() else { return };
        if let Some((operation, since)) = self.operation {
            metrics::operation(operation, since.elapsed());
        }
        let family = self.family;
        let delivery = Delivery(Some(Box::new(undelivered)));
        deferred.settle(move |env| {
            delivery.arrived();
            budget::renew();
            result.map_err(|error| to_js(env, family, &error))
        });
    }

    /// Keeps the promise, from any thread.
    pub(super) fn settle(self, result: Result<T, Arc<Error>>) {
        self.settle_or(result, || ());
    }
}

impl<T: ToNapiValue + Send + 'static> Drop for Pending<T> {
    fn drop(&mut self) {
        if self.deferred.is_some() {
            let deferred = self.deferred.take();
            let pending =
                Self { deferred, family: self.family, operation: self.operation, answer: PhantomData };
            pending.settle(Err(Arc::new(Error::Defect("an operation ended without an answer".to_owned()))));
        }
    }
}

/// Notices when an answer is thrown away because the JavaScript that waited for it has ended.
struct Delivery(Option<Box<dyn FnOnce() + Send>>);

impl Delivery {
    fn arrived(mut self) {
        self.0 = None;
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(undelivered) = self.0.take() {
            undelivered();
        }
    }
}

/// A promise that is kept or broken already.
pub(super) fn settled<T: ToNapiValue>(
    env: &Env,
    family: Family,
    result: Result<T>,
) -> napi::Result<PromiseRaw<'_, T>> {
    match result {
        Ok(value) => PromiseRaw::resolve(env, value),
        Err(error) => PromiseRaw::reject(env, to_js(env, family, &error)),
    }
}

/// How often a call tries again at once for a journal. Whoever is in the way mostly needs microseconds, if it is let run.
const RETRIES: usize = 3;

/// Does the work in the call if nothing of the lane waits, the budget allows it and `now` doesn't have to wait.
pub(super) fn at_once<J: Send + 'static, T>(
    lane: &Arc<Lane<J>>,
    operation: Operation,
    now: impl Fn() -> Result<T>,
) -> Option<Result<T>> {
    if !lane.is_idle() {
        return None;
    }
    let attempts = || {
        let mut result = now();
        for _ in 0..RETRIES {
            match result {
                Err(Error::JournalLocked { .. }) => std::thread::yield_now(),
                result => return result,
            }
            result = now();
        }
        result
    };
    match budget::spend(attempts) {
        None => None,
        Some((Err(error), _)) if would_block(&error) => None,
        Some((result, took)) => {
            metrics::operation(operation, took);
            Some(result)
        }
    }
}

/// Whether the failure may only be that the caller could not wait.
pub(super) fn would_block(error: &Error) -> bool {
    matches!(error, Error::DatabaseLocked | Error::JournalLocked { .. })
}

/// How long an operation on a journal may wait for its turn.
pub(super) const PATIENCE: Duration = crate::journal::lock::JOURNAL_PATIENCE;

/// Names the workspace's folder in one way, so that all who use it share it.
pub(super) fn workspace_path(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}
