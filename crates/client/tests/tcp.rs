//! The public API over a real TCP connection.

use crewcast_client::{Client, Delivery};
use futures_util::{SinkExt, StreamExt};
use tokio::{net::TcpListener, time::timeout};
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use crate::support::{TIMEOUT, accept};

mod support;

#[tokio::test]
async fn a_run_is_followed_across_a_lost_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = format!("http://{}", listener.local_addr().unwrap());
    let mut run = Client::builder(gateway).token("jwt").build().unwrap().run("r1").connect();
    let (first, second) = (r#"{"id":"1-000000aaaaaa","type":"boot"}"#, r#"{"id":"2-aaaaaabbbbbb","type":"done"}"#);

    let server = tokio::spawn(async move {
        let (uri, mut socket) = accept(&listener).await;
        assert_eq!(uri, "/ws/runs/r1");
        socket.send(Message::text(first)).await.unwrap();
        drop(socket);
        let (uri, mut socket) = accept(&listener).await;
        assert_eq!(uri, "/ws/runs/r1?since=1-000000aaaaaa");
        socket.send(Message::text(first)).await.unwrap();
        socket.send(Message::text(second)).await.unwrap();
        let frame = CloseFrame { code: CloseCode::Normal, reason: "run completed".into() };
        socket.close(Some(frame)).await.unwrap();
        while let Some(Ok(_)) = socket.next().await {}
    });

    let mut events = Vec::new();
    let mut ends = 0;
    // The subscription is also a `Stream`.
    while let Some(delivery) = timeout(TIMEOUT, StreamExt::next(&mut run)).await.unwrap() {
        match delivery.unwrap() {
            Delivery::Event { event, .. } => events.push(event.text().to_owned()),
            Delivery::End { reason } => {
                assert_eq!(reason, "run completed");
                ends += 1;
            }
            _ => {}
        }
    }
    assert_eq!(events, [first, second]);
    assert_eq!(ends, 1);
    server.await.unwrap();
}

#[tokio::test]
async fn an_unreachable_gateway_is_reported_and_retried() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let mut run = Client::builder(gateway).build().unwrap().run("r1").connect();
    for _ in 0..3 {
        let delivery = timeout(TIMEOUT, run.next()).await.unwrap().unwrap().unwrap();
        assert!(matches!(delivery, Delivery::Disconnected { .. }), "{delivery:?}");
    }
}
