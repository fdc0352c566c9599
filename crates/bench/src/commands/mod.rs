//! The commands of `crewcast-bench`.

mod compare;
mod deflate;
mod idle;
mod latency;
mod load;
mod publish;
mod raw_server;
mod report;
mod scale;
mod slow;
mod storm;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{options::Options, worker_process};

/// Measures the fan-out of events to WebSockets.
#[derive(Debug, Parser)]
#[command(name = "crewcast-bench", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Put load on a server that is already running
    Load(load::LoadArgs),
    /// Measure deliveries per CPU second of all servers, in turns
    Compare(Options),
    /// Measure memory per idle socket
    Idle(idle::IdleArgs),
    /// Measure latency at fixed rates
    Latency(Options),
    /// Measure what 1 % slow readers cost the other readers
    Slow(Options),
    /// Cut all sockets, and let them resume from their positions
    Storm(storm::StormArgs),
    /// Measure what compression costs and saves
    Deflate(Options),
    /// Measure what publishing costs Redis
    Publish(Options),
    /// Measure the costs behind docs/scaling.md, and write the page: what a million sockets need
    Scale(Box<scale::ScaleArgs>),
    /// Write docs/performance.md and its plots from the records
    Report(report::ReportArgs),
    /// Run the raw write loop, which shows the machine's limit
    RawServer(raw_server::RawServerArgs),
    /// Listen on behalf of another generator
    #[command(hide = true)]
    WorkerProcess,
}

/// Runs a command. Returns whether no event was lost, duplicated or out of order.
///
/// # Errors
/// If the command fails.
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
        Command::WorkerProcess => worker_process::listen().map(|()| true),
        Command::RawServer(args) => raw_server::execute(&args).map(|()| true),
    }
}
