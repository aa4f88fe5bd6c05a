//! Time, work and memory.

use std::fs;
use std::time::{Duration, Instant};

/// What one contender did in some time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Work {
    /// By the wall.
    pub wall: Duration,
    /// Of that, on a processor.
    pub cpu: Duration,
    pub records: u64,
    pub pairs: u64,
}

impl Work {
    pub fn pairs_per_second(&self) -> f64 {
        self.pairs as f64 / self.wall.as_secs_f64()
    }

    /// What it would be if nobody else wanted the processor.
    pub fn pairs_per_cpu_second(&self) -> f64 {
        self.pairs as f64 / self.cpu.as_secs_f64()
    }

    pub fn records_per_second(&self) -> f64 {
        self.records as f64 / self.wall.as_secs_f64()
    }

    /// The share of the time that was spent on a processor: less than 1 when others wanted it too.
    pub fn on_cpu(&self) -> f64 {
        self.cpu.as_secs_f64() / self.wall.as_secs_f64()
    }

    pub fn add(&mut self, other: &Self) {
        self.wall += other.wall;
        self.cpu += other.cpu;
        self.records += other.records;
        self.pairs += other.pairs;
    }
}

/// How long a contender is measured. The first round warms up and does not count.
#[derive(Clone, Copy, Debug)]
pub enum Length {
    /// Rounds of so many records: the same for everybody, however slow.
    Records(u64),
    /// Rounds of so much time.
    Time(Duration),
}

/// Rounds that count.
pub const ROUNDS: usize = 5;

/// The rounds of one contender.
#[derive(Clone, Debug, Default)]
pub struct Rounds(Vec<Work>);

impl Rounds {
    /// Calls `chunk`, which says what it did, until the rounds are full.
    pub fn run(length: Length, mut chunk: impl FnMut() -> Work) -> Self {
        let mut rounds = Vec::new();
        for _ in 0..=ROUNDS {
            let mut round = Work::default();
            while match length {
                Length::Records(records) => round.records < records,
                Length::Time(time) => round.wall < time,
            } {
                round.add(&chunk());
            }
            rounds.push(round);
        }
        rounds.remove(0);
        Self(rounds)
    }

    /// The median over the rounds.
    pub fn median(&self, figure: impl Fn(&Work) -> f64) -> f64 {
        let mut figures: Vec<f64> = self.0.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    }

    pub fn pairs_per_second(&self) -> f64 {
        self.median(Work::pairs_per_second)
    }

    pub fn pairs_per_cpu_second(&self) -> f64 {
        self.median(Work::pairs_per_cpu_second)
    }

    /// The slowest and the fastest round.
    pub fn spread(&self) -> (f64, f64) {
        let rates = self.0.iter().map(Work::pairs_per_second);
        rates.fold((f64::INFINITY, 0.0), |(least, most), rate| (least.min(rate), most.max(rate)))
    }

    pub fn total(&self) -> Work {
        let mut total = Work::default();
        for round in &self.0 {
            total.add(round);
        }
        total
    }
}

/// Measures one stretch of work of this thread.
pub struct Stopwatch {
    began: Instant,
    cpu: Duration,
}

impl Stopwatch {
    pub fn start() -> Self {
        let cpu = cpu_time();
        Self { began: Instant::now(), cpu }
    }

    pub fn stop(self, records: u64, pairs: u64) -> Work {
        let wall = self.began.elapsed();
        Work { wall, cpu: cpu_time() - self.cpu, records, pairs }
    }
}

/// The time that this thread was on a processor, as the scheduler counts it.
fn cpu_time() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").expect("the kernel tells a thread's times");
    let nanoseconds = text.split(' ').next().and_then(|number| number.parse().ok());
    Duration::from_nanos(nanoseconds.expect("a number of nanoseconds"))
}

/// What this process holds, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    pub resident: u64,
    /// Of that, in huge pages.
    pub huge: u64,
}

impl Memory {
    pub fn now() -> Self {
        let text = fs::read_to_string("/proc/self/smaps_rollup").expect("the kernel tells a process's memory");
        Self { resident: kilobytes(&text, "Rss:"), huge: kilobytes(&text, "AnonHugePages:") }
    }
}

/// What the machine could still give, in bytes.
pub fn available() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").expect("the kernel tells the machine's memory");
    kilobytes(&text, "MemAvailable:")
}

fn kilobytes(text: &str, field: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(field)).expect("the kernel names the field");
    let number: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number of kilobytes");
    number * 1_024
}
