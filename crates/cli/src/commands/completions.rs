//! `crewcast completions` and `crewcast man`: generated from the command line itself.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::{cli::Cli, error::CliError, output};

/// Arguments of `completions`.
#[derive(clap::Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// Arguments of `man`.
#[derive(clap::Args, Debug)]
pub(crate) struct ManArgs {
    /// The command, for example token check. Without it, the page of crewcast itself
    pub command: Vec<String>,
}

/// Prints the completion script.
///
/// # Errors
/// [`CliError::Io`] when standard output cannot be written.
pub(crate) fn completions(args: &CompletionsArgs) -> Result<ExitCode, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "crewcast", &mut script);
    print(&script)
}

/// Prints the manual page.
///
/// # Errors
/// [`CliError::Usage`] when there is no such command.
pub(crate) fn man(args: &ManArgs) -> Result<ExitCode, CliError> {
    print(&page(&args.command)?)
}

/// The page of a command, in roff.
fn page(names: &[String]) -> Result<Vec<u8>, CliError> {
    let mut command = Cli::command().disable_help_subcommand(true);
    // Gives each command its whole name, such as `crewcast-token-check`.
    command.build();
    for name in names {
        let next = command.find_subcommand(name).cloned();
        command = next.ok_or_else(|| {
            CliError::Usage(format!("there is no command {}: `crewcast --help` lists all", names.join(" ")))
        })?;
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page).map_err(CliError::io("the manual page"))?;
    Ok(page)
}

fn print(bytes: &[u8]) -> Result<ExitCode, CliError> {
    output::line(String::from_utf8_lossy(bytes).trim_end())?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> Result<String, CliError> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        page(&names).map(|page| String::from_utf8(page).unwrap())
    }

    #[test]
    fn each_command_has_a_page_with_its_flags() {
        assert!(of(&[]).unwrap().contains("forward"));
        let check = of(&["token", "check"]).unwrap();
        assert!(check.contains("token\\-check") && check.contains("standard input"), "{check}");
        assert!(of(&["tail"]).unwrap().contains("since"));
        assert!(matches!(of(&["token", "chek"]), Err(CliError::Usage(text)) if text.contains("token chek")));
    }
}
