//! How long a report took to a friend's socket, and where the time went.

use hdrhistogram::Histogram;
use serde::Serialize;

use super::truth::{Fate, Micros, Report};

/// Longest time that is told apart, one hour.
const LONGEST: u64 = 3_600_000_000;

/// Times in microseconds with three digits.
pub(crate) struct Times(Histogram<u64>);

impl Default for Times {
    fn default() -> Self {
        // The bounds are constants that the library accepts: 2 × 1 ≤ the longest, at most 5 digits.
        #[allow(clippy::expect_used)]
        Self(Histogram::new_with_bounds(1, LONGEST, 3).expect("constant bounds"))
    }
}

impl Times {
    /// Adds one; below a microsecond counts as one.
    pub(crate) fn note(&mut self, micros: Micros) {
        self.0.saturating_record(u64::try_from(micros).unwrap_or(0).max(1));
    }

    /// In milliseconds, as they are reported.
    pub(crate) fn quantiles(&self) -> Quantiles {
        let ms = |micros: u64| micros as f64 / 1_000.0;
        let at = |quantile| ms(self.0.value_at_quantile(quantile));
        Quantiles { samples: self.0.len(), p50: at(0.5), p90: at(0.9), p99: at(0.99), max: ms(self.0.max()) }
    }
}

/// Quantiles in milliseconds; zeros where there was no sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Quantiles {
    /// How many times were measured.
    pub(crate) samples: u64,
    /// Half of them took at most this.
    pub(crate) p50: f64,
    /// Nine in ten.
    pub(crate) p90: f64,
    /// Ninety-nine in a hundred.
    pub(crate) p99: f64,
    /// The longest.
    pub(crate) max: f64,
}

/// All that is timed in a run.
#[derive(Default)]
pub(crate) struct Latencies {
    /// From handing a report to the socket to the arrival of a frame that moves the friend there, at each viewer.
    pub(crate) report_to_friend: Times,
    /// From handing a report to the socket to its acknowledgement.
    pub(crate) report_to_ack: Times,
    /// From handing a report to the socket to the broker's append time, which comes in whole milliseconds.
    pub(crate) report_to_log: Times,
    /// From the broker's append time to the arrival of the frame.
    pub(crate) log_to_friend: Times,
    /// From the acknowledgement to the arrival of the frame; zero where the frame was first.
    pub(crate) ack_to_friend: Times,
    /// From the later of both reports to the arrival of the frame in which the friend appears.
    pub(crate) appearance: Times,
    /// From the first byte of a connection to `welcome`.
    pub(crate) connect_to_welcome: Times,
    /// From the end of a connection by the server, or by what lies between, to the next `welcome`.
    pub(crate) away: Times,
}

/// The stages of the way, and what surrounds it.
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs)]
pub(crate) struct Stages {
    pub(crate) report_to_ack: Quantiles,
    pub(crate) report_to_log: Quantiles,
    pub(crate) log_to_friend: Quantiles,
    pub(crate) ack_to_friend: Quantiles,
    pub(crate) appearance: Quantiles,
    pub(crate) connect_to_welcome: Quantiles,
    pub(crate) away: Quantiles,
}

impl Latencies {
    /// A friend who was shown elsewhere is shown by this report now. `appended` is what the frame says, in ms.
    pub(crate) fn moved(&mut self, report: &Report, appended: i64, arrived: Micros) {
        // A report inside `hello` waits for the API and the session; it is no measure of the way of a report.
        if report.hello {
            return;
        }
        self.report_to_friend.note(arrived - report.sent);
        // The broker's clock is not ours, and it is known to the millisecond: a time before the sending counts as none.
        self.report_to_log.note(appended * 1_000 - report.sent);
        self.log_to_friend.note(arrived - appended * 1_000);
        if let Fate::Published(acknowledged) = report.fate {
            self.ack_to_friend.note(arrived - acknowledged);
        } else {
            self.ack_to_friend.note(0);
        }
    }

    /// A friend appeared, for one of two reports.
    pub(crate) fn appeared(&mut self, report: &Report, viewer_sent: Option<Micros>, arrived: Micros) {
        if !report.hello {
            self.appearance.note(arrived - viewer_sent.map_or(report.sent, |viewer| viewer.max(report.sent)));
        }
    }

    /// The stages in milliseconds.
    pub(crate) fn stages(&self) -> Stages {
        Stages {
            report_to_ack: self.report_to_ack.quantiles(),
            report_to_log: self.report_to_log.quantiles(),
            log_to_friend: self.log_to_friend.quantiles(),
            ack_to_friend: self.ack_to_friend.quantiles(),
            appearance: self.appearance.quantiles(),
            connect_to_welcome: self.connect_to_welcome.quantiles(),
            away: self.away.quantiles(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::point::Point;
    use super::*;

    fn report(hello: bool, fate: Fate) -> Report {
        let point = Point::of_degrees(1.0, 1.0);
        Report { n: 1, point, position: point.position().unwrap(), sent: 5_000_000, fate, hello }
    }

    #[test]
    fn the_stages_of_one_report() {
        let mut latencies = Latencies::default();
        latencies.moved(&report(false, Fate::Published(5_020_000)), 5_012, 5_030_000);
        let near = |quantiles: Quantiles, ms: f64| {
            assert_eq!(quantiles.samples, 1);
            assert!((quantiles.max - ms).abs() < 0.05, "{quantiles:?}");
        };
        near(latencies.report_to_friend.quantiles(), 30.0);
        near(latencies.stages().report_to_log, 12.0);
        near(latencies.stages().log_to_friend, 18.0);
        near(latencies.stages().ack_to_friend, 10.0);
    }

    #[test]
    fn a_frame_before_the_acknowledgement_and_a_clock_behind_count_as_no_time() {
        let mut latencies = Latencies::default();
        latencies.moved(&report(false, Fate::Open), 4_990, 5_030_000);
        assert!(latencies.stages().ack_to_friend.max < 0.01);
        assert!(latencies.stages().report_to_log.max < 0.01);
    }

    #[test]
    fn a_position_of_hello_is_not_a_report_on_its_way() {
        let mut latencies = Latencies::default();
        latencies.moved(&report(true, Fate::Open), 5_012, 5_030_000);
        latencies.appeared(&report(true, Fate::Open), None, 5_030_000);
        assert_eq!(latencies.report_to_friend.quantiles(), Quantiles::default());
        assert_eq!(latencies.stages().appearance.samples, 0);
    }

    #[test]
    fn an_appearance_counts_from_the_later_report() {
        let mut latencies = Latencies::default();
        latencies.appeared(&report(false, Fate::Open), Some(5_010_000), 5_030_000);
        latencies.appeared(&report(false, Fate::Open), Some(1_000_000), 5_020_000);
        let quantiles = latencies.stages().appearance;
        assert!(quantiles.samples == 2 && (quantiles.max - 20.0).abs() < 0.05 && (quantiles.p50 - 20.0).abs() < 0.05);
    }
}
