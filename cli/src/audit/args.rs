//! The options of `nearcast audit`.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;

/// Proves that what phones sent, the log and the history agree, report by report; exits 1 where they differ
///
/// A report is (user, device, n). Each that was acknowledged as being in the log is there, those of a session in order,
/// and each of the log is in the history once; and nothing else is there. Memory: 100 bytes a report of the partitions
/// that are read at once, 64 a report of the ledgers, and the dead letters' offsets; more is refused, see --max-records.
#[derive(Clone, Debug, Args)]
pub struct AuditArgs {
    /// From this time of the log on, by the broker's clock: `2026-01-31T12:00:00Z`, ms since the epoch, or how long ago,
    /// such as 10m
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub from: Moment,
    /// Until before that; `now` until what is in the log now
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub to: Moment,
    /// What `nearcast simulate --ledger` wrote: what was sent, and what was acknowledged. May be repeated
    #[arg(long, value_name = "FILE")]
    pub ledger: Vec<PathBuf>,
    /// This user alone; may be repeated
    #[arg(long, value_name = "ID", value_parser = user)]
    pub user: Vec<String>,
    /// How long to wait for a sink that has not come to the end of the range
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    pub wait: Duration,
    /// Prints JSON
    #[arg(long)]
    pub json: bool,
    /// How many findings to list; all are counted
    #[arg(long, default_value_t = 100)]
    pub list: usize,
    /// Partitions read at once
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub partitions_at_once: u16,
    /// Reports, sessions and users of one partition, and reports of all ledgers, at most
    #[arg(long, default_value_t = 5_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_records: u32,
}

/// A time of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// ms since the epoch.
    At(i64),
    /// Before now.
    Ago(Duration),
}

impl Moment {
    /// In ms since the epoch.
    pub fn at(self, now_ms: i64) -> i64 {
        match self {
            Self::At(ms) => ms,
            Self::Ago(ago) => now_ms - i64::try_from(ago.as_millis()).unwrap_or(now_ms),
        }
    }
}

fn moment(text: &str) -> Result<Moment, String> {
    if text == "now" {
        return Ok(Moment::Ago(Duration::ZERO));
    }
    if let Ok(ms) = text.parse() {
        return if ms >= 0 { Ok(Moment::At(ms)) } else { Err("must be at or after the epoch".to_owned()) };
    }
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(Moment::Ago(ago));
    }
    let time: SystemTime = humantime::parse_rfc3339_weak(text).map_err(
        |_| "write it as 2026-01-31T12:00:00Z, as ms since the epoch, as `now`, or as 10m for that long ago",
    )?;
    let since = time.duration_since(UNIX_EPOCH).map_err(|_| "must be at or after the epoch")?;
    i64::try_from(since.as_millis()).map(Moment::At).map_err(|error| error.to_string())
}

fn user(text: &str) -> Result<String, String> {
    nearcast_schemas::ids::check_id(text).map(|()| text.to_owned()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_each_way() {
        let check = |text: &str, expect: Option<i64>| {
            assert_eq!(moment(text).ok().map(|moment| moment.at(1_000_000)), expect, "{text}");
        };
        check("now", Some(1_000_000));
        check("10m", Some(400_000));
        check("1500", Some(1_500));
        check("1970-01-01T00:00:02Z", Some(2_000));
        check("1970-01-01 00:00:02.5", Some(2_500));
        for text in ["", "soon", "-5", "1970-01-01", "1969-01-01T00:00:00Z"] {
            check(text, None);
        }
    }
}
