//! What the phones tell, counted, timed and audited.

use std::collections::BTreeMap;

use serde::Serialize;

use super::audit::{Audit, Change, Terms};
use super::finding::{Findings, seconds};
use super::frames::Outcome;
use super::latency::Latencies;
use super::point::Point;
use super::truth::{Fate, Micros};
use crate::audit::ledger::Heard;

/// What one phone tells, and when it happened.
pub(crate) struct Told {
    /// Index of the phone.
    pub(crate) phone: u32,
    /// When.
    pub(crate) at: Micros,
    /// What.
    pub(crate) event: Event,
}

/// What happens to a phone.
pub(crate) enum Event {
    /// A new report is handed to the socket, inside `hello` or by itself.
    Sent { n: i64, point: Point, hello: bool },
    /// What became of a report.
    Answered { n: i64, answer: Answer },
    /// The first answer of a connection came, that long after its first byte.
    Welcomed { terms: Terms, took: Micros },
    /// The list changed by one frame.
    Listed {
        changes: Vec<Listed>,
        /// A reset begins with this frame.
        reset: bool,
        /// It is a part of a reset.
        in_reset: bool,
        /// Further parts are to come.
        awaits_parts: bool,
    },
    /// A digest was compared.
    Compared { agreed: bool },
    /// The whole list was asked for.
    AskedForAll,
    /// The phone has no socket any more.
    Lost { by: By },
    /// A connection could not be made, a message was refused, or the server ended the connection, with this code.
    Failed { code: String },
    /// The server said not to come back.
    Retired,
    /// Updates were dropped on purpose.
    Sabotaged { updates: u64 },
}

impl Event {
    /// What it says of which report.
    pub(crate) fn heard(&self) -> Option<(Heard, i64)> {
        match self {
            Self::Sent { n, .. } => Some((Heard::Sent, *n)),
            Self::Answered { n, answer } => {
                let heard = match answer {
                    Answer::Accepted(Outcome::Published) => Heard::Published,
                    Answer::Accepted(Outcome::Thinned) => Heard::Thinned,
                    Answer::Accepted(Outcome::Stored) | Answer::AcceptedLate => Heard::Stored,
                    Answer::Declined => Heard::Declined,
                    Answer::Refused => Heard::Refused,
                    Answer::Unknown => Heard::Unknown,
                };
                Some((heard, *n))
            }
            _ => None,
        }
    }
}

/// Who ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// A simulated fault.
    Fault,
    /// The end of the run.
    End,
    /// The server or the network.
    Server,
}

/// What the server says to a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Acknowledged as it was sent.
    Accepted(Outcome),
    /// Acknowledged when it was sent again as a late fix: in the history. The first sending may have been published.
    AcceptedLate,
    /// Not accepted now; it is sent again as a late fix.
    Declined,
    /// Never to be accepted.
    Refused,
    /// The server does not know; it is sent again as a late fix.
    Unknown,
}

/// One change of a list, and the time that came with a position, ms.
pub(crate) struct Listed {
    /// What changed.
    pub(crate) change: Change,
    /// The broker's append time.
    pub(crate) appended: i64,
}

/// Counts of a run.
#[derive(Clone, Default)]
pub(crate) struct Tally {
    pub(crate) sent: u64,
    pub(crate) published: u64,
    pub(crate) thinned: u64,
    pub(crate) stored: u64,
    pub(crate) refused: u64,
    pub(crate) upserts: u64,
    pub(crate) removals: u64,
    pub(crate) resets: u64,
    pub(crate) unrecognised: u64,
    pub(crate) connects: u64,
    pub(crate) drops: u64,
    pub(crate) losses: u64,
    pub(crate) retired: u64,
    pub(crate) digests: u64,
    pub(crate) digest_mismatches: u64,
    pub(crate) syncs: u64,
    pub(crate) sabotaged: u64,
    pub(crate) errors: BTreeMap<String, u64>,
}

impl Tally {
    /// Reports that the server vouched for.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.published + self.thinned + self.stored
    }

    /// Reports that nobody vouched for yet.
    pub(crate) fn unacknowledged(&self) -> u64 {
        self.sent.saturating_sub(self.acknowledged() + self.refused)
    }
}

/// All that is known of a run.
pub(crate) struct Ledger {
    audit: Audit,
    latencies: Latencies,
    tally: Tally,
    connected: Vec<bool>,
    /// When the server ended the phone's last connection, while there is no next one.
    lost_at: Vec<Option<Micros>>,
    /// Since when the phone has wanted a session and had none.
    without: Vec<Option<Micros>>,
}

impl Ledger {
    /// An empty one for phones by their friends' indices.
    pub(crate) fn new(friends: &[Vec<u32>]) -> Self {
        Self {
            audit: Audit::new(friends),
            latencies: Latencies::default(),
            tally: Tally::default(),
            connected: vec![false; friends.len()],
            lost_at: vec![None; friends.len()],
            without: vec![None; friends.len()],
        }
    }

    /// Writes down what a phone tells.
    pub(crate) fn take(&mut self, told: Told) {
        let Told { phone, at, event } = told;
        match event {
            Event::Sent { n, point, hello } => {
                self.tally.sent += 1;
                self.audit.sent(phone, n, point, hello, at);
            }
            Event::Answered { n, answer } => self.answered(phone, n, answer, at),
            Event::Welcomed { terms, took } => {
                self.tally.connects += 1;
                self.connected[phone as usize] = true;
                self.without[phone as usize] = None;
                self.latencies.connect_to_welcome.note(took);
                if let Some(lost_at) = self.lost_at[phone as usize].take() {
                    self.latencies.away.note(at - lost_at);
                }
                self.audit.welcomed(phone, terms, at);
            }
            Event::Listed { changes, reset, in_reset, awaits_parts } => {
                self.tally.resets += u64::from(reset);
                for listed in changes {
                    self.listed(phone, &listed, in_reset, at);
                }
                self.audit.awaits_parts(phone, awaits_parts, at);
            }
            Event::Compared { agreed } => {
                self.tally.digests += 1;
                self.tally.digest_mismatches += u64::from(!agreed);
            }
            Event::AskedForAll => self.tally.syncs += 1,
            Event::Lost { by } => {
                self.tally.drops += u64::from(by == By::Fault);
                self.tally.losses += u64::from(by == By::Server);
                self.connected[phone as usize] = false;
                self.lost_at[phone as usize] = (by == By::Server).then_some(at);
                self.without[phone as usize] = (by != By::End).then_some(at);
                self.audit.lost(phone);
            }
            Event::Failed { code } => {
                *self.tally.errors.entry(code).or_default() += 1;
                if !self.connected[phone as usize] {
                    self.without[phone as usize].get_or_insert(at);
                }
            }
            Event::Retired => {
                self.tally.retired += 1;
                self.without[phone as usize] = None;
            }
            Event::Sabotaged { updates } => self.tally.sabotaged += updates,
        }
    }

    fn answered(&mut self, phone: u32, n: i64, answer: Answer, at: Micros) {
        let fate = match answer {
            Answer::Accepted(Outcome::Published) => {
                self.tally.published += 1;
                Fate::Published(at)
            }
            Answer::Accepted(Outcome::Thinned) => {
                self.tally.thinned += 1;
                Fate::Void
            }
            Answer::Accepted(Outcome::Stored) => {
                self.tally.stored += 1;
                Fate::Void
            }
            Answer::Refused => {
                self.tally.refused += 1;
                Fate::Void
            }
            Answer::Declined => Fate::Void,
            Answer::AcceptedLate => {
                self.tally.stored += 1;
                return;
            }
            Answer::Unknown => return,
        };
        if let Some(sent) = self.audit.answered(phone, n, fate)
            && answer == Answer::Accepted(Outcome::Published)
        {
            self.latencies.report_to_ack.note(at - sent);
        }
    }

    fn listed(&mut self, phone: u32, listed: &Listed, in_reset: bool, at: Micros) {
        let seen = self.audit.changed(phone, listed.change, at);
        match listed.change {
            Change::Cleared => {}
            Change::Gone { .. } => self.tally.removals += 1,
            Change::Put { .. } => {
                self.tally.upserts += 1;
                match seen {
                    None => self.tally.unrecognised += 1,
                    // A reset says where everybody has been, some of it long ago: no measure of latency.
                    Some(_) if in_reset => {}
                    Some(seen) if seen.moved => self.latencies.moved(seen.report, listed.appended, at),
                    Some(seen) if seen.appeared => self.latencies.appeared(seen.report, seen.viewer_sent, at),
                    Some(_) => {}
                }
            }
        }
    }

    /// Compares every list with what it must be.
    pub(crate) fn inspect(&mut self, now: Micros, slack: Micros) {
        self.audit.inspect(now, slack);
    }

    /// How phones fare at this moment, where whatever takes longer than `slack` is felt.
    pub(crate) fn moment(&mut self, now: Micros, slack: Micros) -> Moment {
        Moment {
            at_ms: now / 1_000,
            connected: self.connected.iter().filter(|&&connected| connected).count(),
            away: self.without.iter().flatten().filter(|&&since| now - since > slack).count(),
            wrong: self.audit.wrong_now(now, slack),
        }
    }

    /// What the audit found.
    pub(crate) fn findings(&self) -> &Findings {
        self.audit.findings()
    }

    /// What was counted.
    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// What was timed.
    pub(crate) fn latencies(&self) -> &Latencies {
        &self.latencies
    }

    /// Where the run stands.
    pub(crate) fn progress(&self, elapsed: Micros) -> Progress {
        let findings = self.findings();
        let latency = self.latencies.report_to_friend.quantiles();
        Progress {
            elapsed_s: seconds(elapsed),
            phones: self.connected.len(),
            connected: self.connected.iter().filter(|&&connected| connected).count(),
            sent: self.tally.sent,
            acknowledged: self.tally.acknowledged(),
            unacknowledged: self.tally.unacknowledged(),
            updates: self.tally.upserts + self.tally.removals,
            p50_ms: latency.p50,
            p99_ms: latency.p99,
            missing: findings.missing,
            wrong: findings.wrong,
            stale: findings.stale,
            wrong_seconds: findings.wrong_seconds(),
            in_range_seconds: findings.in_range_seconds(),
            clean: findings.is_clean(),
        }
    }
}

/// How phones fare at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Moment {
    /// ms since the epoch.
    pub(crate) at_ms: i64,
    /// Phones with a session.
    pub(crate) connected: usize,
    /// Phones that have wanted one and had none for longer than the slack.
    pub(crate) away: usize,
    /// Entries of lists that have been missing, wrong or stale for longer than the slack.
    pub(crate) wrong: usize,
}

/// Where a run stands.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)]
pub(crate) struct Progress {
    pub(crate) elapsed_s: f64,
    pub(crate) phones: usize,
    pub(crate) connected: usize,
    pub(crate) sent: u64,
    pub(crate) acknowledged: u64,
    pub(crate) unacknowledged: u64,
    pub(crate) updates: u64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) missing: u64,
    pub(crate) wrong: u64,
    pub(crate) stale: u64,
    pub(crate) wrong_seconds: f64,
    pub(crate) in_range_seconds: f64,
    pub(crate) clean: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms { radius_m: 8_000.0, ttl: 600_000_000 };

    fn tell(ledger: &mut Ledger, at: Micros, phone: u32, event: Event) {
        ledger.take(Told { phone, at, event });
    }

    fn put(point: Point, reset: bool) -> Event {
        let change = Change::Put { friend: 1, point, distance_m: None };
        Event::Listed { changes: vec![Listed { change, appended: 1 }], reset, in_reset: reset, awaits_parts: false }
    }

    #[test]
    fn answers_are_counted_by_what_they_say() {
        let mut ledger = Ledger::new(&[vec![], vec![]]);
        let point = Point::of_degrees(0.0, 0.0);
        let answers = [
            Answer::Accepted(Outcome::Published),
            Answer::Accepted(Outcome::Thinned),
            Answer::Accepted(Outcome::Stored),
            Answer::Declined,
            Answer::Refused,
            Answer::Unknown,
        ];
        for (n, answer) in (0..).zip(answers) {
            tell(&mut ledger, n, 1, Event::Sent { n, point, hello: false });
            tell(&mut ledger, n + 10, 1, Event::Answered { n, answer });
        }
        let tally = ledger.tally();
        assert_eq!((tally.sent, tally.published, tally.thinned, tally.stored, tally.refused), (6, 1, 1, 1, 1));
        assert_eq!((tally.acknowledged(), tally.unacknowledged()), (3, 2));
        for n in [3, 5] {
            tell(&mut ledger, 100, 1, Event::Answered { n, answer: Answer::AcceptedLate });
        }
        assert_eq!((ledger.tally().stored, ledger.tally().unacknowledged()), (3, 0));
        assert_eq!(ledger.latencies().stages().report_to_ack.samples, 1);
    }

    #[test]
    fn only_a_move_of_somebody_shown_is_a_report_on_its_way() {
        let mut ledger = Ledger::new(&[vec![1], vec![0]]);
        let points = [0.0, 0.01, 0.02].map(|lat| Point::of_degrees(lat, 0.0));
        tell(&mut ledger, 0, 0, Event::Welcomed { terms: TERMS, took: 5 });
        for (n, point) in (0..).zip(points) {
            tell(&mut ledger, 1_000 * n, 1, Event::Sent { n, point, hello: false });
        }
        let samples = |ledger: &Ledger| {
            (ledger.latencies().report_to_friend.quantiles().samples, ledger.latencies().stages().appearance.samples)
        };
        tell(&mut ledger, 3_000, 0, put(points[0], true));
        assert_eq!(samples(&ledger), (0, 0));
        tell(&mut ledger, 4_000, 0, put(points[1], false));
        assert_eq!(samples(&ledger), (1, 0));
        tell(&mut ledger, 5_000, 0, put(points[1], false));
        assert_eq!(samples(&ledger), (1, 0), "the same again");
        let gone = Listed { change: Change::Gone { friend: 1 }, appended: 0 };
        let listed = Event::Listed { changes: vec![gone], reset: false, in_reset: false, awaits_parts: false };
        tell(&mut ledger, 6_000, 0, listed);
        tell(&mut ledger, 7_000, 0, put(points[2], false));
        assert_eq!(samples(&ledger), (1, 1));
        tell(&mut ledger, 8_000, 0, put(Point::of_degrees(5.0, 5.0), false));
        let tally = ledger.tally();
        assert_eq!((tally.upserts, tally.removals, tally.resets, tally.unrecognised), (5, 1, 1, 1));
    }

    #[test]
    fn a_moment_says_who_is_away_and_what_is_wrong() {
        let mut ledger = Ledger::new(&[vec![1], vec![0]]);
        let check = |ledger: &mut Ledger, at_ms: i64, connected, away, wrong| {
            let moment = ledger.moment(at_ms * 1_000, 2_000_000);
            assert_eq!(moment, Moment { at_ms, connected, away, wrong });
        };
        check(&mut ledger, 0, 0, 0, 0);
        for phone in 0..2 {
            let point = Point::of_degrees(0.0, 0.001 * f64::from(phone));
            tell(&mut ledger, 0, phone, Event::Welcomed { terms: TERMS, took: 5 });
            tell(&mut ledger, 0, phone, Event::Sent { n: 1, point, hello: true });
            tell(&mut ledger, 0, phone, Event::Answered { n: 1, answer: Answer::Accepted(Outcome::Published) });
        }
        tell(&mut ledger, 0, 0, put(Point::of_degrees(0.0, 0.001), true));
        check(&mut ledger, 1_000, 2, 0, 0);
        check(&mut ledger, 3_000, 2, 0, 1);
        tell(&mut ledger, 4_000_000, 1, Event::Lost { by: By::Server });
        check(&mut ledger, 5_000, 1, 0, 0);
        tell(&mut ledger, 5_500_000, 1, Event::Failed { code: "refused".to_owned() });
        check(&mut ledger, 6_500, 1, 1, 0);
        tell(&mut ledger, 7_000_000, 1, Event::Welcomed { terms: TERMS, took: 5 });
        tell(&mut ledger, 7_000_000, 0, Event::Lost { by: By::End });
        check(&mut ledger, 9_000, 1, 0, 0);
        assert_eq!(ledger.findings().wrong_seconds(), 0.0, "a moment counts nothing");
    }

    #[test]
    fn sockets_are_counted_by_who_ended_them() {
        let mut ledger = Ledger::new(&[vec![], vec![]]);
        tell(&mut ledger, 0, 0, Event::Welcomed { terms: TERMS, took: 5 });
        tell(&mut ledger, 0, 1, Event::Welcomed { terms: TERMS, took: 5 });
        assert_eq!(ledger.progress(0).connected, 2);
        tell(&mut ledger, 1, 0, Event::Lost { by: By::Fault });
        tell(&mut ledger, 1, 1, Event::Lost { by: By::Server });
        tell(&mut ledger, 1, 1, Event::Failed { code: "drain".to_owned() });
        let tally = ledger.tally();
        assert_eq!((tally.connects, tally.drops, tally.losses, tally.errors.get("drain")), (2, 1, 1, Some(&1)));
        assert_eq!(ledger.progress(0).connected, 0);
        for phone in 0..2 {
            tell(&mut ledger, 1_501, phone, Event::Welcomed { terms: TERMS, took: 5 });
        }
        let away = ledger.latencies().stages().away;
        assert_eq!((away.samples, away.max), (1, 1.5), "only whom the server left");
    }
}
