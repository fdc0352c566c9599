//! The position file: the id of the last event that was accepted, written so that a crash leaves the old one or the new one.

use std::{
    fs::{File, TryLockError},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crewcast_events::{Channel, EventId};
use serde::{Deserialize, Serialize};

use crate::error::CliError;

/// How often events that nobody wants move the position: they are passed over again if that is lost.
const PASSING: Duration = Duration::from_secs(1);

#[derive(Serialize, Deserialize)]
struct Held {
    channel: String,
    id: EventId,
}

/// A channel's position in a file.
#[derive(Debug)]
pub struct PositionFile {
    path: PathBuf,
    beside: PathBuf,
    channel: Channel,
    last: Option<EventId>,
    passed_at: Option<Instant>,
    /// Locked as long as this stands. The file itself cannot be: another one takes its place with each position.
    _lock: File,
}

impl PositionFile {
    /// Opens the file of this channel, or begins one.
    ///
    /// # Errors
    /// [`CliError`] when it cannot be read, is no position, is another channel's, or is in use by another process.
    pub fn open(path: &Path, channel: &Channel) -> Result<Self, CliError> {
        let name = |ending: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(ending);
            PathBuf::from(name)
        };
        let lock = lock(&name(".lock"), path)?;
        let last = match std::fs::read(path) {
            Ok(bytes) => Some(held(&bytes, path, channel)?),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(CliError::io(path.display().to_string())(error)),
        };
        let channel = channel.clone();
        Ok(Self { path: path.to_owned(), beside: name(".new"), channel, last, passed_at: None, _lock: lock })
    }

    /// The position, if there is one.
    pub fn last(&self) -> Option<EventId> {
        self.last
    }

    /// This event has been accepted. A live one has no id, and moves nothing.
    ///
    /// # Errors
    /// [`CliError::Io`] when it cannot be written.
    pub fn keep(&mut self, id: Option<EventId>) -> Result<(), CliError> {
        let Some(id) = id else { return Ok(()) };
        self.last = Some(id);
        self.write(id).map_err(CliError::io(self.path.display().to_string()))
    }

    /// This event was not for posting: the position moves, though not at once with each.
    ///
    /// # Errors
    /// [`CliError::Io`] when it cannot be written.
    pub fn pass(&mut self, id: Option<EventId>) -> Result<(), CliError> {
        if self.passed_at.is_some_and(|at| at.elapsed() < PASSING) {
            return Ok(());
        }
        self.passed_at = Some(Instant::now());
        self.keep(id)
    }

    fn write(&self, id: EventId) -> std::io::Result<()> {
        let held = Held { channel: self.channel.to_string(), id };
        let mut file = File::create(&self.beside)?;
        serde_json::to_writer(&mut file, &held)?;
        file.write_all(b"\n")?;
        // On the disk before it takes the old one's place, or a crash of the machine could leave an empty file.
        file.sync_data()?;
        std::fs::rename(&self.beside, &self.path)?;
        // The new name too, or a power cut could bring the old position back, and many events with it.
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

fn lock(path: &Path, of: &Path) -> Result<File, CliError> {
    let file = File::create(path).map_err(CliError::io(path.display().to_string()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(CliError::Failed(format!("{}: another forward is using this position file", of.display())))
        }
        Err(TryLockError::Error(error)) => Err(CliError::io(path.display().to_string())(error)),
    }
}

fn held(bytes: &[u8], path: &Path, channel: &Channel) -> Result<EventId, CliError> {
    let held: Held = serde_json::from_slice(bytes).map_err(|error| {
        let path = path.display();
        CliError::Failed(format!("{path}: no position ({error}). Mend it, or remove it to begin anew"))
    })?;
    if held.channel != channel.as_str() {
        let (path, other) = (path.display(), crate::render::remark(&held.channel));
        return Err(CliError::Usage(format!(
            "{path} holds the position of {other}: name a file of its own for {channel}"
        )));
    }
    Ok(held.id)
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
    fn what_was_kept_is_there_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("position");
        let open = || PositionFile::open(&path, &channel("stream:w"));
        let mut file = open().unwrap();
        assert_eq!(file.last(), None);
        file.keep(Some(id(7))).unwrap();
        file.keep(None).unwrap();
        assert!(matches!(open(), Err(CliError::Failed(_))), "one process at a time");
        drop(file);
        assert_eq!(open().unwrap().last(), Some(id(7)));
        assert!(matches!(PositionFile::open(&path, &channel("stream:x")), Err(CliError::Usage(_))));
        assert!(!folder.path().join("position.new").exists());
    }

    #[test]
    fn what_is_no_position_is_never_taken_for_a_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("position");
        for bad in ["", "7-abcdefghijkl", "{}", r#"{"channel":"stream:w","id":"7"}"#] {
            std::fs::write(&path, bad).unwrap();
            assert!(matches!(PositionFile::open(&path, &channel("stream:w")), Err(CliError::Failed(_))), "{bad}");
        }
    }

    #[test]
    fn what_passes_moves_the_position_once_in_a_while() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = PositionFile::open(&folder.path().join("position"), &channel("stream:w")).unwrap();
        file.pass(Some(id(1))).unwrap();
        file.pass(Some(id(2))).unwrap();
        assert_eq!(file.last(), Some(id(1)));
        file.passed_at = Instant::now().checked_sub(PASSING);
        file.pass(Some(id(3))).unwrap();
        assert_eq!(file.last(), Some(id(3)));
    }
}
