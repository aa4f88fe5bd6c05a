//! The options of `nearcast demo`.

use std::time::Duration;

use clap::Args;

use crate::simulate::args::{Centre, centre, rate, report_every};

/// Everything in one process without any server, and one user's list as it lives: for trying out, nothing is durable
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// How many phones
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(2..=10_000))]
    pub phones: u32,
    /// How many friends each has on average
    #[arg(long, default_value_t = 20)]
    pub friends: u32,
    /// How long it runs, such as 60s; without it until Ctrl-C
    #[arg(long, value_parser = humantime::parse_duration)]
    pub duration: Option<Duration>,
    /// Decides who is whose friend, where everybody goes and which sockets drop
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// About how often each phone reports, at least 200ms
    #[arg(long, default_value = "3s", value_parser = report_every)]
    pub report_every: Duration,
    /// The share of sockets that drop in a minute
    #[arg(long, default_value_t = 0.02, value_parser = rate)]
    pub drop_rate: f64,
    /// Where the town is
    #[arg(long, default_value = "52.52,13.405", value_name = "LAT,LON", value_parser = centre, allow_hyphen_values = true)]
    pub centre: Centre,
}
