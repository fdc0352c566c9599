//! End to end: the real binary, a real Redis, real sockets. A file per feature.

<<<<<<< HEAD
mod algorithms;
mod cli;
mod crew;
mod directory;
mod isolation;
mod layers;
mod readme;
mod revocation;
mod secrets;
=======
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
mod python;
mod sse;
>>>>>>> main
mod support;
mod traces;
