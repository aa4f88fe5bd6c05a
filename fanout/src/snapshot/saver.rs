//! The engine's side: which slots are copied when.

use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::time::Duration;

use super::format::{Head, Identity, LastRead, PartHead};
use super::writer::Job;
use crate::engine::{Copied, Engine};

/// Rows copied in one tick at most: some 4 ms of the engine's thread (0.3 to 0.7 µs a row). With fewer users than about
/// eight million it is the pace that bounds a tick: 20 µs at 100 000, 0.2 ms at a million.
const ROWS_PER_TICK: usize = 8_192;
/// Parts that wait for the disk; the copy pauses beyond that.
const WAITING: usize = 4;
/// A pass takes this part of the interval, so that the next one finds it done.
const SHARE: f64 = 0.8;

/// Copies the engine's state once an interval, evenly over most of it.
pub(crate) struct Saver {
    identity: Identity,
    every: Duration,
    jobs: SyncSender<Job>,
    /// What the writer had no room for.
    waiting: Option<Job>,
    pass: Option<Pass>,
    /// When the next pass begins.
    due: Duration,
}

struct Pass {
    began: Duration,
    at: Copied,
}

/// Where the reading of the locations stands.
#[derive(Clone, Copy)]
pub(crate) struct Reading<'a> {
    /// The offset to be read next, of each partition.
    pub(crate) next: &'a [i64],
    /// The last record that was read of each.
    pub(crate) last: &'a [Option<LastRead>],
}

impl Saver {
    pub(crate) fn new(identity: Identity, every: Duration) -> (Self, Receiver<Job>) {
        let (jobs, receiver) = mpsc::sync_channel(WAITING);
        (Self { identity, every, jobs, waiting: None, pass: None, due: Duration::ZERO }, receiver)
    }

    /// Copies what is due by now. The engine has taken all records below `reading.next`, and no others. `now` is by a
    /// monotonic clock.
    pub(crate) fn tick(&mut self, engine: &Engine, reading: Reading<'_>, now: Duration) {
        if let Some(job) = self.waiting.take()
            && !self.hand_over(job)
        {
            return;
        }
        let Some(pass) = &self.pass else {
            if now >= self.due {
                self.due = now + self.every;
                self.pass = Some(Pass { began: now, at: Copied::Slots(0) });
                let (identity, next) = (self.identity.clone(), reading.next.to_vec());
                let head = Head { identity, next, now_ms: engine.now_ms() };
                self.hand_over(Job::Begin(Box::new(head)));
            }
            return;
        };
        let Some(count) = count(pass, engine.slots(), self.every, now) else { return };
        let mut rows = Vec::with_capacity(count * 128);
        let began = pass.began;
        let (at, written) = engine.save(pass.at, count, &mut rows);
        self.pass = Some(Pass { began, at });
        if written > 0 {
            let head = PartHead { now_ms: engine.now_ms(), next: reading.next.to_vec(), rows: written };
            self.hand_over(Job::Part(head, rows));
        }
        // What waits goes first; the pass ends in the next tick then.
        if at == Copied::All && self.waiting.is_none() {
            self.pass = None;
            self.hand_over(Job::End(reading.last.to_vec()));
        }
    }

    /// Whether the writer took it; if not, it waits for the next tick.
    fn hand_over(&mut self, job: Job) -> bool {
        match self.jobs.try_send(job) {
            // A writer that is gone has ended the worker, which will be seen.
            Ok(()) | Err(TrySendError::Disconnected(_)) => true,
            Err(TrySendError::Full(job)) => {
                self.waiting = Some(job);
                false
            }
        }
    }
}

/// How many slots or sessions are to be copied now; `None` while the pass is ahead of its time.
fn count(pass: &Pass, slots: usize, every: Duration, now: Duration) -> Option<usize> {
    let Copied::Slots(done) = pass.at else { return Some(ROWS_PER_TICK) };
    let share = now.saturating_sub(pass.began).as_secs_f64() / (every.as_secs_f64() * SHARE);
    if share >= 1.0 {
        return Some(ROWS_PER_TICK);
    }
    let due = (slots as f64 * share) as usize;
    Some(due.saturating_sub(done).min(ROWS_PER_TICK)).filter(|&count| count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_takes_most_of_the_interval() {
        let every = Duration::from_secs(60);
        let check = |done, seconds, expect| {
            let pass = Pass { began: Duration::from_secs(100), at: Copied::Slots(done) };
            assert_eq!(count(&pass, 48_000, every, Duration::from_secs(100_u64 + seconds)), expect, "{done} {seconds}");
        };
        check(0, 0, None);
        check(0, 1, Some(1_000));
        check(1_000, 1, None);
        check(1_000, 4, Some(3_000));
        check(0, 40, Some(ROWS_PER_TICK));
        check(48_000, 48, Some(ROWS_PER_TICK));
    }
}
