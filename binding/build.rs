//! Sets the linker flags that Node-API needs.

fn main() {
    napi_build::setup();
}
