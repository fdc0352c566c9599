//! End to end: the real binary, a real Redis, real sockets. A file per feature.

mod broker_away;
mod browser;
mod bytes;
mod close_codes;
mod crash;
mod crew;
mod dev;
mod drain;
mod handshake;
mod health;
mod http;
mod junk;
mod layers;
mod nginx;
mod operator_files;
mod pages;
mod python;
mod replicas;
mod slow;
mod sse;
mod support;
mod too_many;
mod traces;
