//! One suite that every broker passes: what [`super`] promises, each promise once.
//!
//! A broker's tests define how to make a fresh broker, and [`suite`] runs everything against it:
//! `conformance::suite!(make)` with `async fn make(namespaces: Namespaces) -> Subject`.

mod delivery;
mod history;
mod leases;
mod logs;
mod registry;
mod sink;
mod state;

use std::{any::Any, sync::Arc, time::Duration};

use crewcast_events::{Body, Channel, EventId, LogPolicy, Namespace, Namespaces};
use crewcast_store::{Append, Entry, Once, Transport};

pub(super) use self::{delivery::*, history::*, leases::*, logs::*, registry::*, sink::TestSink, state::*};
use super::{LogStore, PubSub};
use crate::registry::{ClientNumbers, Directory, Revocations, Tickets, UsageBoard};

/// An empty broker under test.
pub(super) struct Subject {
    pub(super) broker: Arc<dyn WholeBroker>,
    pub(super) registry: Arc<dyn WholeRegistry>,
    pub(super) sink: Arc<TestSink>,
    /// What must live as long as the broker: its server.
    pub(super) _keep: Box<dyn Any + Send + Sync>,
}

/// A broker with all its sides.
pub(super) trait WholeBroker: PubSub + LogStore + Transport {}

impl<B: PubSub + LogStore + Transport> WholeBroker for B {}

/// A registry that does every job.
pub(super) trait WholeRegistry: Directory + Revocations + Tickets + UsageBoard + ClientNumbers {}

impl<R: Directory + Revocations + Tickets + UsageBoard + ClientNumbers> WholeRegistry for R {}

/// How long anything that must happen may take.
pub(super) const DEADLINE: Duration = Duration::from_secs(20);

/// The built-in namespaces and: `short` (5 events), `brief` (1 s), `live` (no log).
pub(super) fn namespaces() -> Namespaces {
    let mut all = Namespaces::default();
    let hour = Duration::from_secs(3600);
    let short = Namespace { log: LogPolicy { length: 5, age: hour }, ..Namespace::default() };
    let brief = Namespace { log: LogPolicy { length: 100, age: Duration::from_secs(1) }, ..Namespace::default() };
    let live = Namespace { log: LogPolicy { length: 0, age: hour }, ..Namespace::default() };
    all.0.insert("live".to_owned(), live);
    all.0.insert("short".to_owned(), short);
    all.0.insert("brief".to_owned(), brief);
    all
}

pub(super) fn channel(name: &str) -> Channel {
    name.parse().expect("a channel")
}

pub(super) fn entry(text: &str) -> Entry {
    Entry::new(Body::parse(text.as_bytes().to_vec()).expect("an event"))
}

/// Appends events `{"type":"n","n":<n>}` and returns their ids.
pub(super) async fn append(broker: &(impl Transport + ?Sized), channel: &Channel, numbers: &[u32]) -> Vec<EventId> {
    let entries = numbers.iter().map(|n| entry(&format!(r#"{{"type":"n","n":{n}}}"#))).collect();
    append_once(broker, channel, entries, Once::No).await
}

pub(super) async fn append_once(
    broker: &(impl Transport + ?Sized),
    channel: &Channel,
    entries: Vec<Entry>,
    once: Once,
) -> Vec<EventId> {
    let ids = broker.append(&Append { channel: channel.clone(), entries, once }).await.expect("appended");
    ids.into_iter().map(|id| id.expect("an id")).collect()
}

/// Polls until the condition holds.
pub(super) async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let polling = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, polling).await.unwrap_or_else(|_| panic!("not within {DEADLINE:?}: {what}"));
}

/// Runs every test of the suite, each with a fresh broker from `$make`.
///
/// With `one after the other`, `$make` returns servers that make brokers, or `None` if they are not available.
macro_rules! suite {
    ($make:path $(, one after the $other:ident)?) => {
        $crate::broker::conformance::suite!($make $(, one after the $other)?;
            delivers_in_order_after_subscribe,
            delivers_nothing_after_unsubscribe,
            the_last_subscribe_wins_in_any_order,
            keeps_every_byte,
            barrier_waits_for_what_was_published,
            carries_a_mebibyte,
            subscribes_ten_thousand_channels,
            probe_comes_back,
            an_append_is_seen_whole,
            refuses_invalid_appends,
            a_producer_is_accepted_in_sequence_only,
            an_idempotency_key_returns_the_same_id,
            the_log_keeps_its_length,
            snapshots_show_head_and_retained,
            live_messages_are_captured,
            live_events_leave_documents_and_last_messages,
            a_listed_session_without_a_lease_is_renewed_with_its_document,
            history_reads_behind_an_offset,
            history_of_a_trimmed_log,
            history_without_a_log,
            history_is_bounded_in_entries_and_bytes,
            the_first_owner_stays,
            a_moved_id_loses_its_logs,
            a_removed_id_loses_its_logs,
            revocations_are_announced_and_remembered,
            a_ticket_is_taken_once,
            usage_is_reported_and_expires,
            each_client_is_announced_with_a_higher_number,
            a_lease_comes_and_goes_with_its_events,
            a_lease_expiry_is_published_once,
            an_event_of_the_producer_replaces_a_reported_expiry,
            a_renewed_lease_never_expires,
            an_untrue_lease_status_is_not_published,
            refuses_invalid_leases,
            lost_leases_are_dropped_for_new_ones,
            state_is_read_with_the_head_that_it_reflects,
            state_is_bounded_in_documents_and_bytes,
            a_state_key_follows_the_rule,
            state_within_keeps_only_recently_renewed_documents,
            a_moved_id_loses_state_and_leases,
        );
    };
    ($make:path; $($test:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                $crate::broker::conformance::$test($make().await).await;
            }
        )*
    };
    ($make:path, one after the other; $($test:ident,)*) => {
        /// The whole suite against the same servers, emptied in between: they take long to start.
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn conforms() {
            let Some(servers) = $make() else { return };
            $(
                eprintln!(stringify!($test));
                $crate::broker::conformance::$test(servers.subject().await).await;
                servers.empty();
            )*
        }
    };
}
pub(super) use suite;
