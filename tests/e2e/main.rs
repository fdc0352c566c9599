//! End to end: the real binary, a real Redis, real sockets. A file per feature.

mod crew;
mod drain;
mod health;
mod layers;
mod support;
