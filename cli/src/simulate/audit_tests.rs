use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

const MS: Micros = 1_000;
const S: Micros = 1_000 * MS;
const SLACK: Micros = 2 * S;
const TERMS: Terms = Terms { radius_m: 8_000.0, ttl: 600 * S };
/// The viewer, the friend, and one who is nobody's friend.
const ME: u32 = 0;
const BOB: u32 = 1;
const EVE: u32 = 2;

/// A point that many kilometres north of the equator; a degree is 110.574 km there.
fn km(km: f64) -> Point {
    Point::of_degrees(km / 110.574, 0.0)
}

/// A story of two friends and a stranger, inspected every 250 ms.
struct Script {
    audit: Audit,
    now: Micros,
    n: i64,
    terms: Terms,
}

impl Script {
    /// Both friends are welcomed at 0 and have reported; the viewer is at 0 km.
    fn with_bob_at(bob: f64) -> Self {
        let audit = Audit::new(&[vec![BOB], vec![ME], vec![]]);
        let mut script = Self { audit, now: 0, n: 0, terms: TERMS };
        script.audit.welcomed(ME, TERMS, 0);
        script.report(ME, 0.0);
        script.report(BOB, bob);
        script
    }

    fn until(&mut self, time: Micros) -> &mut Self {
        while self.now + 250 * MS <= time {
            self.now += 250 * MS;
            self.audit.inspect(self.now, SLACK);
        }
        self.now = time;
        self
    }

    /// Hands a report to the socket, unanswered.
    fn send(&mut self, user: u32, to: f64) -> i64 {
        self.n += 1;
        self.audit.sent(user, self.n, km(to), false, self.now);
        self.n
    }

    /// A report that is published at once.
    fn report(&mut self, user: u32, to: f64) -> &mut Self {
        let n = self.send(user, to);
        self.audit.answered(user, n, Fate::Published(self.now));
        self
    }

    fn show(&mut self, friend: u32, at: f64) -> &mut Self {
        let change = Change::Put { friend, point: km(at), distance_m: None };
        self.audit.changed(ME, change, self.now);
        self
    }

    fn hide(&mut self, friend: u32) -> &mut Self {
        self.audit.changed(ME, Change::Gone { friend }, self.now);
        self
    }

    fn check(&mut self, missing: u64, wrong: u64, stale: u64, wrong_seconds: f64) {
        let findings = self.audit.findings();
        assert_eq!((findings.missing, findings.wrong, findings.stale), (missing, wrong, stale));
        assert!((findings.wrong_seconds() - wrong_seconds).abs() < 1e-6, "{} s", findings.wrong_seconds());
        assert_eq!(findings.is_clean(), missing + wrong + stale == 0);
    }

    fn check_clean(&mut self) {
        self.check(0, 0, 0, 0.0);
    }
}

#[test]
fn a_friend_in_range_and_shown_is_right() {
    let mut script = Script::with_bob_at(3.0);
    script.until(S).show(BOB, 3.0).until(20 * S).check_clean();
    let findings = script.audit.findings();
    // Judged from the first inspection later than the slack.
    assert!((findings.in_range_seconds() - 18.0).abs() < 0.5, "{} s", findings.in_range_seconds());
}

#[test]
fn a_friend_in_range_and_not_shown_is_missing() {
    let mut script = Script::with_bob_at(3.0);
    // Due from the first inspection later than 2 s, 2.25 s: each instant stands for the quarter second before it.
    script.until(10 * S).check(1, 0, 0, 8.0);
    let example = &script.audit.findings().examples[0];
    assert_eq!((example.finding, example.viewer, example.friend), (Finding::Missing, ME, Some(BOB)));
    assert_eq!(example.apart_m, Some(3_000.0));
    assert_eq!((example.at_ms, example.friend_sent_s), (2_250, Some(2.25)));
}

#[test]
fn each_time_counts_once() {
    let mut script = Script::with_bob_at(3.0);
    script.until(4 * S).show(BOB, 3.0).until(6 * S).hide(BOB).until(8 * S).check(2, 0, 0, 4.0);
    assert_eq!(script.audit.findings().wrong_between_ms(), Some((2_250, 8_000)));
}

#[test]
fn a_friend_out_of_range_and_shown_is_wrong() {
    let mut script = Script::with_bob_at(3.0);
    script.show(BOB, 3.0).until(10 * S).report(BOB, 9.0).show(BOB, 9.0);
    script.until(12 * S - 250 * MS).check_clean();
    script.until(15 * S).check(0, 1, 0, 3.25);
    script.hide(BOB).until(20 * S).check(0, 1, 0, 3.25);
}

#[test]
fn a_viewer_who_moves_away_must_not_see_the_friend_either() {
    let mut script = Script::with_bob_at(3.0);
    script.show(BOB, 3.0).until(10 * S).report(ME, -6.0);
    script.until(15 * S).check(0, 1, 0, 3.25);
}

#[test]
fn a_position_that_was_replaced_is_stale() {
    let mut script = Script::with_bob_at(3.0);
    script.show(BOB, 3.0).until(10 * S).report(BOB, 4.0);
    script.until(12 * S - 250 * MS).check_clean();
    script.until(14 * S).check(0, 0, 1, 2.25);
    script.show(BOB, 4.0).until(20 * S).check(0, 0, 1, 2.25);
}

#[test]
fn a_position_that_nobody_sent_is_stale_at_once() {
    let mut script = Script::with_bob_at(3.0);
    script.show(BOB, 3.0).until(10 * S).show(BOB, 3.5).until(11 * S).check(0, 0, 1, 1.0);
}

#[test]
fn the_band_is_free() {
    for shown in [true, false] {
        let mut script = Script::with_bob_at(8.1);
        if shown {
            script.show(BOB, 8.1);
        }
        script.until(20 * S).check_clean();
    }
    // Its edges are not: 8 km are in, more than 8.2 km are out.
    let mut script = Script::with_bob_at(7.999);
    script.until(10 * S).check(1, 0, 0, 8.0);
    let mut script = Script::with_bob_at(8.201);
    script.show(BOB, 8.201).until(10 * S).check(0, 1, 0, 8.0);
}

#[test]
fn the_band_does_not_excuse_an_old_position() {
    let mut script = Script::with_bob_at(8.1);
    script.show(BOB, 8.1).until(10 * S).report(BOB, 8.15).until(15 * S).check(0, 0, 1, 3.25);
}

#[test]
fn crossing_and_coming_back_within_the_slack_may_be_seen_or_not() {
    for seen in [true, false] {
        let mut script = Script::with_bob_at(12.0);
        script.until(10 * S).report(BOB, 7.0);
        if seen {
            script.show(BOB, 7.0);
        }
        script.until(11 * S).report(BOB, 12.5).hide(BOB).until(20 * S).check_clean();
    }
}

#[test]
fn a_report_without_an_answer_may_be_known_or_not() {
    for shown in [None, Some(3.0)] {
        let mut script = Script::with_bob_at(12.0);
        script.until(10 * S).send(BOB, 3.0);
        if let Some(at) = shown {
            script.show(BOB, at);
        }
        script.until(40 * S).check_clean();
        // A newer one that is answered ends it.
        script.report(BOB, 13.0).until(45 * S);
        let expect = u64::from(shown.is_some());
        script.check(0, expect, 0, expect as f64 * 3.25);
    }
}

#[test]
fn an_answer_that_comes_late_moves_the_slack() {
    let mut script = Script::with_bob_at(12.0);
    script.until(10 * S);
    let n = script.send(BOB, 3.0);
    script.until(30 * S).audit.answered(BOB, n, Fate::Published(30 * S));
    script.until(32 * S - 250 * MS).check_clean();
    script.until(34 * S).check(1, 0, 0, 2.25);
}

#[test]
fn a_thinned_report_changes_nothing() {
    let mut script = Script::with_bob_at(3.0);
    script.show(BOB, 3.0).until(10 * S);
    let n = script.send(BOB, 3.005);
    script.audit.answered(BOB, n, Fate::Void);
    script.until(20 * S).check_clean();
    script.show(BOB, 3.005).until(21 * S).check(0, 0, 1, 1.0);
}

#[test]
fn a_silent_friend_disappears_at_the_ttl() {
    let mut script = Script::with_bob_at(3.0);
    script.terms.ttl = 10 * S;
    script.audit.welcomed(ME, script.terms, 0);
    script.show(BOB, 3.0);
    for tick in 1..20 {
        script.until(tick * S).report(ME, 0.001 * tick as f64);
    }
    // Reported at 0, so free from 8 s to 12 s.
    script.check(0, 1, 0, 7.0);
    script.hide(BOB).until(25 * S).check(0, 1, 0, 7.0);
}

#[test]
fn a_friend_is_not_silent_before_the_ttl() {
    let mut script = Script::with_bob_at(3.0);
    script.terms.ttl = 10 * S;
    script.audit.welcomed(ME, script.terms, 0);
    script.show(BOB, 3.0).until(6 * S).hide(BOB).until(12 * S).check(1, 0, 0, 1.75);
}

#[test]
fn a_viewer_without_a_position_sees_nobody() {
    let mut script = Script::with_bob_at(3.0);
    script.audit.tracks[ME as usize] = Track::default();
    script.until(10 * S).check_clean();
    script.show(BOB, 3.0).until(11 * S).check(0, 1, 0, 1.0);
}

#[test]
fn who_is_not_connected_is_not_judged_and_gets_a_slack_after_welcome() {
    let mut script = Script::with_bob_at(3.0);
    script.show(BOB, 3.0).until(10 * S).audit.lost(ME);
    script.report(BOB, 4.0).until(20 * S).check_clean();
    script.audit.welcomed(ME, TERMS, 20 * S);
    script.until(22 * S).check_clean();
    script.until(23 * S).check(1, 0, 0, 1.0);
}

#[test]
fn the_friend_who_lost_the_socket_stays_where_last_known() {
    let mut script = Script::with_bob_at(3.0);
    script.audit.welcomed(BOB, TERMS, 0);
    script.show(BOB, 3.0).until(S).audit.lost(BOB);
    script.until(30 * S).check_clean();
    script.hide(BOB).until(31 * S).check(1, 0, 0, 1.0);
}

#[test]
fn parts_of_a_reset_that_are_on_their_way_excuse_for_a_slack() {
    let mut script = Script::with_bob_at(3.0);
    script.show(BOB, 3.0).until(10 * S);
    script.audit.changed(ME, Change::Cleared, 10 * S);
    script.audit.awaits_parts(ME, true, 10 * S);
    script.until(12 * S).check_clean();
    script.audit.awaits_parts(ME, true, 12 * S);
    script.until(13 * S).check(1, 0, 0, 1.0);
    script.audit.awaits_parts(ME, false, 13 * S);
    script.show(BOB, 3.0).until(20 * S).check(1, 0, 0, 1.0);
}

#[test]
fn who_is_no_friend_is_wrong_wherever() {
    for stranger in [EVE, STRANGER] {
        let mut script = Script::with_bob_at(12.0);
        script.report(EVE, 1.0).until(10 * S).show(stranger, 1.0).until(11 * S).check(0, 1, 0, 1.0);
        assert_eq!(script.audit.findings().examples[0].friend, (stranger == EVE).then_some(EVE));
    }
}

#[test]
fn a_wider_slack_forgives_what_came_late() {
    let mut script = Script::with_bob_at(3.0);
    script.show(BOB, 3.0).until(10 * S).report(BOB, 4.0);
    script.now = 15 * S;
    script.audit.inspect(15 * S, SLACK + 5 * S);
    script.show(BOB, 4.0).until(20 * S).check_clean();
}

#[test]
fn shown_distances_are_checked() {
    let mut script = Script::with_bob_at(3.0);
    script.until(10 * S);
    let mut off = |metres: f64| {
        let change = Change::Put { friend: BOB, point: km(3.0), distance_m: Some(metres) };
        script.audit.changed(ME, change, 10 * S);
        script.audit.findings().distances_off
    };
    assert_eq!([off(3_000.0), off(2_999.9), off(2_990.0), off(0.0)], [0, 0, 1, 2]);
}

#[test]
fn a_shown_position_is_recognised() {
    let mut script = Script::with_bob_at(3.0);
    script.until(10 * S).report(BOB, 4.0);
    let mut put = |at: f64| {
        let change = Change::Put { friend: BOB, point: km(at), distance_m: None };
        let seen = script.audit.changed(ME, change, 10 * S)?;
        Some((seen.report.n, seen.moved, seen.appeared))
    };
    assert_eq!(put(3.0), Some((2, false, true)));
    assert_eq!(put(4.0), Some((3, true, false)));
    assert_eq!(put(4.0), Some((3, false, false)));
    assert_eq!(put(5.0), None);
}

/// A right server with arbitrary delays below the slack: each report takes effect somewhere between its sending and
/// its answer, and each decision reaches the phone at most a slack after the answer. Reports are lost, answered or
/// not; sockets come and go. The audit must never accuse it; with one update in fifty dropped it must.
fn run_a_server(seed: u64, dropped: bool) -> (Audit, f64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut audit = Audit::new(&[vec![BOB], vec![ME], vec![]]);
    audit.welcomed(ME, TERMS, 0);
    // (when, what): 0 send, 1 believe, 2 answer.
    let mut events: Vec<(Micros, u8, u32, i64, f64)> = Vec::new();
    for user in [ME, BOB] {
        let mut at = 0;
        let mut place: f64 = if user == ME { 0.0 } else { 6.0 };
        for n in 0..80 {
            at += rng.random_range(S..6 * S);
            place = (place + rng.random_range(-2.0..2.0)).clamp(-1.0, 12.0);
            let fate = rng.random_range(0..10);
            let believed = at + rng.random_range(10 * MS..600 * MS);
            events.push((at, 0, user, n, place));
            if fate > 0 {
                events.push((believed, 1, user, n, place));
            }
            if fate > 1 {
                // What is answered next, after everything that was sent before.
                events.push((believed + rng.random_range(0..300 * MS), 2, user, n, place));
            }
        }
    }
    events.sort_by_key(|e| (e.0, e.1));
    let (mut believed, mut inside, mut frames) = ([None, None], false, std::collections::VecDeque::new());
    let mut now = 0;
    let mut last_frame = 0;
    for (at, what, user, n, place) in events {
        while now + 250 * MS <= at {
            now += 250 * MS;
            while frames.front().is_some_and(|&(due, _)| due <= now) {
                let Some((due, change)) = frames.pop_front() else { break };
                if !(dropped && rng.random_range(0..50) == 0) {
                    audit.changed(ME, change, due);
                }
            }
            audit.inspect(now, SLACK);
        }
        match what {
            0 => audit.sent(user, n, km(place), false, at),
            1 => {
                believed[user as usize] = Some(km(place));
                if let [Some(me), Some(bob)] = believed {
                    let metres = straight_line_m(me.position().unwrap(), bob.position().unwrap());
                    let was_inside = inside;
                    inside = metres <= if inside { 8_000.0 * BAND } else { 8_000.0 };
                    let put = Change::Put { friend: BOB, point: bob, distance_m: Some(metres) };
                    last_frame = last_frame.max(at + rng.random_range(0..SLACK - 250 * MS));
                    match (was_inside, inside) {
                        (_, true) => frames.push_back((last_frame, put)),
                        (true, false) => frames.push_back((last_frame, Change::Gone { friend: BOB })),
                        (false, false) => {}
                    }
                }
            }
            _ => {
                audit.answered(user, n, Fate::Published(at));
            }
        }
    }
    let in_range = audit.findings().in_range_seconds();
    (audit, in_range)
}

#[test]
fn a_right_server_is_never_accused() {
    for seed in 0..300 {
        let (audit, in_range) = run_a_server(seed, false);
        let findings = audit.findings();
        assert!(findings.is_clean(), "seed {seed}: {:?}", findings.examples);
        assert!(in_range > 0.0, "seed {seed} judged nothing");
    }
}

#[test]
fn a_server_that_drops_updates_is_found_out() {
    let accused = (0..100).filter(|&seed| !run_a_server(seed, true).0.findings().is_clean()).count();
    assert!(accused >= 60, "{accused} of 100");
}
