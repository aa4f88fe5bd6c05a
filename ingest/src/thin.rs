//! May this report be left out of the log?

use nearcast_geo::{Position, straight_line_m};

/// When a report may be thinned out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ThinRules {
    /// Only one that moved less than this; metres. 0: none.
    pub min_move_m: f64,
    /// Only within this time after the report that it is compared with; ms.
    pub max_silence_ms: i64,
}

/// What to do with a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Publish it, and say by this ticket what came of it.
    Publish(Ticket),
    /// Leave it out: the log has one close by and not long ago.
    Thin,
}

/// One report that is being published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u64);

/// Decides for one session.
///
/// Reports are compared with the last one that Kafka acknowledged, and with nothing while one is unresolved: of that
/// one nobody knows whether friends will see it. After one that failed, or whose fate is unknown, nothing is thinned
/// until a later one is acknowledged.
///
/// Invariant: a report is thinned only if the log holds a report of this session, under the present mode, that is less
/// than `min_move_m` away, at most `max_silence_ms` old, and the last of the session that is in the log.
#[derive(Clone, Debug)]
pub struct Thinner {
    rules: ThinRules,
    last: Option<Last>,
    /// The ticket given last; tickets begin at 1.
    given: u64,
    /// Reports up to this ticket are not compared with: failed, or from before a change of mode.
    doubted: u64,
    unresolved: u32,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    ticket: u64,
    position: Position,
    taken_ms: i64,
}

impl Thinner {
    /// A session that has published nothing.
    pub fn new(rules: ThinRules) -> Self {
        Self { rules, last: None, given: 0, doubted: 0, unresolved: 0 }
    }

    /// Decides about a report that came at `now_ms` by the clock of this process.
    pub fn decide(&mut self, position: Position, now_ms: i64) -> Decision {
        if self.unresolved == 0 && self.last.is_some_and(|last| self.near(last, position, now_ms)) {
            return Decision::Thin;
        }
        Decision::Publish(self.publish())
    }

    /// A ticket for a report that is published whatever it says, such as a hello's.
    pub fn publish(&mut self) -> Ticket {
        self.given += 1;
        self.unresolved += 1;
        Ticket(self.given)
    }

    /// Kafka acknowledged the report of `position` that came at `taken_ms`.
    pub fn acknowledged(&mut self, ticket: Ticket, position: Position, taken_ms: i64) {
        self.resolved();
        if ticket.0 > self.doubted && self.last.is_none_or(|last| last.ticket < ticket.0) {
            self.last = Some(Last { ticket: ticket.0, position, taken_ms });
        }
    }

    /// The report failed, or nobody knows.
    pub fn failed(&mut self, ticket: Ticket) {
        self.resolved();
        self.doubt(ticket.0);
    }

    /// The report never went out.
    pub fn withdrawn(&mut self, _ticket: Ticket) {
        self.resolved();
    }

    /// Nothing published so far counts any more, because the way the user shares has changed.
    pub fn forget(&mut self) {
        self.doubt(self.given);
    }

    fn near(&self, last: Last, position: Position, now_ms: i64) -> bool {
        // A clock that was set back would silence the session: it publishes instead.
        (0..=self.rules.max_silence_ms).contains(&now_ms.saturating_sub(last.taken_ms))
            && straight_line_m(last.position, position) < self.rules.min_move_m
    }

    fn doubt(&mut self, through: u64) {
        self.doubted = self.doubted.max(through);
        if self.last.is_some_and(|last| last.ticket <= through) {
            self.last = None;
        }
    }

    fn resolved(&mut self) {
        debug_assert!(self.unresolved > 0, "a ticket is resolved once");
        self.unresolved = self.unresolved.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RULES: ThinRules = ThinRules { min_move_m: 10.0, max_silence_ms: 180_000 };

    /// A position some metres north of a fixed one.
    fn north(metres: f64) -> Position {
        Position::new(48.0 + metres / 111_200.0, 11.0).unwrap()
    }

    #[track_caller]
    fn published(thinner: &mut Thinner, metres: f64, now_ms: i64) -> Ticket {
        match thinner.decide(north(metres), now_ms) {
            Decision::Publish(ticket) => ticket,
            Decision::Thin => panic!("thinned"),
        }
    }

    #[track_caller]
    fn thinned(thinner: &mut Thinner, metres: f64, now_ms: i64) {
        assert_eq!(thinner.decide(north(metres), now_ms), Decision::Thin);
    }

    /// A session whose report of 0 m at 0 ms is in the log.
    fn begun() -> Thinner {
        let mut thinner = Thinner::new(RULES);
        let ticket = published(&mut thinner, 0.0, 0);
        thinner.acknowledged(ticket, north(0.0), 0);
        thinner
    }

    #[test]
    fn small_moves_are_thinned_until_the_silence_is_over() {
        let mut thinner = begun();
        thinned(&mut thinner, 9.0, 30_000);
        thinned(&mut thinner, 9.0, 180_000);
        let mut other = thinner.clone();
        published(&mut thinner, 9.0, 180_001);
        published(&mut other, 11.0, 30_000);
    }

    #[test]
    fn small_moves_add_up() {
        let mut thinner = begun();
        thinned(&mut thinner, 6.0, 1);
        published(&mut thinner, 12.0, 2);
    }

    #[test]
    fn nothing_is_thinned_while_one_is_unresolved() {
        let mut thinner = begun();
        let first = published(&mut thinner, 20.0, 1);
        let second = published(&mut thinner, 20.0, 2);
        thinner.acknowledged(first, north(20.0), 1);
        let third = published(&mut thinner, 20.0, 3);
        thinner.acknowledged(second, north(20.0), 2);
        thinner.acknowledged(third, north(20.0), 3);
        thinned(&mut thinner, 20.0, 4);
    }

    #[test]
    fn after_a_failure_a_later_acknowledgement_is_needed() {
        let mut thinner = begun();
        let first = published(&mut thinner, 20.0, 1);
        let second = published(&mut thinner, 20.0, 2);
        thinner.failed(second);
        // The one before the failure does not help.
        thinner.acknowledged(first, north(20.0), 1);
        let third = published(&mut thinner, 20.0, 3);
        thinner.acknowledged(third, north(20.0), 3);
        thinned(&mut thinner, 20.0, 4);
    }

    #[test]
    fn a_failure_known_late_does_not_undo_a_later_acknowledgement() {
        let mut thinner = begun();
        let first = published(&mut thinner, 20.0, 1);
        let second = published(&mut thinner, 40.0, 2);
        thinner.acknowledged(second, north(40.0), 2);
        thinner.failed(first);
        thinned(&mut thinner, 40.0, 3);
    }

    #[test]
    fn what_never_went_out_changes_nothing() {
        let mut thinner = begun();
        let ticket = published(&mut thinner, 20.0, 1);
        thinner.withdrawn(ticket);
        thinned(&mut thinner, 0.0, 2);
    }

    #[test]
    fn a_change_of_mode_forgets_what_is_on_its_way_too() {
        let mut thinner = begun();
        let before = published(&mut thinner, 20.0, 1);
        thinner.forget();
        thinner.acknowledged(before, north(20.0), 1);
        let after = published(&mut thinner, 20.0, 2);
        thinner.acknowledged(after, north(20.0), 2);
        thinned(&mut thinner, 20.0, 3);
    }

    #[test]
    fn a_clock_set_back_publishes() {
        let mut thinner = begun();
        published(&mut thinner, 0.0, -1);
    }

    #[test]
    fn without_a_least_move_everything_is_published() {
        let mut thinner = Thinner::new(ThinRules { min_move_m: 0.0, ..RULES });
        let ticket = published(&mut thinner, 0.0, 0);
        thinner.acknowledged(ticket, north(0.0), 0);
        published(&mut thinner, 0.0, 1);
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Report {
            metres: f64,
            after_ms: i64,
        },
        /// Resolves one of the unresolved reports: acknowledged, failed or withdrawn.
        Resolve {
            which: usize,
            how: u8,
        },
        Forget,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0.0..30.0_f64, 0..100_000_i64).prop_map(|(metres, after_ms)| Step::Report { metres, after_ms }),
            4 => (any::<usize>(), 0..6_u8).prop_map(|(which, how)| Step::Resolve { which, how }),
            1 => Just(Step::Forget),
        ]
    }

    #[derive(Clone, Copy, PartialEq)]
    enum Fate {
        Unresolved,
        Acknowledged,
        Failed,
        Withdrawn,
    }

    /// One published report as the test remembers it.
    struct Sent {
        ticket: Ticket,
        metres: f64,
        at: i64,
        fate: Fate,
        mode: u32,
    }

    proptest! {
        #[test]
        fn thinned_means_that_the_log_has_one_close_by(steps in proptest::collection::vec(step(), 1..60)) {
            let mut thinner = Thinner::new(RULES);
            let mut sent: Vec<Sent> = Vec::new();
            let (mut now, mut mode) = (0, 0);
            for step in steps {
                match step {
                    Step::Report { metres, after_ms } => {
                        now += after_ms;
                        let decision = thinner.decide(north(metres), now);
                        // The definition, over the whole past.
                        let out: Vec<&Sent> = sent.iter().filter(|s| s.fate != Fate::Withdrawn).collect();
                        let allowed = out.iter().all(|s| s.fate != Fate::Unresolved)
                            && out.last().is_some_and(|last| {
                                last.fate == Fate::Acknowledged
                                    && last.mode == mode
                                    && now - last.at <= RULES.max_silence_ms
                                    && straight_line_m(north(last.metres), north(metres)) < RULES.min_move_m
                            });
                        prop_assert_eq!(decision == Decision::Thin, allowed);
                        if let Decision::Publish(ticket) = decision {
                            sent.push(Sent { ticket, metres, at: now, fate: Fate::Unresolved, mode });
                        }
                    }
                    Step::Resolve { which, how } => {
                        let mut open: Vec<&mut Sent> =
                            sent.iter_mut().filter(|s| s.fate == Fate::Unresolved).collect();
                        if open.is_empty() {
                            continue;
                        }
                        // What never went out is the one decided last, because that is known at once.
                        let at = if how == 5 { open.len() - 1 } else { which % open.len() };
                        let report = &mut open[at];
                        match how {
                            0..=2 => {
                                thinner.acknowledged(report.ticket, north(report.metres), report.at);
                                report.fate = Fate::Acknowledged;
                            }
                            3 | 4 => {
                                thinner.failed(report.ticket);
                                report.fate = Fate::Failed;
                            }
                            _ => {
                                thinner.withdrawn(report.ticket);
                                report.fate = Fate::Withdrawn;
                            }
                        }
                    }
                    Step::Forget => {
                        thinner.forget();
                        mode += 1;
                    }
                }
            }
        }
    }
}
