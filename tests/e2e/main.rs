//! End to end: the real binary, a real Redis, real sockets. A file per feature.

mod algorithms;
mod broker_away;
mod browser;
mod bytes;
mod cli;
mod close_codes;
mod crash;
mod crew;
mod dev;
mod directory;
mod drain;
mod handshake;
mod health;
mod http;
mod isolation;
mod junk;
mod layers;
mod leases;
mod nginx;
mod operator_files;
mod pages;
mod python;
mod quiet;
mod readme;
mod replicas;
mod revocation;
mod secrets;
mod slow;
mod sse;
mod storm;
#[path = "../support/mod.rs"]
mod support;
mod too_many;
mod topologies;
mod traces;
