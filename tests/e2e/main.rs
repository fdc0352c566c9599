//! End to end: the real binary, a real Redis, real sockets. A file per feature.

mod algorithms;
mod cli;
mod crew;
mod directory;
mod isolation;
mod layers;
mod readme;
mod revocation;
mod secrets;
mod support;
