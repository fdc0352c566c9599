//! End to end: the real binary, a real Redis, real sockets. A file per feature.

mod algorithms;
mod broker_away;
mod browser;
mod cli;
mod close_codes;
mod crew;
mod dev;
mod directory;
mod drain;
mod handshake;
mod health;
mod http;
mod isolation;
mod layers;
mod nginx;
mod operator_files;
mod python;
mod readme;
mod revocation;
mod secrets;
mod sse;
mod support;
mod traces;
