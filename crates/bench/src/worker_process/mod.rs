//! Further generator processes that listen while this one publishes: a process has a limited number of descriptors.
//!
//! A worker reads its job and then orders, one JSON value per line, from its standard input. It reports on its standard
//! output, again one value per line.

mod messages;
mod pool;
mod worker;

pub use messages::Job;
pub use pool::Workers;
pub use worker::listen;
