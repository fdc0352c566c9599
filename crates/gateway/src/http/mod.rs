//! The listeners: accepting connections, HTTP/1, and client addresses behind proxies.

pub(crate) mod listener;
mod proxy;

pub(crate) use listener::ClientAddress;
