use anyhow::{Context, Result};
use serde_json::Value;

use super::{Process, Running, Server, Setup, peers};
use crate::protocol::SocketIo;

const SERVER: &str = include_str!("../../peers/socketio/server.js");
const PACKAGE: &str = include_str!("../../peers/socketio/package.json");

/// Socket.IO with its Redis adapter on Node.
pub struct SocketIoServer;

impl Server for SocketIoServer {
    fn name(&self) -> &'static str {
        "socketio"
    }

    fn start(&self, setup: &Setup) -> Result<Running> {
        peers::only_one(setup)?;
        peers::installed(&setup.peers.join("socketio/node_modules/socket.io"))?;
        let folder = peers::write(setup, "socketio", "server.js", SERVER)?;
        let node = peers::program("node")?;
        let version = format!("{}, Node {}", version()?, peers::version(&node, "--version")?);
        let address = peers::free_address()?;
        let mut command = Process::command(node, setup.core);
        command
            .arg("server.js")
            .current_dir(folder)
            .env("NODE_ENV", "production")
            .env("PORT", address.port().to_string())
            .env("REDIS_URL", format!("redis://{}", setup.redis));
        peers::run(command, address, None, SocketIo, version)
    }
}

/// The pinned version of Socket.IO.
fn version() -> Result<String> {
    let package: Value = serde_json::from_str(PACKAGE)?;
    Ok(package["dependencies"]["socket.io"].as_str().context("package.json has no socket.io")?.to_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_version_is_the_pinned_one() {
        assert!(super::version().unwrap().starts_with("4."));
    }
}
