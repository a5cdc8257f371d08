//! Compiles the C part of the shim between SQLite and the system.

fn main() {
    println!("cargo:rerun-if-changed=src/sqlite/vfs_shim.c");
    if std::env::var("CARGO_CFG_UNIX").is_ok() {
        cc::Build::new()
            .file("src/sqlite/vfs_shim.c")
            .warnings_into_errors(true)
            .compile("driftlock_vfs_shim");
    }
}
