use super::*;
use crewcast_events::Body;
use crewcast_store::{Entry, MAX_ENTRIES};

/// How many events a full queue dropped, or why it did not take the event at all.
fn push(queue: &Queue, channel: &str, kind: &str) -> Result<u64, Reason> {
    push_text(queue, channel, &format!(r#"{{"type":"{kind}"}}"#), Priority::of(kind, &[]))
}

fn push_text(queue: &Queue, channel: &str, text: &str, priority: Priority) -> Result<u64, Reason> {
    let entry = Entry::new(Body::parse(text.as_bytes().to_vec()).unwrap());
    match queue.push(&channel.parse().unwrap(), Message::Logged(entry), None, priority) {
        Dropped { count, reason: Reason::QueueFull } => Ok(count),
        Dropped { reason, .. } => Err(reason),
    }
}

fn left(queue: &Queue) -> Vec<String> {
    let kind = |body: &Bytes| Body::parse(body.clone()).unwrap().kind().to_owned();
    queue.drain(false).0.values().flatten().map(kind).collect()
}

fn of(events: usize, policy: DropPolicy) -> Queue {
    Queue::new(events, 1 << 20, policy)
}

#[test]
fn progress_is_dropped_first_then_the_rest_then_starts_and_ends() {
    let queue = of(4, DropPolicy::Oldest);
    for kind in ["tool_start", "note", "a_progress", "b_progress"] {
        assert_eq!(push(&queue, "graph:a", kind), Ok(0));
    }
    for kind in ["tool_end", "c_progress", "done", "boot", "agent_end"] {
        assert_eq!(push(&queue, "graph:b", kind), Ok(1), "{kind}");
    }
    // The progress events are dropped first, then the note, then the oldest start.
    assert_eq!(left(&queue), ["tool_end", "done", "boot", "agent_end"]);
}

#[test]
fn progress_that_newer_progress_of_the_same_call_follows_is_dropped_first() {
    let queue = of(5, DropPolicy::Oldest);
    let progress = |call: &str, n: u32| {
        let call = if call.is_empty() { String::new() } else { format!(r#""call_id":"{call}","#) };
        let text = format!(r#"{{"type":"tool_progress","run_id":"r","agent_id":"a","tool":"t",{call}"n":{n}}}"#);
        push_text(&queue, "graph:a", &text, Priority::Progress)
    };
    for (n, call) in ["one", "two", "two", "", ""].into_iter().enumerate() {
        assert_eq!(progress(call, n as u32), Ok(0));
    }
    for kind in ["note", "tool_end"] {
        assert_eq!(push(&queue, "graph:a", kind), Ok(1));
    }
    // The newest of each call are left: 0, 2 and 4. With nothing outdated, the oldest progress is dropped.
    assert_eq!(push(&queue, "graph:a", "done"), Ok(1));
    let messages = queue.drain(false).0.into_values().flatten();
    let numbers: Vec<Option<u64>> =
        messages.map(|body| serde_json::from_slice::<serde_json::Value>(&body).unwrap()["n"].as_u64()).collect();
    assert_eq!(numbers, [Some(2), Some(4), None, None, None]);
}

#[test]
fn progress_that_was_sent_outdates_nothing() {
    let queue = of(2, DropPolicy::Oldest);
    let progress = |n: u32| {
        let text = format!(r#"{{"type":"tool_progress","call_id":"c","n":{n}}}"#);
        push_text(&queue, "graph:a", &text, Priority::Progress)
    };
    assert_eq!(progress(1), Ok(0));
    let batch = queue.take().unwrap();
    assert_eq!(progress(2), Ok(0));
    queue.settle(&batch.channel, 1, &batch.sequence);
    queue.release(&batch.channel);
    assert_eq!(queue.state.lock().by_priority.keys().map(|key| key.0).collect::<Vec<_>>(), [Priority::Progress]);
    assert_eq!((progress(3), progress(4)), (Ok(0), Ok(1)));
    assert_eq!(queue.take().unwrap().items.len(), 2);
}

#[test]
fn an_event_of_lower_priority_than_the_queue_is_dropped_itself() {
    let queue = of(2, DropPolicy::Oldest);
    push(&queue, "graph:a", "tool_start").unwrap();
    push(&queue, "graph:a", "tool_end").unwrap();
    assert_eq!(push(&queue, "graph:a", "x_progress"), Ok(1));
    assert_eq!(push(&queue, "graph:a", "note"), Ok(1));
    assert_eq!(left(&queue), ["tool_start", "tool_end"]);
}

#[test]
fn the_newest_is_dropped_if_so_configured() {
    let queue = of(2, DropPolicy::Newest);
    for kind in ["one", "two", "three", "x_progress"] {
        push(&queue, "graph:a", kind).unwrap();
    }
    assert_eq!(left(&queue), ["one", "two"]);
    push(&queue, "graph:a", "a_progress").unwrap();
    push(&queue, "graph:a", "one").unwrap();
    assert_eq!(push(&queue, "graph:a", "two"), Ok(1));
    assert_eq!(left(&queue), ["one", "two"]);
}

#[test]
fn bytes_are_bounded_and_an_event_beyond_them_evicts_nothing() {
    let queue = Queue::new(100, 2000, DropPolicy::Oldest);
    let text = |kind: &str, len: usize| format!(r#"{{"type":"{kind}","x":"{}"}}"#, "x".repeat(len));
    assert_eq!(push_text(&queue, "graph:a", &text("a", 500), Priority::Other), Ok(0));
    assert_eq!(push_text(&queue, "graph:a", &text("b", 500), Priority::Other), Ok(0));
    assert_eq!(push_text(&queue, "graph:a", &text("c", 2000), Priority::Boundary), Err(Reason::TooLarge));
    assert_eq!(push_text(&queue, "graph:a", &text("d", 1400), Priority::Other), Ok(2));
    assert_eq!(left(&queue), ["d"]);
}

#[test]
fn a_batch_that_is_out_counts_and_does_not_give_way() {
    let queue = of(2, DropPolicy::Oldest);
    push(&queue, "graph:a", "a_progress").unwrap();
    push(&queue, "graph:a", "b_progress").unwrap();
    let batch = queue.take().unwrap();
    assert_eq!(batch.items.len(), 2);
    assert_eq!(push(&queue, "graph:a", "done"), Ok(1));
    assert_eq!(queue.events(), 2);
    let channel = batch.channel.clone();
    queue.settle(&channel, 2, &batch.sequence);
    queue.release(&channel);
    assert_eq!(push(&queue, "graph:a", "done"), Ok(0));
    assert_eq!(left(&queue), ["done"]);
}

#[test]
fn one_batch_of_a_channel_is_out_at_a_time_and_channels_take_turns() {
    let queue = of(1000, DropPolicy::Oldest);
    for _ in 0..MAX_ENTRIES + 2 {
        push(&queue, "graph:a", "x").unwrap();
    }
    push(&queue, "graph:b", "x").unwrap();
    let a = queue.take().unwrap();
    let b = queue.take().unwrap();
    assert_eq!((a.channel.id(), a.items.len(), b.channel.id(), b.items.len()), ("a", MAX_ENTRIES, "b", 1));
    assert!(queue.take().is_none());
    let channel = a.channel.clone();
    queue.settle(&channel, MAX_ENTRIES, &Sequence { next: 129, ..a.sequence });
    queue.release(&channel);
    let rest = queue.take().unwrap();
    assert_eq!((rest.items.len(), rest.sequence.next), (2, 129));
}

#[test]
fn a_batch_is_bounded_in_bytes() {
    let queue = Queue::new(100, 1 << 22, DropPolicy::Oldest);
    let text = format!(r#"{{"type":"a","x":"{}"}}"#, "x".repeat(200_000));
    for _ in 0..3 {
        push_text(&queue, "graph:a", &text, Priority::Other).unwrap();
    }
    assert_eq!(queue.take().unwrap().items.len(), 1);
}

#[test]
fn a_channel_whose_events_were_all_dropped_continues() {
    let queue = of(1, DropPolicy::Oldest);
    push(&queue, "graph:a", "one").unwrap();
    push(&queue, "graph:b", "two").unwrap();
    let batch = queue.take().unwrap();
    assert_eq!(batch.channel.id(), "b");
    assert!(queue.take().is_none());
    let channel = batch.channel.clone();
    queue.settle(&channel, 1, &batch.sequence);
    queue.release(&channel);
    push(&queue, "graph:a", "three").unwrap();
    assert_eq!(queue.take().unwrap().channel.id(), "a");
}

#[test]
fn idle_channels_are_bounded_and_the_latest_are_kept() {
    let queue = of(10, DropPolicy::Oldest);
    for n in 0..=2 * IDLE_CHANNELS {
        push(&queue, &format!("graph:{n}"), "x").unwrap();
        let batch = queue.take().unwrap();
        let channel = batch.channel.clone();
        queue.settle(&channel, 1, &Sequence { next: 2, ..batch.sequence });
        queue.release(&channel);
    }
    assert_eq!(queue.state.lock().by_channel.len(), IDLE_CHANNELS);
    push(&queue, &format!("graph:{}", 2 * IDLE_CHANNELS), "x").unwrap();
    assert_eq!(queue.take().unwrap().sequence.next, 2);
    push(&queue, "graph:0", "x").unwrap();
    assert_eq!(queue.take().unwrap().sequence.next, 1);
}

#[test]
fn nothing_enters_a_closed_queue() {
    let queue = of(1, DropPolicy::Oldest);
    queue.close();
    assert_eq!(push(&queue, "graph:a", "x"), Err(Reason::Closed));
}

#[test]
fn terminal_types_of_the_namespace_are_ends() {
    assert_eq!(Priority::of("finished", &["finished".to_owned()]), Priority::Boundary);
    assert_eq!(Priority::of("finished", &[]), Priority::Other);
    assert_eq!(Priority::of("signal", &[]), Priority::Other);
}
