//! The load generator with the raw write loop, and with a server that makes mistakes.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::Command,
    sync::Arc,
    thread,
    time::Duration,
};

use crewcast_bench::{
    load::{self, Load, Outcome, Pace, Target, Watched},
    protocol::Raw,
    servers::{RawServer, Redis, Running, Server, Setup},
    wire::frame,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_crewcast-bench");

fn raw(redis: &Redis) -> Running {
    let setup = Setup {
        redis: redis.address(),
        core: None,
        replicas: 1,
        channels: 1,
        sockets: 1,
        deflate: false,
        peers: "none".into(),
    };
    RawServer { program: Path::new(PROGRAM).to_owned() }.start(&setup).unwrap()
}

/// The outcome of `crewcast-bench load` with these arguments.
fn load_of(server: &Running, redis: &Redis, more: &[&str]) -> serde_json::Value {
    let output = Command::new(PROGRAM)
        .args(["load", "--protocol", "raw", "--json", "--warm-up", "0.2", "--seconds", "0.5"])
        .args(["--url", &server.endpoints.sockets[0].to_string(), "--redis", &redis.address().to_string()])
        .args(["--pid", &server.processes[0].id().to_string()])
        .args(more)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()["outcome"].clone()
}

#[test]
fn closed_and_open_loops_deliver_every_event_once_and_in_order() {
    let redis = Redis::start(None).unwrap();
    let server = raw(&redis);
    for pace in [&["--in-flight", "8"], &["--total", "16"], &["--rate", "200"]] {
        let outcome = load_of(&server, &redis, &[&["--channels", "4", "--sockets", "40"][..], pace].concat());
        let number = |name: &str| outcome[name].as_f64().unwrap();
        assert!(number("deliveries") >= 500.0, "{pace:?}: {outcome}");
        assert_eq!(number("lost") + number("doubled") + number("disordered") + number("undelivered"), 0.0);
        assert!(number("rss_loaded") > 0.0 && outcome["latency"]["p50"].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn processes_share_the_sockets_and_one_publishes() {
    let redis = Redis::start(None).unwrap();
    let server = raw(&redis);
    let shape = ["--channels", "2", "--sockets", "40", "--rate", "200", "--processes", "2"];
    let outcome = load_of(&server, &redis, &shape);
    let (published, deliveries) = (outcome["published"].as_u64().unwrap(), outcome["deliveries"].as_u64().unwrap());
    assert_eq!((outcome["generators"].as_u64(), outcome["undelivered"].as_u64()), (Some(2), Some(0)), "{outcome}");
    // Each event reaches twenty sockets, ten per process. The windows of the processes begin a moment apart.
    assert!(deliveries > published * 16 && deliveries < published * 24, "{deliveries} of {published}");
}

#[test]
fn churn_and_slow_readers_are_not_counted_as_loss() {
    let redis = Redis::start(None).unwrap();
    let server = raw(&redis);
    let outcome = load_of(
        &server,
        &redis,
        &["--sockets", "50", "--rate", "200", "--churn", "0.5", "--slow", "0.1", "--size", "2000"],
    );
    assert!(outcome["reopened"].as_u64().unwrap() > 5, "{outcome}");
    assert!(outcome["deliveries_to_slow"].as_u64().unwrap() < outcome["deliveries"].as_u64().unwrap() / 10);
}

/// The outcome with a server that has one socket, passes its events through `spoil`, and is its own Redis.
fn spoiled(spoil: fn(u64, String) -> Vec<String>) -> Outcome {
    let (sockets, redis) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let target = Target { sockets: vec![sockets.local_addr().unwrap()], publish: Some(redis.local_addr().unwrap()) };
    thread::spawn(move || serve(&sockets, &redis, spoil));
    let load = Load {
        sockets_per_channel: 1,
        pace: Pace::Open(500.0),
        warm_up: Duration::from_millis(50),
        window: Duration::from_millis(300),
        ..Load::default()
    };
    load::run(&load, target, Arc::new(Raw), &Watched::default()).unwrap()
}

fn serve(sockets: &TcpListener, redis: &TcpListener, spoil: fn(u64, String) -> Vec<String>) {
    let producer: TcpStream = redis.accept().unwrap().0;
    let mut socket = sockets.accept().unwrap().0;
    let mut request = [0; 1024];
    let _ = socket.read(&mut request).unwrap();
    socket.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").unwrap();
    let events = BufReader::new(producer).lines().map_while(Result::ok).filter(|line| line.contains("~n"));
    for (number, event) in (0..).zip(events) {
        let mut frames = Vec::new();
        spoil(number, event).iter().for_each(|event| frame::push(&mut frames, frame::TEXT, event.as_bytes()));
        if socket.write_all(&frames).is_err() {
            return;
        }
    }
}

#[test]
fn lost_duplicated_and_reordered_events_are_found() {
    let clean = spoiled(|_, event| vec![event]);
    assert!(clean.is_clean() && clean.deliveries > 50, "{clean:?}");

    let losing = spoiled(|number, event| if number == 30 { vec![] } else { vec![event] });
    assert_eq!((losing.lost, losing.doubled, losing.disordered), (1, 0, 0));

    let doubling = spoiled(|number, event| if number == 30 { vec![event.clone(), event] } else { vec![event] });
    assert_eq!((doubling.lost, doubling.doubled, doubling.disordered), (0, 1, 0));

    // Two events swap places.
    let swapping = spoiled(|number, event| match number {
        30 => vec![event.replace("~n00000030", "~n00000031")],
        31 => vec![event.replace("~n00000031", "~n00000030")],
        _ => vec![event],
    });
    assert_eq!((swapping.lost, swapping.doubled, swapping.disordered), (0, 0, 1));
}

#[test]
fn a_missing_server_is_an_error() {
    let nobody: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let output =
        Command::new(PROGRAM).args(["load", "--url", &nobody.to_string(), "--redis", &nobody.to_string()]).output();
    assert_eq!(output.unwrap().status.code(), Some(2));
}
