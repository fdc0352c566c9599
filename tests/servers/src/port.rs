//! Ports for servers that are stopped and started again.

use std::{
    net::TcpListener,
    sync::atomic::{AtomicU16, Ordering},
};

/// Below the range from which kernels take the ports of outgoing connections (32768 and up on Linux): while a server
/// is away, nobody's connection can sit on its port. Ten thousand above it a Cluster node has its bus.
const RANGE: std::ops::Range<u16> = 12_000..22_000;

/// A port that nobody listens on. No port is given twice by one process before the range has been used up.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test binaries that run at the same time begin in different places.
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
