//! What the operating system says about processes and the machine.

pub mod machine;
pub mod process;
