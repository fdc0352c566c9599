//! The state that all requests and sockets of one replica share.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use axum::http::{header, request::Parts};
use tokio_util::task::TaskTracker;

use crate::http::ClientAddress;
use crate::{
    auth::{Auth, RequestingPage, client_address, requested_host},
    broker::Broker,
    config::Config,
    connection::ConnectionContext,
    drain::DrainController,
    limits::ConnectionLimits,
    ready::Readiness,
    registry::Directory,
    stats::Stats,
    telemetry::Recorder,
};

/// One replica.
pub(crate) struct App {
    /// The resolved and validated configuration.
    pub config: Arc<Config>,
    /// The source and target of events.
    pub broker: Broker,
    /// Which org owns which id.
    pub directory: Arc<dyn Directory>,
    /// Who may connect, and what each identity may read.
    pub auth: Arc<Auth>,
    /// Whether this replica is draining.
    pub drain: DrainController,
    /// Whether this replica delivers events.
    pub readiness: Arc<Readiness>,
    /// Renders `/metrics`; `None` if the process has no recorder.
    pub recorder: Option<Recorder>,
    /// The parts that sockets and event streams use.
    pub shared: Arc<ConnectionContext>,
    /// The usage of this replica and of the others.
    pub stats: Arc<Stats>,
    /// The limits on connections.
    pub limits: ConnectionLimits,
    /// The task of each socket and event stream.
    pub sockets: TaskTracker,
}

impl App {
    /// The client's address, behind any number of trusted proxies.
    pub(crate) fn client_ip(&self, parts: &Parts) -> IpAddr {
        client_address(nearest(parts), &parts.headers, &self.config.trusted_proxies)
    }

    /// The browser's page; `None` for other clients. An `Origin` that is not text counts as `null`.
    pub(crate) fn page<'a>(&self, parts: &'a Parts) -> Option<RequestingPage<'a>> {
        let origin = parts.headers.get(header::ORIGIN)?.to_str().unwrap_or("null");
        let host = requested_host(nearest(parts), &parts.headers, &self.config.trusted_proxies);
        Some(RequestingPage { origin, host })
    }
}

fn nearest(parts: &Parts) -> IpAddr {
    let address = parts.extensions.get::<ClientAddress>();
    address.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.nearest().ip())
}
