//! End to end: the real binary, a real Redis, real sockets. A file per feature.

mod broker_away;
mod browser;
mod close_codes;
mod crew;
mod dev;
mod drain;
mod handshake;
mod health;
mod http;
mod layers;
mod nginx;
mod operator_files;
mod pages;
mod python;
mod sse;
mod support;
mod too_many;
mod traces;
