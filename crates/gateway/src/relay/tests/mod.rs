//! The relay checked against a model, in every order of steps, on a paused clock, and rule by rule.

mod intake;
mod interleavings;
mod lease_expiry;
mod model;
mod paused_clock;
mod sequencer;
