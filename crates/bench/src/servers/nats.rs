use anyhow::Result;

use super::{Process, Running, Server, Setup, peers};
use crate::protocol::Nats;

const CONFIGURATION: &str = include_str!("../../peers/nats/nats.conf");

/// NATS, which is its own broker and does not use Redis.
pub struct NatsServer;

impl Server for NatsServer {
    fn name(&self) -> &'static str {
        "nats"
    }

    fn start(&self, setup: &Setup) -> Result<Running> {
        peers::only_one(setup)?;
        let program = peers::program("nats-server")?;
        let (sockets, publish) = (peers::free_address()?, peers::free_address()?);
        let configuration =
            CONFIGURATION.replace("{websocket}", &sockets.to_string()).replace("{tcp}", &publish.to_string());
        let folder = peers::write(setup, "nats", "nats.conf", &configuration)?;
        let version = peers::version(&program, "--version")?;
        let mut command = Process::command(program, setup.core);
        command.arg("-c").arg(folder.join("nats.conf")).arg("-l").arg(folder.join("nats.log"));
        peers::run(command, sockets, Some(publish), Nats, version)
    }
}
