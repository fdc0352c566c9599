//! The spool: events that find no room in memory, in segments on disk until they are sent.
//!
//! The queue owns the spool and calls it under the queue's lock. The emitting thread writes directly: a record of a few
//! hundred bytes takes microseconds into the page cache, and a writer thread's memory would be lost with the process.
//! Writes are not synced: they survive a killed process, but not a crashed host. Reading may wait for the disk, so the
//! worker reads on a blocking thread ([`read`]).

mod open;
mod record;
mod segment;

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io,
    path::Path,
    sync::Arc,
};

use crewcast_events::Channel;

pub use self::open::SpoolError;
pub(crate) use self::{
    open::Backlog,
    record::{Position, SpooledEvent},
};
use self::{
    record::{MAX_POSITION, write_event, write_position},
    segment::Segment,
};
use crate::counters::{Counters, Reason};

/// Most bytes on disk unless configured.
pub(crate) const DEFAULT_BYTES: u64 = 256 << 20;

/// The place of an event's record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub(crate) ordinal: u64,
    pub(crate) length: u32,
    offset: u64,
    segment: u64,
}

pub(crate) struct Spool {
    directory: Arc<Path>,
    max_bytes: u64,
    counters: Arc<Counters>,
    segments: BTreeMap<u64, Segment>,
    /// The segment that is written to.
    active: Option<u64>,
    next_segment: u64,
    /// The last written position of each channel with events in a segment, and the segment that holds it.
    noted: HashMap<Channel, (Position, u64)>,
    bytes: u64,
    pending: usize,
    /// Held until the spool is dropped: one publisher per directory.
    _lock: Lock,
}

/// The locked file. A child process that is being started has a copy of the descriptor for a moment, and with it the
/// lock. So the lock is released explicitly, and not only by closing the file.
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // If this fails, closing the file releases the lock later.
        let _ = self.0.unlock();
    }
}

impl Spool {
    /// Writes an event. `at` says under which name and number the channel's next unsettled event is sent.
    ///
    /// # Errors
    /// [`Reason::SpoolFull`] beyond the bound, [`Reason::SpoolFailed`] when the disk does not take it.
    pub(crate) fn keep(&mut self, channel: &Channel, at: &Position, kept: &SpooledEvent) -> Result<Place, Reason> {
        let news = self.noted.get(channel).is_none_or(|(noted, _)| !noted.agrees_with(at));
        let failed = |error: io::Error, counters: &Counters| {
            counters.spool_failed(&format!("an event could not be written: {error}"));
            Reason::SpoolFailed
        };
        let mut records = Vec::with_capacity(512 + kept.entry.body.object().len());
        let encoded = encode(&mut records, channel, news.then_some(at), kept);
        let event = encoded.map_err(|error| failed(error, &self.counters))?;
        // Room for one position per pending event is reserved, so settling never exceeds the bound.
        let owed = (self.pending as u64 + 2) * MAX_POSITION;
        if self.bytes + records.len() as u64 + owed > self.max_bytes {
            return Err(Reason::SpoolFull);
        }
        let (segment, start) = self.write(&records).map_err(|error| failed(error, &self.counters))?;
        if news {
            self.noted.insert(channel.clone(), (at.clone(), segment));
        }
        if let Some(of) = self.segments.get_mut(&segment) {
            of.pending += 1;
            of.channels.insert(channel.clone());
        }
        self.count(1);
        let length = (records.len() - event) as u32;
        Ok(Place { ordinal: kept.ordinal, length, offset: start + event as u64, segment })
    }

    /// Records that the events at these places are sent or dropped. `at` is where their channel continues.
    pub(crate) fn settle(&mut self, channel: &Channel, at: &Position, places: &[Place]) {
        self.note_down(channel, at);
        for place in places {
            if let Some(segment) = self.segments.get_mut(&place.segment) {
                segment.pending = segment.pending.saturating_sub(1);
            }
        }
        self.count(-(places.len() as i64));
        self.sweep();
    }

    /// Writes where a channel continues, if that changes the names or numbers of its events.
    pub(crate) fn note(&mut self, channel: &Channel, at: &Position) {
        if self.noted.get(channel).is_some_and(|(noted, _)| !noted.agrees_with(at)) {
            self.note_down(channel, at);
        }
    }

    /// How many events are kept.
    pub(crate) fn pending(&self) -> usize {
        self.pending
    }

    /// Where [`read`] reads.
    pub(crate) fn directory(&self) -> Arc<Path> {
        self.directory.clone()
    }

    /// Syncs the active segment to disk.
    pub(crate) fn sync(&self) {
        let synced = self.active.and_then(|id| self.segments.get(&id)).map_or(Ok(()), Segment::sync);
        if let Err(error) = synced {
            self.counters.spool_failed(&format!("it could not be synced: {error}"));
        }
    }

    fn note_down(&mut self, channel: &Channel, at: &Position) -> bool {
        let mut record = Vec::new();
        let written =
            write_position(&mut record, channel, at).map_err(io::Error::from).and_then(|()| self.write(&record));
        match written {
            Ok((segment, _)) => {
                self.noted.insert(channel.clone(), (at.clone(), segment));
                true
            }
            Err(error) => {
                // Not fatal: after a restart the events are sent again, and the log recognises them.
                self.counters.spool_failed(&format!("what was sent could not be noted: {error}"));
                false
            }
        }
    }

    /// Writes to the active segment, or to a new one when it is full.
    fn write(&mut self, records: &[u8]) -> io::Result<(u64, u64)> {
        let roomy = |segment: &Segment| segment.bytes + records.len() as u64 <= self.segment_bytes();
        let active = self.active.filter(|id| self.segments.get(id).is_some_and(roomy));
        let id = match active {
            Some(id) => id,
            None => self.start_segment()?,
        };
        let Some(segment) = self.segments.get_mut(&id) else { return Err(io::ErrorKind::NotFound.into()) };
        let start = segment.write(records)?;
        self.bytes += records.len() as u64;
        Ok((id, start))
    }

    fn start_segment(&mut self) -> io::Result<u64> {
        let id = self.next_segment;
        let segment = Segment::create(&self.directory, id)?;
        self.next_segment += 1;
        self.bytes += segment.bytes;
        self.segments.insert(id, segment);
        self.active = Some(id);
        Ok(id)
    }

    /// A sixteenth of the bound, so that sent events free the disk in small steps.
    fn segment_bytes(&self) -> u64 {
        (self.max_bytes / 16).clamp(16 << 10, 8 << 20)
    }

    /// Removes the segments without pending events.
    fn sweep(&mut self) {
        let nothing_pending = self.pending == 0;
        // Oldest first: a position must not be removed before the events that it settles.
        let done: Vec<u64> = self.segments.iter().filter(|(_, of)| of.pending == 0).map(|(&id, _)| id).collect();
        for id in done {
            if self.active == Some(id) && !nothing_pending {
                continue;
            }
            if !(nothing_pending || self.carry_over(id)) || !self.remove(id) {
                return;
            }
        }
        if nothing_pending {
            self.noted.clear();
        }
    }

    /// Copies the positions of a segment that still count. False when a write failed.
    fn carry_over(&mut self, id: u64) -> bool {
        let here = self.noted.iter().filter(|(_, (_, segment))| *segment == id);
        let here: Vec<(Channel, Position)> = here.map(|(channel, (at, _))| (channel.clone(), at.clone())).collect();
        for (channel, at) in here {
            if self.segments.iter().any(|(&other, of)| other != id && of.channels.contains(&channel)) {
                if !self.note_down(&channel, &at) {
                    return false;
                }
            } else {
                self.noted.remove(&channel);
            }
        }
        true
    }

    fn remove(&mut self, id: u64) -> bool {
        if let Err(error) = std::fs::remove_file(segment::path(&self.directory, id))
            && error.kind() != io::ErrorKind::NotFound
        {
            self.counters.spool_failed(&format!("a segment could not be removed: {error}"));
            return false;
        }
        self.bytes -= self.segments.remove(&id).map_or(0, |segment| segment.bytes);
        self.active = self.active.filter(|active| *active != id);
        true
    }

    fn count(&mut self, by: i64) {
        self.pending = self.pending.saturating_add_signed(by as isize);
        metrics::gauge!("crewcast_publisher_spooled_events").increment(by as f64);
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        // The remaining events no longer belong to this publisher.
        metrics::gauge!("crewcast_publisher_spooled_events").decrement(self.pending as f64);
    }
}

fn encode(into: &mut Vec<u8>, channel: &Channel, at: Option<&Position>, kept: &SpooledEvent) -> io::Result<usize> {
    if let Some(at) = at {
        write_position(into, channel, at)?;
    }
    let event = into.len();
    write_event(into, channel, kept)?;
    Ok(event)
}

/// Reads the events at these places, in order. `None` for an event that can no longer be read. Blocks.
///
/// # Errors
/// A file exists but cannot be opened.
pub(crate) fn read(directory: &Path, places: &[Place]) -> io::Result<Vec<Option<SpooledEvent>>> {
    let mut events = Vec::with_capacity(places.len());
    for of_segment in places.chunk_by(|a, b| a.segment == b.segment) {
        let mut file = match File::open(segment::path(directory, of_segment[0].segment)) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        events.extend(of_segment.iter().map(|place| {
            let record = segment::read(file.as_mut()?, place.offset, place.length).ok()?;
            record::read_event(&record)
        }));
    }
    Ok(events)
}

#[cfg(test)]
mod tests;
