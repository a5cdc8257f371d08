//! The driver of this process: a library that is loaded once, when the first store needs it.

use std::path::PathBuf;
use std::sync::OnceLock;

use driftlock_postgres::client;
use driftlock_postgres::table::Table;

use crate::error::{Error, Result};

static PLACE: OnceLock<PathBuf> = OnceLock::new();
static DRIVER: OnceLock<&'static Table> = OnceLock::new();

/// Says where the driver is. The first to say so counts.
pub fn is_at(path: PathBuf) {
    let _ = PLACE.set(path);
}

/// Uses a driver that is a part of the program.
pub fn is_linked(table: &'static Table) {
    let _ = DRIVER.set(table);
}

pub(super) fn table() -> Result<&'static Table> {
    #[cfg(test)]
    is_linked(driftlock_postgres::driver::table());
    if let Some(table) = DRIVER.get() {
        return Ok(table);
    }
    let Some(place) = PLACE.get() else {
        return Err(Error::NoDriver { cause: "nothing says where it is".to_owned() });
    };
    let table = client::load(place).map_err(|cause| Error::NoDriver { cause })?;
    Ok(DRIVER.get_or_init(|| table))
}
