//! End to end: the real binary, a real Redis, real sockets. A file per feature.

mod broker_away;
mod crew;
mod dev;
mod drain;
mod health;
mod layers;
mod support;
mod traces;
