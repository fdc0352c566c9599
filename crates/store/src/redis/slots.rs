//! The slots of a Cluster (Redis Cluster specification, "Key distribution model").

use std::ops::RangeInclusive;

use redis::{Cmd, Value};

/// The number of slots.
pub(crate) const SLOTS: u16 = 16384;

/// The slot of a key or of a sharded channel: the CRC16 of the part between the first braces, or of the whole key when
/// that part is empty or missing.
pub fn slot_of(key: &[u8]) -> u16 {
    let tag = key.iter().position(|&b| b == b'{').and_then(|open| {
        let inside = &key[open + 1..];
        inside.iter().position(|&b| b == b'}').filter(|&length| length > 0).map(|length| &inside[..length])
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

/// CRC16-CCITT (XMODEM): polynomial 0x1021, from 0.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, &byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 })
    })
}

/// Where a command goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// To the server that holds this slot.
    Slot(u16),
    /// To every server (`SCRIPT LOAD`).
    Everywhere,
    /// To any server.
    Anywhere,
}

/// The route of a command. Knows the commands that Crewcast uses.
pub(super) fn route_of(cmd: &Cmd) -> Route {
    let argument = |index: usize| match cmd.args_iter().nth(index) {
        Some(redis::Arg::Simple(bytes)) => Some(bytes),
        _ => None,
    };
    let name = argument(0).unwrap_or_default().to_ascii_uppercase();
    let key = match name.as_slice() {
        b"SCRIPT" => return Route::Everywhere,
        b"PING" | b"INFO" | b"CLIENT" | b"CLUSTER" | b"ROLE" | b"WAIT" | b"UNWATCH" => return Route::Anywhere,
        // The number of keys is followed by the keys.
        b"EVAL" | b"EVALSHA" => argument(3).filter(|_| argument(2) != Some(b"0")),
        _ => argument(1),
    };
    key.map_or(Route::Anywhere, |key| Route::Slot(slot_of(key)))
}

/// A server and its slots.
pub(super) struct SlotOwner {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) slots: Vec<RangeInclusive<u16>>,
}

/// Reads the answer to `CLUSTER SLOTS`: the masters, ordered by name. `asked` replaces the address of a server that
/// does not know its own.
pub(super) fn read_slots(answer: Value, asked: &str) -> Option<Vec<SlotOwner>> {
    let Value::Array(ranges) = answer else { return None };
    let mut owners: Vec<SlotOwner> = Vec::new();
    for range in ranges {
        let Value::Array(parts) = range else { return None };
        let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = parts.as_slice() else { return None };
        let [host, Value::Int(port), ..] = master.as_slice() else { return None };
        let host = match host {
            // A server that prefers a host name but has none answers a question mark.
            Value::BulkString(host) if !host.is_empty() && host != b"?" => String::from_utf8(host.clone()).ok()?,
            Value::SimpleString(host) if !host.is_empty() => host.clone(),
            _ => asked.to_owned(),
        };
        let (port, slots) = (u16::try_from(*port).ok()?, u16::try_from(*first).ok()?..=u16::try_from(*last).ok()?);
        match owners.iter_mut().find(|owner| owner.host == host && owner.port == port) {
            Some(owner) => owner.slots.push(slots),
            None => owners.push(SlotOwner { host, port, slots: vec![slots] }),
        }
    }
    owners.sort_by(|a, b| (&a.host, a.port).cmp(&(&b.host, b.port)));
    owners.iter_mut().for_each(|owner| owner.slots.sort_by_key(|slots| *slots.start()));
    Some(owners)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(slot_of(b"foo"), 12182);
        assert_eq!(slot_of(b"{user1000}.following"), slot_of(b"user1000"));
        assert_eq!(slot_of(b"foo{}{bar}"), crc16(b"foo{}{bar}") % SLOTS);
        assert_eq!(slot_of(b"foo{{bar}}zap"), slot_of(b"{bar"));
        assert_eq!(slot_of(b"crewcast:{graph:abc}:log"), slot_of(b"graph:abc"));
    }

    #[test]
    fn commands_go_where_their_keys_are() {
        let script = redis::cmd("EVALSHA").arg("sha").arg(2).arg("{a}1").arg("{a}2").arg("x").to_owned();
        assert_eq!(route_of(&script), Route::Slot(slot_of(b"a")));
        assert_eq!(route_of(redis::cmd("EVAL").arg("return 1").arg(0)), Route::Anywhere);
        assert_eq!(route_of(redis::cmd("SPUBLISH").arg("graph:a").arg("m")), Route::Slot(slot_of(b"graph:a")));
        assert_eq!(route_of(redis::cmd("script").arg("LOAD").arg("x")), Route::Everywhere);
        assert_eq!(route_of(&redis::cmd("PING")), Route::Anywhere);
    }

    #[test]
    fn reads_which_server_holds_which_slots() {
        let master = |host: &str, port| Value::Array(vec![Value::BulkString(host.into()), Value::Int(port)]);
        let range = |first, last, master| Value::Array(vec![Value::Int(first), Value::Int(last), master]);
        let answer = Value::Array(vec![
            range(100, 200, master("b", 2)),
            range(0, 99, master("", 1)),
            range(201, 16383, master("", 1)),
        ]);
        let owners = read_slots(answer, "asked").unwrap();
        let read: Vec<_> = owners.iter().map(|owner| (owner.host.as_str(), owner.port, owner.slots.clone())).collect();
        assert_eq!(read, [("asked", 1, vec![0..=99, 201..=16383]), ("b", 2, vec![100..=200])]);
        assert!(read_slots(Value::Int(1), "a").is_none());
    }
}
