//! What is left, and what is said, when the disk fails: each file operation of a process in turn, one by one and from
//! one on for good.
//!
//! A shim in C, preloaded into a copy of this test, makes them fail. With `DRIFTLOCK_FAULTS=long` more errors are tried
//! and more cuts of the power.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking and says what it left out"
)]

mod attestations;
mod leases;
mod ledger;
mod limits;

mod locks;
mod power;
mod replay;

mod shim;
mod sweep;

#[test]
fn attestations_survive_each_fault() {
    shim::run_job("attestations", &[]);
}

#[test]
fn the_ledger_survives_each_fault() {
    shim::run_job("ledger", &[]);
}

#[test]
fn leases_survive_each_fault() {
    shim::run_job("leases", &[]);
}

#[test]
fn file_locks_survive_each_fault() {
    shim::run_job("locks", &[]);
}

/// The other side of the tests above and of those in the modules: runs in a process of its own.
#[test]
fn job() {
    let Ok(name) = std::env::var(shim::JOB) else { return };
    driftlock::log::set_level(None);
    match name.as_str() {
        "attestations" => attestations::sweep(),
        "ledger" => ledger::sweep(),
        "leases" => leases::sweep(),
        "locks" => locks::sweep(),
        "limits" => limits::job(),
        "power-files" => power::write_files(),
        "power-leases" => power::write_leases(),
        other => panic!("no job {other}"),
    }
}
