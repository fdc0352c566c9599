//! Reading a log from every position that a reader can have.

use bytes::Bytes;
use crewcast_events::EventId;
use crewcast_store::Once;

use super::{Subject, append, append_once, channel, entry, eventually};
use crate::broker::{PAGE_BYTES, Page};

fn ids(page: &Page) -> Vec<EventId> {
    page.entries.iter().map(|entry| EventId::of_message(entry).expect("logged")).collect()
}

pub(in crate::broker) async fn history_reads_behind_an_offset(subject: Subject) {
    let Subject { broker, .. } = &subject;
    let run = channel("run:h");
    let all = append(&**broker, &run, &(0..20).collect::<Vec<_>>()).await;
    for offset in 0..=20u64 {
        let page = broker.history(&run, offset, 100).await.unwrap();
        assert_eq!(ids(&page), all[offset as usize..]);
        assert_eq!(page.at, offset.checked_sub(1).map(|at| all[at as usize]), "at {offset}");
        assert_eq!((page.first, page.head), (Some(all[0]), Some(all[19])));
    }
    for beyond in [21, 1000, 1 << 53] {
        let page = broker.history(&run, beyond, 100).await.unwrap();
        assert_eq!((page.at, page.entries.len()), (None, 0), "beyond the head: {beyond}");
        assert_eq!((page.first, page.head), (Some(all[0]), Some(all[19])));
    }
}

pub(in crate::broker) async fn history_of_a_trimmed_log(subject: Subject) {
    let Subject { broker, .. } = &subject;
    let short = channel("short:h");
    let all = append(&**broker, &short, &(0..12).collect::<Vec<_>>()).await;
    for offset in 0..=12u64 {
        let page = broker.history(&short, offset, 100).await.unwrap();
        let held = offset.max(7);
        assert_eq!(ids(&page), all[held as usize..], "behind {offset}");
        assert_eq!(page.at, (offset >= 8).then(|| all[offset as usize - 1]), "at {offset}");
        assert_eq!((page.first, page.head), (Some(all[7]), Some(all[11])));
    }
}

pub(in crate::broker) async fn history_without_a_log(subject: Subject) {
    let Subject { broker, .. } = &subject;
    for offset in [0, 3] {
        let page = broker.history(&channel("run:never"), offset, 10).await.unwrap();
        assert_eq!((page.head, page.first, page.at, page.entries.len()), (None, None, None, 0));
    }
    let brief = channel("brief:h");
    let all = append(&**broker, &brief, &[1, 2, 3]).await;
    let gone = async || broker.history(&brief, 0, 10).await.unwrap().entries.is_empty();
    eventually("the log has expired", gone).await;
    for offset in [0, 2, 3, 9] {
        let page = broker.history(&brief, offset, 10).await.unwrap();
        assert_eq!((page.first, page.at, page.entries.len()), (None, None, 0));
        assert_eq!(page.head, Some(all[2]), "the head outlives the log");
    }
    let next = append(&**broker, &brief, &[4]).await[0];
    assert!(next.continues(Some(all[2])));
    let page = broker.history(&brief, 3, 10).await.unwrap();
    assert_eq!((page.first, page.at, ids(&page)), (Some(next), None, vec![next]));
}

pub(in crate::broker) async fn history_is_bounded_in_entries_and_bytes(subject: Subject) {
    let Subject { broker, .. } = &subject;
    let run = channel("run:pages");
    let numbers: Vec<u32> = (0..100).collect();
    let all = append(&**broker, &run, &numbers).await;
    let (mut offset, mut read) = (0, Vec::new());
    while offset < 100 {
        let page = broker.history(&run, offset, 33).await.unwrap();
        assert!((1..=33).contains(&page.entries.len()));
        read.extend(ids(&page));
        offset = read.len() as u64;
    }
    assert_eq!(read, all);

    let large = channel("run:large");
    let sizes = [PAGE_BYTES + 10, 10, PAGE_BYTES / 2, PAGE_BYTES / 2 - 1000, 3000, PAGE_BYTES + 10];
    for size in sizes {
        let text = format!(r#"{{"type":"x","data":"{}"}}"#, "x".repeat(size));
        append_once(&**broker, &large, vec![entry(&text)], Once::No).await;
    }
    let (mut offset, mut lengths) = (0, Vec::new());
    while offset < sizes.len() as u64 {
        let page = broker.history(&large, offset, 100).await.unwrap();
        let beyond: usize = page.entries.iter().skip(1).map(Bytes::len).sum();
        assert!(!page.entries.is_empty() && beyond <= PAGE_BYTES);
        lengths.push(page.entries.len());
        offset += page.entries.len() as u64;
    }
    assert_eq!(lengths, [4, 1, 1], "as many as fit, and always one");
}
