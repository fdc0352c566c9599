//! Losing the socket and coming back.

use std::{sync::atomic::Ordering, time::Duration};

use super::{
    chain,
    fake::{Fake, end, event, next, timed},
    logged,
};
use crate::{ClientError, Cut, Delivery};

const LONGEST: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn a_cut_is_resumed_behind_the_last_event_and_repeats_are_dropped() {
    let mut fake = Fake::new();
    let ids = chain(6);
    let mut graph = fake.client().graph("abc").connect();
    let mut peer = fake.accept().await;
    for &id in &ids[..3] {
        peer.say(logged(id)).await;
        assert_eq!(event(&mut graph).await, logged(id));
    }
    drop(peer);
    assert!(matches!(next(&mut graph).await, Delivery::Disconnected { cut: Cut::Io(_), .. }));
    let mut peer = fake.accept().await;
    assert_eq!(peer.uri, format!("/ws/graph/abc?since={}", ids[2]));
    assert!(matches!(next(&mut graph).await, Delivery::Connected { resumed: true }));
    // A gateway that repeats itself.
    for &id in &ids {
        peer.say(logged(id)).await;
    }
    for &id in &ids[3..] {
        assert_eq!(event(&mut graph).await, logged(id));
    }
    assert_eq!(graph.last_id(), Some(ids[5]));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_saw_nothing_yet_asks_for_all_again() {
    let mut fake = Fake::new();
    let mut run = fake.client().run("r1").connect();
    drop(fake.accept().await);
    assert!(matches!(next(&mut run).await, Delivery::Connected { resumed: true }));
    assert!(matches!(next(&mut run).await, Delivery::Disconnected { .. }));
    assert_eq!(fake.accept().await.uri, "/ws/runs/r1");
}

#[tokio::test(start_paused = true)]
async fn a_filtered_reader_resumes_from_where_the_gateway_says_it_stands() {
    let mut fake = Fake::new();
    let ids = chain(9);
    let mut graph = fake.client().graph("abc").types(["tool_start"]).connect();
    let mut peer = fake.accept().await;
    peer.say(logged(ids[4])).await;
    peer.say(format!(r#"{{"type":"ping","source":"gateway","position":{{"graph:abc":"{}"}}}}"#, ids[7])).await;
    peer.say(r#"{"type":"tool_start","live":true}"#).await;
    event(&mut graph).await;
    event(&mut graph).await;
    assert_eq!(graph.last_id(), Some(ids[7]));
    drop(peer);
    assert_eq!(fake.accept().await.uri, format!("/ws/graph/abc?since={}&types=tool_start", ids[7]));
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_had_no_event_yet_is_resumed_from_its_beginning() {
    let mut fake = Fake::new();
    let mut graph = fake.client().graph("abc").connect();
    let mut peer = fake.accept().await;
    assert!(matches!(next(&mut graph).await, Delivery::Connected { resumed: false }));
    peer.say(r#"{"type":"ping","source":"gateway","position":{"graph:abc":null}}"#).await;
    peer.say(r#"{"type":"live"}"#).await;
    event(&mut graph).await;
    drop(peer);
    assert!(matches!(next(&mut graph).await, Delivery::Disconnected { .. }));
    let mut peer = fake.accept().await;
    assert_eq!(peer.uri, "/ws/graph/abc?since=0");
    assert!(matches!(next(&mut graph).await, Delivery::Connected { resumed: true }));
    let first = chain(1)[0];
    peer.say(logged(first)).await;
    assert_eq!(event(&mut graph).await, logged(first));
    drop(peer);
    assert_eq!(fake.accept().await.uri, format!("/ws/graph/abc?since={first}"));
}

/// Nothing has said where it stands: everything would be more than was asked for.
#[tokio::test(start_paused = true)]
async fn a_graph_that_was_cut_before_it_knew_its_place_is_live_again_and_says_so() {
    let mut fake = Fake::new();
    let mut graph = fake.client().graph("abc").connect();
    drop(fake.accept().await);
    next(&mut graph).await;
    next(&mut graph).await;
    assert_eq!(fake.accept().await.uri, "/ws/graph/abc");
    assert!(matches!(next(&mut graph).await, Delivery::Connected { resumed: false }));
}

#[tokio::test(start_paused = true)]
async fn a_reset_is_followed_into_the_other_history() {
    let mut fake = Fake::new();
    let ids = chain(3);
    let other = crewcast_events::EventId::after(Some(ids[0]), *b"zzzzzz");
    let mut graph = fake.client().graph("abc").since(ids[2]).connect();
    let mut peer = fake.accept().await;
    next(&mut graph).await;
    peer.say(format!(
        r#"{{"type":"reset","source":"gateway","channel":"graph:abc","reason":"unknown_id","from":"{other}"}}"#
    ))
    .await;
    assert!(matches!(next(&mut graph).await, Delivery::Reset { from: Some(from), .. } if from == other));
    peer.say(logged(other)).await;
    assert_eq!(event(&mut graph).await, logged(other));
    drop(peer);
    assert_eq!(fake.accept().await.uri, format!("/ws/graph/abc?since={other}"));
}

#[tokio::test(start_paused = true)]
async fn codes_that_forbid_a_retry_end_it() {
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
        let mut fake = Fake::new();
        let mut graph = fake.client().graph("abc").connect();
        fake.accept().await.close(code, "because").await;
        assert_eq!(end(&mut graph).await, Err(error));
        assert_eq!(fake.attempts.all().len(), 1, "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn codes_that_ask_for_a_retry_get_one() {
    for code in [1001, 1011, 1012, 1013, 4408, 4429] {
        let mut fake = Fake::new();
        let mut graph = fake.client().graph("abc").connect();
        fake.accept().await.close(code, "later").await;
        next(&mut graph).await;
        let Delivery::Disconnected { cut, .. } = next(&mut graph).await else { panic!() };
        assert_eq!(cut, Cut::Closed { code, reason: "later".to_owned() });
        fake.accept().await.say(r#"{"type":"x"}"#).await;
        assert_eq!(event(&mut graph).await, r#"{"type":"x"}"#);
    }
}

#[tokio::test(start_paused = true)]
async fn a_status_ends_what_never_worked_and_is_sat_out_by_what_did() {
    let mut fake = Fake::new();
    let mut graph = fake.client().graph("abc").connect();
    fake.refuse(503).await;
    fake.refuse(404).await;
    assert!(matches!(end(&mut graph).await, Err(ClientError::NotFound { .. })));

    let mut graph = fake.client().graph("abc").connect();
    fake.accept().await.say(r#"{"type":"x"}"#).await;
    event(&mut graph).await;
    fake.refuse(404).await;
    fake.accept().await.say(r#"{"type":"y"}"#).await;
    assert_eq!(event(&mut graph).await, r#"{"type":"y"}"#);
}

#[tokio::test(start_paused = true)]
async fn attempts_come_ever_more_rarely_and_for_ever() {
    let mut fake = Fake::new();
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
async fn a_gateway_that_closes_at_once_is_not_hammered() {
    let mut fake = Fake::new();
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
    let mut fake = Fake::new();
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
    // Connected: a retry is not kept for later.
    let peer = fake.accept().await;
    next(&mut graph).await;
    graph.retry_now();
    drop(peer);
    let (_, waited) = timed(fake.accept()).await;
    assert!(waited >= Duration::from_millis(50), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_goes_away_is_left_at_its_own_word() {
    let mut fake = Fake::new();
    let mut graph = fake.client().graph("abc").connect();
    // Told and closed at once: the wait is the client's.
    let mut peer = fake.accept().await;
    peer.say(r#"{"type":"reconnect","source":"gateway","in_ms":3000}"#).await;
    peer.close(1012, "going away").await;
    let (mut peer, waited) = timed(fake.accept()).await;
    assert!((3000..3110).contains(&waited.as_millis()), "{waited:?}");
    // Told, and closed when the time has come: at once.
    peer.say(r#"{"type":"reconnect","source":"gateway","in_ms":3000}"#).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    peer.close(1012, "going away").await;
    let (peer, waited) = timed(fake.accept()).await;
    assert!(waited < Duration::from_millis(110), "{waited:?}");
    drop(peer);
    while !matches!(next(&mut graph).await, Delivery::Disconnected { cut: Cut::Io(_), .. }) {}
}

#[tokio::test(start_paused = true)]
async fn a_silent_gateway_is_dead_and_a_pinging_one_is_not() {
    let mut fake = Fake::new();
    let mut graph = fake.client().graph("abc").connect();
    let mut peer = fake.accept().await;
    next(&mut graph).await;
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_secs(70)).await;
        super::Raw::send_ping(&mut peer.socket).await;
        assert!(peer.hear().await.is_some(), "a pong");
    }
    let (delivery, waited) = timed(next(&mut graph)).await;
    assert!(matches!(delivery, Delivery::Disconnected { cut: Cut::Silent(_), .. }), "{delivery:?}");
    assert_eq!(waited.as_secs(), 75);
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_never_answers_the_handshake_is_given_up() {
    let mut fake = Fake::new();
    let mut graph = fake.client().graph("abc").connect();
    let (delivery, waited) = timed(next(&mut graph)).await;
    assert!(matches!(delivery, Delivery::Disconnected { cut: Cut::Io(_), .. }), "{delivery:?}");
    assert_eq!(waited.as_secs(), 10);
    // The first connection still waits to be accepted, and is gone.
    fake.forget().await;
    fake.accept().await.say(r#"{"type":"x"}"#).await;
    assert_eq!(event(&mut graph).await, r#"{"type":"x"}"#);
}
