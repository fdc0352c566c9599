//! The trace context of the caller travels with its events.

use std::{sync::Arc, time::Duration};

use crewcast_publisher::{Outcome, Publisher, catalog::forge::tasks::Task};
use opentelemetry::{
    Context,
    trace::{SpanContext, TraceContextExt, TraceFlags},
};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::layer::SubscriberExt;

use crate::support::{Meddling, RedisServer, transport};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[tokio::test]
async fn a_span_is_the_parent_of_its_events() {
    let server = RedisServer::start();
    let seen = Arc::new(Meddling::recording(transport(&server)));
    let publisher = Publisher::builder().with_transport(seen.clone());
    let subscriber = tracing_subscriber::registry().with(tracing_opentelemetry::layer());
    let (call, task) = tracing::subscriber::with_default(subscriber, || {
        let span = tracing::info_span!("work");
        let (trace, parent) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
        let (trace, parent) = (u128::from_str_radix(trace, 16).unwrap(), u64::from_str_radix(parent, 16).unwrap());
        let remote = SpanContext::new(trace.into(), parent.into(), TraceFlags::SAMPLED, true, Default::default());
        span.set_parent(Context::new().with_remote_span_context(remote)).unwrap();
        let _entered = span.enter();
        let call = publisher.tools("abc", "r1", "a1").start("search", &());
        (call, publisher.tasks("acme").start(Task::new("t1", "Read")))
    });
    call.end(0, Outcome::Success);
    task.complete();
    publisher.mission("abc").busy();
    assert_eq!(publisher.close(Duration::from_secs(10)).await.events, 0);
    let appends = seen.appends.lock();
    let events = appends.iter().flat_map(|append| &append.entries);
    let mut parents = Vec::new();
    for entry in events {
        let event: serde_json::Value = serde_json::from_slice(entry.body.object()).unwrap();
        parents.push((event["type"].as_str().unwrap().to_owned(), event["traceparent"].as_str().map(str::to_owned)));
    }
    let expected = [
        ("signal", None),
        ("task_completed", Some(PARENT)),
        ("task_started", Some(PARENT)),
        ("tool_end", Some(PARENT)),
        ("tool_start", Some(PARENT)),
    ];
    parents.sort();
    assert_eq!(parents, expected.map(|(kind, parent)| (kind.to_owned(), parent.map(str::to_owned))));
}
