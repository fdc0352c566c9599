//! Reads from the operating system what processes use, and what the machine is.

pub mod machine;
pub mod process;
