use super::*;
use crate::{lane::Message, rank::Rank};
use crewcast_events::Body;
use crewcast_store::Entry;

const AGE: Duration = Duration::from_secs(15);

fn window(events: usize, bytes: usize) -> Window {
    Window::new(ResendWindow { age: AGE, events, bytes })
}

fn roomy() -> Window {
    window(1000, 1 << 20)
}

fn of(name: &str) -> Channel {
    format!("graph:{name}").parse().unwrap()
}

fn items(numbers: std::ops::Range<u64>) -> Vec<Arc<Item>> {
    let item = |n| {
        let body = Body::parse(format!(r#"{{"type":"x","n":{n}}}"#).into_bytes()).unwrap();
        Arc::new(Item {
            message: Message::Logged(Entry::new(body)),
            claims: None,
            rank: Rank::Other,
            order: n,
            ordinal: n,
        })
    };
    numbers.map(item).collect()
}

fn sequence(producer: &str) -> Sequence {
    Sequence { producer: producer.into(), next: 0, confirmed: 0..0 }
}

fn keep(window: &Window, name: &str, producer: &str, numbers: std::ops::Range<u64>) {
    window.keep(&of(name), &producer.into(), numbers.start, &items(numbers));
}

/// The numbers that are kept from one on.
fn take(window: &Window, name: &str, producer: &str, from: u64) -> Vec<u64> {
    let Some((end, taken)) = window.take(&of(name), &sequence(producer), from) else { return Vec::new() };
    let numbers: Vec<u64> = taken.iter().map(|item| item.order).collect();
    assert_eq!(numbers, (end - taken.len() as u64..end).collect::<Vec<_>>());
    numbers
}

fn is_empty(window: &Window) -> bool {
    let kept = window.kept.lock();
    let empty = kept.runs.values().all(|run| run.items.is_empty());
    assert_eq!(empty, kept.events == 0 && kept.bytes == 0);
    empty
}

#[tokio::test(start_paused = true)]
async fn what_is_confirmed_is_there_from_any_number_on_and_taken_once() {
    let window = roomy();
    keep(&window, "a", "p", 1..5);
    keep(&window, "a", "p", 5..8);
    keep(&window, "b", "p", 1..3);
    assert_eq!(take(&window, "a", "p", 4), [4, 5, 6, 7]);
    assert_eq!(take(&window, "a", "p", 4), Vec::<u64>::new());
    keep(&window, "a", "p", 4..6);
    assert_eq!(take(&window, "a", "p", 0), [1, 2, 3, 4, 5]);
    assert_eq!(take(&window, "b", "p", 1), [1, 2]);
    assert!(is_empty(&window));
}

#[tokio::test(start_paused = true)]
async fn another_producer_or_a_hole_begins_anew() {
    let window = roomy();
    keep(&window, "a", "p", 1..5);
    keep(&window, "a", "q", 1..3);
    assert_eq!(take(&window, "a", "p", 1), Vec::<u64>::new());
    keep(&window, "a", "q", 5..7);
    assert_eq!(take(&window, "a", "q", 1), [5, 6]);
    keep(&window, "a", "q", 7..9);
    assert_eq!((window.forget(&of("a")), window.forget(&of("a"))), (2, 0));
    assert!(is_empty(&window));
}

#[tokio::test(start_paused = true)]
async fn events_are_bounded_over_all_channels() {
    let window = window(4, 1 << 20);
    keep(&window, "a", "p", 1..3);
    keep(&window, "b", "p", 1..3);
    keep(&window, "a", "p", 3..4);
    assert_eq!((take(&window, "a", "p", 1), take(&window, "b", "p", 1)), (vec![3], vec![1, 2]));
    assert!(is_empty(&window));
    keep(&window, "a", "p", 4..10);
    assert!(is_empty(&window), "more than fit");
}

#[tokio::test(start_paused = true)]
async fn bytes_are_bounded_over_all_channels() {
    let each = items(1..2)[0].size();
    let window = window(1000, 3 * each);
    keep(&window, "a", "p", 1..2);
    keep(&window, "b", "p", 1..3);
    assert_eq!(window.kept.lock().events, 3);
    keep(&window, "b", "p", 3..4);
    assert_eq!((take(&window, "a", "p", 1), take(&window, "b", "p", 1)), (vec![], vec![1, 2, 3]));
}

#[tokio::test(start_paused = true)]
async fn what_is_old_leaves_when_something_is_confirmed() {
    let window = roomy();
    keep(&window, "a", "p", 1..3);
    tokio::time::advance(AGE).await;
    keep(&window, "a", "p", 3..4);
    tokio::time::advance(Duration::from_secs(1)).await;
    keep(&window, "b", "p", 1..2);
    assert_eq!(take(&window, "a", "p", 1), [3]);
    assert_eq!(window.kept.lock().marks.len(), 2);
}

/// Elsewhere in a Cluster all goes on, while one server's replica takes its place.
#[tokio::test(start_paused = true)]
async fn a_channel_that_waits_for_an_answer_does_not_age_but_is_bounded() {
    let window = window(6, 1 << 20);
    keep(&window, "a", "p", 1..3);
    window.wait(&of("a"));
    for n in 1..10 {
        tokio::time::advance(AGE).await;
        keep(&window, "b", "p", n..n + 1);
    }
    assert_eq!(take(&window, "a", "p", 1), [1, 2]);
    keep(&window, "a", "p", 1..3);
    window.wait(&of("a"));
    keep(&window, "b", "p", 10..15);
    assert_eq!(take(&window, "a", "p", 1), Vec::<u64>::new());
}

#[tokio::test(start_paused = true)]
async fn what_is_confirmed_again_is_young_again() {
    let window = roomy();
    keep(&window, "a", "p", 1..5);
    tokio::time::advance(AGE - Duration::from_secs(1)).await;
    assert_eq!(take(&window, "a", "p", 3), [3, 4]);
    keep(&window, "a", "p", 3..5);
    tokio::time::advance(AGE - Duration::from_secs(1)).await;
    keep(&window, "b", "p", 1..2);
    assert_eq!(take(&window, "a", "p", 1), [1, 2, 3, 4]);
}

/// Marks of events that are gone already are bounded, too.
#[tokio::test(start_paused = true)]
async fn producers_that_change_all_the_time_leave_nothing_behind() {
    let window = window(10, 1 << 20);
    for n in 0..100 {
        keep(&window, "a", &format!("p{n}"), 1..2);
    }
    assert!(window.kept.lock().marks.len() <= 10);
    assert_eq!(take(&window, "a", "p99", 1), [1]);
}
