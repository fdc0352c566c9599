//! The listeners: accepting connections, HTTP/1, and client addresses behind proxies.

pub mod listener;
mod proxy;

pub use listener::{ClientAddress, ListenOptions, serve};
