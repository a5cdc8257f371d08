//! Compiles the C part of the shim for database locks and, for the binding, sets the linker flags that Node-API needs.

fn main() {
    println!("cargo:rerun-if-changed=src/sqlite/ofd_locks.c");
    if std::env::var("CARGO_CFG_UNIX").is_ok() {
        cc::Build::new()
            .file("src/sqlite/ofd_locks.c")
            .warnings_into_errors(true)
            .compile("driftlock_ofd_locks");
    }
    #[cfg(feature = "node")]
    napi_build::setup();
}
