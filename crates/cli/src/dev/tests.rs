//! Ten simulated minutes of work, recorded at the transport.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use crewcast_events::{
    Channel, Event, EventId,
    catalog::{
        Outcome,
        mission::{CrewStatus, Signal},
        run::{RunEvent, RunKind, RunOutcome},
        tool::{ToolEvent, ToolKind},
    },
};
use crewcast_publisher::{Append, AppendError, Ownership, OwnershipMode, OwnershipOutcome, Publisher, Transport};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{SimulationOptions, run, script::CREWS};

/// Records every published event in order, with its time.
#[derive(Default)]
struct Recorder {
    events: Mutex<Vec<(Instant, Channel, Bytes)>>,
}

#[async_trait::async_trait]
impl Transport for Recorder {
    async fn append(&self, append: &Append) -> Result<Vec<Option<EventId>>, AppendError> {
        let mut events = self.events.lock().unwrap();
        for entry in &append.entries {
            events.push((Instant::now(), append.channel.clone(), entry.body.object().clone()));
        }
        Ok(vec![None; append.entries.len()])
    }

    async fn publish_live(&self, channel: &Channel, _: Bytes) -> Result<(), AppendError> {
        panic!("everything is logged, but {channel}");
    }

    async fn register(&self, _: &Ownership, _: OwnershipMode) -> Result<OwnershipOutcome, AppendError> {
        Ok(OwnershipOutcome::Done)
    }
}

enum Seen {
    Tool(ToolEvent),
    Run(RunEvent),
    Mission(Signal),
}

/// Runs the crews for `time` and then stops them.
async fn watch(seed: u64, time: Duration) -> Vec<(Duration, Seen)> {
    let recorder = Arc::new(Recorder::default());
    let publisher = Publisher::builder().org("dev").with_transport(recorder.clone());
    let stop = CancellationToken::new();
    let begun = Instant::now();
    let options = SimulationOptions { seed, org: "dev".to_owned(), speed: 1.0, stop: stop.clone() };
    let stopper = async {
        tokio::time::sleep(time).await;
        stop.cancel();
    };
    tokio::join!(run(publisher.clone(), options), stopper);
    assert_eq!(publisher.close(Duration::from_secs(5)).await.events, 0);
    let events = recorder.events.lock().unwrap();
    let of_crews = events.iter().filter(|(_, channel, _)| CREW_NAMESPACES.contains(&channel.namespace()));
    of_crews.map(|(at, channel, bytes)| (*at - begun, parse(channel, bytes))).collect()
}

/// The namespaces of the crews' own events. The rest of the org has others.
const CREW_NAMESPACES: [&str; 3] = ["graph", "run", "mission"];

fn parse(channel: &Channel, bytes: &[u8]) -> Seen {
    let text = String::from_utf8_lossy(bytes);
    let why = |error: serde_json::Error| -> Seen { panic!("{channel}: {error}: {text}") };
    match channel.namespace() {
        "graph" => serde_json::from_slice(bytes).map_or_else(why, Seen::Tool),
        "run" => serde_json::from_slice(bytes).map_or_else(why, Seen::Run),
        "mission" => serde_json::from_slice(bytes).map_or_else(why, Seen::Mission),
        other => panic!("nothing is published to {other}: {text}"),
    }
}

const TEN_MINUTES: Duration = Duration::from_secs(600);

fn tools(events: &[(Duration, Seen)]) -> impl Iterator<Item = &ToolEvent> {
    events.iter().filter_map(|(_, seen)| if let Seen::Tool(event) = seen { Some(event) } else { None })
}

fn runs(events: &[(Duration, Seen)]) -> impl Iterator<Item = (Duration, &RunEvent)> {
    events.iter().filter_map(|(at, seen)| if let Seen::Run(event) = seen { Some((*at, event)) } else { None })
}

#[tokio::test(start_paused = true)]
async fn every_tool_call_ends_and_progress_only_grows() {
    let events = watch(1, TEN_MINUTES).await;
    let mut open: BTreeMap<(&str, &str, &str), f64> = BTreeMap::new();
    let (mut failed, mut retried) = (0, 0);
    for event in tools(&events) {
        let call = (event.run_id.as_str(), event.agent_id.as_str(), event.tool.as_str());
        match &event.kind {
            ToolKind::ToolStart { params } => {
                assert!(!params.is_empty(), "{call:?}");
                retried += usize::from(params.contains_key("attempt"));
                assert_eq!(open.insert(call, 0.0), None, "{call:?} started twice");
            }
            ToolKind::ToolProgress { message, progress } => {
                assert!(!message.is_empty());
                let before = open.get_mut(&call).unwrap_or_else(|| panic!("{call:?} has not started"));
                if let Some(progress) = *progress {
                    assert!((*before..=1.0).contains(&progress), "{call:?}: {progress} after {before}");
                    *before = progress;
                }
            }
            ToolKind::ToolEnd { exit_code, status, .. } => {
                assert!(open.remove(&call).is_some(), "{call:?} has not started");
                assert_eq!(*exit_code == 0, *status == Outcome::Success);
                failed += usize::from(*status == Outcome::Error);
            }
        }
    }
    assert!(open.is_empty(), "never ended: {open:?}");
    assert!(failed >= 5 && retried >= 5, "{failed} failed, {retried} retried");
}

#[tokio::test(start_paused = true)]
async fn every_run_boots_once_and_is_done_once() {
    let events = watch(2, TEN_MINUTES).await;
    let mut begun: BTreeMap<&str, Duration> = BTreeMap::new();
    let mut ended: BTreeMap<&str, (Duration, RunOutcome)> = BTreeMap::new();
    let mut open: BTreeSet<(&str, &str)> = BTreeSet::new();
    for (at, event) in runs(&events) {
        let run = event.run_id.as_str();
        assert!(!ended.contains_key(run), "{run} goes on after its end");
        assert!(event.crew_id.is_some());
        assert_eq!(begun.contains_key(run), !matches!(event.kind, RunKind::Boot { .. }), "{run}");
        match &event.kind {
            RunKind::Boot { inputs } => drop((begun.insert(run, at), assert!(!inputs.is_empty()))),
            RunKind::AgentStart { agent_id, .. } => assert!(open.insert((run, agent_id))),
            RunKind::AgentEnd { agent_id, .. } => assert!(open.remove(&(run, agent_id.as_str()))),
            RunKind::TaskStart { task_id, .. } => assert!(open.insert((run, task_id))),
            RunKind::TaskEnd { task_id, .. } => assert!(open.remove(&(run, task_id.as_str()))),
            RunKind::Error { .. } => {}
            RunKind::Done { status, .. } => drop(ended.insert(run, (at, *status))),
        }
    }
    assert!(open.is_empty(), "never ended: {open:?}");
    assert!(begun.keys().eq(ended.keys()), "{begun:?} {ended:?}");
    let count = |outcome| ended.values().filter(|(_, status)| *status == outcome).count();
    // Three of the cancelled runs were stopped by the end of the simulation.
    let (success, error, cancelled) =
        (count(RunOutcome::Success), count(RunOutcome::Error), count(RunOutcome::Cancelled));
    assert!(success > 10 && error >= 1 && cancelled >= 4, "{success} {error} {cancelled}");
    for (run, (at, status)) in &ended {
        let took = (*at - begun[run]).as_secs();
        assert!(*status != RunOutcome::Success || (10..=60).contains(&took), "{run} took {took} s");
    }
    let overlap = begun
        .iter()
        .any(|(run, start)| begun.iter().any(|(other, began)| run != other && began > start && *began < ended[run].0));
    assert!(overlap);
}

#[tokio::test(start_paused = true)]
async fn there_is_always_something_to_see() {
    for seed in 0..5 {
        let events = watch(seed, TEN_MINUTES).await;
        let mut last = Duration::ZERO;
        for (at, _) in &events {
            assert!(*at - last <= Duration::from_secs(2), "seed {seed}: nothing from {last:?} to {at:?}");
            last = *at;
        }
        assert!(last >= TEN_MINUTES, "seed {seed}: it ended at {last:?}");
        let rate = events.len() as f64 / TEN_MINUTES.as_secs_f64();
        assert!((2.0..10.0).contains(&rate), "seed {seed}: {rate} events a second");
        let agents: BTreeSet<_> = tools(&events).map(|event| (&event.crew_id, &event.agent_id)).collect();
        assert!(agents.len() >= 10, "{agents:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn crews_publish_their_status_and_go_offline_at_the_end() {
    let events = watch(3, TEN_MINUTES).await;
    let mut statuses: BTreeMap<String, Vec<CrewStatus>> = BTreeMap::new();
    for (_, seen) in &events {
        if let Seen::Mission(signal) = seen {
            statuses.entry(signal.payload.crew_id.clone()).or_default().push(signal.payload.status);
        }
    }
    assert_eq!(statuses.len(), CREWS.len());
    for (crew, statuses) in &statuses {
        assert_eq!(statuses.last(), Some(&CrewStatus::Offline), "{crew}");
        assert!(statuses.contains(&CrewStatus::Busy) && statuses.contains(&CrewStatus::Available), "{crew}");
    }
    let leaves = &statuses["relay"];
    assert!(leaves[..leaves.len() - 1].contains(&CrewStatus::Offline), "{leaves:?}");
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_simulation() {
    let course = async |seed| -> Vec<(Duration, &'static str)> {
        let events = watch(seed, Duration::from_secs(120)).await;
        let name = |seen: &Seen| match seen {
            Seen::Tool(_) => "tool",
            Seen::Run(_) => "run",
            Seen::Mission(_) => "mission",
        };
        events.iter().map(|(at, seen)| (*at, name(seen))).collect()
    };
    let first = course(7).await;
    assert_eq!(first, course(7).await);
    assert_ne!(first, course(8).await);
}

#[tokio::test(start_paused = true)]
async fn ten_times_the_speed_gives_more_events() {
    let recorder = Arc::new(Recorder::default());
    let publisher = Publisher::builder().with_transport(recorder.clone());
    let stop = CancellationToken::new();
    let options = SimulationOptions { seed: 1, org: "dev".to_owned(), speed: 10.0, stop: stop.clone() };
    let minute = async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        stop.cancel();
    };
    tokio::join!(run(publisher.clone(), options), minute);
    publisher.close(Duration::from_secs(5)).await;
    assert!(recorder.events.lock().unwrap().len() > 1200);
}

#[tokio::test(start_paused = true)]
async fn every_dialect_has_something_to_show_and_ends_what_it_began() {
    let recorder = Arc::new(Recorder::default());
    let publisher = Publisher::builder().org("dev").with_transport(recorder.clone());
    let stop = CancellationToken::new();
    let options = SimulationOptions { seed: 1, org: "dev".to_owned(), speed: 1.0, stop: stop.clone() };
    let minutes = async {
        tokio::time::sleep(Duration::from_secs(180)).await;
        stop.cancel();
    };
    tokio::join!(run(publisher.clone(), options), minutes);
    publisher.close(Duration::from_secs(5)).await;
    let events = recorder.events.lock().unwrap();
    let types = |namespace: &str| -> Vec<String> {
        let of = events.iter().filter(|(_, channel, _)| channel.namespace() == namespace);
        of.map(|(_, _, bytes)| Event::parse(bytes.clone()).unwrap().kind().into_owned()).collect()
    };
    for namespace in
        ["graph", "run", "mission", "stream", "hub", "session", "tracking", "agents", "tasks", "knowledge", "metrics"]
    {
        assert!(types(namespace).len() >= 10, "{namespace}: {:?}", types(namespace));
    }
    let count = |namespace: &str, kind: &str| types(namespace).iter().filter(|found| *found == kind).count();
    assert_eq!(count("session", "session_started"), count("session", "session_ended"));
}
