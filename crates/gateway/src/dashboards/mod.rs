//! Documents of an org that are read once per interval, for all sockets of this replica that watch them.
//!
//! The first socket that watches a [`Dashboard`] of an org starts a task. The task reads and encodes the document
//! immediately and then at each interval, and ends when no socket watches any more. A socket gets the last document
//! that was read, and then each new one. Its first document may therefore be as old as the interval.

mod dashboard;
mod metrics;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use crewcast_events::Channel;
use dashmap::DashMap;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    broker::{BrokerError, LogStore},
    config,
    replay::ChannelReads,
};
use crewcast_websocket::frame::text_frame;

/// How long to wait after a failed read before the next try.
const RETRY: Duration = Duration::from_millis(500);

/// The kind of document.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Dashboard {
    /// The newest document of each metric set.
    Metrics,
    /// Counts, progress, metrics and the last events.
    Dashboard,
}

impl Dashboard {
    /// The namespaces of the org's channels that the document shows.
    pub(crate) fn namespaces(self) -> &'static [&'static str] {
        match self {
            Dashboard::Metrics => &["metrics"],
            Dashboard::Dashboard => &["agents", "tasks", "knowledge", "metrics"],
        }
    }

    /// The channels of an org that the document shows; empty if the org's name cannot be a channel id.
    pub(crate) fn channels(self, org: &str) -> Vec<Channel> {
        self.namespaces().iter().filter_map(|namespace| Channel::new(namespace, org).ok()).collect()
    }
}

type WatchKey = (Dashboard, Arc<str>);
type Shown = watch::Sender<Option<Bytes>>;

/// Every dashboard that is watched.
pub(crate) struct Dashboards {
    me: Weak<Dashboards>,
    channel_reads: Arc<ChannelReads>,
    log: Arc<dyn LogStore>,
    intervals: config::Forge,
    shown: DashMap<WatchKey, Arc<Shown>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// One socket's view of a dashboard.
pub(crate) struct DashboardWatch(watch::Receiver<Option<Bytes>>);

impl DashboardWatch {
    /// The next frame; returns immediately if the newest one was not returned yet. `None`: no more frames will come.
    pub(crate) async fn next(mut self) -> Option<(Self, Bytes)> {
        loop {
            self.0.changed().await.ok()?;
            let frame = self.0.borrow_and_update().clone();
            if let Some(frame) = frame {
                return Some((self, frame));
            }
        }
    }
}

impl Dashboards {
    /// Dashboards that are read from this store.
    pub(crate) fn new(channel_reads: Arc<ChannelReads>, log: Arc<dyn LogStore>, intervals: config::Forge) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            channel_reads,
            log,
            intervals,
            shown: DashMap::new(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        })
    }

    /// Ends every read, also of dashboards that are still watched: their watchers get no further document.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Watches a dashboard of an org, until the returned watch is dropped.
    pub(crate) fn watch(&self, dashboard: Dashboard, org: Arc<str>) -> DashboardWatch {
        let key = (dashboard, org);
        // Subscribed while the map's entry is locked, so that a dashboard that was just found is not removed.
        let shown = self.shown.entry(key.clone()).or_insert_with(|| {
            let shown = Arc::new(watch::Sender::new(None));
            if let Some(dashboards) = self.me.upgrade() {
                let show = dashboards.show(key, shown.clone());
                self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(show));
            }
            shown
        });
        let mut seen = shown.subscribe();
        seen.mark_changed();
        DashboardWatch(seen)
    }

    /// Reads a dashboard at each interval, as long as it is watched.
    async fn show(self: Arc<Self>, key: WatchKey, shown: Arc<Shown>) {
        let mut ticks = interval(match key.0 {
            Dashboard::Metrics => self.intervals.metrics_every,
            Dashboard::Dashboard => self.intervals.dashboard_every,
        });
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if self.shown.remove_if(&key, |_, shown| shown.receiver_count() == 0).is_some() {
                return;
            }
            while shown.receiver_count() > 0 {
                match self.read(&key).await {
                    Ok(frame) => {
                        shown.send_replace(Some(frame));
                        break;
                    }
                    // The sockets learn about the broker from their connections.
                    Err(_) => tokio::time::sleep(RETRY).await,
                }
            }
        }
    }

    async fn read(&self, (dashboard, org): &WatchKey) -> Result<Bytes, BrokerError> {
        let channels = dashboard.channels(org);
        let reads = channels.iter().map(|channel| self.channel_reads.snapshot(channel.clone()));
        let states = futures_util::future::try_join_all(reads).await?;
        let text = match (dashboard, &states[..]) {
            (Dashboard::Metrics, [metrics]) => metrics::message(metrics),
            (Dashboard::Dashboard, [agents, tasks, knowledge, metrics]) => {
                let events = dashboard::last_events(&*self.log, &channels, &states).await?;
                dashboard::message(agents, tasks, knowledge, metrics, &events)
            }
            // An org whose name is not an id has no channels, and no token can name it.
            _ => String::from("{}"),
        };
        Ok(text_frame(text.as_bytes()))
    }
}
