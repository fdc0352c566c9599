//! End to end: the real binary, a real Redis, real sockets. A file per feature.

mod bytes;
mod crew;
mod junk;
mod layers;
mod support;
