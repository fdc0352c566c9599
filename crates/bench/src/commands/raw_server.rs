use std::net::SocketAddr;

use anyhow::Result;

/// The addresses of the raw write loop.
#[derive(Debug, clap::Args)]
pub(super) struct RawServerArgs {
    /// Address to listen on
    #[arg(long)]
    listen: SocketAddr,
    /// Address of Redis
    #[arg(long, default_value = "127.0.0.1:6379")]
    redis: SocketAddr,
}

pub(super) fn execute(args: &RawServerArgs) -> Result<()> {
    crate::raw_server::serve(args.listen, args.redis)
}
