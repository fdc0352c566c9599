//! Rust client of Crewcast: connects to a gateway, subscribes, and reconnects until the subscription ends.
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
//!         Delivery::Reset { reason, .. } => eprintln!("some events were missed: {reason}"),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What is resumed
//!
//! A subscription to one channel ([`Client::run`], [`Client::graph`]) resumes after the last delivered event. It
//! delivers every logged event exactly once and in order, or a [`Delivery::Reset`]. The same holds for each channel of
//! [`Client::stream`].
//!
//! [`Client::graphs`] and [`Client::missions`] carry the channels of many crews and have no position. After a lost
//! connection they go on live, and [`Delivery::Connected`] says `resumed: false`. Use one subscription per crew if you
//! must not miss an event.
//!
//! A graph without [`Request::since`] starts live. It learns its position from its first logged event, or from the
//! gateway's first `ping`, 45 s after the socket has opened. If the connection is lost earlier, the subscription starts
//! live again and misses the events in between: [`Delivery::Connected`] says `resumed: false`. If you must not miss an
//! event, pass [`Start::Beginning`] or an id. A run always starts at its first event.

mod backoff;
mod client;
mod endpoint;
mod error;
mod message;
mod next_step;
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
