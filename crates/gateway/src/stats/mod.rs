//! The usage of this replica, by org: `GET /ws/stats`.
//!
//! Every replica reports its usage to the others through the broker at an interval, and reports expire. Any replica
//! can therefore sum the usage of all live replicas. Metrics (`telemetry`) are for the operator and never name an org.

mod report;
mod usage;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use crewcast_events::{Channel, Namespaces, Owner};
use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    hub::Hub,
    registry::{BrokerError, UsageBoard},
};
pub(crate) use report::UsageReport;
pub(crate) use usage::{EndpointName, OrgUsage, UsageCounters, UsageGuard};

/// How often a replica reports its usage.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// The usage of this replica, and where all replicas report theirs.
pub(crate) struct Stats {
    /// The id of this replica.
    replica: String,
    began: Instant,
    usage: Arc<UsageCounters>,
    hub: Arc<Hub>,
    namespaces: Namespaces,
    board: Arc<dyn UsageBoard>,
}

/// The usage of one replica.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ReplicaUsage {
    whole: UsageReport,
    orgs: BTreeMap<String, UsageReport>,
}

/// The part of the usage that a caller may see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum UsageScope<'a> {
    /// Everything.
    All,
    /// The usage of one org.
    Org(&'a str),
}

/// The answer to a request.
#[derive(Debug, Serialize)]
pub(crate) struct UsageAnswer {
    scope: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    org: Option<String>,
    replica: ReplicaEntry,
    total: UsageTotal,
}

#[derive(Debug, Serialize)]
struct ReplicaEntry {
    id: String,
    #[serde(flatten)]
    numbers: UsageReport,
}

#[derive(Debug, Serialize)]
struct UsageTotal {
    replicas: usize,
    #[serde(flatten)]
    numbers: UsageReport,
}

impl ReplicaUsage {
    fn seen(&self, scope: UsageScope<'_>) -> UsageReport {
        match scope {
            UsageScope::All => self.whole.clone(),
            UsageScope::Org(org) => {
                let uptime_seconds = self.whole.uptime_seconds;
                UsageReport { uptime_seconds, ..self.orgs.get(org).cloned().unwrap_or_default() }
            }
        }
    }
}

impl Stats {
    /// The usage of a replica that starts now.
    pub(crate) fn new(
        usage: Arc<UsageCounters>,
        hub: Arc<Hub>,
        namespaces: Namespaces,
        board: Arc<dyn UsageBoard>,
    ) -> Arc<Self> {
        let replica = format!("{:08x}", fastrand::u32(..));
        Arc::new(Self { replica, began: Instant::now(), usage, hub, namespaces, board })
    }

    /// This replica's current usage.
    fn now(&self) -> ReplicaUsage {
        let (whole, orgs) = self.usage.counted();
        let mut now = ReplicaUsage { whole, orgs };
        now.whole.uptime_seconds = self.began.elapsed().as_secs();
        self.hub.each_channel(|channel, channel_state| {
            now.whole.add_ring(&channel_state);
            if let Some(org) = self.org_of(channel) {
                now.orgs.entry(org.to_owned()).or_default().add_ring(&channel_state);
            }
        });
        now
    }

    fn org_of<'a>(&self, channel: &'a Channel) -> Option<&'a str> {
        org_of(&self.namespaces, channel)
    }

    /// The usage of this replica and of all live replicas.
    ///
    /// # Errors
    /// Errors of the broker.
    pub(crate) async fn answer(&self, scope: UsageScope<'_>) -> Result<UsageAnswer, BrokerError> {
        let told = self.board.usage().await?;
        let mine = self.now().seen(scope);
        let mut total = UsageTotal { replicas: 1, numbers: mine.clone() };
        for (replica, text) in told {
            // A replica of another release may report other fields; it counts as a live replica all the same.
            if replica != self.replica {
                let others: ReplicaUsage = serde_json::from_slice(&text).unwrap_or_default();
                total.replicas += 1;
                total.numbers.add(&others.seen(scope));
            }
        }
        let (scope, org) = match scope {
            UsageScope::All => ("all", None),
            UsageScope::Org(org) => ("org", Some(org.to_owned())),
        };
        Ok(UsageAnswer { scope, org, replica: ReplicaEntry { id: self.replica.clone(), numbers: mine }, total })
    }

    /// Reports this replica's usage at an interval. Never returns.
    pub(crate) async fn report(self: Arc<Self>) {
        let mut ticks = interval(TELL_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let text = serde_json::to_vec(&self.now()).unwrap_or_default();
            // If the broker is down, the next report reaches it.
            let _ = self.board.report_usage(&self.replica, Some(Bytes::from(text))).await;
        }
    }

    /// Removes this replica's report, so that the others no longer count it.
    pub(crate) async fn leave(&self) {
        // If the broker does not get this, the report expires.
        let _ = self.board.report_usage(&self.replica, None).await;
    }
}

/// The org that a channel names. Channels of crews, runs, streams and sessions name none.
fn org_of<'a>(namespaces: &Namespaces, channel: &'a Channel) -> Option<&'a str> {
    let rules = namespaces.of(channel)?;
    (rules.owner == Some(Owner::Org)).then(|| channel.id())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{broker::memory::MemoryBroker, hub::RingLimits};

    fn replica(registry: &Arc<MemoryBroker>) -> (Arc<UsageCounters>, Arc<Stats>) {
        let namespaces = Namespaces::default();
        let limits = RingLimits { events: 10, bytes: 1 << 20, total_bytes: 1 << 20 };
        let usage = UsageCounters::new(namespaces.clone());
        let stats = Stats::new(usage.clone(), Hub::new(limits).0, namespaces, registry.clone());
        (usage, stats)
    }

    async fn told(stats: &Stats) {
        let text = serde_json::to_vec(&stats.now()).unwrap();
        stats.board.report_usage(&stats.replica, Some(text.into())).await.unwrap();
    }

    async fn asked(stats: &Stats, scope: UsageScope<'_>) -> serde_json::Value {
        serde_json::to_value(stats.answer(scope).await.unwrap()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_usage_of_all_live_replicas_is_summed_and_each_org_sees_its_own() {
        let registry = Arc::new(MemoryBroker::new(Namespaces::default()));
        let ((ours, here), (theirs, there)) = (replica(&registry), replica(&registry));
        let _open = [
            ours.enter(Some("acme".into()), "/ws/agents".to_owned().into()),
            ours.enter(Some("zeta".into()), "/ws/agents".to_owned().into()),
            theirs.enter(Some("acme".into()), "/ws/agents".to_owned().into()),
            theirs.enter(Some("acme".into()), "/ws".to_owned().into()),
            theirs.enter(None, "/sse".to_owned().into()),
        ];
        for (usage, channel) in [(&ours, "hub:acme"), (&theirs, "hub:acme"), (&theirs, "graph:abc")] {
            usage.received(&usage.org_of(&channel.parse().unwrap()));
        }
        told(&there).await;
        let acme = asked(&here, UsageScope::Org("acme")).await;
        assert_eq!((&acme["scope"], &acme["org"]), (&"org".into(), &"acme".into()));
        assert_eq!(acme["replica"]["connections"], serde_json::json!({ "/ws/agents": 1 }));
        assert_eq!(acme["total"]["connections"], serde_json::json!({ "/ws": 1, "/ws/agents": 2 }));
        assert_eq!((&acme["total"]["replicas"], &acme["total"]["events"]["in"]), (&2.into(), &2.into()));
        let all = asked(&here, UsageScope::All).await;
        assert_eq!(all["total"]["connections"], serde_json::json!({ "/sse": 1, "/ws": 1, "/ws/agents": 3 }));
        assert_eq!((&all["total"]["events"]["in"], &all["replica"]["events"]["in"]), (&3.into(), &1.into()));
        let nobody = asked(&here, UsageScope::Org("nobody")).await;
        assert_eq!(nobody["total"]["connections"], serde_json::json!({}));

        there.leave().await;
        assert_eq!(asked(&here, UsageScope::All).await["total"]["replicas"], 1);
        told(&there).await;
        tokio::time::sleep(Duration::from_secs(16)).await;
        assert_eq!(asked(&here, UsageScope::All).await["total"]["replicas"], 1, "it has died");
    }
}
