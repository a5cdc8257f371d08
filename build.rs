//! Compiles the C part of the shim between SQLite and the system and sets the linker flags of the binding: those that
//! Node-API needs, and one that makes it smaller.

use std::env;
use std::process::{Command, Stdio};

/// Has functions with the same code be one, where nobody compares their addresses: a twenty-fifth of the binary.
const FOLD: &str = "-Wl,--icf=safe";

fn main() {
    println!("cargo:rerun-if-changed=src/sqlite/vfs_shim.c");
    if env::var("CARGO_CFG_UNIX").is_ok() {
        cc::Build::new()
            .file("src/sqlite/vfs_shim.c")
            .warnings_into_errors(true)
            .compile("driftlock_vfs_shim");
    }
    #[cfg(feature = "node")]
    napi_build::setup();
    if env::var("PROFILE").as_deref() == Ok("release") && links_with(FOLD) {
        println!("cargo:rustc-cdylib-link-arg={FOLD}");
    }
}

/// Not every linker knows every flag, so it is tried out.
fn links_with(flag: &str) -> bool {
    let (Ok(rustc), Ok(target), Ok(folder)) = (env::var("RUSTC"), env::var("TARGET"), env::var("OUT_DIR"))
    else {
        return false;
    };
    let mut command = Command::new(rustc);
    command.args([
        "--crate-name",
        "trial",
        "--crate-type",
        "cdylib",
        "--target",
        &target,
        "--out-dir",
        &folder,
    ]);
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        command.arg(format!("-Clinker={linker}"));
    }
    let trial = command.arg(format!("-Clink-arg={flag}")).arg("-").stdin(Stdio::null());
    trial.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
