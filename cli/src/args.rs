//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::audit::args::AuditArgs;
use crate::dead_letters::DeadLettersCommand;
use crate::demo::args::DemoArgs;
use crate::simulate::args::SimulateArgs;

/// Shows people which of their friends are near.
#[derive(Debug, Parser)]
#[command(name = "nearcast", version, about, propagate_version = true)]
pub struct Args {
    /// A TOML file with the settings that differ from `nearcast config default`
    #[arg(long, global = true, env = "NEARCAST_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// One setting; it overrides the file and the environment. May be repeated
    #[arg(long, global = true, value_name = "SECTION.FIELD=VALUE", value_parser = assignment)]
    pub set: Vec<(String, String)>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs a WebSocket gateway
    Gateway,
    /// Runs a fan-out worker
    Fanout,
    /// Writes the location log to the history
    HistorySink,
    /// Runs the REST API
    Api,
    /// Runs every service in one process; makes topics and tables first
    All {
        /// Without any server: Kafka, cache and database inside the process, gone at its end
        #[arg(long)]
        embedded: bool,
    },
    // Its own words: see its options.
    Demo(DemoArgs),
    Simulate(Box<SimulateArgs>),
    Audit(Box<AuditArgs>),
    /// Records that the history could not take: lists them, and tries them once more
    DeadLetters {
        /// What to do with them.
        #[command(subcommand)]
        command: DeadLettersCommand,
    },
    /// Makes, lists and tidies the deployment's Kafka topics
    Topics {
        /// What to do with them.
        #[command(subcommand)]
        command: TopicsCommand,
    },
    /// Makes the keyspace and brings its tables up to date
    Migrate,
    /// Shows and checks the configuration
    Config {
        /// What to show.
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Signs a token for trying things out, with the configured key
    Token {
        /// Whose
        #[arg(long)]
        sub: String,
        /// How long it is valid, such as 1h
        #[arg(long, default_value = "24h", value_parser = humantime::parse_duration)]
        ttl: Duration,
        /// A word of its `scope`, which no call asks for; may be repeated, or separated by commas
        #[arg(long, value_delimiter = ',')]
        scope: Vec<String>,
    },
}

/// What to do with topics.
#[derive(Debug, Subcommand)]
pub enum TopicsCommand {
    /// Makes what is missing, with its settings; leaves alone and tells what differs
    Create,
    /// Lists them with their partitions and records
    List,
    /// Finds topics of gateways that are no more: those that nothing was written to for minutes
    Gc {
        /// Ids of gateways that stay, whatever was written to them
        #[arg(long, value_delimiter = ',', value_name = "ID")]
        keep: Vec<String>,
        /// Deletes them, instead of telling alone
        #[arg(long)]
        delete: bool,
    },
}

/// What to show of the configuration.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Prints the commented defaults
    Default,
    /// Reads and checks the configuration
    Check,
    /// Prints every setting as an environment variable, with its default
    Env,
    /// Prints the configuration in force, without secrets
    Show,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((path, value)) if path.contains('.') => Ok((path.trim().to_owned(), value.to_owned())),
        _ => Err("write it as section.field=value".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_setting_has_a_section_and_a_value() {
        assert_eq!(assignment("a.b=c=d"), Ok(("a.b".to_owned(), "c=d".to_owned())));
        assert!(assignment("a=b").is_err() && assignment("a.b").is_err());
    }
}
