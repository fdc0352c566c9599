//! The wrapper around a task: it emits every kind of end, and changes no result.

use std::{convert::Infallible, panic::AssertUnwindSafe, time::Duration};

use crewcast_publisher::{
    MAX_ERROR_TEXT, MAX_EVENT_BYTES, Publisher, TaskEmitter,
    catalog::forge::{agents::Agent, knowledge::Node, tasks::Task},
};
use futures_util::FutureExt;
use serde_json::{Value, json};

use crate::support::{RedisServer, events, eventually, state};

/// Emits on `tasks:acme` of a real Redis. Answers the events after the first `task_started`, and the remaining state.
async fn told(emit: impl AsyncFnOnce(TaskEmitter)) -> (Vec<Value>, Vec<String>) {
    let server = RedisServer::start();
    let publisher = Publisher::connect(&server.url()).await.unwrap();
    emit(publisher.tasks("acme")).await;
    assert_eq!(publisher.close(Duration::from_secs(10)).await.events, 0);
    let mut events = events(&server, "tasks:acme").await;
    assert_eq!(events.remove(0)["type"], "task_started");
    (events, state(&server, "tasks:acme").await.into_keys().collect())
}

fn task() -> Task {
    Task::new("t1", "Read")
}

/// The only event is a failure with this error, and no state remains.
fn only_failure((events, left): (Vec<Value>, Vec<String>)) -> String {
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0]["type"], "task_failed");
    assert!(left.is_empty(), "{left:?}");
    events[0]["data"]["error"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_result_and_an_error_come_back_as_they_are() {
    let (events, left) = told(async |tasks| {
        let read = tasks.run(task(), async |task| {
            task.progress(150.0, "");
            task.progress(f64::NAN, "no figure");
            Ok::<_, Infallible>("all of it".to_owned())
        });
        assert_eq!(read.await.unwrap(), "all of it");
    })
    .await;
    let kinds: Vec<&Value> = events.iter().map(|event| &event["type"]).collect();
    assert_eq!(kinds, ["task_progress", "task_progress", "task_completed"]);
    assert_eq!(events[0]["data"], json!({"task_id": "t1", "name": "Read", "percentage": 100.0}));
    assert_eq!((&events[1]["data"]["percentage"], &events[1]["data"]["message"]), (&json!(0.0), &json!("no figure")));
    assert_eq!(events[2]["data"]["result"], Value::Null);
    assert!(left.is_empty(), "{left:?}");

    let failure = told(async |tasks| {
        let error = std::io::Error::other("no more pages");
        let kind = error.kind();
        assert_eq!(tasks.run(task(), async |_| Err::<(), _>(error)).await.unwrap_err().kind(), kind);
    });
    assert_eq!(only_failure(failure.await), "no more pages");
}

#[tokio::test]
async fn a_panic_fails_the_task_and_goes_on() {
    let failure = told(async |tasks| {
        let why = String::from("purpose");
        let work = tasks.run(task(), async |_| -> Result<(), Infallible> { panic!("on {why}") });
        let panic = AssertUnwindSafe(work).catch_unwind().await.unwrap_err();
        assert_eq!(panic.downcast_ref::<String>().unwrap(), "on purpose");
    });
    assert_eq!(only_failure(failure.await), "panicked: on purpose");
}

#[tokio::test]
async fn a_future_that_is_dropped_was_cancelled() {
    let failure = told(async |tasks| {
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let work = async move |_| {
            begun.send(()).unwrap();
            std::future::pending::<Result<(), Infallible>>().await
        };
        let spawned = tokio::spawn(tasks.run(task(), work));
        has_begun.await.unwrap();
        spawned.abort();
        assert!(spawned.await.unwrap_err().is_cancelled());
    });
    assert_eq!(only_failure(failure.await), "cancelled");
}

#[tokio::test]
async fn a_guard_ends_once_and_nothing_comes_behind_its_end() {
    let (events, left) = told(async |tasks| {
        let running = tasks.start(task());
        let handle = running.handle();
        running.set_result(&json!({"pages": 8}));
        running.complete();
        handle.progress(50.0, "too late");
        handle.set_result(&"too late");
    })
    .await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!((&events[0]["type"], &events[0]["data"]["result"]["pages"]), (&json!("task_completed"), &json!(8)));
    assert!(left.is_empty(), "a late progress would bring the document back: {left:?}");

    assert_eq!(only_failure(told(async |tasks| drop(tasks.start(task()))).await), "cancelled");
    let failure = told(async |tasks| {
        let thread = std::thread::spawn(move || {
            let _running = tasks.start(task());
            panic!("on purpose");
        });
        assert!(thread.join().is_err());
    });
    assert_eq!(only_failure(failure.await), "panicked");
}

#[tokio::test]
async fn what_is_too_long_does_not_keep_a_task_from_ending() {
    let long = "é".repeat(MAX_ERROR_TEXT);
    let failure = told(async |tasks| tasks.start(task()).fail(&long));
    assert_eq!(only_failure(failure.await), "é".repeat(MAX_ERROR_TEXT / 2));

    let (events, left) = told(async |tasks| {
        let running = tasks.start(task());
        running.set_result(&"x".repeat(MAX_EVENT_BYTES));
        running.complete();
    })
    .await;
    assert_eq!((&events[0]["type"], &events[0]["data"]["result"]), (&json!("task_completed"), &Value::Null));
    assert!(left.is_empty(), "{left:?}");
}

/// A running task is in the state; ten thousand that have ended leave nothing.
#[tokio::test]
async fn the_state_is_what_is_going_on() {
    let server = RedisServer::start();
    let publisher = Publisher::builder().queue_events(50_000).connect(&server.url()).await.unwrap();
    let tasks = publisher.tasks("acme");
    let running = tasks.start(task().of_agent("a1"));
    running.progress(20.0, "page 2");
    for n in 0..10_000 {
        tasks.start(Task::new(format!("n{n}"), "short")).complete();
    }
    eventually(async || publisher.queued() == 0).await;
    let documents = state(&server, "tasks:acme").await;
    assert_eq!(documents.keys().collect::<Vec<_>>(), ["t1"]);
    assert_eq!((&documents["t1"]["agent_id"], &documents["t1"]["percentage"]), (&json!("a1"), &json!(20.0)));
    running.complete();
    assert_eq!(publisher.close(Duration::from_secs(10)).await.events, 0);
    assert!(state(&server, "tasks:acme").await.is_empty());
}

#[tokio::test]
async fn an_id_that_cannot_name_a_document_or_a_channel_is_counted() {
    let server = RedisServer::start();
    let publisher = Publisher::connect(&server.url()).await.unwrap();
    publisher.agents("acme").created(&Agent::new("", "Nobody", "idle"));
    publisher.agents("acme").deleted(&"x".repeat(129), None);
    publisher.agents("acme").created(&Agent::new("a\nb", "Nobody", "idle"));
    publisher.knowledge("no org").node_added(Node::new("moon", "Moon"), None);
    publisher.stream("a b").execution("e1").failed("no stream");
    // The id of an agent may be anything that is printable and not too long.
    publisher.agents("acme").created(&Agent::new("agents/é 1", "Somebody", "idle"));
    assert_eq!(publisher.close(Duration::from_secs(10)).await.events, 0);
    assert_eq!((publisher.stats().dropped, publisher.stats().published), (5, 1));
    assert_eq!(state(&server, "agents:acme").await.into_keys().collect::<Vec<_>>(), ["agents/é 1"]);
}
