//! Publishes Crewcast events: into Redis, or through a gateway over HTTP.
//!
//! ```no_run
//! use std::time::Duration;
//! use crewcast_publisher::{Outcome, Publisher, RunOutcome};
//! use serde_json::json;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let publisher = Publisher::connect("redis://127.0.0.1:6379").await?;
//!
//! // Typed: a run, and a tool call in it.
//! let run = publisher.run("r1").with_crew("abc");
//! run.boot(&json!({"topic": "tides"}));
//! let call = publisher.tools("abc", "r1", "researcher").start("web_search", &json!({"q": "tides"}));
//! call.progress("3 of 10 pages", Some(0.3));
//! call.end(0, Outcome::Success); // or drop it
//! run.done(RunOutcome::Success, Duration::from_secs(2), None);
//!
//! // Anything else: a JSON object with a `type`.
//! publisher.publish("graph:abc", &json!({"type": "note", "text": "half way"}))?;
//!
//! let unsent = publisher.close(Duration::from_secs(5)).await;
//! assert_eq!(unsent.events, 0);
//! # Ok(())
//! # }
//! ```
//!
//! # Emitters
//! Each emitter has a method for each event type of its channel, and an example in `examples/`. The module [`catalog`]
//! defines the events. State documents are set and removed in the same atomic step as their event: a snapshot of the
//! state and the events that follow it fit together without a gap.
//!
//! | emitter | channel | state documents |
//! |---|---|---|
//! | [`Publisher::tools`] | `graph:<crew>` | |
//! | [`Publisher::run`] | `run:<run>` | |
//! | [`Publisher::mission`] | `mission:<crew>` | |
//! | [`Publisher::session`] | `session:<session>` | `state`: the session's state |
//! | | `tracking:<org>` | the entry in the list of active sessions, by the session's id, until it ends |
//! | [`Publisher::stream`] | `stream:<stream>` | |
//! | [`Publisher::hub`] | `hub:<org>` | |
//! | [`Publisher::tracking`] | `tracking:<org>` | |
//! | [`Publisher::agents`] | `agents:<org>` | each agent, until it is deleted |
//! | [`Publisher::tasks`] | `tasks:<org>` | each running task |
//! | [`Publisher::knowledge`] | `knowledge:<org>` | the graph's size |
//! | [`Publisher::metrics`] | `metrics:<org>` | the latest values of each set |
//!
//! A session's events are `session_started`, `session_log`, `session_state` and `session_ended` on its own channel, and
//! `session_changed` on `tracking:<org>` ([`catalog::session`]).
//!
//! [`MetricsEmitter::every`] and [`HubEmitter::status_every`] emit at a fixed interval:
//!
//! ```no_run
//! # use std::time::Duration;
//! # use crewcast_publisher::Publisher;
//! # use serde_json::json;
//! # fn cpu_percent() -> f64 { 12.5 }
//! # async fn example(publisher: Publisher) {
//! let _metrics = publisher.metrics("acme").every(Duration::from_secs(5), || json!({"cpu_percent": cpu_percent()}));
//! // Dropping the handle, or closing the publisher, ends them.
//! # }
//! ```
//!
//! [`TaskEmitter::run`] wraps a future and emits the task's start, progress, and completion or failure.
//!
//! # How an event is sent
//! Emitting puts an event into a bounded queue and returns. It never waits, and it never fails the caller's work. A
//! background task sends each channel's waiting events in one step, for many channels at the same time. It retries
//! exactly the same step until the step is confirmed, so a retry neither duplicates nor reorders events.
//!
//! When the queue is full, events are dropped and counted ([`Publisher::stats`],
//! `crewcast_publisher_dropped_total{reason}`). Progress (types that end in `_progress`) goes first: the oldest that
//! newer progress of the same tool call, task or execution follows, then the oldest of the rest. Tool calls are told
//! apart by their `call_id`, or by run, agent and tool where it is missing. Then go the oldest of the other events.
//! Starts and ends go only when nothing else is left. Starts and ends are `boot`, `done`, the
//! terminal types of the channel's namespace, and types that end in `_start`, `_started` or `_created`, or in `_end`,
//! `_ended`, `_completed`, `_failed`, `_cancelled`, `_deleted` or `_removed`. Events that are being sent are never
//! dropped. [`DropPolicy::Newest`] drops the newest instead of the oldest.
//!
//! # Resend after a failover
//! Redis confirms an event before its replicas have it. A replica that takes over may lack confirmed events. The
//! publisher notices with the channel's next event: the log asks for a lower number. The publisher keeps the events of
//! the last seconds ([`ResendWindow`]) and sends the missing ones again first: once, in order, and under the same ids
//! when no other producer has written to the channel meanwhile. They are counted as `crewcast_publisher_resent_total`.
//!
//! Events that are no longer kept are counted as dropped, with the reason `lost_by_redis`. The same holds when the log
//! has no record of the publisher. Then Redis was flushed, or lost everything that the publisher had written there. The
//! two look alike, so nothing is sent again.
//!
//! Not covered:
//! - events that are lost when nothing more is emitted to the channel, above all after [`Publisher::close`];
//! - events that an ended process had confirmed, with or without a spool: confirmed events leave the spool;
//! - events over HTTP: the gateway does not report the loss.
//!
//! With [`Builder::wait_replicas`] an event counts as published only when replicas have it.
//!
//! # A spool on disk
//! With [`Builder::spool`], events that a full queue would drop go to files in a directory. So do the unsent events
//! when [`Publisher::close`] returns or the last clone is dropped. This publisher, or the next one with the same
//! directory, sends them as soon as possible, in order within each channel. Spooled events keep their producer's name
//! and numbers, so an event that was being sent when the process ended is in the log once. State documents and
//! ownership are kept with the events. Live events are not kept, because they would be stale. The spool holds at most
//! [`Builder::spool_bytes`]. When it is full or the disk fails, events are dropped as without a spool, with the reasons
//! `spool_full` and `spool_failed`.
//!
//! | after | spooled events | events in memory |
//! |---|---|---|
//! | [`Publisher::close`], or dropping the last clone | kept | kept |
//! | a kill (`kill -9`, out of memory, a panic that aborts) | kept | lost: at most [`Builder::queue_events`] |
//! | a crash of the host, a power cut | kept as far as the system had written them; all of them after `close` | lost |
//!
//! A torn or damaged record is lost. When its length cannot be trusted, the records that follow in the same file are
//! lost too (a file is a sixteenth of the bound, 8 MiB at most). Each loss is counted as `spool_damaged`. An event
//! whose answer was lost and that is sent again more than a day later may be in the log twice: Redis remembers a
//! producer for [`ONCE_AGE`] or for the age of the log, whichever is longer.
//!
//! Spooling writes to a file on the emitting thread, which takes some microseconds on a disk that keeps up. The index
//! of the spool is in memory, about 50 bytes per event. Opening a spool reads all of it.
//!
//! # Leases
//! With [`Builder::leases`] tool calls and runs hold a lease from their first event to their last. Sessions always do.
//! The publisher renews leases in the background, and so do the events of the same call, run or session. When the
//! process is killed, hangs or is cut off, gateways publish `stalled` and later `lost` to the channel, marked
//! `"synthetic":true`. The next event takes that back. When the process only renews again, gateways publish
//! `recovered`. The publisher renews a lease as long as the [`ToolCall`], the [`Session`], or the [`RunEmitter`] that
//! emitted `boot` exists: dropping the last clone of a run's emitter without `done` ends the renewal. A channel has at
//! most [`MAX_LEASES`].
//!
//! # Ownership of ids
//! With [`Builder::org`] an emitter registers its crew, run or stream for the org before the first event. Events of an
//! id that another org owns are dropped with the reason `not_owner`. Channels of an org carry its name and need no
//! registration.
//!
//! # Without Redis
//! [`Builder::connect_http`] publishes through a gateway with a token. [`Builder::with_transport`] takes any other
//! implementation of [`Transport`].

mod builder;
mod channel_queue;
mod counters;
mod deprecated;
mod emit;
#[cfg(feature = "http")]
mod http;
mod lease_renewal;
mod ownerships;
mod priority;
mod publisher;
mod queue;
mod resend;
mod resend_buffer;
mod spool;
mod trace;
mod worker;

pub use builder::{Builder, ConnectError};
pub use counters::Stats;
pub use crewcast_events::{
    catalog::{
        self, Outcome,
        run::RunOutcome,
        session::{ActiveAgent, LogLevel, SessionState},
    },
    timestamp,
};
pub use crewcast_store::{
    Append, AppendError, CONNECT_TIMEOUT, Connection, DEFAULT_LEASE, DIRECTORY_AGE, Entry, LeaseStep, MAX_ABOUT,
    MAX_ENTRIES, MAX_EVENT_BYTES, MAX_LEASE_NAME, MAX_LEASE_TTL, MAX_LEASES, MAX_STATE_KEY, MIN_LEASE_TTL, Node,
    ONCE_AGE, Once, Ownership, OwnershipMode, OwnershipOutcome, RESPONSE_TIMEOUT, RedisClient, RedisSetupError,
    RedisTransport, Renewal, Server, Sharded, State, StateKeyError, Tls, Topology, Transport, WaitReplicas,
    check_state_key, connection_config, random_half, require_master, slot_of, supports_sharded_pubsub,
};
#[allow(deprecated)]
pub use crewcast_store::{be_master, knows_sharded};
#[allow(deprecated)]
pub use deprecated::{Claim, ClaimMode, Claimed, Redis};
pub use emit::{
    AgentEmitter, ExecutionEmitter, HubEmitter, KnowledgeEmitter, MAX_ERROR_TEXT, MetricsEmitter, MissionEmitter,
    Periodic, RunEmitter, RunningTask, Session, SessionEmitter, StreamEmitter, TaskEmitter, TaskHandle, ToolCall,
    ToolEmitter, TrackingEmitter,
};
#[cfg(feature = "http")]
pub use http::HttpTransport;
pub use priority::DropPolicy;
pub use publisher::{PublishError, Publisher, Unsent};
pub use resend_buffer::ResendWindow;
pub use spool::SpoolError;

/// The snippets of the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
