//! What the servers of all peers have in common. Their programs and configuration are part of this binary, and are
//! written to the folder in which `peers/setup.sh` installs the peers.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use anyhow::{Context, Result, bail, ensure};

use super::{Endpoints, Process, Running, Setup, free_port, wait_until_listening};
use crate::protocol::Protocol;

/// A free address of the loopback interface.
pub(super) fn free_address() -> Result<SocketAddr> {
    Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?)))
}

/// Writes `text` to `file` in the folder of a peer, and returns the folder.
pub(super) fn write(setup: &Setup, peer: &str, file: &str, text: &str) -> Result<PathBuf> {
    let folder = setup.peers.join(peer);
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let folder = folder.canonicalize()?;
    fs::write(folder.join(file), text)?;
    Ok(folder)
}

/// Fails unless the setup is one process without compression, the only setup in which peers are compared.
pub(super) fn only_one(setup: &Setup) -> Result<()> {
    ensure!(setup.replicas <= 1, "peers are measured with one process only");
    ensure!(!setup.deflate, "peers are measured without compression only");
    Ok(())
}

/// Fails unless `path` exists.
pub(super) fn installed(path: &Path) -> Result<()> {
    ensure!(path.exists(), "{} does not exist: run crates/bench/peers/setup.sh", path.display());
    Ok(())
}

/// The path of a program in `PATH`, or in the folders for programs that root starts.
pub(super) fn program(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let mut places = folders.map(|folder| folder.join(name));
    let Some(found) = places.find(|place| place.is_file()) else {
        bail!("{name} is not installed: run crates/bench/peers/setup.sh");
    };
    Ok(found)
}

/// The version that a program prints.
pub(super) fn version(program: &Path, argument: &str) -> Result<String> {
    let output = Command::new(program).arg(argument).output()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let first = text.lines().next().unwrap_or_default();
    Ok(first.rsplit([' ', '/']).next().unwrap_or_default().trim_start_matches('v').to_owned())
}

/// Starts the command and waits until it listens for sockets.
pub(super) fn run(
    mut command: Command,
    sockets: SocketAddr,
    publish: Option<SocketAddr>,
    protocol: impl Protocol + 'static,
    version: String,
) -> Result<Running> {
    command.stdout(Stdio::null());
    let mut process = Process::start(command)?;
    wait_until_listening(&mut process, sockets)?;
    let endpoints = Endpoints { sockets: vec![sockets], publish };
    Ok(Running { processes: vec![process], endpoints, protocol: Arc::new(protocol), version })
}
