//! How far the reading of the log has come: caught up, behind, or stalled.

use std::time::Duration;

/// A partition lags less than this when it has reached an end that is no older.
pub const CLOSE: Duration = Duration::from_secs(1);

/// The ends of all partitions at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ends {
    /// When they were asked for, by a monotonic clock.
    pub asked_at: Duration,
    /// The offset after the last record of each partition.
    pub offsets: Vec<i64>,
}

impl Ends {
    /// Records between the offsets to be read next and the ends.
    pub fn behind(&self, next: &[i64]) -> u64 {
        self.offsets.iter().zip(next).map(|(end, next)| (end - next).max(0).unsigned_abs()).sum()
    }

    /// Whether every partition lags less than [`CLOSE`].
    pub fn reached(&self, next: &[i64], now: Duration) -> bool {
        self.behind(next) == 0 && now.saturating_sub(self.asked_at) <= CLOSE
    }
}

/// How long records wait to be read.
#[derive(Debug, Default)]
pub struct Lag {
    /// The greatest age of a record when it was read, since the last question; ms.
    oldest_ms: i64,
    /// The offsets to be read next at the last question, and since when nothing was read although there is something.
    partitions: Vec<(i64, Option<Duration>)>,
}

impl Lag {
    /// A record was read `age_ms` after it was appended.
    pub fn read(&mut self, age_ms: i64) {
        self.oldest_ms = self.oldest_ms.max(age_ms);
    }

    /// The greatest lag of a partition since the last question.
    pub fn take(&mut self, ends: Option<&Ends>, next: &[i64], now: Duration) -> Duration {
        let read = Duration::from_millis(std::mem::take(&mut self.oldest_ms).unsigned_abs());
        self.partitions.resize(next.len(), (-1, None));
        let end = |at: usize| ends.and_then(|ends| ends.offsets.get(at)).copied().unwrap_or(0);
        let waiting = next.iter().zip(&mut self.partitions).enumerate().map(|(at, (&next, known))| {
            let stands = end(at) > next && known.0 == next;
            *known = (next, if stands { known.1.or(Some(now)) } else { None });
            known.1.map_or(Duration::ZERO, |since| now.saturating_sub(since))
        });
        waiting.max().unwrap_or_default().max(read)
    }
}

/// Ends the process when a partition, or the whole engine, makes no progress although it could.
#[derive(Debug)]
pub struct Watchdog {
    after: Duration,
    loops: (u64, Duration),
    partitions: Vec<(i64, Duration)>,
}

/// What makes no progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stall {
    /// The engine's thread.
    #[error("the engine's thread has not come round for {} s", .0.as_secs())]
    Thread(Duration),
    /// One partition of the locations: there are records, Kafka answers, and none was read.
    #[error("partition {0} of the locations has records and none was read for {seconds} s", seconds = .1.as_secs())]
    Partition(i32, Duration),
}

impl Watchdog {
    /// Stalls shorter than `after` are none.
    pub fn new(after: Duration) -> Self {
        Self { after, loops: (0, Duration::ZERO), partitions: Vec::new() }
    }

    /// Looks at the engine: how often its thread came round, and the offsets to be read next. `ends`: the ends of the
    /// partitions, if Kafka said them lately and the engine was not held up by a full queue since the last look.
    pub fn look(&mut self, loops: u64, next: &[i64], ends: Option<&Ends>, now: Duration) -> Option<Stall> {
        if self.loops.0 != loops {
            self.loops = (loops, now);
        }
        let since = now.saturating_sub(self.loops.1);
        if since >= self.after {
            return Some(Stall::Thread(since));
        }
        self.partitions.resize(next.len(), (-1, now));
        for (partition, (&next, known)) in next.iter().zip(&mut self.partitions).enumerate() {
            let waits = ends.and_then(|ends| ends.offsets.get(partition)).is_some_and(|&end| end > next);
            if known.0 != next || !waits {
                *known = (next, now);
            }
            let since = now.saturating_sub(known.1);
            if since >= self.after {
                return Some(Stall::Partition(partition as i32, since));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn ends(asked_at: u64, offsets: &[i64]) -> Ends {
        Ends { asked_at: s(asked_at), offsets: offsets.to_vec() }
    }

    #[test]
    fn caught_up_is_at_an_end_that_is_not_old() {
        let ends = ends(10, &[5, 0, 7]);
        assert_eq!(ends.behind(&[5, 0, 4]), 3);
        assert!(!ends.reached(&[5, 0, 6], s(10)));
        assert!(ends.reached(&[6, 0, 7], s(11)));
        assert!(!ends.reached(&[6, 0, 7], s(12)));
    }

    #[test]
    fn lag_is_the_age_of_what_is_read_or_how_long_nothing_is() {
        let mut lag = Lag::default();
        lag.read(300);
        lag.read(20);
        assert_eq!(lag.take(None, &[5], s(1)), Duration::from_millis(300));
        let ends = ends(1, &[9]);
        assert_eq!(lag.take(Some(&ends), &[5], s(2)), s(0), "it may just have come");
        assert_eq!(lag.take(Some(&ends), &[5], s(5)), s(3));
        assert_eq!(lag.take(Some(&ends), &[6], s(6)), s(0));
    }

    #[test]
    fn a_thread_that_does_not_come_round_is_a_stall() {
        let mut dog = Watchdog::new(s(30));
        assert_eq!(dog.look(1, &[], None, s(100)), None);
        assert_eq!(dog.look(1, &[], None, s(129)), None);
        assert_eq!(dog.look(1, &[], None, s(130)), Some(Stall::Thread(s(30))));
        assert_eq!(dog.look(2, &[], None, s(131)), None);
    }

    #[test]
    fn a_partition_stalls_only_while_kafka_answers_and_has_more() {
        let mut dog = Watchdog::new(s(30));
        let more = |now| Some(ends(now, &[9, 4]));
        assert_eq!(dog.look(1, &[5, 4], more(0).as_ref(), s(0)), None);
        assert_eq!(dog.look(2, &[5, 4], None, s(40)), None, "an outage begins it anew");
        assert_eq!(dog.look(3, &[6, 4], more(50).as_ref(), s(50)), None);
        assert_eq!(dog.look(4, &[6, 4], more(79).as_ref(), s(79)), None);
        assert_eq!(dog.look(5, &[6, 4], more(80).as_ref(), s(80)), Some(Stall::Partition(0, s(30))));
        assert_eq!(dog.look(6, &[9, 4], more(81).as_ref(), s(200)), None);
    }
}
