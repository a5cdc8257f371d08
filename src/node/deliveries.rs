//! Bringing what other threads have done to the JavaScript that waits for it.
//!
//! One threadsafe function serves all promises of a JavaScript thread. One for each promise, as napi's own deferred has
//! it, costs more than the calls that are answered here, and those are made by the thousand.

#![allow(
    unsafe_code,
    reason = "napi has no safe calls for a promise that is kept later by a shared function"
)]

use std::cell::RefCell;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use napi::bindgen_prelude::{JsValue, PromiseRaw, ToNapiValue};
use napi::{Env, Error, JsError, Result, Status, sys};

use crate::lane;

/// How many answers are delivered before the event loop goes on.
const AT_A_TIME: usize = 200;

/// Runs on the JavaScript thread; is dropped if that has ended.
pub(super) type Delivery = Box<dyn FnOnce(&Env) + Send>;

/// What waits to be delivered to one JavaScript thread.
pub(super) struct Deliveries(Mutex<Inside>);

struct Inside {
    /// `None` once the thread's JavaScript has ended.
    function: Option<ThreadsafeFunction>,
    waiting: Vec<Delivery>,
    /// Whether the function has been called and has not begun.
    is_called: bool,
    /// The promises that have not been kept. As long as there are any, they keep Node alive.
    promises: usize,
}

struct ThreadsafeFunction(sys::napi_threadsafe_function);

// SAFETY: to be called from any thread is what it is for, and it is used only under the lock that it is behind.
unsafe impl Send for ThreadsafeFunction {}

thread_local! {
    static OF_THIS_THREAD: RefCell<Option<Arc<Deliveries>>> = const { RefCell::new(None) };
}

impl Deliveries {
    /// Those of this JavaScript thread.
    fn here(env: &Env) -> Result<Arc<Self>> {
        if let Some(deliveries) = OF_THIS_THREAD.with_borrow(Option::clone) {
            return Ok(deliveries);
        }
        let deliveries = Arc::new(Self(Mutex::new(Inside {
            function: None,
            waiting: Vec::new(),
            is_called: false,
            promises: 0,
        })));
        let function = create_function(env, &deliveries)?;
        deliveries.lock().function = Some(function);
        // Made after the function, so it runs before Node takes the function down.
        env.add_env_cleanup_hook(Arc::clone(&deliveries), |deliveries| {
            OF_THIS_THREAD.with_borrow_mut(Option::take);
            deliveries.end();
        })?;
        OF_THIS_THREAD.with_borrow_mut(|here| *here = Some(Arc::clone(&deliveries)));
        Ok(deliveries)
    }

    /// Hands over, from any thread. What comes too late is dropped.
    fn push(&self, delivery: Delivery) {
        let mut inside = self.lock();
        if inside.function.is_none() {
            drop(inside);
            drop(delivery);
            return;
        }
        inside.waiting.push(delivery);
        inside.call();
    }

    /// Delivers some of what waits, on the JavaScript thread.
    fn deliver(&self, env: &Env) {
        let batch: Vec<Delivery> = {
            let mut inside = self.lock();
            inside.is_called = false;
            let count = inside.waiting.len().min(AT_A_TIME);
            let batch = inside.waiting.drain(..count).collect();
            if !inside.waiting.is_empty() {
                inside.call();
            }
            batch
        };
        for delivery in batch {
            // Whatever a delivery owns tells whoever waits for it when it is dropped.
            let _ = catch_unwind(AssertUnwindSafe(|| delivery(env)));
        }
    }

    fn promise_made(&self, env: &Env) {
        let mut inside = self.lock();
        inside.promises += 1;
        if inside.promises == 1
            && let Some(function) = &inside.function
        {
            // SAFETY: this is the thread of the environment, and the function has not been released.
            unsafe { sys::napi_ref_threadsafe_function(env.raw(), function.0) };
        }
    }

    fn promise_kept(&self, env: &Env) {
        let mut inside = self.lock();
        inside.promises -= 1;
        if inside.promises == 0
            && let Some(function) = &inside.function
        {
            // SAFETY: as above.
            unsafe { sys::napi_unref_threadsafe_function(env.raw(), function.0) };
        }
    }

    fn end(&self) {
        let waiting = {
            let mut inside = self.lock();
            if let Some(function) = inside.function.take() {
                // SAFETY: it has not been released, and nobody calls it: that needs the lock.
                unsafe {
                    sys::napi_release_threadsafe_function(
                        function.0,
                        sys::ThreadsafeFunctionReleaseMode::abort,
                    )
                };
            }
            std::mem::take(&mut inside.waiting)
        };
        drop(waiting);
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    fn call(&mut self) {
        if self.is_called {
            return;
        }
        let Some(function) = &self.function else { return };
        // SAFETY: it has not been released: that needs the lock that is held here.
        let status = unsafe {
            sys::napi_call_threadsafe_function(
                function.0,
                ptr::null_mut(),
                sys::ThreadsafeFunctionCallMode::nonblocking,
            )
        };
        self.is_called = status == sys::Status::napi_ok;
    }
}

fn create_function(env: &Env, deliveries: &Arc<Deliveries>) -> Result<ThreadsafeFunction> {
    let name = env.create_string("driftlock")?;
    let context = Arc::into_raw(Arc::clone(deliveries)).cast_mut().cast::<c_void>();
    let mut function = ptr::null_mut();
    // SAFETY: the environment is this thread's, all pointers are valid, and the context lives until `finalize`.
    let status = unsafe {
        sys::napi_create_threadsafe_function(
            env.raw(),
            ptr::null_mut(),
            ptr::null_mut(),
            name.raw(),
            0,
            1,
            context,
            Some(finalize),
            context,
            Some(call),
            &raw mut function,
        )
    };
    if status != sys::Status::napi_ok {
        // SAFETY: nobody else got it.
        drop(unsafe { Arc::from_raw(context.cast::<Deliveries>()) });
        return Err(Error::new(Status::from(status), "a threadsafe function can't be made"));
    }
    // SAFETY: just made, in this environment.
    unsafe { sys::napi_unref_threadsafe_function(env.raw(), function) };
    Ok(ThreadsafeFunction(function))
}

unsafe extern "C" fn call(env: sys::napi_env, _: sys::napi_value, context: *mut c_void, _: *mut c_void) {
    if env.is_null() {
        return;
    }
    // SAFETY: the context given at creation, which lives until `finalize`.
    let deliveries = unsafe { &*context.cast::<Deliveries>() };
    deliveries.deliver(&Env::from_raw(env));
}

unsafe extern "C" fn finalize(_: sys::napi_env, context: *mut c_void, _: *mut c_void) {
    // SAFETY: the context given at creation; this is called once, as the last thing.
    let deliveries = unsafe { Arc::from_raw(context.cast::<Deliveries>()) };
    deliveries.lock().function = None;
}

/// A promise that is not kept yet. To be kept exactly once.
pub(super) struct Deferred {
    raw: sys::napi_deferred,
    deliveries: Arc<Deliveries>,
}

// SAFETY: the pointer is only carried by other threads; it is used on its own thread, in a delivery.
unsafe impl Send for Deferred {}

impl Deferred {
    /// A new promise, of this JavaScript thread.
    pub(super) fn new<'env, T>(env: &Env) -> Result<(Self, PromiseRaw<'env, T>)> {
        let deliveries = Deliveries::here(env)?;
        let (mut raw, mut promise) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the environment is this thread's, and the pointers are valid for the writes.
        let status = unsafe { sys::napi_create_promise(env.raw(), &raw mut raw, &raw mut promise) };
        if status != sys::Status::napi_ok {
            return Err(Error::new(Status::from(status), "a promise can't be made"));
        }
        deliveries.promise_made(env);
        Ok((Self { raw, deliveries }, PromiseRaw::new(env.raw(), promise)))
    }

    /// Keeps the promise, from any thread, with what `answer` makes on the JavaScript thread. It is dropped without
    /// being called if JavaScript has ended.
    pub(super) fn settle<T: ToNapiValue>(self, answer: impl FnOnce(&Env) -> Result<T> + Send + 'static) {
        let deliveries = Arc::clone(&self.deliveries);
        let delivery: Delivery = Box::new(move |env| {
            self.deliveries.promise_kept(env);
            self.settle_here(env, answer(env));
        });
        lane::afterwards(move || deliveries.push(delivery));
    }

    fn settle_here<T: ToNapiValue>(self, env: &Env, answer: Result<T>) {
        // SAFETY: this is a delivery, hence on the thread of the environment; the promise is settled once, since that
        // takes it away.
        unsafe {
            match answer.and_then(|value| T::to_napi_value(env.raw(), value)) {
                Ok(value) => sys::napi_resolve_deferred(env.raw(), self.raw, value),
                Err(error) => {
                    let error = JsError::from(error).into_value(env.raw());
                    sys::napi_reject_deferred(env.raw(), self.raw, error)
                }
            };
        }
    }
}
