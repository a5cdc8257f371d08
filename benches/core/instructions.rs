//! Runs one operation of the core so and so often, for callgrind to count the instructions: with two counts, the
//! difference is what the repetitions cost, without the preparation. See `npm run bench:instructions`.
//!
//! Without arguments it lists the operations.

#![allow(clippy::print_stdout, reason = "it lists the operations for a person or a script")]

mod operations;

fn main() {
    driftlock::log::set_level(None);
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [name, count] = &arguments[..] else {
        println!("{}", operations::OPERATIONS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join("\n"));
        return;
    };
    let count: usize = count.parse().expect("a count");
    let mut operation = operations::prepare(name);
    for _ in 0..count {
        operation();
    }
}
