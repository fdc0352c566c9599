//! The small tables: how a replica serves its endpoints, drains, and reports to its operator.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Config, form::tables, rules::Rules};

tables! {
    /// The `mission` endpoint.
    Mission {
        /// A crew whose producer has been silent for this long is announced as `offline`; `None`: never.
        offline_after: Option<Duration> = None,
    }

    /// The `stream` endpoint.
    Stream {
        /// What a further `subscribe` without `ref` does to the subscriptions of its socket.
        subscribe: SubscribeMode = SubscribeMode::Add,
    }

    /// The `agent-tracking` endpoint.
    Tracking {
        /// A session whose producer has been silent for this long leaves the list of active ones.
        session_ttl: Duration = Duration::from_secs(60),
        /// Whether a newer socket of a client replaces the older one. Never so for sockets without a token.
        takeover: bool = true,
        /// Whether client ids must be `client_<digits>_<lower-case letters and digits>`.
        strict_client_id: bool = false,
    }

    /// Intervals of messages on the endpoints of the dialect `forge`.
    Forge {
        /// Between two messages of `/ws/metrics`.
        metrics_every: Duration = Duration::from_secs(5),
        /// Between two messages of `/ws/dashboard`.
        dashboard_every: Duration = Duration::from_secs(10),
    }

    /// When `/readyz` changes its answer.
    Ready {
        /// A probe runs every fifth of the window. Not ready after one window without a success, ready after two
        /// successes.
        window: Duration = Duration::from_secs(15),
    }

    /// How a replica drains.
    Drain {
        /// The process ends within this time.
        grace: Duration = Duration::from_secs(25),
        /// Sockets are closed at moments spread over this time.
        spread: Duration = Duration::from_secs(15),
    }

    /// Traces over OTLP.
    Otel {
        /// Base URL of the receiver; `None`: off.
        endpoint: Option<String> = None,
    }

    /// Log lines.
    Log {
        /// `None`: text on a terminal, JSON elsewhere.
        format: Option<LogFormat> = None,
        /// A `tracing` filter, for example `info,crewcast_gateway=debug`.
        level: String = "info".to_owned(),
        /// Lines are appended to this file instead of standard error.
        file: Option<PathBuf> = None,
    }
}

/// What a further `subscribe` does to the subscriptions before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SubscribeMode {
    /// They stay: an event that any of them accepts is sent.
    Add,
    /// They end, unless the message has a `ref`.
    Replace,
}

/// The form of log lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum LogFormat {
    Text,
    Json,
}

pub(super) fn check(config: &Config, rules: &mut Rules<'_>) {
    let Config { mission, tracking, forge, ready, drain, otel, log, .. } = config;
    rules.positive("mission.offline_after", mission.offline_after.unwrap_or(Duration::MAX));
    rules.positive("tracking.session_ttl", tracking.session_ttl);
    rules.positive("forge.metrics_every", forge.metrics_every);
    rules.positive("forge.dashboard_every", forge.dashboard_every);
    rules.positive("ready.window", ready.window);
    rules.positive("drain.grace", drain.grace);
    let in_time = drain.spread < drain.grace;
    rules.hold("drain.spread", in_time, "must be shorter than drain.grace: the last sockets need time to close");
    rules.web_url("otel.endpoint", otel.endpoint.as_deref());
    let filter = tracing_subscriber::EnvFilter::try_new(&log.level);
    rules.hold("log.level", filter.is_ok(), "must be a level or a filter such as info or info,crewcast_gateway=debug");
}
