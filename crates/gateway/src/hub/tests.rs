use bytes::Bytes;
use crewcast_events::{Event, EventId};

use super::*;

fn limits() -> RingLimits {
    RingLimits { events: 4, bytes: 1 << 20, total_bytes: 1 << 20 }
}

fn channel() -> Channel {
    "graph:abc".parse().unwrap()
}

fn chain(count: usize) -> Vec<EventId> {
    let mut ids: Vec<EventId> = Vec::new();
    for n in 0..count {
        ids.push(EventId::after(ids.last().copied(), format!("{n:06}").as_bytes().try_into().unwrap()));
    }
    ids
}

fn logged(id: EventId) -> Item {
    Item::Event(Event::parse(Bytes::from(format!(r#"{{"id":"{id}","type":"x"}}"#))).unwrap())
}

fn live() -> Item {
    Item::Event(Event::parse(Bytes::from_static(br#"{"type":"x"}"#)).unwrap())
}

fn channel_of(demand: Demand) -> Arc<ChannelState> {
    match demand {
        Demand::Wanted(channel_state) => channel_state,
        Demand::Idle(channel) => panic!("{channel} is idle"),
    }
}

#[test]
fn the_first_subscriber_creates_a_demand_and_the_last_ends_it() {
    let (hub, mut demands) = Hub::new(limits());
    let notifier = Arc::new(Notifier::default());
    let first = hub.subscribe(&channel(), &notifier, 0);
    let second = hub.subscribe(&channel(), &notifier, 1);
    channel_of(demands.try_recv().unwrap());
    drop(first);
    assert!(demands.try_recv().is_err());
    assert!(!hub.forget_if_idle(&channel()));
    drop(second);
    assert!(matches!(demands.try_recv(), Ok(Demand::Idle(_))));
    assert!(hub.forget_if_idle(&channel()));
    assert_eq!(hub.channels(), 0);
}

#[test]
fn a_subscriber_is_notified_once_until_it_has_read_to_the_end() {
    let (hub, mut demands) = Hub::new(limits());
    let notifier = Arc::new(Notifier::default());
    let subscriber = hub.subscribe(&channel(), &notifier, 7);
    let channel_state = channel_of(demands.try_recv().unwrap());
    let mut keys = Vec::new();
    notifier.take_ready(&mut keys);
    assert!(keys.is_empty(), "nothing is notified before the channel is open");
    channel_state.open(None, None);
    channel_state.append(live(), None, false);
    hub.fanout().deliver_pending();
    notifier.take_ready(&mut keys);
    assert_eq!(keys, [7]);
    let mut entries = Vec::new();
    channel_state.append(live(), None, false);
    hub.fanout().deliver_pending();
    notifier.take_ready(&mut keys);
    assert_eq!(keys, [7], "still notified");
    assert!(matches!(subscriber.read(0, 1, &mut entries), ReadOutcome::Entries { at_end: false }));
    channel_state.append(live(), None, false);
    hub.fanout().deliver_pending();
    notifier.take_ready(&mut keys);
    assert_eq!(keys, [7], "still notified");
    assert!(matches!(subscriber.read(1, 16, &mut entries), ReadOutcome::Entries { at_end: true }));
    channel_state.append(live(), None, false);
    hub.fanout().deliver_pending();
    notifier.take_ready(&mut keys);
    assert_eq!(keys, [7, 7]);
}

#[test]
fn ring_usage_counts_the_ring_and_the_lag_of_the_slowest_subscriber() {
    let (hub, mut demands) = Hub::new(limits());
    let subscribers = [0, 1].map(|key| hub.subscribe(&channel(), &Arc::new(Notifier::default()), key));
    let channel_state = channel_of(demands.try_recv().unwrap());
    channel_state.open(None, None);
    let usage = || {
        let mut seen = Vec::new();
        hub.each_channel(|channel, usage| seen.push((channel.clone(), usage)));
        assert_eq!((seen.len(), &seen[0].0), (1, &channel()));
        (seen[0].1.events, seen[0].1.bytes == hub.held_bytes(), seen[0].1.lag)
    };
    assert_eq!(usage(), (0, true, 0));
    for _ in 0..3 {
        channel_state.append(live(), None, false);
    }
    let mut entries = Vec::new();
    subscribers[0].read(0, 16, &mut entries);
    assert_eq!(usage(), (3, true, 3), "the other subscriber has read nothing");
    subscribers[1].read(0, 2, &mut entries);
    assert_eq!(usage(), (3, true, 1));
    subscribers[1].read(2, 16, &mut entries);
    subscribers[1].read(3, 16, &mut entries);
    assert_eq!(usage(), (3, true, 0));
    for _ in 0..6 {
        channel_state.append(live(), None, false);
    }
    assert_eq!(usage(), (4, true, 6), "further behind than the ring reaches");
    // A subscriber that comes back from the log counts from where it enters the ring.
    subscribers[0].read(9, 16, &mut entries);
    subscribers[1].read(9, 16, &mut entries);
    assert_eq!(usage(), (4, true, 0));
}

#[test]
fn a_cursor_that_fell_off_the_ring_is_told_what_it_missed() {
    let (hub, mut demands) = Hub::new(limits());
    let subscriber = hub.subscribe(&channel(), &Arc::new(Notifier::default()), 0);
    let channel_state = channel_of(demands.try_recv().unwrap());
    channel_state.open(None, None);
    let ids = chain(5);
    for &id in &ids {
        channel_state.append(logged(id), Some(id), false);
        channel_state.append(live(), Some(id), false);
    }
    let mut entries = Vec::new();
    match subscriber.read(0, 16, &mut entries) {
        ReadOutcome::FellOff { first, position, live } => {
            assert_eq!((first, position, live), (6, Some(ids[2]), 3));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(subscriber.sequence_after(ids[2]), Some(6));
    assert_eq!(subscriber.sequence_after(ids[3]), Some(8));
    assert_eq!(subscriber.sequence_after(ids[4]), Some(9));
    assert_eq!(subscriber.sequence_after(ids[1]), None);
    assert!(channel_state.holds(ids[4]) && !channel_state.holds(ids[0]));
}

#[test]
fn all_rings_together_stay_within_the_byte_budget() {
    let (hub, mut demands) = Hub::new(RingLimits { events: 1000, bytes: 1 << 20, total_bytes: 20_000 });
    let notifier = Arc::new(Notifier::default());
    let subscribers: Vec<_> =
        (0..10).map(|n| hub.subscribe(&Channel::new("graph", &n.to_string()).unwrap(), &notifier, n)).collect();
    let mut channels = Vec::new();
    for _ in &subscribers {
        let channel_state = channel_of(demands.try_recv().unwrap());
        channel_state.open(None, None);
        for _ in 0..100 {
            channel_state.append(live(), None, false);
        }
        channels.push(channel_state);
    }
    // Each ring keeps its newest entries, even over the budget, until it is trimmed.
    let weight = Entry::new(live(), None).weight();
    assert!(hub.is_over_budget());
    // The first ring took the whole budget, each other one its floor.
    assert!(hub.held_bytes() <= 20_000 + weight + 9 * 16 * weight, "{}", hub.held_bytes());
    channels.iter().for_each(|channel_state| channel_state.trim());
    assert_eq!(hub.held_bytes(), 10 * weight);
    assert!(!hub.is_over_budget());
    channels.iter().for_each(|channel_state| channel_state.forget_past());
    assert_eq!(hub.held_bytes(), 0);
    drop((subscribers, channels));
    for n in 0..10 {
        assert!(hub.forget_if_idle(&Channel::new("graph", &n.to_string()).unwrap()));
    }
    drop(demands);
    assert_eq!(hub.held_bytes(), 0);
}

#[test]
fn a_channel_start_has_the_retained_event_and_the_position() {
    let (hub, mut demands) = Hub::new(limits());
    let subscriber = hub.subscribe(&channel(), &Arc::new(Notifier::default()), 0);
    assert!(subscriber.current_start().is_none());
    let channel_state = channel_of(demands.try_recv().unwrap());
    let ids = chain(2);
    channel_state.open(Some(ids[0]), None);
    channel_state.append(logged(ids[1]), Some(ids[1]), true);
    let now = subscriber.current_start().unwrap();
    assert_eq!((now.next, now.position), (1, Some(ids[1])));
    assert_eq!(now.retained.unwrap().id(), Some(ids[1]));
    let joined = subscriber.start_at_join().unwrap();
    assert_eq!((joined.next, joined.position), (0, Some(ids[0])));
}

#[test]
fn no_reader_sees_a_forgotten_past_and_the_position_stays() {
    let (hub, mut demands) = Hub::new(limits());
    let subscriber = hub.subscribe(&channel(), &Arc::new(Notifier::default()), 0);
    let channel_state = channel_of(demands.try_recv().unwrap());
    let ids = chain(2);
    channel_state.open(None, None);
    channel_state.append(logged(ids[0]), Some(ids[0]), true);
    hub.forget_past(&channel());
    let now = subscriber.current_start().unwrap();
    assert_eq!((now.position, now.retained.is_none()), (Some(ids[0]), true));
    let mut entries = Vec::new();
    assert!(matches!(subscriber.read(0, 16, &mut entries), ReadOutcome::FellOff { first: 1, .. }));
    assert_eq!(subscriber.sequence_after(ids[0]), Some(1), "a reader at this id continues without a hole");
    channel_state.append(logged(ids[1]), Some(ids[1]), true);
    assert!(matches!(subscriber.read(1, 16, &mut entries), ReadOutcome::Entries { .. }));
    assert_eq!(entries.iter().map(|entry| entry.id()).collect::<Vec<_>>(), [Some(ids[1])]);
    assert_eq!(subscriber.current_start().unwrap().retained.unwrap().id(), Some(ids[1]));
}

#[test]
fn a_retained_event_read_before_the_past_was_forgotten_is_not_shown() {
    let (hub, mut demands) = Hub::new(limits());
    let subscriber = hub.subscribe(&channel(), &Arc::new(Notifier::default()), 0);
    let channel_state = channel_of(demands.try_recv().unwrap());
    hub.forget_past(&channel());
    let id = chain(1)[0];
    channel_state.open(Some(id), Some(Arc::new(Entry::new(logged(id), Some(id)))));
    assert!(subscriber.current_start().unwrap().retained.is_none());
}

#[test]
fn no_reader_sees_an_announced_event_without_its_reset() {
    let reset = |from| Item::Reset { reason: crewcast_events::ResetReason::Trimmed, from: Some(from) };
    let (hub, mut demands) = Hub::new(limits());
    let subscriber = hub.subscribe(&channel(), &Arc::new(Notifier::default()), 0);
    let channel_state = channel_of(demands.try_recv().unwrap());
    channel_state.open(None, None);
    let ids = chain(9);
    channel_state.append_announced(reset(ids[2]), logged(ids[2]), Some(ids[2]), false);
    channel_state.append(logged(ids[3]), Some(ids[3]), false);
    channel_state.append(logged(ids[4]), Some(ids[4]), false);
    let mut entries = Vec::new();
    assert!(
        matches!(subscriber.read(0, 1, &mut entries), ReadOutcome::Entries { .. }),
        "the ring is full and holds the reset"
    );
    channel_state.append(logged(ids[5]), Some(ids[5]), false);
    match subscriber.read(0, 16, &mut entries) {
        ReadOutcome::FellOff { first, position, .. } => assert_eq!((first, position), (2, Some(ids[2]))),
        other => panic!("{other:?}"),
    }
    // A trimmed ring keeps its newest entry, and the reset that belongs to it.
    channel_state.append_announced(reset(ids[7]), logged(ids[7]), Some(ids[7]), false);
    channel_state.trim();
    entries.clear();
    assert!(matches!(subscriber.read(5, 16, &mut entries), ReadOutcome::Entries { .. }));
    assert!(matches!(entries[0].item(), Item::Reset { .. }));
    assert_eq!((entries.len(), entries[1].id()), (2, Some(ids[7])));
    hub.forget_past(&channel());
    assert_eq!(hub.held_bytes(), 0);
}

/// Entries of a log.
fn log_range(ids: &[EventId]) -> Vec<Arc<Entry>> {
    ids.iter().map(|&id| Arc::new(Entry::new(logged(id), Some(id)))).collect()
}

/// A channel that opened at `position`, and its subscriber.
fn opened(limits: RingLimits, position: EventId) -> (Arc<Hub>, Arc<ChannelState>, Subscriber) {
    let (hub, mut demands) = Hub::new(limits);
    let subscriber = hub.subscribe(&channel(), &Arc::new(Notifier::default()), 0);
    let channel_state = channel_of(demands.try_recv().unwrap());
    channel_state.open(Some(position), None);
    (hub, channel_state, subscriber)
}

#[test]
fn a_page_of_the_log_makes_the_ring_begin_earlier() {
    let ids = chain(10);
    let (hub, channel_state, subscriber) = opened(RingLimits { events: 8, ..limits() }, ids[6]);
    channel_state.append(live(), Some(ids[6]), false);
    channel_state.append(logged(ids[7]), Some(ids[7]), false);
    assert_eq!(subscriber.sequence_after(ids[4]), None);
    // Entries that the ring already holds are skipped.
    hub.prepend(&channel(), Some(ids[2]), &log_range(&ids[3..9]));
    assert_eq!(
        (subscriber.sequence_after(ids[2]), subscriber.sequence_after(ids[4]), subscriber.sequence_after(ids[6])),
        (Some(-4), Some(-2), Some(1))
    );
    let mut entries = Vec::new();
    assert!(matches!(subscriber.read(-4, 16, &mut entries), ReadOutcome::Entries { .. }));
    let read: Vec<_> = entries.iter().map(|entry| entry.id()).collect();
    assert_eq!(read, [Some(ids[3]), Some(ids[4]), Some(ids[5]), Some(ids[6]), None, Some(ids[7])]);
    let now = subscriber.current_start().unwrap();
    assert_eq!((now.next, now.position, now.live), (2, Some(ids[7]), 1));
    assert_eq!(subscriber.start_at_join().unwrap().position, Some(ids[6]));
    // Still earlier, up to the ring's limits; no new entry is evicted for the past.
    hub.prepend(&channel(), None, &log_range(&ids[..5]));
    assert_eq!((subscriber.sequence_after(ids[0]), subscriber.sequence_after(ids[1])), (Some(-6), Some(-5)));
}

#[test]
fn entries_that_do_not_lead_up_to_the_ring_are_skipped() {
    let ids = chain(10);
    let other = EventId::after(Some(ids[5]), *b"zzzzzz");
    let (hub, _channel_state, subscriber) = opened(RingLimits { events: 100, ..limits() }, ids[6]);
    // The first ends too early, the second belongs to another history, the third begins behind the ring.
    hub.prepend(&channel(), None, &log_range(&ids[..6]));
    hub.prepend(&channel(), None, &log_range(&[ids[4], ids[5], other]));
    hub.prepend(&channel(), Some(ids[6]), &log_range(&ids[7..]));
    assert_eq!(hub.held_bytes(), 0);
    // Entries before a hole are not taken.
    hub.prepend(&channel(), Some(ids[1]), &log_range(&[ids[2], ids[3], ids[5], ids[6]]));
    assert_eq!((subscriber.sequence_after(ids[5]), subscriber.sequence_after(ids[4])), (Some(-1), None));
}

#[test]
fn nothing_is_prepended_to_a_ring_that_has_evicted_entries() {
    let ids = chain(20);
    let log_range = log_range(&ids[..15]);
    let (hub, channel_state, subscriber) = opened(limits(), ids[6]);
    for &id in &ids[7..12] {
        channel_state.append(logged(id), Some(id), false);
    }
    hub.prepend(&channel(), None, &log_range);
    assert_eq!(subscriber.sequence_after(ids[5]), None);
    // The former owner's events: read before the move, delivered after it.
    let (hub, channel_state, subscriber) = opened(RingLimits { events: 100, ..limits() }, ids[6]);
    hub.forget_past(&channel());
    hub.prepend(&channel(), None, &log_range);
    assert_eq!((subscriber.sequence_after(ids[5]), hub.held_bytes()), (None, 0));
    drop(channel_state);
}

#[test]
fn prepended_entries_leave_half_of_the_memory() {
    let ids = chain(100);
    let log_range = log_range(&ids);
    let weight = log_range[0].weight();
    for (bytes, total_bytes, most) in [(1 << 20, 40 * weight, 20), (10 * weight, 1 << 20, 10)] {
        let (hub, channel_state, subscriber) = opened(RingLimits { events: 1000, bytes, total_bytes }, ids[99]);
        hub.prepend(&channel(), None, &log_range);
        let held = hub.held_bytes() / weight;
        assert!((most - 1..=most).contains(&held), "{held} of {most}");
        assert_eq!(subscriber.sequence_after(ids[99 - held]), Some(-(held as i64)));
        drop((subscriber, channel_state));
        assert!(hub.forget_if_idle(&channel()));
    }
}
