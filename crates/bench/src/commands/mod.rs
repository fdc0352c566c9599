//! The commands.

mod compare;
mod deflate;
mod idle;
mod latency;
mod load;
mod options;
mod publish;
mod raw_server;
mod report;
mod scale;
mod slow;
mod storm;

use anyhow::Result;
use clap::{Parser, Subcommand};

pub use options::Options;

/// Measures how events are fanned out to WebSockets.
#[derive(Debug, Parser)]
#[command(name = "crewcast-bench", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Puts load on a server that runs already
    Load(load::Args),
    /// Deliveries per CPU second of all servers, in turns
    Compare(Options),
    /// Memory per idle socket
    Idle(idle::Args),
    /// Latency at rates that are kept
    Latency(Options),
    /// What one slow reader in a hundred costs the others
    Slow(Options),
    /// All sockets are cut, and come back with their positions
    Storm(storm::Args),
    /// What compression costs and saves
    Deflate(Options),
    /// What publishing costs Redis
    Publish(Options),
    /// Measures what deployments are made of, and writes docs/scaling.md: what a million sockets need
    Scale(Box<scale::Args>),
    /// Writes docs/performance.md and its plots from what was measured
    Report(report::Args),
    /// Runs the raw write loop: the machine's limit
    RawServer(raw_server::Args),
    /// Listens for another generator
    #[command(hide = true)]
    Part,
}

/// Does what is asked; answers whether no event was lost, doubled or out of order.
///
/// # Errors
/// When it cannot be done.
pub fn execute(cli: Cli) -> Result<bool> {
    match cli.command {
        Command::Load(args) => load::execute(&args),
        Command::Compare(options) => compare::execute(&options),
        Command::Idle(args) => idle::execute(&args),
        Command::Latency(options) => latency::execute(&options),
        Command::Slow(options) => slow::execute(&options),
        Command::Storm(args) => storm::execute(&args),
        Command::Deflate(options) => deflate::execute(&options),
        Command::Publish(options) => publish::execute(&options),
        Command::Scale(args) => scale::execute(&args),
        Command::Report(args) => report::execute(&args).map(|()| true),
        Command::Part => crate::parts::listen().map(|()| true),
        Command::RawServer(args) => raw_server::execute(&args).map(|()| true),
    }
}
