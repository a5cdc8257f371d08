//! Errors as JavaScript sees them: objects of the package's own classes, with a code.

use std::cell::RefCell;

use napi::bindgen_prelude::{FnArgs, Function, FunctionRef, Unknown};
use napi::{Env, Status};
use napi_derive::napi;

use crate::error::Error;
use crate::metrics;

/// Which class of errors a call throws.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Lease,
    Attestation,
    Ledger,
    FileLock,
    Telemetry,
    General,
}

impl Family {
    fn class(self) -> &'static str {
        match self {
            Self::Lease => "LeaseError",
            Self::Attestation => "AttestationError",
            Self::Ledger => "LedgerError",
            Self::FileLock => "FileLockError",
            Self::Telemetry => "TelemetryError",
            Self::General => "DriftlockError",
        }
    }
}

type Factory = FunctionRef<FnArgs<(String, String, String)>, Unknown<'static>>;

thread_local! {
    /// Makes an error of a class, with a code and a message. Each JavaScript thread has its own.
    static FACTORY: RefCell<Option<Factory>> = const { RefCell::new(None) };
}

/// Sets the function that makes errors: `(class, code, message) => Error`. The package calls it once when it is
/// loaded.
#[napi(js_name = "__setErrorFactory", skip_typescript, catch_unwind)]
pub fn set_error_factory(
    env: Env,
    factory: Function<'_, FnArgs<(String, String, String)>, Unknown<'static>>,
) -> napi::Result<()> {
    let reference = factory.create_ref()?;
    FACTORY.with_borrow_mut(|factory| *factory = Some(reference));
    // The reference must go before the thread's JavaScript does.
    env.add_env_cleanup_hook((), |()| FACTORY.with_borrow_mut(|factory| drop(factory.take())))?;
    Ok(())
}

/// The JavaScript error for an error of the core. Must be called on the JavaScript thread.
pub(super) fn to_js(env: &Env, family: Family, error: &Error) -> napi::Error {
    metrics::error(error);
    let made = FACTORY.with_borrow(|factory| {
        let factory = factory.as_ref()?.borrow_back(env).ok()?;
        let arguments = (family.class().to_owned(), error.code().to_owned(), error.to_string());
        factory.call(FnArgs::from(arguments)).ok()
    });
    made.map_or_else(|| napi::Error::new(Status::GenericFailure, error.to_string()), napi::Error::from)
}
