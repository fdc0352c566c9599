//! The command `crewcast-bench`.

fn main() {}
