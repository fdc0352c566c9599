//! The `crewcast` binary. Each command is a file in [`commands`].

use std::{io::IsTerminal, process::ExitCode};

use anyhow::Context;
use clap::Parser;
use tracing_subscriber::EnvFilter;

mod backend;
mod cli;
mod commands;
mod dev;
mod duration;
mod error;
mod gateway;
mod output;
mod render;
mod settings;

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> anyhow::Result<ExitCode> {
    let cli = cli::Cli::parse();
    // An error means that a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    if !cli.command.sets_up_logging() {
        log_to_stderr();
    }
    let runtime = tokio::runtime::Runtime::new().context("the async runtime cannot start")?;
    let code = match runtime.block_on(commands::run(cli)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("crewcast: {error}");
            error.exit_code()
        }
    };
    // A read of standard input cannot be cancelled and must not delay the exit.
    runtime.shutdown_background();
    Ok(code)
}

/// Standard output is for results. Logs warnings, or what `RUST_LOG` says.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    let is_terminal = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(is_terminal).with_writer(std::io::stderr).init();
}
