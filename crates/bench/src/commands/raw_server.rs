use std::net::SocketAddr;

use anyhow::Result;

/// What the raw write loop needs.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where it listens
    #[arg(long)]
    listen: SocketAddr,
    /// Where Redis is
    #[arg(long, default_value = "127.0.0.1:6379")]
    redis: SocketAddr,
}

pub(super) fn execute(args: &Args) -> Result<()> {
    crate::raw_server::serve(args.listen, args.redis)
}
