use std::path::Path;

use crewcast_events::{Body, Kind};
use crewcast_store::{Entry, LeaseStep, Ownership, State};
use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;

type Opened = (Spool, HashMap<Channel, Backlog>);

fn open(directory: &Path) -> Opened {
    open_of(directory, DEFAULT_BYTES)
}

fn open_of(directory: &Path, bytes: u64) -> Opened {
    let (spool, backlogs, _) = Spool::open(directory, bytes, Arc::default()).unwrap();
    (spool, backlogs)
}

fn channel(name: &str) -> Channel {
    format!("graph:{name}").parse().unwrap()
}

fn event(ordinal: u64) -> SpooledEvent {
    sized(ordinal, 0)
}

fn sized(ordinal: u64, bytes: usize) -> SpooledEvent {
    let text = format!(r#"{{"type":"x","n":{ordinal},"d":"{}"}}"#, "x".repeat(bytes));
    SpooledEvent { ordinal, entry: Entry::new(Body::parse(text).unwrap()), ownerships: None }
}

/// The position of a channel whose events from `ordinal` are numbered from 1 by `producer`.
fn at(producer: &str, ordinal: u64, number: u64) -> Position {
    Position { ordinal, producer: producer.into(), number }
}

fn ordinals(backlog: &Backlog) -> Vec<u64> {
    backlog.places.iter().map(|place| place.ordinal).collect()
}

/// Reads the events of a backlog, and asserts that each is the one that was written.
fn texts(directory: &Path, backlog: &Backlog) -> Vec<String> {
    let events = read(directory, &backlog.places).unwrap();
    events.iter().map(|kept| String::from_utf8(kept.as_ref().unwrap().entry.body.object().to_vec()).unwrap()).collect()
}

fn files(directory: &Path) -> Vec<std::path::PathBuf> {
    let paths = directory.read_dir().unwrap().map(|file| file.unwrap().path());
    let mut paths: Vec<_> = paths.filter(|path| segment::id(path).is_some()).collect();
    paths.sort();
    paths
}

fn bytes_on_disk(directory: &Path) -> u64 {
    files(directory).iter().map(|path| path.metadata().unwrap().len()).sum()
}

#[test]
fn what_is_kept_comes_back_to_the_byte() {
    let directory = tempfile::tempdir().unwrap();
    let text = r#"{"type" :"x","n":1.50, "é":"\u00e9\ud800","d":{"id":1}}"#;
    let state = State { key: "k".into(), value: Some(RawValue::from_string(r#"{"a" :1}"#.into()).unwrap().into()) };
    let about = RawValue::from_string(r#"{"tool" :"t"}"#.into()).unwrap();
    let ttl = std::time::Duration::from_millis(1500);
    let lease = LeaseStep::Hold { name: "l".into(), ttl, about: Some(about.into()) };
    let ownership = Ownership { kind: Kind::Crew, id: "abc".into(), org: "acme".into(), crew: None };
    let entry = Entry { body: Body::parse(text).unwrap(), random: *b"0az9xy", state: Some(state), lease: Some(lease) };
    let kept = SpooledEvent { ordinal: 7, entry, ownerships: Some([ownership.clone()].into()) };
    let (mut spool, _) = open(directory.path());
    spool.keep(&channel("a"), &at("p", 5, 3), &kept).unwrap();
    drop(spool);
    let (spool, backlogs) = open(directory.path());
    let backlog = &backlogs[&channel("a")];
    assert_eq!(backlog.position, Some(at("p", 5, 3)));
    let back = read(&spool.directory(), &backlog.places).unwrap().remove(0).unwrap();
    assert_eq!((back.ordinal, &back.entry.body.object()[..], &back.entry.random), (7, text.as_bytes(), b"0az9xy"));
    let state = back.entry.state.unwrap();
    assert_eq!((state.key.as_str(), state.value.unwrap().get()), ("k", r#"{"a" :1}"#));
    assert_eq!(back.entry.lease.unwrap().wire(), r#"hold 1500 l {"tool" :"t"}"#);
    assert_eq!(back.ownerships.as_deref(), Some(&[ownership][..]));
    let written = std::fs::read(directory.path().join("0000000001.spool")).unwrap();
    assert!(String::from_utf8_lossy(&written).contains(r#""claims":[{"kind":"crew","#), "the name of the format");
}

#[test]
fn what_is_settled_does_not_come_back_and_leaves_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(directory.path());
    let places: Vec<Place> = (1..=10).map(|n| spool.keep(&channel("a"), &at("p", 1, 1), &event(n)).unwrap()).collect();
    spool.settle(&channel("a"), &at("p", 5, 5), &places[..4]);
    assert_eq!(spool.pending(), 6);
    drop(spool);
    let (mut spool, backlogs) = open(directory.path());
    let backlog = &backlogs[&channel("a")];
    assert_eq!((backlog.position.clone(), ordinals(backlog)), (Some(at("p", 5, 5)), vec![5, 6, 7, 8, 9, 10]));
    spool.settle(&channel("a"), &at("p", 11, 11), &backlog.places);
    assert_eq!((spool.pending(), spool.bytes, files(directory.path()).len()), (0, 0, 0));
}

#[test]
fn ordinals_decide_and_not_the_order_of_writing() {
    let directory = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(directory.path());
    for n in [8, 9, 3, 4] {
        spool.keep(&channel("a"), &at("p", 3, 1), &event(n)).unwrap();
    }
    drop(spool);
    assert_eq!(ordinals(&open(directory.path()).1[&channel("a")]), [3, 4, 8, 9]);
}

#[test]
fn the_bound_binds_and_settling_makes_room() {
    let directory = tempfile::tempdir().unwrap();
    let bound = 100_000;
    let (mut spool, _) = open_of(directory.path(), bound);
    let mut places = Vec::new();
    let full = loop {
        match spool.keep(&channel("a"), &at("p", 0, 1), &sized(places.len() as u64, 300)) {
            Ok(place) => places.push(place),
            Err(reason) => break reason,
        }
    };
    assert_eq!(full, Reason::SpoolFull);
    assert!(places.len() > 80, "{} events", places.len());
    // Each is settled on its own, which needs the most bookkeeping.
    for (n, place) in (1..).zip(&places) {
        spool.settle(&channel("a"), &at("p", n, n + 1), &[*place]);
        let on_disk = bytes_on_disk(directory.path());
        assert!(on_disk <= bound && on_disk == spool.bytes, "{on_disk} bytes, {} counted", spool.bytes);
    }
    assert_eq!(files(directory.path()).len(), 0);
    spool.keep(&channel("a"), &at("p", 1000, 1), &event(1000)).unwrap();
}

#[test]
fn a_channel_that_waits_holds_no_segment_but_its_own_and_forgets_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (mut spool, _) = open_of(directory.path(), 1 << 20);
    let [stuck, quiet, busy] = ["stuck", "quiet", "busy"].map(channel);
    spool.keep(&stuck, &at("s", 1, 1), &event(1)).unwrap();
    let kept = spool.keep(&quiet, &at("q", 1, 1), &event(1)).unwrap();
    for n in 1..2000 {
        let place = spool.keep(&busy, &at("b", n, n), &sized(n, 500)).unwrap();
        spool.settle(&busy, &at("b", n + 1, n + 1), &[place]);
        if n == 1000 {
            // Its event is in the first segment, and the position that settles it is in one that is removed.
            spool.settle(&quiet, &at("q", 2, 2), &[kept]);
        }
        assert!(files(directory.path()).len() <= 3);
    }
    drop(spool);
    let (_spool, backlogs) = open(directory.path());
    assert_eq!((backlogs.len(), ordinals(&backlogs[&stuck])), (1, vec![1]));
    assert_eq!(backlogs[&stuck].position, Some(at("s", 1, 1)));
}

#[test]
fn a_new_name_is_written_and_the_same_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(directory.path());
    spool.keep(&channel("a"), &at("p", 1, 1), &event(3)).unwrap();
    let before = spool.bytes;
    spool.note(&channel("a"), &at("p", 2, 2));
    assert_eq!(spool.bytes, before, "every event has the same number by it");
    spool.note(&channel("a"), &at("q", 3, 1));
    drop(spool);
    assert_eq!(open(directory.path()).1[&channel("a")].position, Some(at("q", 3, 1)));
}

#[test]
fn one_publisher_has_a_spool_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(directory.path());
    let Err(error) = Spool::open(directory.path(), 1, Arc::default()) else { panic!("opened twice") };
    assert!(matches!(error, SpoolError::InUse(_)));
    assert!(error.to_string().contains("a directory of its own"), "{error}");
    drop(spool);
    open(directory.path());
}

#[test]
fn a_spool_is_free_after_its_publisher_even_if_the_descriptor_was_copied() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, _) = open(directory.path());
    // The copy that a process which is being started holds.
    let _copy = spool._lock.0.try_clone().unwrap();
    drop(spool);
    open(directory.path());
}

#[test]
fn what_is_no_directory_or_of_another_version_is_an_error_that_names_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let Err(error) = Spool::open(&file, 1, Arc::default()) else { panic!("a file") };
    assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
    let segment = directory.path().join("0000000001.spool");
    std::fs::write(&segment, "CREWSPL2rest").unwrap();
    let Err(error) = Spool::open(directory.path(), 1, Arc::default()) else { panic!("another version") };
    assert!(error.to_string().contains(segment.to_str().unwrap()), "{error}");
    assert!(segment.exists());
}

#[cfg(unix)]
#[test]
fn files_are_their_owners() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let spooled = directory.path().join("deep/spool");
    let (mut spool, _) = open(&spooled);
    spool.keep(&channel("a"), &at("p", 1, 1), &event(1)).unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&spooled), 0o700);
    for file in spooled.read_dir().unwrap() {
        assert_eq!(mode(&file.unwrap().path()), 0o600);
    }
}

/// A file whose writes fail as on a full disk.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_refuses_and_costs_nothing_that_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(directory.path());
    spool.keep(&channel("a"), &at("p", 1, 1), &event(1)).unwrap();
    let id = spool.active.unwrap();
    let full = segment::private().write(true).open("/dev/full").unwrap();
    let good = spool.segments.get_mut(&id).unwrap().swap_file(Some(full));
    for _ in 0..3 {
        assert_eq!(spool.keep(&channel("a"), &at("p", 1, 1), &event(2)), Err(Reason::SpoolFailed));
    }
    spool.note(&channel("a"), &at("q", 1, 1));
    spool.segments.get_mut(&id).unwrap().swap_file(good);
    spool.keep(&channel("a"), &at("p", 1, 1), &event(2)).unwrap();
    drop(spool);
    let (_spool, backlogs) = open(directory.path());
    assert_eq!(ordinals(&backlogs[&channel("a")]), [1, 2]);
    assert_eq!(backlogs[&channel("a")].position, Some(at("p", 1, 1)));
}

#[test]
fn a_directory_that_goes_away_refuses_and_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let spooled = directory.path().join("spool");
    let (mut spool, _) = open(&spooled);
    std::fs::remove_dir_all(&spooled).unwrap();
    assert_eq!(spool.keep(&channel("a"), &at("p", 1, 1), &event(1)), Err(Reason::SpoolFailed));
    std::fs::create_dir(&spooled).unwrap();
    let place = spool.keep(&channel("a"), &at("p", 1, 1), &event(1)).unwrap();
    std::fs::remove_file(&files(&spooled)[0]).unwrap();
    assert!(read(&spooled, &[place]).unwrap()[0].is_none(), "what is gone is told apart from what cannot be opened");
}

/// What one process does with a channel: how many events it keeps, then how many it settles.
fn steps() -> impl Strategy<Value = Vec<(usize, usize, usize)>> {
    prop::collection::vec((0..3usize, 0..6usize, 0..6usize), 1..12)
}

/// Plays the steps for three channels. Answers how many events of each were kept and settled.
fn play(directory: &Path, steps: &[(usize, usize, usize)]) -> [(u64, u64); 3] {
    let (mut spool, _) = open_of(directory, 1 << 18);
    let mut places: [Vec<Place>; 3] = Default::default();
    let mut settled = [0; 3];
    for &(of, keep, settle) in steps {
        let name = channel(&of.to_string());
        for _ in 0..keep {
            let n = places[of].len() as u64 + 1;
            let at = at("p", settled[of] as u64 + 1, settled[of] as u64 + 1);
            places[of].push(spool.keep(&name, &at, &sized(n, 200)).unwrap());
        }
        let end = (settled[of] + settle).min(places[of].len());
        if end > settled[of] {
            spool.settle(&name, &at("p", end as u64 + 1, end as u64 + 1), &places[of][settled[of]..end]);
            settled[of] = end;
        }
    }
    std::array::from_fn(|of| (places[of].len() as u64, settled[of] as u64))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// A kill during a write tears off the end of the last segment, at any byte.
    #[test]
    fn whatever_is_torn_off_the_rest_is_a_prefix_in_order(steps in steps(), cut in any::<prop::sample::Index>()) {
        let directory = tempfile::tempdir().unwrap();
        let kept = play(directory.path(), &steps);
        if let Some(last) = files(directory.path()).last() {
            let bytes = std::fs::read(last).unwrap();
            std::fs::write(last, &bytes[..cut.index(bytes.len() + 1)]).unwrap();
        }
        let (_spool, backlogs) = open(directory.path());
        for (of, (kept, settled)) in kept.into_iter().enumerate() {
            let Some(backlog) = backlogs.get(&channel(&of.to_string())) else { continue };
            let back = ordinals(backlog);
            let first = back[0];
            prop_assert!(first <= settled + 1, "nothing unsettled is missing before {first}, settled {settled}");
            prop_assert_eq!(&back, &(first..first + back.len() as u64).collect::<Vec<_>>());
            prop_assert!(back.len() as u64 <= kept);
            // Whichever position is left, each event keeps its number.
            let position = backlog.position.as_ref().unwrap();
            prop_assert_eq!(position.number, position.ordinal);
            let expected: Vec<String> = back.iter().map(|&n| {
                String::from_utf8(sized(n, 200).entry.body.object().to_vec()).unwrap()
            }).collect();
            prop_assert_eq!(texts(directory.path(), backlog), expected);
        }
    }

    /// Any byte may be damaged: the other records come back as written, in order.
    #[test]
    fn whatever_is_damaged_nothing_else_comes_back_than_was_kept(
        steps in steps(), which in any::<prop::sample::Index>(), flip in 1..=255u8,
    ) {
        let directory = tempfile::tempdir().unwrap();
        play(directory.path(), &steps);
        let Some(file) = files(directory.path()).pop() else { return Ok(()) };
        let mut bytes = std::fs::read(&file).unwrap();
        // Another test covers the header.
        let at = 8 + which.index((bytes.len() - 8).max(1));
        if at >= bytes.len() {
            return Ok(());
        }
        bytes[at] ^= flip;
        std::fs::write(&file, bytes).unwrap();
        let counters = Arc::<Counters>::default();
        let (_spool, backlogs, _) = Spool::open(directory.path(), 1 << 20, counters.clone()).unwrap();
        prop_assert!(counters.stats().dropped > 0, "it is told");
        for backlog in backlogs.values() {
            let back = ordinals(backlog);
            prop_assert!(back.is_sorted());
            let expected: Vec<String> = back.iter().map(|&n| {
                String::from_utf8(sized(n, 200).entry.body.object().to_vec()).unwrap()
            }).collect();
            prop_assert_eq!(texts(directory.path(), backlog), expected);
        }
    }
}
