//! Typed emitters: what they write, the guard of a tool call, and the ownership of crews.

use std::{sync::Arc, time::Duration};

use crewcast_events::catalog::{
    mission::{CrewStatus, Signal},
    run::{RunEvent, RunKind},
    tool::{ToolEvent, ToolKind},
};
use crewcast_publisher::{Outcome, Ownership, OwnershipMode, Publisher, RunOutcome, Stats, Transport};
use serde_json::{Value, json};

use crate::support::{Fake, RedisServer, log, transport, until};

/// Publishes through a real Redis and answers the channel's log.
async fn written(name: &str, emit: impl FnOnce(&Publisher)) -> Vec<Value> {
    let server = RedisServer::start();
    let publisher = Publisher::connect(&server.url()).await.unwrap();
    emit(&publisher);
    assert_eq!(publisher.close(Duration::from_secs(10)).await.events, 0);
    log(&server, name).await.iter().map(|message| serde_json::from_str(message).unwrap()).collect()
}

fn tool_events(events: Vec<Value>) -> Vec<ToolEvent> {
    events.into_iter().map(|event| serde_json::from_value(event).unwrap()).collect()
}

#[tokio::test]
async fn a_tool_call_emits_its_start_progress_and_end() {
    let events = written("graph:abc", |publisher| {
        let call = publisher.tools("abc", "r1", "a1").start("search", &json!({"q": "tides"}));
        call.progress("half", Some(0.5));
        call.progress("beyond", Some(7.0));
        call.progress("no figure", Some(f64::NAN));
        call.end(3, Outcome::CompletedWithErrors);
    })
    .await;
    assert_eq!(events[0]["params"], json!({"q": "tides"}));
    let events = tool_events(events);
    for event in &events {
        let named = [&event.crew_id, &event.run_id, &event.agent_id, &event.tool];
        assert_eq!(named, ["abc", "r1", "a1", "search"]);
        assert!(crewcast_events::timestamp::parse(&event.timestamp).is_some());
    }
    let progress = |event: &ToolEvent| match &event.kind {
        ToolKind::ToolProgress { progress, .. } => *progress,
        other => panic!("{other:?}"),
    };
    assert_eq!(events[1..4].iter().map(progress).collect::<Vec<_>>(), [Some(0.5), Some(1.0), None]);
    let ToolKind::ToolEnd { duration_s, exit_code: 3, status: Outcome::CompletedWithErrors } = events[4].kind else {
        panic!("{:?}", events[4])
    };
    assert!((0.0..10.0).contains(&duration_s));
    assert_eq!(events.len(), 5);
}

#[tokio::test]
async fn the_events_of_parallel_calls_of_one_tool_are_paired_by_their_call_id() {
    let events = written("graph:abc", |publisher| {
        let tools = publisher.tools("abc", "r1", "a1");
        let [one, two] = ["one", "two"].map(|name| tools.start("search", &json!({"name": name})));
        two.progress("two", None);
        one.progress("one", None);
        assert_ne!(one.call_id(), two.call_id());
        one.end(1, Outcome::Error);
        two.end(2, Outcome::Error);
    })
    .await;
    let of = |id: &Value| {
        let of_call = events.iter().filter(|event| event["call_id"] == *id);
        let told = of_call.map(|event| {
            let what = ["params", "message", "exit_code"].into_iter().find_map(|key| event.get(key)).unwrap();
            (event["type"].as_str().unwrap(), what.clone())
        });
        told.collect::<Vec<_>>()
    };
    for (start, name, exit) in [(0, "one", 1), (1, "two", 2)] {
        let expected =
            [("tool_start", json!({"name": name})), ("tool_progress", json!(name)), ("tool_end", json!(exit))];
        assert_eq!(of(&events[start]["call_id"]), expected);
    }
}

#[tokio::test]
async fn a_dropped_call_ends_with_success_and_its_duration() {
    let slept = Duration::from_millis(20);
    let events = written("graph:abc", |publisher| {
        let _call = publisher.tools("abc", "r1", "a1").start("search", "tides");
        std::thread::sleep(slept);
    })
    .await;
    assert_eq!(events[0]["params"], json!({"value": "tides"}));
    let end = &tool_events(events)[1];
    let ToolKind::ToolEnd { duration_s, exit_code: 0, status: Outcome::Success } = end.kind else { panic!("{end:?}") };
    assert_eq!(duration_s, (duration_s * 1000.0).round() / 1000.0, "whole milliseconds");
    assert!(duration_s >= slept.as_secs_f64(), "{duration_s}");
}

#[tokio::test]
async fn a_call_dropped_by_a_panic_ends_with_an_error() {
    let events = written("graph:abc", |publisher| {
        let tools = publisher.tools("abc", "r1", "a1");
        let thread = std::thread::spawn(move || {
            let _call = tools.start("search", &());
            panic!("on purpose");
        });
        assert!(thread.join().is_err());
    })
    .await;
    let end = &tool_events(events)[1];
    assert!(matches!(end.kind, ToolKind::ToolEnd { exit_code: 1, status: Outcome::Error, .. }), "{end:?}");
}

#[tokio::test]
async fn a_run_emits_its_lifecycle() {
    let second = Duration::from_secs(1);
    let events = written("run:r1", |publisher| {
        let run = publisher.run("r1").with_crew("abc");
        run.boot(&json!({"topic": "tides"}));
        run.agent_start("a1", "researcher");
        run.task_start("t1", "read", "a1");
        run.task_end("t1", "read", "a1", Outcome::Success, second, Some(json!("read")));
        run.agent_end("a1", "researcher", Outcome::Error, second, None);
        run.error("no more pages", Some("E1"), Some("a1"), false);
        run.done(RunOutcome::Cancelled, second, None);
    })
    .await;
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["boot", "agent_start", "task_start", "task_end", "agent_end", "error", "done"]);
    assert_eq!(events[0]["inputs"], json!({"topic": "tides"}));
    assert_eq!((&events[3]["duration_s"], &events[3]["output"]), (&json!(1.0), &json!("read")));
    assert_eq!((&events[5]["code"], &events[5]["fatal"]), (&json!("E1"), &json!(false)));
    for event in events {
        let event: RunEvent = serde_json::from_value(event).unwrap();
        assert_eq!((event.run_id.as_str(), event.crew_id.as_deref()), ("r1", Some("abc")));
        if let RunKind::Done { status, .. } = event.kind {
            assert_eq!(status, RunOutcome::Cancelled);
        }
    }
}

#[tokio::test]
async fn a_mission_emits_the_status_of_the_crew() {
    let events = written("mission:abc", |publisher| {
        let mission = publisher.mission("abc");
        mission.available();
        mission.busy();
        mission.offline();
    })
    .await;
    let status = |event: Value| {
        let signal: Signal = serde_json::from_value(event).unwrap();
        assert_eq!(signal.payload.crew_id, "abc");
        assert!(signal.timestamp.is_some());
        signal.payload.status
    };
    let statuses: Vec<_> = events.into_iter().map(status).collect();
    assert_eq!(statuses, [CrewStatus::Available, CrewStatus::Busy, CrewStatus::Offline]);
}

#[tokio::test]
async fn an_invalid_id_does_not_fail_the_work() {
    let publisher = Publisher::builder().with_transport(Arc::new(Fake::default()));
    drop(publisher.tools("a b", "r1", "a1").start("search", &()));
    publisher.mission("").busy();
    assert_eq!(publisher.stats(), Stats { dropped: 3, ..Stats::default() });
}

#[tokio::test(start_paused = true)]
async fn crews_and_runs_are_registered_once_before_their_first_event() {
    let fake = Arc::new(Fake::default());
    let publisher = Publisher::builder().org("acme").with_transport(fake.clone());
    drop(publisher.tools("abc", "r1", "a1").start("search", &()));
    drop(publisher.tools("abc", "r1", "a2").start("search", &()));
    publisher.run("r2").boot(&());
    until("all are sent", async || publisher.queued() == 0).await;
    publisher.run("r2").with_crew("abc").boot(&());
    until("all are sent", async || publisher.queued() == 0).await;
    let mut seen = fake.seen();
    seen.retain(|line| !line.ends_with("tool_start") && !line.ends_with("tool_end"));
    seen.sort();
    assert_eq!(
        seen,
        [
            "append run:r2 boot",
            "append run:r2 boot",
            "register crew abc -",
            "register run r1 abc",
            "register run r2 -",
            "register run r2 abc"
        ]
    );
    let position = |what: &str| fake.seen().iter().position(|line| line == what).unwrap();
    assert!(position("register run r1 abc") < position("append graph:abc tool_start"));
    assert!(position("register run r2 -") < position("append run:r2 boot"));
}

#[tokio::test(start_paused = true)]
async fn registrations_wait_for_a_broker_that_is_down_and_are_renewed() {
    let fake = Arc::new(Fake::away());
    let publisher = Publisher::builder().org("acme").with_transport(fake.clone());
    publisher.mission("abc").busy();
    tokio::time::sleep(Duration::from_secs(10)).await;
    fake.set_away(false);
    until("it is sent", async || publisher.queued() == 0).await;
    assert_eq!(fake.seen(), ["register crew abc -", "append mission:abc signal"]);
    tokio::time::sleep(Duration::from_secs(601)).await;
    publisher.mission("abc").busy();
    until("it is sent", async || publisher.queued() == 0).await;
    assert_eq!(fake.seen()[2..], ["register crew abc -", "append mission:abc signal"]);
}

#[tokio::test(start_paused = true)]
async fn another_orgs_crew_is_not_written_to_until_it_is_ours() {
    let fake = Arc::new(Fake::default());
    *fake.owner.lock() = Some("other".to_owned());
    let publisher = Publisher::builder().org("acme").with_transport(fake.clone());
    publisher.mission("abc").busy();
    publisher.mission("abc").available();
    until("they are dropped", async || publisher.queued() == 0).await;
    assert!(fake.seen().is_empty());
    assert_eq!(publisher.stats(), Stats { dropped: 2, ..Stats::default() });
    *fake.owner.lock() = None;
    tokio::time::sleep(Duration::from_secs(61)).await;
    publisher.mission("abc").busy();
    until("it is sent", async || publisher.queued() == 0).await;
    assert_eq!(publisher.stats().published, 1);
}

#[tokio::test]
async fn events_without_an_emitter_keep_their_order_beside_dropped_ones() {
    let server = RedisServer::start();
    let crew = Ownership { kind: crewcast_events::Kind::Crew, id: "abc".into(), org: "other".into(), crew: None };
    transport(&server).register(&crew, OwnershipMode::Keep).await.unwrap();
    let publisher = Publisher::builder().org("acme").connect(&server.url()).await.unwrap();
    publisher.publish("mission:abc", &json!({"type": "one"})).unwrap();
    publisher.mission("abc").busy();
    publisher.publish("mission:abc", &json!({"type": "two"})).unwrap();
    assert_eq!(publisher.close(Duration::from_secs(10)).await.events, 0);
    assert_eq!(publisher.stats(), Stats { published: 2, retried: 0, dropped: 1, ..Stats::default() });
    let messages = log(&server, "mission:abc").await;
    assert!(messages[0].contains("one") && messages[1].contains("two"), "{messages:?}");
}
