//! Rust client of Crewcast: connects to a gateway, subscribes, and resumes for ever.
//!
//! ```no_run
//! # async fn example() -> Result<(), crewcast_client::ClientError> {
//! use crewcast_client::{Client, Delivery};
//!
//! let client = Client::builder("https://crewcast.example.org").token("<jwt>").build()?;
//! let mut run = client.run("r1").connect();
//! while let Some(delivery) = run.next().await {
//!     match delivery? {
//!         Delivery::Event { event, .. } => println!("{}", event.text()),
//!         Delivery::Reset { reason, .. } => eprintln!("some events are gone: {reason}"),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A socket that carries one channel (a run, the graph of one crew) is resumed behind the last event that
//! was delivered: every logged event once and in order, or a [`Delivery::Reset`]. So is each channel of
//! [`Client::stream`], which carries any that are named. A socket that carries the channels of many crews ([`Client::graphs`], [`Client::missions`]) cannot name a position: after a cut it
//! goes on live, and [`Delivery::Connected`] says `resumed: false`. Use one subscription per crew where no
//! event may be missed.
//!
//! A graph that is asked for without [`Request::since`] begins live, and learns its position from its first
//! logged event or from the gateway's first `ping`, 45 s after the socket has opened. Cut before that, it begins
//! live again, and what was published in between is not sent: [`Delivery::Connected`] says `resumed: false` once
//! more. Who must miss nothing passes [`Start::Beginning`] or an id. A run begins at its first event anyway.

mod backoff;
mod client;
mod endpoint;
mod error;
mod message;
mod outcome;
mod position;
mod session;
mod stream;
mod subscription;
#[cfg(test)]
mod tests;
mod token;
mod worker;

pub use client::{Client, ClientBuilder, Request};
pub use endpoint::Start;
pub use error::{ClientError, Cut};
pub use subscription::{Delivery, Handle, Subscription};
pub use token::TokenError;

/// The snippets of the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
