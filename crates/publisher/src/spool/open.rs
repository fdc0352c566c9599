//! Opens a spool: the lock, and the backlog of a former process.

use std::{
    collections::{BTreeMap, HashMap},
    fs::TryLockError,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crewcast_events::Channel;

use super::{
    Lock, Place, Position, Spool,
    record::{self, Found, HEADER, Meta},
    segment::{self, Segment},
};
use crate::counters::{Counters, Reason};

/// Why a spool could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// Another publisher, in this or another process, uses the directory.
    #[error(
        "the spool {} is in use by another publisher: give each publisher a directory of its own, or end the other one",
        .0.display()
    )]
    InUse(PathBuf),
    /// The directory cannot be created, read or written.
    #[error("the spool {} cannot be used: {error}. It must be a directory that this process may write to", .directory.display())]
    Io {
        /// The spool's directory.
        directory: PathBuf,
        /// The error of the operating system.
        error: io::Error,
    },
    /// A file in it has the format of another version, or does not belong to a spool.
    #[error("{} is not of this version's format: publish it with the version that wrote it, or move it away", .0.display())]
    Foreign(PathBuf),
}

/// The unsent events of one channel that a former process has left: at least one.
#[derive(Debug)]
pub(crate) struct Backlog {
    pub(crate) position: Option<Position>,
    /// Ordered by ordinal.
    pub(crate) places: Vec<Place>,
}

#[derive(Default)]
struct Scan {
    segments: BTreeMap<u64, Segment>,
    noted: HashMap<Channel, (Position, u64)>,
    places: HashMap<Channel, BTreeMap<u64, Place>>,
    last_ordinal: u64,
    damaged: u64,
}

impl Spool {
    /// Opens the spool in `directory`, which is created if missing. Blocks: reads all of it.
    pub(crate) fn open(
        directory: &Path,
        max_bytes: u64,
        counters: Arc<Counters>,
    ) -> Result<(Self, HashMap<Channel, Backlog>, u64), SpoolError> {
        let unusable = |error| SpoolError::Io { directory: directory.to_owned(), error };
        segment::make_directory(directory).map_err(unusable)?;
        let lock = segment::private().write(true).create(true).truncate(false).open(directory.join("lock"));
        let lock = lock.map_err(unusable)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => SpoolError::InUse(directory.to_owned()),
            TryLockError::Error(error) => unusable(error),
        })?;
        let scan = Scan::of(directory)?;
        counters.dropped(Reason::SpoolDamaged, scan.damaged, "records of the spool are torn or damaged");
        let last_ordinal = scan.last_ordinal;
        let mut spool = Spool {
            directory: directory.into(),
            max_bytes,
            counters,
            bytes: scan.segments.values().map(|segment| segment.bytes).sum(),
            active: None,
            next_segment: scan.segments.last_key_value().map_or(1, |(id, _)| id + 1),
            pending: 0,
            _lock: Lock(lock),
            segments: scan.segments,
            noted: scan.noted,
        };
        let backlogs = spool.take_stock(scan.places);
        spool.sweep();
        Ok((spool, backlogs, last_ordinal))
    }

    /// Removes the settled events, and counts the others.
    fn take_stock(&mut self, places: HashMap<Channel, BTreeMap<u64, Place>>) -> HashMap<Channel, Backlog> {
        let mut backlogs = HashMap::new();
        for (channel, mut places) in places {
            let position = self.noted.get(&channel).map(|(position, _)| position.clone());
            if let Some(position) = &position {
                places = places.split_off(&position.ordinal);
            }
            let places: Vec<Place> = places.into_values().collect();
            for place in &places {
                if let Some(segment) = self.segments.get_mut(&place.segment) {
                    segment.pending += 1;
                }
            }
            self.count(places.len() as i64);
            if !places.is_empty() {
                backlogs.insert(channel, Backlog { position, places });
            }
        }
        backlogs
    }
}

impl Scan {
    fn of(directory: &Path) -> Result<Self, SpoolError> {
        let unusable = |error| SpoolError::Io { directory: directory.to_owned(), error };
        let mut ids = Vec::new();
        for file in directory.read_dir().map_err(unusable)? {
            ids.extend(segment::id(&file.map_err(unusable)?.path()));
        }
        ids.sort_unstable();
        let mut scan = Self::default();
        for id in ids {
            let path = segment::path(directory, id);
            let bytes = std::fs::read(&path).map_err(unusable)?;
            scan.segments.insert(id, Segment::found(bytes.len() as u64));
            match bytes.get(..HEADER.len()) {
                Some(header) if header == HEADER => scan.read(id, &bytes),
                Some(_) => return Err(SpoolError::Foreign(path)),
                // The file was torn off before its first record.
                None => {}
            }
        }
        Ok(scan)
    }

    fn read(&mut self, id: u64, segment: &[u8]) {
        let mut at = HEADER.len();
        while let Some(found) = record::read(segment, at) {
            at = match found {
                Found::Damaged { rest } => {
                    self.damaged += 1;
                    rest
                }
                Found::Record { meta, place } => {
                    self.take_in(id, meta, place.start as u64, (place.end - place.start) as u32);
                    place.end
                }
            };
        }
    }

    fn take_in(&mut self, segment: u64, meta: Meta, offset: u64, length: u32) {
        match meta {
            Meta::Event { channel, ordinal, .. } => {
                self.last_ordinal = self.last_ordinal.max(ordinal);
                if let Some(of) = self.segments.get_mut(&segment) {
                    of.channels.insert(channel.clone());
                }
                self.places.entry(channel).or_default().insert(ordinal, Place { ordinal, length, offset, segment });
            }
            // The last written position counts.
            Meta::Position { channel, position } => {
                self.last_ordinal = self.last_ordinal.max(position.ordinal);
                self.noted.insert(channel, (position, segment));
            }
        }
    }
}
