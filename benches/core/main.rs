//! How long the operations of the core take, without Node: `cargo bench --no-default-features --bench core`.

mod operations;

use divan::Bencher;
use operations::OPERATIONS;

fn main() {
    driftlock::log::set_level(None);
    divan::main();
}

#[divan::bench(args = OPERATIONS.iter().map(|(name, _)| *name))]
fn operation(bencher: Bencher, name: &str) {
    let operation = operations::prepare(name);
    bencher.bench_local(operation);
}
