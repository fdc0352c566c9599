//! Lost connections and reconnects.

use std::{sync::atomic::Ordering, time::Duration};

use super::{
    chain,
    fake::{FakeGateway, end, event, next, timed},
    logged,
};
use crate::{ClientError, Cut, Delivery};

const LONGEST: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn a_lost_connection_resumes_after_the_last_event_and_repeats_are_dropped() {
    let mut fake = FakeGateway::new();
    let ids = chain(6);
    let mut graph = fake.client().graph("abc").connect();
    let mut peer = fake.accept().await;
    for &id in &ids[..3] {
        peer.send(logged(id)).await;
        assert_eq!(event(&mut graph).await, logged(id));
    }
    drop(peer);
    assert!(matches!(next(&mut graph).await, Delivery::Disconnected { cut: Cut::Io(_), .. }));
    let mut peer = fake.accept().await;
    assert_eq!(peer.uri, format!("/ws/graph/abc?since={}", ids[2]));
    assert!(matches!(next(&mut graph).await, Delivery::Connected { resumed: true }));
    // The gateway repeats events.
    for &id in &ids {
        peer.send(logged(id)).await;
    }
    for &id in &ids[3..] {
        assert_eq!(event(&mut graph).await, logged(id));
    }
    assert_eq!(graph.last_id(), Some(ids[5]));
}

#[tokio::test(start_paused = true)]
async fn a_run_without_events_starts_over() {
    let mut fake = FakeGateway::new();
    let mut run = fake.client().run("r1").connect();
    drop(fake.accept().await);
    assert!(matches!(next(&mut run).await, Delivery::Connected { resumed: true }));
    assert!(matches!(next(&mut run).await, Delivery::Disconnected { .. }));
    assert_eq!(fake.accept().await.uri, "/ws/runs/r1");
}

#[tokio::test(start_paused = true)]
async fn a_filtered_reader_resumes_at_the_position_that_the_gateway_sends() {
    let mut fake = FakeGateway::new();
    let ids = chain(9);
    let mut graph = fake.client().graph("abc").types(["tool_start"]).connect();
    let mut peer = fake.accept().await;
    peer.send(logged(ids[4])).await;
    peer.send(format!(r#"{{"type":"ping","source":"gateway","position":{{"graph:abc":"{}"}}}}"#, ids[7])).await;
    peer.send(r#"{"type":"tool_start","live":true}"#).await;
    event(&mut graph).await;
    event(&mut graph).await;
    assert_eq!(graph.last_id(), Some(ids[7]));
    drop(peer);
    assert_eq!(fake.accept().await.uri, format!("/ws/graph/abc?since={}&types=tool_start", ids[7]));
}

#[tokio::test(start_paused = true)]
async fn an_empty_channel_is_resumed_from_its_beginning() {
    let mut fake = FakeGateway::new();
    let mut graph = fake.client().graph("abc").connect();
    let mut peer = fake.accept().await;
    assert!(matches!(next(&mut graph).await, Delivery::Connected { resumed: false }));
    peer.send(r#"{"type":"ping","source":"gateway","position":{"graph:abc":null}}"#).await;
    peer.send(r#"{"type":"live"}"#).await;
    event(&mut graph).await;
    drop(peer);
    assert!(matches!(next(&mut graph).await, Delivery::Disconnected { .. }));
    let mut peer = fake.accept().await;
    assert_eq!(peer.uri, "/ws/graph/abc?since=0");
    assert!(matches!(next(&mut graph).await, Delivery::Connected { resumed: true }));
    let first = chain(1)[0];
    peer.send(logged(first)).await;
    assert_eq!(event(&mut graph).await, logged(first));
    drop(peer);
    assert_eq!(fake.accept().await.uri, format!("/ws/graph/abc?since={first}"));
}

/// Without a position, resuming would send more than the caller requested.
#[tokio::test(start_paused = true)]
async fn a_graph_without_a_position_goes_on_live_and_says_so() {
    let mut fake = FakeGateway::new();
    let mut graph = fake.client().graph("abc").connect();
    drop(fake.accept().await);
    next(&mut graph).await;
    next(&mut graph).await;
    assert_eq!(fake.accept().await.uri, "/ws/graph/abc");
    assert!(matches!(next(&mut graph).await, Delivery::Connected { resumed: false }));
}

#[tokio::test(start_paused = true)]
async fn after_a_reset_the_client_follows_the_new_history() {
    let mut fake = FakeGateway::new();
    let ids = chain(3);
    let other = crewcast_events::EventId::after(Some(ids[0]), *b"zzzzzz");
    let mut graph = fake.client().graph("abc").since(ids[2]).connect();
    let mut peer = fake.accept().await;
    next(&mut graph).await;
    peer.send(format!(
        r#"{{"type":"reset","source":"gateway","channel":"graph:abc","reason":"unknown_id","from":"{other}"}}"#
    ))
    .await;
    assert!(matches!(next(&mut graph).await, Delivery::Reset { from: Some(from), .. } if from == other));
    peer.send(logged(other)).await;
    assert_eq!(event(&mut graph).await, logged(other));
    drop(peer);
    assert_eq!(fake.accept().await.uri, format!("/ws/graph/abc?since={other}"));
}

#[tokio::test(start_paused = true)]
async fn final_close_codes_end_the_subscription() {
    let reason = || "because".to_owned();
    for (code, error) in [
        (1003, ClientError::Refused { code: 1003, reason: reason() }),
        (1007, ClientError::Refused { code: 1007, reason: reason() }),
        (1008, ClientError::Refused { code: 1008, reason: reason() }),
        (1009, ClientError::Refused { code: 1009, reason: reason() }),
        (4400, ClientError::Refused { code: 4400, reason: reason() }),
        (4401, ClientError::Unauthorized { reason: reason() }),
        (4403, ClientError::Forbidden { reason: reason() }),
        (4404, ClientError::NotFound { reason: reason() }),
        (4409, ClientError::Replaced { reason: reason() }),
    ] {
        let mut fake = FakeGateway::new();
        let mut graph = fake.client().graph("abc").connect();
        fake.accept().await.close(code, "because").await;
        assert_eq!(end(&mut graph).await, Err(error));
        assert_eq!(fake.attempts.all().len(), 1, "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn temporary_close_codes_are_retried() {
    for code in [1001, 1011, 1012, 1013, 4408, 4429] {
        let mut fake = FakeGateway::new();
        let mut graph = fake.client().graph("abc").connect();
        fake.accept().await.close(code, "later").await;
        next(&mut graph).await;
        let Delivery::Disconnected { cut, .. } = next(&mut graph).await else { panic!() };
        assert_eq!(cut, Cut::Closed { code, reason: "later".to_owned() });
        fake.accept().await.send(r#"{"type":"x"}"#).await;
        assert_eq!(event(&mut graph).await, r#"{"type":"x"}"#);
    }
}

#[tokio::test(start_paused = true)]
async fn an_http_status_is_final_only_before_the_first_success() {
    let mut fake = FakeGateway::new();
    let mut graph = fake.client().graph("abc").connect();
    fake.refuse(503).await;
    fake.refuse(404).await;
    assert!(matches!(end(&mut graph).await, Err(ClientError::NotFound { .. })));

    let mut graph = fake.client().graph("abc").connect();
    fake.accept().await.send(r#"{"type":"x"}"#).await;
    event(&mut graph).await;
    fake.refuse(404).await;
    fake.accept().await.send(r#"{"type":"y"}"#).await;
    assert_eq!(event(&mut graph).await, r#"{"type":"y"}"#);
}

#[tokio::test(start_paused = true)]
async fn attempts_back_off_and_never_stop() {
    let mut fake = FakeGateway::new();
    fake.down.store(40, Ordering::SeqCst);
    let mut graph = fake.client().graph("abc").connect();
    for _ in 0..40 {
        assert!(matches!(next(&mut graph).await, Delivery::Disconnected { cut: Cut::Io(_), .. }));
    }
    let _peer = fake.accept().await;
    let attempts = fake.attempts.all();
    let waits: Vec<Duration> = attempts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(waits.len(), 40);
    assert!(waits[0] <= Duration::from_millis(101), "{waits:?}");
    for (i, wait) in waits.iter().enumerate() {
        let full = Duration::from_millis(100 << i.min(10)).min(LONGEST);
        assert!((full / 2..=full + Duration::from_millis(2)).contains(wait), "{i}: {wait:?} of {full:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_closes_at_once_is_retried_with_backoff() {
    let mut fake = FakeGateway::new();
    let mut graph = fake.client().graph("abc").connect();
    let reading = tokio::spawn(async move { while let Some(Ok(_)) = graph.next().await {} });
    for _ in 0..12 {
        fake.accept().await.close(1012, "going away").await;
    }
    let attempts = fake.attempts.all();
    assert!(attempts[11] - attempts[10] >= LONGEST / 2, "{attempts:?}");
    reading.abort();
}

#[tokio::test(start_paused = true)]
async fn retry_now_ends_the_wait() {
    let mut fake = FakeGateway::new();
    fake.down.store(20, Ordering::SeqCst);
    let mut graph = fake.client().graph("abc").connect();
    let handle = graph.handle();
    for _ in 0..20 {
        let Delivery::Disconnected { retry_in, .. } = next(&mut graph).await else { panic!() };
        let (dialed, waited) = timed(async {
            handle.retry_now();
            let before = fake.attempts.all().len();
            while fake.attempts.all().len() == before {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let () = dialed;
        assert!(waited < retry_in, "{waited:?} of {retry_in:?}");
    }
    assert_eq!(fake.attempts.all().len(), 21);
    assert!(fake.attempts.all()[20] - fake.attempts.all()[0] < Duration::from_millis(100));
    // While connected, a retry is not kept for later.
    let peer = fake.accept().await;
    next(&mut graph).await;
    graph.retry_now();
    drop(peer);
    let (_, waited) = timed(fake.accept()).await;
    assert!(waited >= Duration::from_millis(50), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_draining_replica_sets_the_time_of_the_reconnect() {
    let mut fake = FakeGateway::new();
    let mut graph = fake.client().graph("abc").connect();
    // The replica closes at once: the client waits.
    let mut peer = fake.accept().await;
    peer.send(r#"{"type":"reconnect","source":"gateway","in_ms":3000}"#).await;
    peer.close(1012, "going away").await;
    let (mut peer, waited) = timed(fake.accept()).await;
    assert!((3000..3110).contains(&waited.as_millis()), "{waited:?}");
    // The replica closes after the time it announced: the client reconnects at once.
    peer.send(r#"{"type":"reconnect","source":"gateway","in_ms":3000}"#).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    peer.close(1012, "going away").await;
    let (peer, waited) = timed(fake.accept()).await;
    assert!(waited < Duration::from_millis(110), "{waited:?}");
    drop(peer);
    while !matches!(next(&mut graph).await, Delivery::Disconnected { cut: Cut::Io(_), .. }) {}
}

#[tokio::test(start_paused = true)]
async fn a_gateway_without_pings_counts_as_lost() {
    let mut fake = FakeGateway::new();
    let mut graph = fake.client().graph("abc").connect();
    let mut peer = fake.accept().await;
    next(&mut graph).await;
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_secs(70)).await;
        super::Raw::send_ping(&mut peer.socket).await;
        assert!(peer.receive().await.is_some(), "a pong");
    }
    let (delivery, waited) = timed(next(&mut graph)).await;
    assert!(matches!(delivery, Delivery::Disconnected { cut: Cut::Silent(_), .. }), "{delivery:?}");
    assert_eq!(waited.as_secs(), 75);
}

#[tokio::test(start_paused = true)]
async fn a_handshake_without_an_answer_times_out() {
    let mut fake = FakeGateway::new();
    let mut graph = fake.client().graph("abc").connect();
    let (delivery, waited) = timed(next(&mut graph)).await;
    assert!(matches!(delivery, Delivery::Disconnected { cut: Cut::Io(_), .. }), "{delivery:?}");
    assert_eq!(waited.as_secs(), 10);
    // The first connection still waits in the queue; the client has dropped it.
    fake.forget().await;
    fake.accept().await.send(r#"{"type":"x"}"#).await;
    assert_eq!(event(&mut graph).await, r#"{"type":"x"}"#);
}
