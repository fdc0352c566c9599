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
//! Each has a method for each event type of its channel, and an example in `examples/`. What they write stands in
//! [`catalog`]. State documents are set and removed in the same atomic step as their event, so that a snapshot of the
//! state and the events behind it have no seam.
//!
//! | emitter | channel | state documents |
//! |---|---|---|
//! | [`Publisher::tools`] | `graph:<crew>` | |
//! | [`Publisher::run`] | `run:<run>` | |
//! | [`Publisher::mission`] | `mission:<crew>` | |
//! | [`Publisher::stream`] | `stream:<stream>` | |
//! | [`Publisher::hub`] | `hub:<org>` | |
//! | [`Publisher::tracking`] | `tracking:<org>` | |
//! | [`Publisher::agents`] | `agents:<org>` | each agent, until it is deleted |
//! | [`Publisher::tasks`] | `tasks:<org>` | each task that is going on |
//! | [`Publisher::knowledge`] | `knowledge:<org>` | the graph's size |
//! | [`Publisher::metrics`] | `metrics:<org>` | the newest figures of each set |
//!
//! [`TaskEmitter::run`] tells a task around a future: started, progress, completed or failed.
//!
//! # What happens to an event
//! Emitting puts it into a bounded queue and returns: it never waits and never fails the caller's work. A
//! background task sends what has gathered per channel in one step, many channels at the same time, and repeats
//! exactly the same step until it is confirmed, so that a repetition neither doubles an event nor lets one
//! overtake another.
//!
//! When the queue is full, something gives way and is counted ([`Publisher::stats`],
//! `crewcast_publisher_dropped_total{reason}`): first the oldest event whose type ends in `_progress`, then the
//! oldest of the others, and starts and ends only when nothing else is left. Starts and ends are `boot`, `done`,
//! the terminal types of the channel's namespace, and types that end in `_start`, `_started` or `_created`, or in `_end`,
//! `_ended`, `_completed`, `_failed`, `_cancelled`, `_deleted` or `_removed`. Events on their way do not give way.
//! [`DropPolicy::Newest`] turns *oldest* around.
//!
//! # A failover that loses what was confirmed
//! Redis confirms before its replicas have an event. When one of them takes the master's place without it, the publisher
//! notices with the channel's next event: the log asks for a number below. What was confirmed in the last seconds
//! ([`ResendWindow`]) is then sent again first, as the same events, in order, and once; where nobody else has written to the
//! channel meanwhile, under the very ids. It is counted as `crewcast_publisher_resent_total`; what is kept no longer is
//! counted as dropped, `lost_by_redis`, and so is what was confirmed last before a log that knows nothing of the publisher any
//! more: it was flushed, or all that the publisher had written to it is lost, which look alike, so nothing is sent again.
//!
//! Not healed: what is lost while nothing more is emitted to the channel, behind [`Publisher::close`] above all; what a
//! process that ended had confirmed, spool or not, since confirmed events have left it; events over HTTP, whose gateway does
//! not tell. [`Builder::wait_replicas`] has replicas have an event before it counts as published.
//!
//! # A spool on disk
//! With [`Builder::spool`] what would give way in a full queue goes to files in a directory instead, and so does what
//! [`Publisher::close`], or dropping the last clone, finds unsent. It is sent as soon as it is possible, by this publisher
//! or the next one with the same directory, each channel's events in the order of emitting. They keep their producer's
//! name and numbers, so that one that was on its way when the process ended stands in the log once. State documents and
//! claims are kept with their events; live events are not kept, they would be stale. Not more than
//! [`Builder::spool_bytes`] are kept: beyond, and when the disk refuses, events give way as without a spool, with the
//! reasons `spool_full` and `spool_failed`.
//!
//! | after | what had been spilled | what was in memory only |
//! |---|---|---|
//! | [`Publisher::close`], or dropping the last clone | kept | kept |
//! | a kill (`kill -9`, out of memory, a panic that aborts) | kept | lost: at most [`Builder::queue_events`] |
//! | a crash of the host, a power cut | kept as far as the operating system had written it; all of it after `close` | lost |
//!
//! A torn or damaged record costs itself, or, where its length cannot be trusted, what stands behind it in its file
//! (a sixteenth of the bound, 8 MiB at most); it is counted as `spool_damaged`. An event whose answer was lost, and that
//! is sent again more than a day after, may stand in the log twice: Redis remembers a producer for [`ONCE_AGE`] or as
//! long as the log, whichever is longer.
//!
//! Spilling is a write to a file by the caller who emits, some microseconds on a disk that keeps up. The index of what
//! is spilled stands in memory, some 50 bytes per event; opening a spool reads it whole.
//!
//! # Leases
//! With [`Builder::leases`] a tool call and a run hold a lease from their first event to their last; sessions always do.
//! The publisher renews it in the background, and every event of the same thing renews it as well. When the process is
//! killed, hangs, or is cut off, gateways tell the channel `stalled` and later `lost`, marked `"synthetic":true`. The
//! next event takes it back; where the process only renews again, gateways tell `recovered`. A lease is renewed for as
//! long as the [`ToolCall`], the [`Session`], or the [`RunEmitter`] that said `boot` stands: who has dropped the last clone
//! of a run's emitter without `done` is silent. A channel has [`MAX_LEASES`] at most.
//!
//! # Whose crew
//! With [`Builder::org`] a crew, run or stream is registered for the org before its first event through an emitter. What
//! belongs to another org is not written to: such events are dropped with the reason `not_owner`. The channels of an org
//! are named by it and need no registration.
//!
//! # Without Redis
//! [`Builder::connect_http`] publishes through a gateway with a token. [`Builder::with_transport`] takes anything
//! else that implements [`Transport`].

mod builder;
mod claims;
mod emit;
mod heal;
#[cfg(feature = "http")]
mod http;
mod lane;
mod publisher;
mod queue;
mod rank;
mod renew;
mod spool;
mod tally;
mod trace;
mod window;
mod worker;

pub use builder::{Builder, ConnectError};
pub use crewcast_events::{
    catalog::{
        self, Outcome,
        run::RunOutcome,
        session::{ActiveAgent, LogLevel, SessionState},
    },
    timestamp,
};
pub use crewcast_store::{
    Append, AppendError, CONNECT_TIMEOUT, Claim, ClaimMode, Claimed, Connection, DEFAULT_LEASE, DIRECTORY_AGE, Entry,
    LeaseStep, MAX_ABOUT, MAX_ENTRIES, MAX_EVENT_BYTES, MAX_LEASE_NAME, MAX_LEASE_TTL, MAX_LEASES, MAX_STATE_KEY,
    MIN_LEASE_TTL, Node, ONCE_AGE, Once, RESPONSE_TIMEOUT, Redis, RedisSetupError, RedisTransport, Renewal, Server,
    Sharded, State, StateKeyError, Tls, Topology, Transport, WaitReplicas, be_master, check_state_key,
    connection_config, knows_sharded, random_half, slot_of,
};
pub use emit::{
    AgentEmitter, ExecutionEmitter, HubEmitter, KnowledgeEmitter, MAX_ERROR_TEXT, MetricsEmitter, MissionEmitter,
    RunEmitter, RunningTask, Session, SessionEmitter, StreamEmitter, TaskEmitter, TaskHandle, ToolCall, ToolEmitter,
    TrackingEmitter,
};
#[cfg(feature = "http")]
pub use http::HttpTransport;
pub use publisher::{PublishError, Publisher, Unsent};
pub use rank::DropPolicy;
pub use spool::SpoolError;
pub use tally::Stats;
pub use window::ResendWindow;
