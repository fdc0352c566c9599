//! Ports for servers that are stopped and restarted.

use std::{
    net::TcpListener,
    sync::atomic::{AtomicU16, Ordering},
};

/// Below the range for outgoing connections (32768 and up on Linux), so that no connection takes the port of a server
/// that is stopped. The bus of a Cluster node uses the port ten thousand above.
const RANGE: std::ops::Range<u16> = 12_000..22_000;

/// A port that nothing listens on. A process gets each port of the range once before any is repeated.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test binaries that run at the same time start in different places.
    let ports = RANGE.end - RANGE.start;
    let begin = (std::process::id().wrapping_mul(397) % u32::from(ports)) as u16;
    for _ in RANGE {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % ports;
        let port = RANGE.start + (begin + step) % ports;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free in {RANGE:?}");
}
