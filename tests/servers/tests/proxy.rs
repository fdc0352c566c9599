//! The proxy fails in the ways that the fault tests rely on.

use std::time::{Duration, Instant};

use crewcast_test_servers::Proxy;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// A connection through a proxy, and the server's side of it.
async fn connected() -> (Proxy, TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(&listener.local_addr().unwrap().to_string()).await;
    let client = TcpStream::connect(&proxy.address).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    (proxy, client, server)
}

async fn reads(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    timeout(Duration::from_secs(10), stream.read_exact(&mut bytes)).await.expect("bytes in time").expect("bytes");
    bytes
}

async fn is_silent(stream: &mut TcpStream) -> bool {
    timeout(Duration::from_millis(200), stream.read(&mut [0; 8])).await.is_err()
}

async fn ended(stream: &mut TcpStream) -> bool {
    let end = timeout(Duration::from_secs(10), stream.read(&mut [0; 8])).await.expect("an end in time");
    matches!(end, Ok(0) | Err(_))
}

#[tokio::test]
async fn the_proxy_forwards_both_ways_and_delays() {
    let (proxy, mut client, mut server) = connected().await;
    client.write_all(b"ping").await.unwrap();
    assert_eq!(reads(&mut server, 4).await, b"ping");
    proxy.delay(Duration::from_millis(300));
    let since = Instant::now();
    server.write_all(b"pong").await.unwrap();
    assert_eq!(reads(&mut client, 4).await, b"pong");
    assert!(since.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn a_black_hole_swallows_bytes_and_closes_until_it_is_lifted() {
    let (proxy, mut client, mut server) = connected().await;
    proxy.black_hole();
    server.write_all(b"lost").await.unwrap();
    assert!(is_silent(&mut client).await);
    client.shutdown().await.unwrap();
    assert!(is_silent(&mut server).await, "the end is not passed on");
    proxy.forward();
    assert!(ended(&mut server).await);
}

#[tokio::test]
async fn a_cut_ends_open_connections_and_a_refusal_ends_new_ones() {
    let (proxy, mut client, mut server) = connected().await;
    client.write_all(b"x").await.unwrap();
    reads(&mut server, 1).await;
    assert_eq!(proxy.cut(), 1);
    assert!(ended(&mut client).await && ended(&mut server).await);
    assert_eq!(proxy.cuts(), 1);
    proxy.refuse();
    let mut next = TcpStream::connect(&proxy.address).await.unwrap();
    assert!(ended(&mut next).await);
}

#[tokio::test]
async fn a_message_is_cut_in_its_middle() {
    let (proxy, mut client, mut server) = connected().await;
    proxy.cut_inside(6);
    server.write_all(b"+PONG").await.unwrap();
    assert_eq!(reads(&mut client, 5).await, b"+PONG", "too small to be cut");
    server.write_all(b"a message").await.unwrap();
    assert_eq!(reads(&mut client, 6).await, b"a mess");
    assert!(ended(&mut client).await);
    assert_eq!(proxy.cuts(), 1);
}
