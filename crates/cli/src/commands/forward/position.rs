//! The position file, which holds the id of the last accepted event.
//!
//! Writes are atomic: a crash leaves the old id or the new one.

use std::{
    fs::{File, TryLockError},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crewcast_events::{Channel, EventId};
use serde::{Deserialize, Serialize};

use crate::error::CliError;

/// How often events of other types move the position. A lost position costs only skipping these events again.
const SKIP_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Serialize, Deserialize)]
struct StoredPosition {
    channel: String,
    id: EventId,
}

/// A channel's position in a file.
#[derive(Debug)]
pub(super) struct PositionFile {
    path: PathBuf,
    /// The new content, before it replaces the file.
    temporary: PathBuf,
    channel: Channel,
    last: Option<EventId>,
    skipped_at: Option<Instant>,
    /// Locked until this value is dropped. The position file itself cannot be locked: each write replaces it.
    _lock: File,
}

impl PositionFile {
    /// Opens the position file of a channel. The file need not exist yet.
    ///
    /// # Errors
    /// [`CliError`] when the file cannot be read, holds no position of this channel, or is used by another process.
    pub(super) fn open(path: &Path, channel: &Channel) -> Result<Self, CliError> {
        let name = |ending: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(ending);
            PathBuf::from(name)
        };
        let lock = lock(&name(".lock"), path)?;
        let last = match std::fs::read(path) {
            Ok(bytes) => Some(parse(&bytes, path, channel)?),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(CliError::io(path.display().to_string())(error)),
        };
        let channel = channel.clone();
        Ok(Self { path: path.to_owned(), temporary: name(".new"), channel, last, skipped_at: None, _lock: lock })
    }

    /// The position, if there is one.
    pub(super) fn last(&self) -> Option<EventId> {
        self.last
    }

    /// Stores the id of an accepted event. A live event has no id and does not move the position.
    ///
    /// # Errors
    /// [`CliError::Io`] when the file cannot be written.
    pub(super) fn store(&mut self, id: Option<EventId>) -> Result<(), CliError> {
        let Some(id) = id else { return Ok(()) };
        self.last = Some(id);
        self.write(id).map_err(CliError::io(self.path.display().to_string()))
    }

    /// Moves the position past an event that is not forwarded, at most once per [`SKIP_INTERVAL`].
    ///
    /// # Errors
    /// [`CliError::Io`] when the file cannot be written.
    pub(super) fn skip(&mut self, id: Option<EventId>) -> Result<(), CliError> {
        if self.skipped_at.is_some_and(|at| at.elapsed() < SKIP_INTERVAL) {
            return Ok(());
        }
        self.skipped_at = Some(Instant::now());
        self.store(id)
    }

    fn write(&self, id: EventId) -> std::io::Result<()> {
        let stored = StoredPosition { channel: self.channel.to_string(), id };
        let mut file = File::create(&self.temporary)?;
        serde_json::to_writer(&mut file, &stored)?;
        file.write_all(b"\n")?;
        // Synced before the rename, or a crash of the machine could leave an empty file.
        file.sync_data()?;
        std::fs::rename(&self.temporary, &self.path)?;
        // The rename is synced too, or a power cut could bring back the old position and repeat many events.
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

fn lock(path: &Path, of: &Path) -> Result<File, CliError> {
    let file = File::create(path).map_err(CliError::io(path.display().to_string()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(CliError::Failed(format!("{}: another forward process uses this position file", of.display())))
        }
        Err(TryLockError::Error(error)) => Err(CliError::io(path.display().to_string())(error)),
    }
}

fn parse(bytes: &[u8], path: &Path, channel: &Channel) -> Result<EventId, CliError> {
    let stored: StoredPosition = serde_json::from_slice(bytes).map_err(|error| {
        let path = path.display();
        CliError::Failed(format!("{path} does not hold a position ({error}): fix the file, or remove it to start over"))
    })?;
    if stored.channel != channel.as_str() {
        let (path, other) = (path.display(), crate::render::remark(&stored.channel));
        return Err(CliError::Usage(format!("{path} holds the position of {other}: use another file for {channel}")));
    }
    Ok(stored.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(offset: u64) -> EventId {
        format!("{offset}-abcdefghijkl").parse().unwrap()
    }

    fn channel(name: &str) -> Channel {
        name.parse().unwrap()
    }

    #[test]
    fn a_stored_position_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("position");
        let open = || PositionFile::open(&path, &channel("stream:w"));
        let mut file = open().unwrap();
        assert_eq!(file.last(), None);
        file.store(Some(id(7))).unwrap();
        file.store(None).unwrap();
        assert!(matches!(open(), Err(CliError::Failed(_))), "one process at a time");
        drop(file);
        assert_eq!(open().unwrap().last(), Some(id(7)));
        assert!(matches!(PositionFile::open(&path, &channel("stream:x")), Err(CliError::Usage(_))));
        assert!(!folder.path().join("position.new").exists());
    }

    #[test]
    fn an_invalid_file_is_an_error_and_never_a_new_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("position");
        for bad in ["", "7-abcdefghijkl", "{}", r#"{"channel":"stream:w","id":"7"}"#] {
            std::fs::write(&path, bad).unwrap();
            assert!(matches!(PositionFile::open(&path, &channel("stream:w")), Err(CliError::Failed(_))), "{bad}");
        }
    }

    #[test]
    fn skipped_events_move_the_position_at_intervals() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = PositionFile::open(&folder.path().join("position"), &channel("stream:w")).unwrap();
        file.skip(Some(id(1))).unwrap();
        file.skip(Some(id(2))).unwrap();
        assert_eq!(file.last(), Some(id(1)));
        file.skipped_at = Instant::now().checked_sub(SKIP_INTERVAL);
        file.skip(Some(id(3))).unwrap();
        assert_eq!(file.last(), Some(id(3)));
    }
}
