//! The options of `nearcast simulate`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use nearcast_geo::Position;

/// Simulated phones over real WebSockets, and an audit of everything that they are shown
#[derive(Clone, Debug, Args)]
pub struct SimulateArgs {
    /// How many phones; with traces, each is played by --phones-per-trace instead
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub phones: u32,
    /// How many friends each has on average; with traces, everybody is everybody's friend
    #[arg(long, default_value_t = 10)]
    pub friends: u32,
    /// How long they report, such as 60s or 5m; with traces, by default until the last was played
    #[arg(long, value_parser = humantime::parse_duration)]
    pub duration: Option<Duration>,
    /// Decides who is whose friend, where everybody goes and which sockets drop
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Against services of its own inside this process, without any server
    #[arg(long, conflicts_with_all = ["ws", "api"])]
    pub embedded: bool,
    /// The gateway, or the balancer in front, ws:// or wss://; by default the configured gateway's own address. May be
    /// repeated: phones begin spread over all of them, and one that loses its socket comes back to the next
    #[arg(long, value_name = "ws://HOST:PORT/v1/ws")]
    pub ws: Vec<String>,
    /// The REST API, http:// or https://; by default the configured API's own address
    #[arg(long, value_name = "http://HOST:PORT")]
    pub api: Option<String>,
    /// Trusts a certificate authority of the deployment's own, besides those that this machine trusts; PEM
    #[arg(long, value_name = "FILE", conflicts_with = "embedded")]
    pub ca: Option<PathBuf>,
    /// The share of sockets that drop in a minute: half are cut, half are closed
    #[arg(long, default_value_t = 0.02, value_parser = rate)]
    pub drop_rate: f64,
    /// Phones that close their socket come back after this; longer than the TTL, they fall silent. By default at once
    #[arg(long, value_parser = humantime::parse_duration)]
    pub away: Option<Duration>,
    /// About how often each phone reports, at least 200ms
    #[arg(long, default_value = "5s", value_parser = report_every)]
    pub report_every: Duration,
    /// How long a change may take to be seen before it counts as wrong
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    pub slack: Duration,
    /// The radius of the simulated users' profiles in metres; by default the deployment's
    #[arg(long, value_name = "METRES")]
    pub radius: Option<u32>,
    /// Where the town is: at a pole and on the antimeridian it is a town like any other
    #[arg(long, default_value = "52.52,13.405", value_name = "LAT,LON", value_parser = centre, allow_hyphen_values = true)]
    pub centre: Centre,
    /// The phones drop one update in a thousand, so that the audit must fail
    #[arg(long)]
    pub sabotage: bool,
    /// Plays a recording: GPX, or CSV with the columns user,time,lat,lon; may be repeated
    #[arg(long, value_name = "FILE")]
    pub trace: Vec<PathBuf>,
    /// Plays recordings that many times faster
    #[arg(long, default_value_t = 1.0, value_parser = speed, requires = "trace")]
    pub speed: f64,
    /// Phones on one recording start one after the other, this far apart
    #[arg(long, default_value = "20s", value_parser = humantime::parse_duration, requires = "trace")]
    pub stagger: Duration,
    /// Phones on each recording
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1_000), requires = "trace")]
    pub phones_per_trace: u32,
    /// Writes the report as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Writes each report that was sent, and what became of it, for `nearcast audit --ledger`; see docs/accounting.md
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
    /// Writes how the phones fare four times a second, a line of JSON each: how many are connected, are away, and how many
    /// entries of their lists are wrong, for longer than two seconds
    #[arg(long, value_name = "FILE")]
    pub timeline: Option<PathBuf>,
}

/// A place of the command line. `Debug` leaves the coordinates out.
#[derive(Clone, Copy, Debug)]
pub struct Centre(pub Position);

pub(crate) fn centre(text: &str) -> Result<Centre, String> {
    let shape = || "write it as LAT,LON in degrees".to_owned();
    let (lat, lon) = text.split_once(',').ok_or_else(shape)?;
    let (lat, lon) = (lat.trim().parse().map_err(|_| shape())?, lon.trim().parse().map_err(|_| shape())?);
    Position::new(lat, lon).map(Centre).map_err(|error| error.to_string())
}

pub(crate) fn rate(text: &str) -> Result<f64, String> {
    number(text, 0.0, 60.0)
}

fn speed(text: &str) -> Result<f64, String> {
    number(text, 0.001, 100_000.0)
}

fn number(text: &str, least: f64, most: f64) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("must be a number from {least} to {most}")),
    }
}

pub(crate) fn report_every(text: &str) -> Result<Duration, String> {
    let every = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let allowed = Duration::from_millis(200)..=Duration::from_secs(3_600);
    if allowed.contains(&every) { Ok(every) } else { Err("must be 200ms to 1h".to_owned()) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: SimulateArgs,
    }

    fn parse(line: &str) -> Result<SimulateArgs, String> {
        let words = std::iter::once("simulate").chain(line.split_whitespace());
        Line::try_parse_from(words).map(|line| line.args).map_err(|error| error.to_string())
    }

    #[test]
    fn reads_what_the_documents_show() {
        let args = parse("--phones 500 --friends 20 --duration 5m --seed 7 --drop-rate 0.02 --json r.json").unwrap();
        assert_eq!((args.phones, args.friends, args.seed), (500, 20, 7));
        assert_eq!(args.duration, Some(Duration::from_secs(300)));
        let args = parse("--trace a.gpx --trace b.csv --speed 20 --stagger 10s --phones-per-trace 4").unwrap();
        assert_eq!((args.trace.len(), args.speed, args.phones_per_trace), (2, 20.0, 4));
        let args = parse("--embedded --centre -90,180").unwrap();
        assert!(args.embedded && args.centre.0.lat_deg() == -90.0);
        let args = parse("--ws ws://a/v1/ws --ws ws://b/v1/ws --ledger a.ledger").unwrap();
        assert_eq!(args.ws, ["ws://a/v1/ws", "ws://b/v1/ws"]);
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        for line in [
            "--phones 0",
            "--embedded --ws ws://h/v1/ws",
            "--embedded --ca ca.pem",
            "--centre 91,0",
            "--centre here",
            "--drop-rate -1",
            "--report-every 1ms",
            "--speed 2",
            "--trace a.gpx --speed 0",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
