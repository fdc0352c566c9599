use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};

use super::{Process, Running, Server, Setup, peers};
use crate::protocol::Nchan;

const CONFIGURATION: &str = include_str!("../../peers/nchan/nginx.conf");
/// Paths at which packages install the module.
const MODULES: [&str; 4] = [
    "/usr/lib/nginx/modules/ngx_nchan_module.so",
    "/usr/lib64/nginx/modules/ngx_nchan_module.so",
    "/usr/share/nginx/modules/ngx_nchan_module.so",
    "/usr/local/lib/nginx/ngx_nchan_module.so",
];

/// nginx with nchan and its Redis store.
pub struct NchanServer;

impl Server for NchanServer {
    fn name(&self) -> &'static str {
        "nchan"
    }

    fn start(&self, setup: &Setup) -> Result<Running> {
        peers::only_one(setup)?;
        let nginx = peers::program("nginx")?;
        let module = MODULES.iter().map(PathBuf::from).find(|path| path.exists());
        let module = module.context("the nginx module nchan is not installed: run crates/bench/peers/setup.sh")?;
        let address = peers::free_address()?;
        let folder = peers::write(setup, "nchan", "nginx.conf", "")?;
        let configuration = configuration(&module, &folder, address, setup.redis);
        peers::write(setup, "nchan", "nginx.conf", &configuration)?;
        let mut command = Process::command(nginx, setup.core);
        command.arg("-p").arg(&folder).arg("-c").arg(folder.join("nginx.conf")).args(["-e", "error.log"]);
        let running = peers::run(command, address, Some(address), Nchan, String::new())?;
        Ok(Running { version: version(address)?, ..running })
    }
}

fn configuration(module: &Path, folder: &Path, address: SocketAddr, redis: SocketAddr) -> String {
    CONFIGURATION
        .replace("{module}", &module.display().to_string())
        .replace("{folder}", &folder.display().to_string())
        .replace("{address}", &address.to_string())
        .replace("{redis}", &redis.to_string())
}

/// The version on nchan's status page.
fn version(address: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let version = answer.lines().find_map(|line| line.strip_prefix("nchan version:"));
    Ok(version.context("the status page of nchan has no version")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_placeholders_of_the_configuration_are_filled() {
        let address = "127.0.0.1:4000".parse().unwrap();
        let filled = configuration(Path::new("/m.so"), Path::new("/folder"), address, address);
        for place in ["{module}", "{folder}", "{address}", "{redis}"] {
            assert!(CONFIGURATION.contains(place) && !filled.contains(place), "{place}");
        }
    }
}
