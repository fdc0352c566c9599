use anyhow::Result;

use super::{Process, Running, SECRET, Server, Setup, peers};
use crate::protocol::FastApi;

const GATEWAY: &str = include_str!("../../peers/fastapi/gateway.py");
const REQUIREMENTS: &str = include_str!("../../peers/fastapi/requirements.txt");

/// FastAPI and redis-py on uvicorn.
pub struct FastApiServer;

impl Server for FastApiServer {
    fn name(&self) -> &'static str {
        "fastapi"
    }

    fn start(&self, setup: &Setup) -> Result<Running> {
        peers::only_one(setup)?;
        let uvicorn = setup.peers.join("venv/bin/uvicorn");
        peers::installed(&uvicorn)?;
        let folder = peers::write(setup, "fastapi", "gateway.py", GATEWAY)?;
        let address = peers::free_address()?;
        let mut command = Process::command(uvicorn.canonicalize()?, setup.core);
        command
            .args(["gateway:app", "--host", "127.0.0.1", "--port", &address.port().to_string()])
            .args(["--loop", "uvloop", "--http", "httptools", "--ws", "websockets-sansio"])
            .args(["--ws-per-message-deflate", "false", "--no-access-log", "--log-level", "warning"])
            .current_dir(folder)
            .env("REDIS_URL", format!("redis://{}", setup.redis))
            .env("JWT_SECRET", SECRET);
        peers::run(command, address, None, FastApi::new(SECRET)?, version())
    }
}

/// The pinned versions of FastAPI and uvicorn.
fn version() -> String {
    let of =
        |name: &str| REQUIREMENTS.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix("==")).unwrap_or("?");
    format!("{}, uvicorn {}", of("fastapi"), of("uvicorn"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_version_is_the_pinned_one() {
        let version = super::version();
        assert!(version.starts_with(|first: char| first.is_ascii_digit()) && !version.contains('?'), "{version}");
    }
}
