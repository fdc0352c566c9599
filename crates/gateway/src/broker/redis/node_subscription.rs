//! The supervised subscribing connection to one server: it reconnects by itself, and reports when it is down.

use std::{sync::Arc, time::Duration};

use crewcast_events::Channel;
use crewcast_store::{Server, backoff::full_jitter, connection_config, require_master, supports_sharded_pubsub};
use parking_lot::Mutex;
use redis::{
    Client, ErrorKind, ProtocolVersion, PushInfo, PushKind, RedisError, RedisResult, ServerErrorKind, Value,
    aio::ConnectionLike,
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tracing::debug;

use super::{
    active_connection::{ActiveConnection, PendingRequests},
    delivery::{Delivery, Epoch},
    errors,
    subscription_set::SubscriptionSet,
};
use crate::broker::BrokerError;

/// How often Redis is pinged. A ping without an answer within
/// [`RESPONSE_TIMEOUT`](crewcast_store::RESPONSE_TIMEOUT) ends the connection: a silently dead connection is
/// detected within the sum of both.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// The longest random wait before the first reconnect; doubled with each failure.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
/// The longest random wait before any reconnect.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// Channels in one SUBSCRIBE: larger commands save nothing, and block Redis for other clients.
const CHUNK: usize = 1000;

/// What a node subscription does besides subscribing to wanted channels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Role {
    /// Subscribes to the control channel and to these patterns. One node subscription of a replica does this.
    pub(super) lead: Option<Vec<String>>,
    /// The server must say that it is a master.
    pub(super) masters_only: bool,
    /// May use sharded pub/sub if the server knows it.
    pub(super) may_shard: bool,
}

/// The subscription to one server.
pub(super) struct NodeSubscription {
    server: Arc<Server>,
    role: Role,
    /// The connection's name in `CLIENT LIST`.
    name: String,
    delivery: Arc<Delivery>,
    wanted: Mutex<SubscriptionSet>,
    /// Signals the task that the wanted set has changed.
    wanted_changed: Notify,
    /// The last change of the wanted set that Redis has confirmed; `None` once the subscription has ended.
    served: watch::Sender<Option<u64>>,
    state: Mutex<NodeState>,
    /// The probe's channel: a name whose slot is on this server.
    probe: Mutex<String>,
    current: Mutex<Option<ActiveConnection>>,
    /// Channels that the server gave up by itself, because their slots have moved to another server.
    moved: Mutex<MigratedSlots>,
    /// Notified when the state changes or channels have moved.
    changed: Arc<Notify>,
}

/// What a server gave up by itself.
#[derive(Default)]
pub(super) struct MigratedSlots {
    pub(super) channels: Vec<Channel>,
    /// The probe too: the next refresh of the topology finds another name for it.
    pub(super) probe: bool,
}

/// The state of the connection.
#[derive(Clone, Debug)]
pub(super) enum NodeState {
    Starting,
    Up,
    Down(BrokerError),
}

impl NodeSubscription {
    pub(super) fn new(
        server: Arc<Server>,
        role: Role,
        replica: &str,
        probe: String,
        delivery: Arc<Delivery>,
        changed: Arc<Notify>,
    ) -> Arc<Self> {
        Arc::new(Self {
            server,
            role,
            probe: Mutex::new(probe),
            name: client_name(replica),
            delivery,
            wanted: Mutex::default(),
            wanted_changed: Notify::new(),
            served: watch::Sender::new(Some(0)),
            state: Mutex::new(NodeState::Starting),
            current: Mutex::new(None),
            moved: Mutex::default(),
            changed,
        })
    }

    /// Connects, serves, and reconnects, until the future is dropped; then call [`NodeSubscription::end`].
    pub(super) async fn run(self: Arc<Self>) {
        let mut failures = 0;
        loop {
            let (error, uptime) = match self.connect().await {
                Ok(connected) => {
                    let since = Instant::now();
                    *self.current.lock() = Some(connected.clone());
                    self.set_state(NodeState::Up);
                    (self.serve(&connected).await, since.elapsed())
                }
                Err(error) => (error, Duration::ZERO),
            };
            self.close();
            debug!(server = self.server.name(), error = %errors::of_redis(&error), "a connection to Redis ended");
            self.set_state(NodeState::Down(errors::of_redis(&error)));
            // A connection that fails right after it was established does not count as a success.
            failures = if uptime > BACKOFF_MAX { 0 } else { failures + 1 };
            sleep(backoff(failures)).await;
        }
    }

    /// Ends the subscription once its task is gone: nothing more is delivered, and waiting callers return.
    pub(super) fn end(&self) {
        self.close();
        self.served.send_replace(None);
    }

    fn close(&self) {
        if let Some(connected) = self.current.lock().take() {
            connected.epoch.close();
        }
    }

    pub(super) fn role(&self) -> &Role {
        &self.role
    }

    pub(super) fn state(&self) -> NodeState {
        self.state.lock().clone()
    }

    /// Wants channels; returns the number of the change, for [`NodeSubscription::served`].
    pub(super) fn add(&self, channels: &[Channel]) -> u64 {
        let change = self.wanted.lock().add(channels);
        self.wanted_changed.notify_one();
        change
    }

    /// No longer wants channels.
    pub(super) fn remove(&self, channels: &[Channel]) -> u64 {
        let change = self.wanted.lock().remove(channels);
        self.wanted_changed.notify_one();
        change
    }

    /// Waits until Redis has confirmed a change; false if the subscription ended before.
    pub(super) async fn served(&self, change: u64) -> bool {
        let mut served = self.served.subscribe();
        let served = served.wait_for(|served| served.is_none_or(|served| served >= change)).await;
        served.is_ok_and(|served| served.is_some())
    }

    /// Sets the probe's channel. A connection with another one is replaced.
    pub(super) fn set_probe(&self, name: String) {
        *self.probe.lock() = name.clone();
        if let Some(connected) = self.current.lock().as_ref().filter(|connected| connected.probe != name) {
            connected.lost.notify_one();
        }
    }

    /// Takes the channels that the server gave up since the last call.
    pub(super) fn take_moved(&self) -> MigratedSlots {
        std::mem::take(&mut self.moved.lock())
    }

    /// The probe's channel on this server and whether it is sharded; `None` while the connection is down.
    pub(super) fn probe(&self) -> Option<(String, bool)> {
        self.current.lock().as_ref().map(|connected| (connected.probe.clone(), connected.is_sharded))
    }

    /// Waits until everything that was published on this server before has been delivered: Redis answers a PING in
    /// order, on the connection that carries the messages.
    pub(super) async fn barrier(&self) -> Result<(), BrokerError> {
        let Some(now) = self.current.lock().clone() else { return Err(self.why_away()) };
        now.ping().await.map_err(|error| errors::of_redis(&error))?;
        // A connection that was replaced in the meantime has delivered nothing since.
        let same = self.current.lock().as_ref().is_some_and(|current| Arc::ptr_eq(&current.epoch, &now.epoch));
        if same { Ok(()) } else { Err(self.why_away()) }
    }

    fn why_away(&self) -> BrokerError {
        match self.state() {
            NodeState::Down(error) => error,
            NodeState::Starting | NodeState::Up => super::away(),
        }
    }

    fn set_state(&self, state: NodeState) {
        *self.state.lock() = state;
        self.changed.notify_one();
    }

    /// Connects, and subscribes to everything that is wanted.
    async fn connect(self: &Arc<Self>) -> RedisResult<ActiveConnection> {
        let epoch = Arc::new(Epoch::open(&self.delivery));
        let number = epoch.number();
        let (lost, asked) = (Arc::new(Notify::new()), PendingRequests::default());
        let (link, ended, waiting) = (Arc::downgrade(self), lost.clone(), asked.clone());
        let delivery = self.delivery.clone();
        let on_push = move |push: PushInfo| -> Result<(), RedisError> {
            match push.kind {
                PushKind::Disconnection => ended.notify_one(),
                PushKind::SUnsubscribe => {
                    // Checked first: commands that this message triggers are not pending yet.
                    let is_idle = waiting.is_idle();
                    let unasked = link.upgrade().is_some_and(|link| link.gave_up(&push.data));
                    if unasked && !is_idle {
                        // A pending request has received this message as its answer.
                        ended.notify_one();
                    }
                }
                _ => delivery.push(number, push),
            }
            Ok(())
        };
        // RESP3 whatever the URL says: only with it do messages and answers share a connection.
        let info = self.server.info().clone();
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let client = Client::open(info.set_redis_settings(settings))?;
        let config = connection_config().set_push_sender(on_push);
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        redis::cmd("CLIENT").arg("SETNAME").arg(&self.name).exec_async(&mut connection).await?;
        if self.role.masters_only {
            require_master(&mut connection).await?;
        }
        let is_sharded = self.role.may_shard && supports_sharded_pubsub(&mut connection).await?;
        let mut connected =
            ActiveConnection { connection, epoch, asked, is_sharded, probe: self.probe.lock().clone(), lost };
        // While Redis loads its data, it greets and subscribes but serves nothing else: the link is not up yet.
        connected.ping().await?;
        self.listen(&mut connected).await?;
        self.wanted.lock().restart();
        self.reconcile(&connected).await?;
        // Channels added during the first pass, by calls that may have given up since.
        self.reconcile(&connected).await?;
        Ok(connected)
    }

    /// Subscribes to what is not a channel of events: the probe, and for the lead the control channel and the patterns.
    async fn listen(&self, connected: &mut ActiveConnection) -> RedisResult<()> {
        let probe = connected.probe.clone();
        if connected.is_sharded {
            let subscribe = redis::pipe().cmd("SSUBSCRIBE").arg(&probe).to_owned();
            subscribe.exec_async(&mut connected.connection).await?;
        } else {
            connected.connection.subscribe(&probe).await?;
        }
        let Some(patterns) = &self.role.lead else { return Ok(()) };
        connected.connection.subscribe(&self.delivery.names.control).await?;
        if !patterns.is_empty() {
            connected.connection.psubscribe(patterns).await?;
        }
        Ok(())
    }

    /// Brings Redis in line with the wanted set, and wakes callers that wait for it.
    async fn reconcile(&self, connected: &ActiveConnection) -> RedisResult<()> {
        let work = self.wanted.lock().take();
        let mut connection = connected.connection.clone();
        for chunk in work.leftover.chunks(CHUNK) {
            connected.asked.count(connection.unsubscribe(self.names_of(chunk))).await?;
        }
        for chunk in work.unsubscribe.chunks(CHUNK) {
            let names = self.names_of(chunk);
            if connected.is_sharded {
                connected.asked.count(each("SUNSUBSCRIBE", &names).exec_async(&mut connection)).await?;
            }
            connected.asked.count(connection.unsubscribe(names)).await?;
        }
        for chunk in work.subscribe.chunks(CHUNK) {
            let mut names = self.names_of(chunk);
            if connected.is_sharded {
                let subscribe = each("SSUBSCRIBE", &names);
                let all = connection.req_packed_commands(&subscribe, 0, names.len());
                names = self.taken(chunk, names, connected.asked.count(all).await?)?;
            }
            // Returns when each of these channels is confirmed (redis 1.8.0 and later).
            connected.asked.count(connection.subscribe(names)).await?;
        }
        self.served.send_modify(|served| *served = served.map(|_| work.upto));
        Ok(())
    }

    fn names_of(&self, channels: &[Channel]) -> Vec<String> {
        channels.iter().map(|channel| self.delivery.names.of(channel)).collect()
    }

    /// Serves one connection until it fails; returns the error.
    async fn serve(&self, connected: &ActiveConnection) -> RedisError {
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let served = tokio::select! {
                biased;
                () = connected.lost.notified() => {
                    return RedisError::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
                }
                _ = heartbeat.tick() => connected.ping().await,
                () = self.wanted_changed.notified() => self.reconcile(connected).await,
            };
            if let Err(error) = served {
                return error;
            }
        }
    }

    /// The names that the server accepted. Channels that it does not hold are placed again with a newer topology.
    fn taken(&self, channels: &[Channel], names: Vec<String>, answers: Vec<Value>) -> RedisResult<Vec<String>> {
        let mut taken = Vec::with_capacity(names.len());
        for ((channel, name), answer) in channels.iter().zip(names).zip(answers) {
            match answer.extract_error() {
                Ok(_) => taken.push(name),
                Err(error) if is_elsewhere(&error) => {
                    if self.wanted.lock().refused(channel) {
                        self.moved.lock().channels.push(channel.clone());
                        self.changed.notify_one();
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(taken)
    }

    /// Handles the server's message that a sharded channel is unsubscribed: on request, or by itself. Returns whether
    /// it was by itself.
    fn gave_up(&self, data: &[Value]) -> bool {
        let Some(Value::BulkString(name)) = data.first() else { return false };
        let name = String::from_utf8_lossy(name);
        let channel = name.strip_prefix(&self.delivery.names.prefix).and_then(|name| name.parse::<Channel>().ok());
        let given_up = match channel {
            None => {
                self.moved.lock().probe = true;
                true
            }
            Some(channel) => {
                let lost = self.wanted.lock().lost(&channel);
                self.moved.lock().channels.extend((lost == Some(true)).then_some(channel));
                lost.is_some()
            }
        };
        if given_up {
            // A plain PUBLISH would still arrive from this server.
            self.wanted_changed.notify_one();
            self.changed.notify_one();
        }
        given_up
    }
}

/// Whether the slot is on another server, or on none for the moment.
fn is_elsewhere(error: &RedisError) -> bool {
    use ServerErrorKind::{Ask, ClusterDown, Moved, TryAgain};
    matches!(error.kind(), ErrorKind::Server(Moved | Ask | ClusterDown | TryAgain))
}

/// One command for each name: in a Cluster the names of one command must share a slot.
fn each(command: &str, names: &[String]) -> redis::Pipeline {
    let mut pipeline = redis::Pipeline::with_capacity(names.len());
    for name in names {
        pipeline.cmd(command).arg(name);
    }
    pipeline
}

/// A random wait before attempt number `failures` + 1, so that replicas do not reconnect in step.
pub(super) fn backoff(failures: u32) -> Duration {
    full_jitter(BACKOFF_FIRST, BACKOFF_MAX, failures)
}

/// `CLIENT SETNAME` takes printable ASCII without spaces only.
fn client_name(replica: &str) -> String {
    let safe = replica.chars().map(|c| if c.is_ascii_graphic() { c } else { '_' });
    format!("crewcast-sub-{}", safe.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_is_random_and_bounded() {
        for failures in 0..100 {
            let bound = BACKOFF_MAX.min(BACKOFF_FIRST * (1 << failures.min(10)));
            assert!((0..100).all(|_| backoff(failures) <= bound));
        }
        assert!((0..100).any(|_| backoff(100) > BACKOFF_MAX / 2));
    }

    #[test]
    fn a_client_name_has_no_spaces() {
        assert_eq!(client_name("pod 1\n"), "crewcast-sub-pod_1_");
    }
}
