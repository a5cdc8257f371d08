//! The driver of this process: a library that is loaded once, when the first store needs it.

use std::path::Path;
use std::sync::OnceLock;

use driftlock_postgres::client;
use driftlock_postgres::table::Table;

use crate::error::{Error, Result};

static DRIVER: OnceLock<&'static Table> = OnceLock::new();

/// Whether the driver is there.
pub fn is_loaded() -> bool {
    DRIVER.get().is_some()
}

/// Loads the driver, unless it is there.
pub fn load(path: &Path) -> Result<()> {
    if is_loaded() {
        return Ok(());
    }
    let table = client::load(path).map_err(|cause| Error::NoDriver { cause })?;
    use_driver(table);
    Ok(())
}

/// Uses a driver that is a part of the program.
pub fn use_driver(table: &'static Table) {
    let _ = DRIVER.set(table);
}

pub(super) fn table() -> Result<&'static Table> {
    #[cfg(test)]
    use_driver(driftlock_postgres::driver::table());
    DRIVER.get().copied().ok_or_else(|| Error::NoDriver { cause: "nobody has loaded it".to_owned() })
}
