//! Where the driver for PostgreSQL is.

use std::path::PathBuf;

use napi_derive::napi;

use crate::postgres::driver;

/// Says which file is the driver, which is loaded if a store needs it. The package says so when it is loaded.
#[napi(js_name = "__setPostgresDriver", skip_typescript, catch_unwind)]
pub fn set_postgres_driver(path: String) {
    driver::is_at(PathBuf::from(path));
}
