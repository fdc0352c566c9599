//! One file of the spool. Only the process that created it writes to it.

use std::{
    collections::HashSet,
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use crewcast_events::Channel;

use super::record::HEADER;

pub(super) struct Segment {
    /// Bytes of complete records.
    pub(super) bytes: u64,
    /// Unsettled events in it.
    pub(super) pending: usize,
    /// The channels with events in it, settled or not.
    pub(super) channels: HashSet<Channel>,
    /// Open while this process writes to it.
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

    /// Appends records and answers where they begin. After an error none of them counts.
    pub(super) fn write(&mut self, records: &[u8]) -> io::Result<u64> {
        let Some(file) = &mut self.file else { return Err(io::ErrorKind::NotFound.into()) };
        let start = self.bytes;
        let written = file.seek(SeekFrom::Start(start)).and_then(|_| file.write_all(records));
        if let Err(error) = written {
            // A partial write would look like damage.
            let _ = file.set_len(start);
            return Err(error);
        }
        self.bytes += records.len() as u64;
        Ok(start)
    }

    /// Replaces the file that is written to, and answers the former one.
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

/// The id in a segment's file name.
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

/// Options for files that only the owner can read: they hold payloads.
pub(super) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Creates the directory if missing, for the owner only.
pub(super) fn make_directory(directory: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}
