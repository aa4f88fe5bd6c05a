//! How the process ends when it cannot do what it was asked to.

use std::fmt;
use std::process::ExitCode;

/// Why, and with which status.
#[derive(Debug)]
pub enum Failure {
    /// The configuration or the command line is wrong: 64, as `EX_USAGE`.
    Configuration(anyhow::Error),
    /// It was right, and something failed: 1.
    Failed(anyhow::Error),
}

impl Failure {
    /// A wrong configuration.
    pub fn configuration(error: impl Into<anyhow::Error>) -> Self {
        Self::Configuration(error.into())
    }

    /// The status of the process.
    pub fn code(&self) -> ExitCode {
        match self {
            Self::Configuration(_) => ExitCode::from(64),
            Self::Failed(_) => ExitCode::from(1),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration(error) | Self::Failed(error) => write!(f, "{error:#}"),
        }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}
