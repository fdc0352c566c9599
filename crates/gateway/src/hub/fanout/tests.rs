use std::{
    sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
    time::Duration,
};

use bytes::Bytes;
use crewcast_events::Event;

use super::*;
use crate::hub::{Deliver, Demand, Entry, Hub, Item, ReadOutcome, RingLimits, Subscriber};

const EVENTS: usize = 2000;

/// Reads whenever it is notified, by the fan-out or by its task, and is sometimes busy with something else.
struct Reader {
    notifier: Arc<Notifier>,
    subscriber: Mutex<Option<Subscriber>>,
    next: AtomicI64,
    is_busy: AtomicBool,
    by_fanout: AtomicUsize,
}

impl Reader {
    fn join(hub: &Arc<Hub>, is_busy: bool) -> Arc<Self> {
        let reader = Arc::new(Self {
            notifier: Arc::new(Notifier::default()),
            subscriber: Mutex::new(None),
            next: AtomicI64::new(0),
            is_busy: AtomicBool::new(is_busy),
            by_fanout: AtomicUsize::new(0),
        });
        let delivery: Arc<dyn Deliver> = reader.clone();
        reader.notifier.deliver_with(Arc::downgrade(&delivery));
        *reader.subscriber.lock() = Some(hub.subscribe(&"graph:abc".parse().unwrap(), &reader.notifier, 0));
        reader
    }

    fn read(&self, subscriber: &Subscriber, most: usize) -> bool {
        let mut entries: Vec<Arc<Entry>> = Vec::new();
        let next = self.next.load(Ordering::SeqCst);
        let caught = subscriber.read(next, most, &mut entries);
        self.next.store(next + entries.len() as i64, Ordering::SeqCst);
        !matches!(caught, ReadOutcome::UpToDate | ReadOutcome::Entries { at_end: true })
    }
}

impl Deliver for Reader {
    fn try_deliver(&self, _key: u32) -> bool {
        let Some(subscriber) = self.subscriber.try_lock() else { return false };
        if self.is_busy.load(Ordering::SeqCst) {
            return false;
        }
        self.by_fanout.fetch_add(1, Ordering::Relaxed);
        let subscriber = subscriber.as_ref().expect("joined");
        while self.read(subscriber, 3) {}
        true
    }
}

fn event(n: usize) -> Item {
    Item::Event(Event::parse(Bytes::from(format!(r#"{{"type":"x","n":{n}}}"#))).unwrap())
}

/// No reader is forgotten, however fan-out, tasks and new events interleave on four threads.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_subscriber_gets_every_event_even_if_busy() {
    let limits = RingLimits { events: 2 * EVENTS, bytes: 1 << 24, total_bytes: 1 << 24 };
    let (hub, mut demands) = Hub::new(limits);
    let readers: Vec<_> = (0..250).map(|n| Reader::join(&hub, n % 5 == 0)).collect();
    let Ok(Demand::Wanted(channel_state)) = demands.try_recv() else { panic!("nothing is wanted") };
    channel_state.open(None, None);
    // The first notification is for the opening; from here on the fan-out notifies of events.
    readers.iter().for_each(|reader| assert!(!reader.read(reader.subscriber.lock().as_ref().expect("joined"), 1)));
    let workers: Vec<_> = (0..4).map(|_| tokio::spawn(hub.fanout().clone().serve())).collect();
    let tasks = readers.iter().map(|reader| {
        let reader = reader.clone();
        tokio::spawn(async move {
            // Reads only what its notifier reports.
            std::future::poll_fn(|cx| {
                reader.notifier.register(cx.waker());
                if reader.notifier.has_ready() {
                    reader.notifier.take_ready(&mut Vec::new());
                    let subscriber = reader.subscriber.lock();
                    while reader.read(subscriber.as_ref().expect("joined"), 7) {}
                }
                let is_done = reader.next.load(Ordering::SeqCst) == EVENTS as i64;
                if is_done { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
            })
            .await;
        })
    });
    let tasks: Vec<_> = tasks.collect();
    for n in 0..EVENTS {
        channel_state.append(event(n), None, false);
        if n % 50 == 0 {
            tokio::task::yield_now().await;
            readers[n % 7].is_busy.fetch_xor(true, Ordering::SeqCst);
        }
    }
    let all_there = async {
        while readers.iter().any(|reader| reader.next.load(Ordering::SeqCst) < EVENTS as i64) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all_there).await.expect("a reader was forgotten");
    let by_fanout = |n: usize| readers[n].by_fanout.load(Ordering::Relaxed);
    assert!(by_fanout(11) > 0 && by_fanout(10) == 0, "{} {}", by_fanout(11), by_fanout(10));
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    workers.iter().for_each(tokio::task::JoinHandle::abort);
    readers.iter().for_each(|reader| drop(reader.subscriber.lock().take()));
}

#[test]
fn a_channel_is_queued_once_and_subscribers_that_caught_up_are_not_notified() {
    let (hub, mut demands) = Hub::new(RingLimits { events: 64, bytes: 1 << 20, total_bytes: 1 << 20 });
    let readers = [0, 1, 2].map(|_| Reader::join(&hub, false));
    let Ok(Demand::Wanted(channel_state)) = demands.try_recv() else { panic!("nothing is wanted") };
    channel_state.open(None, None);
    // A reader that was notified of the opening must answer that first.
    readers.iter().for_each(|reader| assert!(reader.try_deliver(0)));
    let mut notifications = Vec::new();
    assert!(!hub.fanout().next_batch(&mut notifications), "no event has arrived yet");
    (0..3).for_each(|n| channel_state.append(event(n), None, false));
    assert!(readers[1].try_deliver(0));
    assert!(hub.fanout().next_batch(&mut notifications));
    assert_eq!(notifications.len(), 2, "one reader has already read everything");
    assert!(!hub.fanout().next_batch(&mut notifications), "one fan-out for all three events");
    channel_state.append(event(3), None, false);
    notifications.drain(..).for_each(|notification| notification.notifier.deliver_or_notify(notification.key));
    assert!(readers.iter().zip([4, 3, 4]).all(|(reader, next)| reader.next.load(Ordering::SeqCst) == next));
    assert!(hub.fanout().next_batch(&mut notifications));
    assert_eq!(notifications.len(), 1);
    readers.iter().for_each(|reader| drop(reader.subscriber.lock().take()));
}
