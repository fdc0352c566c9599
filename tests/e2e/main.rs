//! End to end: the real binary, a real Redis, real sockets. A file per feature.

mod browser;
mod crew;
mod layers;
mod nginx;
mod operator_files;
mod support;
