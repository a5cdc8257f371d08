//! `fencedWriteFile`.

use std::path::PathBuf;
use std::sync::Arc;

use napi::Env;
use napi::bindgen_prelude::{FromNapiValue, PromiseRaw, Uint8Array, Unknown};
use napi_derive::napi;

use super::arguments::{invalid, path, text};
use super::call::{Pending, settled, workspace_path};
use super::errors::Family;
use super::fences::WorkspaceFence;
use crate::error::Result;
use crate::metrics::Operation;
use crate::replace::replace_through;
use crate::runtime::runtime;

/// Writes a file if the fence's lease is still the newest one of its task and phase, expired or not; else nothing
/// happens. The content goes to a file beside it first, which then takes its place while no lease can be granted, so
/// that no take-over fits between the check and the write, and readers see the old content or the new one. A link at
/// the path is replaced, not followed; the mode of an existing file stays.
///
/// Rejects with a {@link LeaseError}: `FENCED`, with the newer holder's name, if another lease has been acquired since,
/// or this one was released; `INVALID_ARGUMENT` for bad arguments; `IO` if the file can't be written; `DATABASE`,
/// `DATABASE_LOCKED` if the fence can't be checked. Then nothing was written.
///
/// A process without an open {@link PhaseLeaseManager} on the workspace opens its database for each call.
///
/// @param path the file; its folder must be there
/// @param data the whole content
/// @param fence a held lease's `fence`
#[napi(
    ts_args_type = "path: string, data: string | Uint8Array, fence: Fence",
    ts_return_type = "Promise<void>",
    catch_unwind
)]
pub fn fenced_write_file<'env>(
    env: &'env Env,
    file: Unknown<'env>,
    data: Unknown<'env>,
    fence: Unknown<'env>,
) -> napi::Result<PromiseRaw<'env, ()>> {
    let read = || -> Result<(PathBuf, Vec<u8>, WorkspaceFence)> {
        let file = workspace_path(path(file, "path")?);
        Ok((file, bytes(data)?, WorkspaceFence::read(fence, "fence")?))
    };
    let (file, data, fence) = match read() {
        Ok(read) => read,
        Err(error) => return settled(env, Family::Lease, Err(error)),
    };
    let (pending, promise) = Pending::new(env, Family::Lease, Operation::FencedWrite)?;
    runtime().spawn_blocking(move || {
        let written = replace_through(&|work| fence.pass(work), &file, &data);
        pending.settle(written.map_err(Arc::new));
    });
    Ok(promise)
}

/// Reads bytes, or a string as UTF-8; a half surrogate pair becomes U+FFFD, as in Node's own `writeFile`.
fn bytes(data: Unknown<'_>) -> Result<Vec<u8>> {
    if let Ok(text) = text(data, "data") {
        return Ok(text.to_string_lossy().into_owned().into_bytes());
    }
    match Uint8Array::from_unknown(data) {
        Ok(bytes) => Ok(bytes.to_vec()),
        Err(_) => Err(invalid("data", "a string or a Uint8Array", data)),
    }
}
