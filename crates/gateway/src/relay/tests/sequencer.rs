//! The sequencer's rule, without a broker.

use bytes::Bytes;
use crewcast_events::{Event, EventId};

use crate::relay::sequencer::{Accepted, Backfill, PendingBackfill, Retain, Sequencer};
use crate::{
    broker::{Page, Snapshot},
    hub::{Demand, Entry, Hub, Item, Notifier, RingLimits, Subscriber},
};
use std::sync::Arc;

struct Fixture {
    sequencer: Sequencer,
    subscriber: Subscriber,
    read: i64,
    ids: Vec<EventId>,
}

/// A sequencer at the first `at` of twenty chained ids.
fn sequencer_at(at: usize) -> Fixture {
    let mut fixture = joining();
    let head = at.checked_sub(1).map(|last| fixture.ids[last]);
    assert_eq!(fixture.sequencer.open(Snapshot { head, retained: None }), Backfill::Nothing);
    fixture
}

fn joining() -> Fixture {
    let (hub, mut demands) = Hub::new(RingLimits { events: 64, bytes: 1 << 20, total_bytes: 1 << 20 });
    let subscriber = hub.subscribe(&"graph:abc".parse().unwrap(), &Arc::new(Notifier::default()), 0);
    let Ok(Demand::Wanted(channel_state)) = demands.try_recv() else { panic!("no demand") };
    Fixture {
        sequencer: Sequencer::new(channel_state, Retain { logged: true, live: true }, 0),
        subscriber,
        read: 0,
        ids: chain(20, "a"),
    }
}

fn chain(count: usize, salt: &str) -> Vec<EventId> {
    let mut ids: Vec<EventId> = Vec::new();
    for n in 0..count {
        ids.push(EventId::after(ids.last().copied(), format!("{salt}{n:05}").as_bytes().try_into().unwrap()));
    }
    ids
}

fn raw(id: EventId) -> Bytes {
    Bytes::from(format!(r#"{{"id":"{id}","type":"x"}}"#))
}

fn event(id: EventId) -> Event {
    Event::parse(raw(id)).unwrap()
}

fn live(n: u32) -> Event {
    Event::parse(Bytes::from(format!(r#"{{"type":"live","n":{n}}}"#))).unwrap()
}

/// A page of `ids` behind `offset`, as a log that holds `ids` would answer.
fn page(ids: &[EventId], offset: u64, head: Option<EventId>) -> Page {
    Page {
        head,
        first: ids.first().copied(),
        at: ids.iter().find(|id| id.offset() == offset).copied(),
        entries: ids.iter().filter(|id| id.offset() > offset).map(|&id| raw(id)).collect(),
    }
}

impl Fixture {
    /// A read that began after all held messages were received.
    fn reconcile(&mut self, page: &Page) -> Backfill {
        let pending = self.sequencer.pending(Backfill::After(0));
        self.sequencer.take(&pending, page)
    }

    fn verify(&mut self, page: &Page) -> Backfill {
        let pending = self.sequencer.pending(Backfill::Verify(0));
        self.sequencer.take(&pending, page)
    }

    fn seen(&mut self) -> Vec<String> {
        let mut entries: Vec<Arc<Entry>> = Vec::new();
        self.subscriber.read(self.read, 1000, &mut entries);
        self.read += entries.len() as i64;
        let text = |entry: &Arc<Entry>| match entry.item() {
            Item::Event(event) => match event.id() {
                Some(id) => id.offset().to_string(),
                None => event.text().to_owned(),
            },
            Item::Reset { reason, from } => format!("reset {} {:?}", reason.label(), from.map(|id| id.offset())),
            Item::Gap { missed } => format!("gap {missed:?}"),
        };
        entries.iter().map(text).collect()
    }
}

#[test]
fn forwards_an_event_that_continues_the_position_and_drops_a_repeat() {
    let mut f = sequencer_at(3);
    assert_eq!(f.sequencer.accept(event(f.ids[3])), Accepted::Done);
    assert_eq!(f.sequencer.accept(event(f.ids[3])), Accepted::Done);
    assert_eq!(f.sequencer.accept(live(1)), Accepted::Done);
    assert_eq!(f.sequencer.accept(event(f.ids[4])), Accepted::Done);
    assert_eq!(f.sequencer.accept(event(f.ids[3])), Accepted::Done);
    assert_eq!(f.seen(), ["4", r#"{"type":"live","n":1}"#, "5"]);
}

#[test]
fn a_hole_is_filled_from_the_log_before_anything_later() {
    let mut f = sequencer_at(3);
    assert!(matches!(f.sequencer.accept(event(f.ids[6])), Accepted::NeedsLog(_)));
    assert_eq!(f.sequencer.accept(live(1)), Accepted::Done);
    assert_eq!(f.sequencer.accept(event(f.ids[7])), Accepted::Done);
    assert!(f.seen().is_empty());
    // The log may always be ahead of what was received.
    let backfill = f.reconcile(&page(&f.ids[..9], 3, Some(f.ids[8])));
    assert_eq!(backfill, Backfill::Nothing);
    assert_eq!(f.sequencer.accept(event(f.ids[8])), Accepted::Done);
    assert_eq!(f.sequencer.accept(event(f.ids[9])), Accepted::Done);
    assert_eq!(f.seen(), ["4", "5", "6", "7", "8", "9", r#"{"type":"live","n":1}"#, "10"]);
}

#[test]
fn a_long_hole_is_read_page_by_page() {
    let mut f = sequencer_at(0);
    assert!(matches!(f.sequencer.accept(event(f.ids[9])), Accepted::NeedsLog(_)));
    let mut first = page(&f.ids[..10], 0, Some(f.ids[9]));
    first.entries.truncate(4);
    assert_eq!(f.reconcile(&first), Backfill::After(4));
    assert_eq!(f.reconcile(&page(&f.ids[..10], 4, Some(f.ids[9]))), Backfill::Nothing);
    assert_eq!(f.seen(), ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"]);
}

#[test]
fn a_rewritten_history_is_reset_and_never_taken_for_the_old_one() {
    let mut f = sequencer_at(5);
    let other = chain(9, "b");
    // The very next offset, but of another chain: everything of the other history is new.
    assert!(matches!(f.sequencer.accept(event(other[5])), Accepted::NeedsLog(_)));
    assert_eq!(f.reconcile(&page(&other[..6], 5, Some(other[5]))), Backfill::After(0));
    assert_eq!(f.reconcile(&page(&other[..6], 0, Some(other[5]))), Backfill::Nothing);
    assert_eq!(f.seen(), ["reset unknown_id Some(1)", "1", "2", "3", "4", "5", "6"]);
    // A history that is shorter than the position.
    let mut f = sequencer_at(5);
    assert!(matches!(f.sequencer.accept(event(other[0])), Accepted::NeedsLog(_)));
    assert_eq!(f.reconcile(&page(&other[..2], 5, Some(other[1]))), Backfill::After(0));
    assert_eq!(f.reconcile(&page(&other[..2], 0, Some(other[1]))), Backfill::Nothing);
    assert_eq!(f.sequencer.accept(event(other[2])), Accepted::Done);
    assert_eq!(f.seen(), ["reset unknown_id Some(1)", "1", "2", "3"]);
}

#[test]
fn a_lost_log_is_reset() {
    let mut f = sequencer_at(5);
    let backfill = f.sequencer.begin_reconcile();
    assert_eq!(backfill, Some(Backfill::After(5)));
    assert_eq!(f.reconcile(&Page::default()), Backfill::Nothing);
    let other = chain(2, "b");
    f.sequencer.accept(event(other[0]));
    assert_eq!(f.seen(), ["reset unknown_id None", "1"]);
}

#[test]
fn a_log_trimmed_beyond_the_position_is_reset() {
    let mut f = sequencer_at(3);
    assert!(matches!(f.sequencer.accept(event(f.ids[11])), Accepted::NeedsLog(_)));
    assert_eq!(f.reconcile(&page(&f.ids[8..12], 3, Some(f.ids[11]))), Backfill::Nothing);
    assert_eq!(f.seen(), ["reset trimmed Some(9)", "9", "10", "11", "12"]);
}

#[test]
fn a_message_that_only_looks_logged_is_live() {
    let mut f = sequencer_at(3);
    let forged: Event = event("900-aaaaaaaaaaaa".parse().unwrap());
    assert!(matches!(f.sequencer.accept(forged.clone()), Accepted::NeedsLog(_)));
    assert_eq!(f.reconcile(&page(&f.ids[..3], 3, Some(f.ids[2]))), Backfill::Nothing);
    // A forged id in the channel's past is looked up where it would stand.
    let forged_past: Event = event("2-aaaaaaaaaaaa".parse().unwrap());
    assert!(matches!(f.sequencer.accept(forged_past.clone()), Accepted::NeedsLog(_)));
    assert_eq!(f.reconcile(&page(&f.ids[..3], 3, Some(f.ids[2]))), Backfill::Verify(1));
    assert_eq!(f.verify(&page(&f.ids[..3], 1, Some(f.ids[2]))), Backfill::Nothing);
    assert_eq!(f.sequencer.accept(event(f.ids[3])), Accepted::Done);
    assert_eq!(f.seen(), [forged.text(), forged_past.text(), "4"]);
}

#[test]
fn messages_heard_before_the_position_is_known_are_neither_lost_nor_repeated() {
    let mut f = joining();
    for n in [3, 4, 5, 6] {
        assert_eq!(f.sequencer.accept(event(f.ids[n])), Accepted::Done);
    }
    f.sequencer.accept(live(1));
    assert_eq!(f.sequencer.open(Snapshot { head: Some(f.ids[4]), retained: None }), Backfill::Nothing);
    assert_eq!(f.seen(), ["6", "7", r#"{"type":"live","n":1}"#].map(str::to_owned));
}

#[test]
fn live_events_at_or_before_the_retained_one_are_not_repeated() {
    let mut f = joining();
    for n in 1..=4 {
        f.sequencer.accept(live(n));
    }
    let retained = Some(live(3).raw().clone());
    assert_eq!(f.sequencer.open(Snapshot { head: None, retained }), Backfill::Nothing);
    assert_eq!(f.seen(), [r#"{"type":"live","n":4}"#]);
    assert_eq!(
        f.subscriber.current_start().unwrap().retained.unwrap().event().unwrap().text(),
        r#"{"type":"live","n":4}"#
    );
}

#[test]
fn the_reorder_buffer_is_bounded_and_lost_live_events_become_a_gap() {
    let mut f = sequencer_at(3);
    assert!(matches!(f.sequencer.accept(event(f.ids[6])), Accepted::NeedsLog(_)));
    for n in 0..5000 {
        f.sequencer.accept(live(n));
    }
    assert_eq!(f.reconcile(&page(&f.ids[..7], 3, Some(f.ids[6]))), Backfill::Nothing);
    f.read = f.subscriber.current_start().unwrap().next - 1;
    assert_eq!(f.seen(), ["gap Some(905)"]);
}

#[test]
fn a_read_decides_nothing_about_messages_heard_after_it_began() {
    let mut f = sequencer_at(3);
    let backfill = f.sequencer.begin_reconcile().unwrap();
    let pending = f.sequencer.pending(backfill);
    // The read saw a head of 3; then 4 was lost on the way and 5 was received.
    f.sequencer.accept(event(f.ids[4]));
    let backfill = f.sequencer.take(&pending, &page(&f.ids[..3], 3, Some(f.ids[2])));
    assert_eq!(backfill, Backfill::After(3), "5 is not taken for a live message: the log is read again");
    let pending = f.sequencer.pending(backfill);
    assert_eq!(f.sequencer.take(&pending, &page(&f.ids[..5], 3, Some(f.ids[4]))), Backfill::Nothing);
    assert_eq!(f.seen(), ["4", "5"]);
}

#[test]
fn a_head_that_differs_during_a_read_is_read_again() {
    let mut f = sequencer_at(3);
    let backfill = f.sequencer.begin_reconcile().unwrap();
    let pending = f.sequencer.pending(backfill);
    assert_eq!(f.sequencer.begin_reconcile(), None);
    assert_eq!(f.sequencer.take(&pending, &page(&f.ids[..3], 3, Some(f.ids[2]))), Backfill::After(3));
    let pending = f.sequencer.pending(Backfill::After(3));
    assert_eq!(f.sequencer.take(&pending, &page(&f.ids[..4], 3, Some(f.ids[3]))), Backfill::Nothing);
    assert_eq!(f.seen(), ["4"]);
}

#[test]
fn live_events_are_retained_only_where_they_are_captured() {
    let (hub, mut demands) = Hub::new(RingLimits { events: 64, bytes: 1 << 20, total_bytes: 1 << 20 });
    let subscriber = hub.subscribe(&"mission:abc".parse().unwrap(), &Arc::new(Notifier::default()), 0);
    let Ok(Demand::Wanted(channel_state)) = demands.try_recv() else { panic!("no demand") };
    let mut sequencer = Sequencer::new(channel_state, Retain { logged: true, live: false }, 0);
    sequencer.open(Snapshot::default());
    sequencer.accept(live(1));
    assert!(subscriber.current_start().unwrap().retained.is_none());
    sequencer.accept(event(chain(1, "a")[0]));
    assert!(subscriber.current_start().unwrap().retained.is_some());
}

#[test]
fn a_repeat_older_than_the_read_page_gets_a_read_of_its_own() {
    let mut f = sequencer_at(5);
    // Neither is in the ring. The log is asked about the first; its answer says nothing about the second.
    assert!(matches!(f.sequencer.accept(event(f.ids[3])), Accepted::NeedsLog(_)));
    f.sequencer.accept(event(f.ids[0]));
    let log = f.ids[..5].to_vec();
    assert_eq!(f.reconcile(&page(&log, 5, Some(log[4]))), Backfill::Verify(3));
    let pending = f.sequencer.pending(Backfill::Verify(3));
    assert_eq!(f.sequencer.take(&pending, &page(&log, 3, Some(log[4]))), Backfill::Verify(0));
    let pending = f.sequencer.pending(Backfill::Verify(0));
    assert_eq!(f.sequencer.take(&pending, &page(&log, 0, Some(log[4]))), Backfill::Nothing);
    assert_eq!(f.seen(), [""; 0]);
}

#[test]
fn messages_heard_during_a_verifying_read_are_not_judged_by_its_page() {
    let mut f = sequencer_at(1);
    let forged: Event = event("1-zzzzzzzzzzzz".parse().unwrap());
    f.sequencer.accept(forged.clone());
    assert_eq!(f.reconcile(&page(&f.ids[..1], 1, Some(f.ids[0]))), Backfill::Verify(0));
    let pending = f.sequencer.pending(Backfill::Verify(0));
    let before = page(&f.ids[..1], 0, Some(f.ids[0]));
    // Then the history is lost, and another begins.
    let other = chain(2, "b");
    f.sequencer.accept(event(other[0]));
    f.sequencer.accept(event(other[1]));
    assert_eq!(f.sequencer.take(&pending, &before), Backfill::Verify(0));
    f.verify(&page(&other, 0, Some(other[1])));
    assert_eq!(f.reconcile(&page(&other, 1, Some(other[1]))), Backfill::After(0));
    assert_eq!(f.reconcile(&page(&other, 0, Some(other[1]))), Backfill::Nothing);
    assert_eq!(f.seen(), [forged.text(), "reset unknown_id Some(1)", "1", "2"]);
}

#[test]
fn a_link_cut_while_the_first_live_event_is_held_leaves_a_gap() {
    let mut f = sequencer_at(3);
    f.sequencer.accept(event(f.ids[4]));
    f.sequencer.accept(live(1));
    f.sequencer.link_was_down(false);
    assert_eq!(f.reconcile(&page(&f.ids[..5], 3, Some(f.ids[4]))), Backfill::Nothing);
    assert_eq!(f.seen(), ["gap None", "4", "5", r#"{"type":"live","n":1}"#]);
}

#[test]
fn a_read_for_an_old_sequencer_decides_nothing_about_the_new_one() {
    let mut f = sequencer_at(3);
    let mut old = sequencer_at(3);
    let backfill = old.sequencer.begin_reconcile().unwrap();
    let stale = PendingBackfill { serial: 7, ..old.sequencer.pending(backfill) };
    let backfill = f.sequencer.begin_reconcile().unwrap();
    let pending = f.sequencer.pending(backfill);
    let before = page(&f.ids[..3], 3, Some(f.ids[2]));
    f.sequencer.accept(event(f.ids[4]));
    assert_eq!(f.sequencer.take(&stale, &before), Backfill::Nothing);
    // Opening it again, as a retried batch may, decides nothing either.
    let backfill = f.sequencer.open(Snapshot::default());
    f.sequencer.pending(backfill);
    assert_eq!(f.sequencer.take(&pending, &before), Backfill::After(3), "5 was heard after that read began");
    assert_eq!(f.reconcile(&page(&f.ids[..5], 3, Some(f.ids[4]))), Backfill::Nothing);
    assert_eq!(f.seen(), ["4", "5"]);
}
