//! Drives sockets and publishes on one thread, and checks what arrives.

mod event;
mod generator;
mod outcome;
mod pace;
mod pipe;
mod producer;
mod receiver;
mod run;
mod sequence;
mod share;
mod socket;
mod spec;
mod timer;

pub use event::Body;
pub use generator::{Generator, Target};
pub use outcome::{Latency, Outcome};
pub use pace::{ClosedLoop, InFlight};
pub use run::{Watched, run, run_with};
pub use sequence::{Sequence, Verdict};
pub use share::{Listeners, Share};
pub use spec::{Load, Pace};
