//! How the masters of a Redis Cluster divide the slots: in their order, each with the same share.

use std::ops::Range;

/// How many slots a Cluster has (Redis Cluster specification).
const SLOTS: usize = 16384;

/// The slots of one of `masters`, counted from 0.
pub fn slots_of(master: usize, masters: usize) -> Range<usize> {
    master * SLOTS / masters..(master + 1) * SLOTS / masters
}

/// Which of `masters` serves a slot.
pub fn master_of(slot: u16, masters: usize) -> usize {
    (0..masters).position(|master| slots_of(master, masters).contains(&usize::from(slot))).unwrap_or(0)
}
