use std::{
    sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
    time::Duration,
};

use bytes::Bytes;
use crewcast_events::Event;

use super::*;
use crate::hub::{Attend, Caught, Demand, Entry, Hub, Item, Member, RingLimits};

const EVENTS: usize = 2000;

/// Reads whenever it is called, by a sweep or by its task, and is sometimes busy with something else.
struct Reader {
    wake: Arc<Wake>,
    member: Mutex<Option<Member>>,
    next: AtomicI64,
    is_busy: AtomicBool,
    by_sweep: AtomicUsize,
}

impl Reader {
    fn join(hub: &Arc<Hub>, is_busy: bool) -> Arc<Self> {
        let reader = Arc::new(Self {
            wake: Arc::new(Wake::default()),
            member: Mutex::new(None),
            next: AtomicI64::new(0),
            is_busy: AtomicBool::new(is_busy),
            by_sweep: AtomicUsize::new(0),
        });
        let attendant: Arc<dyn Attend> = reader.clone();
        reader.wake.attended_by(Arc::downgrade(&attendant));
        *reader.member.lock() = Some(hub.join(&"graph:abc".parse().unwrap(), &reader.wake, 0));
        reader
    }

    fn read(&self, member: &Member, most: usize) -> bool {
        let mut entries: Vec<Arc<Entry>> = Vec::new();
        let next = self.next.load(Ordering::SeqCst);
        let caught = member.read(next, most, &mut entries);
        self.next.store(next + entries.len() as i64, Ordering::SeqCst);
        !matches!(caught, Caught::UpToDate | Caught::Entries { at_end: true })
    }
}

impl Attend for Reader {
    fn attend(&self, _key: u32) -> bool {
        let Some(member) = self.member.try_lock() else { return false };
        if self.is_busy.load(Ordering::SeqCst) {
            return false;
        }
        self.by_sweep.fetch_add(1, Ordering::Relaxed);
        let member = member.as_ref().expect("joined");
        while self.read(member, 3) {}
        true
    }
}

fn event(n: usize) -> Item {
    Item::Event(Event::parse(Bytes::from(format!(r#"{{"type":"x","n":{n}}}"#))).unwrap())
}

/// Nobody is forgotten, however sweeps, tasks and new events fall together on four threads.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_member_gets_everything_whoever_is_busy() {
    let limits = RingLimits { events: 2 * EVENTS, bytes: 1 << 24, total_bytes: 1 << 24 };
    let (hub, mut demands) = Hub::new(limits);
    let readers: Vec<_> = (0..250).map(|n| Reader::join(&hub, n % 5 == 0)).collect();
    let Ok(Demand::Wanted(room)) = demands.try_recv() else { panic!("nothing is wanted") };
    room.open(None, None);
    // What they are rung for is the opening: from here on it is the sweeps that tell of events.
    readers.iter().for_each(|reader| assert!(!reader.read(reader.member.lock().as_ref().expect("joined"), 1)));
    let sweepers: Vec<_> = (0..4).map(|_| tokio::spawn(hub.sweeps().clone().serve())).collect();
    let tasks = readers.iter().map(|reader| {
        let reader = reader.clone();
        tokio::spawn(async move {
            // Only what its bell tells it of is read.
            std::future::poll_fn(|cx| {
                reader.wake.register(cx.waker());
                if reader.wake.has_ready() {
                    reader.wake.take_ready(&mut Vec::new());
                    let member = reader.member.lock();
                    while reader.read(member.as_ref().expect("joined"), 7) {}
                }
                let is_done = reader.next.load(Ordering::SeqCst) == EVENTS as i64;
                if is_done { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
            })
            .await;
        })
    });
    let tasks: Vec<_> = tasks.collect();
    for n in 0..EVENTS {
        room.append(event(n), None, false);
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
    tokio::time::timeout(Duration::from_secs(20), all_there).await.expect("somebody was forgotten");
    let by_sweep = |n: usize| readers[n].by_sweep.load(Ordering::Relaxed);
    assert!(by_sweep(11) > 0 && by_sweep(10) == 0, "{} {}", by_sweep(11), by_sweep(10));
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    sweepers.iter().for_each(tokio::task::JoinHandle::abort);
    readers.iter().for_each(|reader| drop(reader.member.lock().take()));
}

#[test]
fn a_room_waits_once_and_who_has_everything_is_not_called() {
    let (hub, mut demands) = Hub::new(RingLimits { events: 64, bytes: 1 << 20, total_bytes: 1 << 20 });
    let readers = [0, 1, 2].map(|_| Reader::join(&hub, false));
    let Ok(Demand::Wanted(room)) = demands.try_recv() else { panic!("nothing is wanted") };
    room.open(None, None);
    // Who was rung for the opening answers that first.
    readers.iter().for_each(|reader| assert!(reader.attend(0)));
    let mut calls = Vec::new();
    assert!(!hub.sweeps().sweep_stretch(&mut calls), "nothing has come yet");
    (0..3).for_each(|n| room.append(event(n), None, false));
    assert!(readers[1].attend(0));
    assert!(hub.sweeps().sweep_stretch(&mut calls));
    assert_eq!(calls.len(), 2, "one has read everything by himself");
    assert!(!hub.sweeps().sweep_stretch(&mut calls), "one sweep for all three events");
    room.append(event(3), None, false);
    calls.drain(..).for_each(|call| call.wake.call(call.key));
    assert!(readers.iter().zip([4, 3, 4]).all(|(reader, next)| reader.next.load(Ordering::SeqCst) == next));
    assert!(hub.sweeps().sweep_stretch(&mut calls));
    assert_eq!(calls.len(), 1);
    readers.iter().for_each(|reader| drop(reader.member.lock().take()));
}
