//! What is wrong with a configuration, and how to mend it.

use std::{fmt, path::PathBuf};

/// Where a value came from. Later ones win over earlier ones.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Source {
    /// Nobody set it.
    Default,
    /// The TOML file.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
    /// A flag on the command line.
    Flag,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::File(path) => write!(f, "file {}", path.display()),
            Source::Variable(name) => write!(f, "variable {name}"),
            Source::Flag => f.write_str("flag"),
        }
    }
}

/// Why there is no configuration. Never holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {}, which {named_by} names: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The flag or key that names it.
        named_by: String,
        /// Why.
        #[source]
        error: std::io::Error,
    },
    /// The file is no TOML. The line itself is not shown: it may hold a secret.
    #[error("{}, line {line}: {problem}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Counts from 1.
        line: usize,
        /// What TOML's parser says.
        problem: String,
    },
    /// Keys or values are wrong; at least one.
    #[error("{}", one_a_line(.0))]
    Problems(Vec<Problem>),
}

/// One key that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The whole path, for example `limits.stall`.
    pub key: String,
    /// Who set it.
    pub source: Source,
    /// What is wrong and what to write instead.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.key, self.source, self.text)
    }
}

fn one_a_line(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
