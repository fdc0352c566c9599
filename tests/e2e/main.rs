//! End to end: the real binary, a real Redis, real sockets. A file per feature.

mod close_codes;
mod crew;
mod handshake;
mod http;
mod layers;
mod pages;
mod python;
mod sse;
mod support;
mod too_many;
