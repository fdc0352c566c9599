//! One file of the spool. It is written by the process that made it and by no other.

use std::{
    collections::HashSet,
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use crewcast_events::Channel;

use super::record::HEADER;

pub(super) struct Segment {
    /// Bytes that are written whole.
    pub(super) bytes: u64,
    /// Events in it that are not settled.
    pub(super) pending: usize,
    /// Whose events are in it, settled or not.
    pub(super) channels: HashSet<Channel>,
    /// Open while it is written to.
    file: Option<File>,
}

impl Segment {
    pub(super) fn found(bytes: u64) -> Self {
        Self { bytes, pending: 0, channels: HashSet::new(), file: None }
    }

    pub(super) fn create(directory: &Path, id: u64) -> io::Result<Self> {
        let path = path(directory, id);
        let mut file = private().write(true).create_new(true).open(&path)?;
        if let Err(error) = file.write_all(HEADER) {
            let _ = std::fs::remove_file(path);
            return Err(error);
        }
        Ok(Self { file: Some(file), ..Self::found(HEADER.len() as u64) })
    }

    /// Writes records behind the last whole one and answers where they begin. After an error nothing of them counts.
    pub(super) fn write(&mut self, records: &[u8]) -> io::Result<u64> {
        let Some(file) = &mut self.file else { return Err(io::ErrorKind::NotFound.into()) };
        let start = self.bytes;
        let written = file.seek(SeekFrom::Start(start)).and_then(|_| file.write_all(records));
        if let Err(error) = written {
            // What was written of it would stand behind the last record as damage.
            let _ = file.set_len(start);
            return Err(error);
        }
        self.bytes += records.len() as u64;
        Ok(start)
    }

    /// Has writes go elsewhere, and answers where they went.
    #[cfg(all(test, target_os = "linux"))]
    pub(super) fn swap_file(&mut self, file: Option<File>) -> Option<File> {
        std::mem::replace(&mut self.file, file)
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), File::sync_data)
    }
}

pub(super) fn path(directory: &Path, id: u64) -> PathBuf {
    directory.join(format!("{id:010}.spool"))
}

/// The id of a segment by its file's name.
pub(super) fn id(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_suffix(".spool")?.parse().ok()
}

/// Reads `length` bytes at `offset`.
pub(super) fn read(file: &mut File, offset: u64, length: u32) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length as usize];
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// How files are made: payloads are nobody's but the owner's.
pub(super) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Makes the directory, where there is none, for the owner alone.
pub(super) fn make_directory(directory: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}
