//! `limits.*`, `compression.*`: the bounds of one replica, and how it compresses.

use std::time::Duration;

use super::{Size, form::tables, rules::Rules};

tables! {
    /// Bounds. Each is enforced, and a test exceeds it.
    Limits {
        /// Sockets and event streams of this replica; `None`: from the open-file limit.
        connections: Option<usize> = None,
        /// Sockets and event streams of one `sub`; 0: no bound.
        per_user: usize = 1000,
        /// Sockets and event streams of one client address; 0: no bound.
        per_address: usize = 0,
        /// Time from accept to the end of the request's head.
        handshake: Duration = Duration::from_secs(10),
        /// Bytes of one client message, and of one published event.
        message: Size = Size(1 << 20),
        /// Channels of one socket that a client asked for by name.
        subscriptions: usize = 256,
        /// How many messages a client may send on one socket.
        messages_per_minute: u32 = 600,
        /// How long a reader may make no progress.
        stall: Duration = Duration::from_secs(60),
        /// Events in one channel's ring.
        ring_events: usize = 1024,
        /// Bytes in one channel's ring.
        ring_bytes: Size = Size(4 << 20),
        /// Bytes in all rings of this process.
        total_ring_bytes: Size = Size(512 << 20),
    }

    // Measured on the catalog's events: below 128 bytes at most a tenth is saved. Of events of 200 bytes, level 1 saves
    // a fifth and each level from 2 on three tenths, in 6 us. Of large events, level 5 comes within two per cent of
    // level 9 in a third of the time.
    /// Compression on sockets whose clients offer it (permessage-deflate).
    Compression {
        /// Whether an offer is accepted.
        enabled: bool = true,
        /// Bytes below which an event is sent as it is.
        threshold: Size = Size(128),
        /// 1 (fast) to 9 (small).
        level: u32 = 5,
    }
}

const AT_LEAST_ONE: &str = "must be at least 1";

pub(crate) fn check(limits: &Limits, compression: &Compression, rules: &mut Rules<'_>) {
    let text = "0 would refuse everybody; leave it unset to follow the open-file limit";
    rules.hold("limits.connections", limits.connections != Some(0), text);
    rules.positive("limits.handshake", limits.handshake);
    rules.positive("limits.stall", limits.stall);
    rules.hold("limits.message", limits.message.0 > 0, AT_LEAST_ONE);
    rules.hold("limits.subscriptions", limits.subscriptions > 0, AT_LEAST_ONE);
    rules.hold("limits.messages_per_minute", limits.messages_per_minute > 0, AT_LEAST_ONE);
    rules.hold("limits.ring_events", limits.ring_events > 0, AT_LEAST_ONE);
    let text = "must be at least limits.message, or one event would not fit into a ring";
    rules.hold("limits.ring_bytes", limits.ring_bytes >= limits.message, text);
    let total = limits.total_ring_bytes >= limits.ring_bytes;
    rules.hold("limits.total_ring_bytes", total, "must be at least limits.ring_bytes");
    let text = "must be 1 (fast) to 9 (small); compression.enabled = false switches it off";
    rules.hold("compression.level", (1..=9).contains(&compression.level), text);
}
