use super::*;
use crate::{channel_queue::Message, priority::Priority};
use crewcast_events::Body;
use crewcast_store::Entry;

const AGE: Duration = Duration::from_secs(15);

fn resend_buffer(events: usize, bytes: usize) -> ResendBuffer {
    ResendBuffer::new(ResendWindow { age: AGE, events, bytes })
}

fn roomy() -> ResendBuffer {
    resend_buffer(1000, 1 << 20)
}

fn of(name: &str) -> Channel {
    format!("graph:{name}").parse().unwrap()
}

fn items(numbers: std::ops::Range<u64>) -> Vec<Arc<Item>> {
    let item = |n| {
        let body = Body::parse(format!(r#"{{"type":"x","n":{n}}}"#).into_bytes()).unwrap();
        Arc::new(Item {
            message: Message::Logged(Entry::new(body)),
            ownerships: None,
            priority: Priority::Other,
            subject: None,
            order: n,
            ordinal: n,
        })
    };
    numbers.map(item).collect()
}

fn sequence(producer: &str) -> Sequence {
    Sequence { producer: producer.into(), next: 0, confirmed: 0..0 }
}

fn keep(resend_buffer: &ResendBuffer, name: &str, producer: &str, numbers: std::ops::Range<u64>) {
    resend_buffer.keep(&of(name), &producer.into(), numbers.start, &items(numbers));
}

/// The kept numbers from `from`.
fn take(resend_buffer: &ResendBuffer, name: &str, producer: &str, from: u64) -> Vec<u64> {
    let Some((end, taken)) = resend_buffer.take(&of(name), &sequence(producer), from) else { return Vec::new() };
    let numbers: Vec<u64> = taken.iter().map(|item| item.order).collect();
    assert_eq!(numbers, (end - taken.len() as u64..end).collect::<Vec<_>>());
    numbers
}

fn is_empty(resend_buffer: &ResendBuffer) -> bool {
    let kept = resend_buffer.kept.lock();
    let empty = kept.runs.values().all(|run| run.items.is_empty());
    assert_eq!(empty, kept.events == 0 && kept.bytes == 0);
    empty
}

#[tokio::test(start_paused = true)]
async fn what_is_confirmed_is_there_from_any_number_on_and_taken_once() {
    let resend_buffer = roomy();
    keep(&resend_buffer, "a", "p", 1..5);
    keep(&resend_buffer, "a", "p", 5..8);
    keep(&resend_buffer, "b", "p", 1..3);
    assert_eq!(take(&resend_buffer, "a", "p", 4), [4, 5, 6, 7]);
    assert_eq!(take(&resend_buffer, "a", "p", 4), Vec::<u64>::new());
    keep(&resend_buffer, "a", "p", 4..6);
    assert_eq!(take(&resend_buffer, "a", "p", 0), [1, 2, 3, 4, 5]);
    assert_eq!(take(&resend_buffer, "b", "p", 1), [1, 2]);
    assert!(is_empty(&resend_buffer));
}

#[tokio::test(start_paused = true)]
async fn another_producer_or_a_hole_begins_anew() {
    let resend_buffer = roomy();
    keep(&resend_buffer, "a", "p", 1..5);
    keep(&resend_buffer, "a", "q", 1..3);
    assert_eq!(take(&resend_buffer, "a", "p", 1), Vec::<u64>::new());
    keep(&resend_buffer, "a", "q", 5..7);
    assert_eq!(take(&resend_buffer, "a", "q", 1), [5, 6]);
    keep(&resend_buffer, "a", "q", 7..9);
    assert_eq!((resend_buffer.forget(&of("a")), resend_buffer.forget(&of("a"))), (2, 0));
    assert!(is_empty(&resend_buffer));
}

#[tokio::test(start_paused = true)]
async fn events_are_bounded_over_all_channels() {
    let resend_buffer = resend_buffer(4, 1 << 20);
    keep(&resend_buffer, "a", "p", 1..3);
    keep(&resend_buffer, "b", "p", 1..3);
    keep(&resend_buffer, "a", "p", 3..4);
    assert_eq!((take(&resend_buffer, "a", "p", 1), take(&resend_buffer, "b", "p", 1)), (vec![3], vec![1, 2]));
    assert!(is_empty(&resend_buffer));
    keep(&resend_buffer, "a", "p", 4..10);
    assert!(is_empty(&resend_buffer), "more than fit");
}

#[tokio::test(start_paused = true)]
async fn bytes_are_bounded_over_all_channels() {
    let each = items(1..2)[0].size();
    let resend_buffer = resend_buffer(1000, 3 * each);
    keep(&resend_buffer, "a", "p", 1..2);
    keep(&resend_buffer, "b", "p", 1..3);
    assert_eq!(resend_buffer.kept.lock().events, 3);
    keep(&resend_buffer, "b", "p", 3..4);
    assert_eq!((take(&resend_buffer, "a", "p", 1), take(&resend_buffer, "b", "p", 1)), (vec![], vec![1, 2, 3]));
}

#[tokio::test(start_paused = true)]
async fn what_is_old_leaves_when_something_is_confirmed() {
    let resend_buffer = roomy();
    keep(&resend_buffer, "a", "p", 1..3);
    tokio::time::advance(AGE).await;
    keep(&resend_buffer, "a", "p", 3..4);
    tokio::time::advance(Duration::from_secs(1)).await;
    keep(&resend_buffer, "b", "p", 1..2);
    assert_eq!(take(&resend_buffer, "a", "p", 1), [3]);
    assert_eq!(resend_buffer.kept.lock().marks.len(), 2);
}

/// The other servers of a Cluster go on while a replica takes over for one of them.
#[tokio::test(start_paused = true)]
async fn a_channel_that_waits_for_an_answer_does_not_age_but_is_bounded() {
    let resend_buffer = resend_buffer(6, 1 << 20);
    keep(&resend_buffer, "a", "p", 1..3);
    resend_buffer.wait(&of("a"));
    for n in 1..10 {
        tokio::time::advance(AGE).await;
        keep(&resend_buffer, "b", "p", n..n + 1);
    }
    assert_eq!(take(&resend_buffer, "a", "p", 1), [1, 2]);
    keep(&resend_buffer, "a", "p", 1..3);
    resend_buffer.wait(&of("a"));
    keep(&resend_buffer, "b", "p", 10..15);
    assert_eq!(take(&resend_buffer, "a", "p", 1), Vec::<u64>::new());
}

#[tokio::test(start_paused = true)]
async fn what_is_confirmed_again_is_young_again() {
    let resend_buffer = roomy();
    keep(&resend_buffer, "a", "p", 1..5);
    tokio::time::advance(AGE - Duration::from_secs(1)).await;
    assert_eq!(take(&resend_buffer, "a", "p", 3), [3, 4]);
    keep(&resend_buffer, "a", "p", 3..5);
    tokio::time::advance(AGE - Duration::from_secs(1)).await;
    keep(&resend_buffer, "b", "p", 1..2);
    assert_eq!(take(&resend_buffer, "a", "p", 1), [1, 2, 3, 4]);
}

/// Marks without events are bounded too.
#[tokio::test(start_paused = true)]
async fn producers_that_change_all_the_time_leave_nothing_behind() {
    let resend_buffer = resend_buffer(10, 1 << 20);
    for n in 0..100 {
        keep(&resend_buffer, "a", &format!("p{n}"), 1..2);
    }
    assert!(resend_buffer.kept.lock().marks.len() <= 10);
    assert_eq!(take(&resend_buffer, "a", "p99", 1), [1]);
}
