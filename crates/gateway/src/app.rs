//! What every request and socket of one replica shares.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use axum::http::{HeaderMap, header, request::Parts};
use tokio_util::task::TaskTracker;

use crate::http::ClientAddress;
use crate::{
    auth::{Auth, client_address, requested_host},
    broker::Broker,
    config::Config,
    connection::ConnectionContext,
    drain::Drain,
    limits::ConnectionLimits,
    ready::Readiness,
    registry::Directory,
    stats::Stats,
    telemetry::Recorder,
};

/// One replica.
pub struct App {
    /// Resolved and validated.
    pub config: Arc<Config>,
    /// Where events come from and go to.
    pub broker: Broker,
    /// Which org owns which id.
    pub directory: Arc<dyn Directory>,
    /// Who may connect and what he may read.
    pub auth: Arc<Auth>,
    /// Whether this replica is going away.
    pub drain: Drain,
    /// Whether this replica delivers.
    pub readiness: Arc<Readiness>,
    /// What `/metrics` renders; `None` where the process has no recorder.
    pub recorder: Option<Recorder>,
    /// What sockets and event streams use.
    pub shared: Arc<ConnectionContext>,
    /// What this replica and the others do.
    pub stats: Arc<Stats>,
    /// Room for connections.
    pub limits: ConnectionLimits,
    /// The task of each socket and event stream.
    pub sockets: TaskTracker,
}

impl App {
    /// The client's address, behind however many trusted proxies.
    pub fn client_ip(&self, parts: &Parts) -> IpAddr {
        client_address(nearest(parts), &parts.headers, &self.config.trusted_proxies)
    }

    /// Whether the page that a browser comes from may connect; others than browsers send no origin.
    pub fn allows_page(&self, parts: &Parts, is_anonymous: bool) -> bool {
        let host = requested_host(nearest(parts), &parts.headers, &self.config.trusted_proxies);
        self.auth.allows_origin(origin(&parts.headers), host, is_anonymous)
    }
}

/// The `Origin` header; one that is no text is nobody's.
pub fn origin(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or("null"))
}

fn nearest(parts: &Parts) -> IpAddr {
    let address = parts.extensions.get::<ClientAddress>();
    address.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.nearest().ip())
}
