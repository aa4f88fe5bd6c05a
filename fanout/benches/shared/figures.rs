//! What a worker says of itself, and what the kernel says of it.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// Metrics by name and labels.
#[derive(Clone, Debug, Default)]
pub struct Figures(BTreeMap<String, f64>);

impl Figures {
    /// Of Prometheus' text format.
    pub fn of(text: &str) -> Self {
        let lines = text.lines().filter(|line| line.starts_with("nearcast_"));
        let figures = lines.filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Self(figures.collect())
    }

    /// The figure of this name without labels; 0 where there is none yet.
    pub fn get(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or(0.0)
    }

    /// All figures of this name, whatever their labels.
    pub fn sum(&self, name: &str) -> f64 {
        let figures = self.0.iter().filter(|(of, _)| of.split('{').next() == Some(name));
        figures.map(|(_, value)| value).sum()
    }

    /// Records read of the locations and taken by the engine.
    pub fn records(&self) -> u64 {
        self.get("nearcast_fanout_records_total") as u64
    }
}

/// Time on processors of a process's threads, in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    /// The engine's thread, which also polls, decodes and encodes.
    pub engine: f64,
    /// The threads of the Kafka clients: sockets, checksums, compression.
    pub kafka: f64,
    pub other: f64,
}

impl Cpu {
    pub fn of(pid: u32) -> Self {
        let mut cpu = Self::default();
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the worker runs");
        for task in tasks.filter_map(Result::ok) {
            // A thread may end between the two.
            let Ok(name) = fs::read_to_string(task.path().join("comm")) else { continue };
            let Ok(times) = fs::read_to_string(task.path().join("schedstat")) else { continue };
            let on_cpu: u64 = times.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0);
            let seconds = Duration::from_nanos(on_cpu).as_secs_f64();
            match name.trim() {
                "fanout engine" => cpu.engine += seconds,
                name if name.starts_with("rdk:") || name.contains("producer") => cpu.kafka += seconds,
                _ => cpu.other += seconds,
            }
        }
        cpu
    }

    pub fn all(&self) -> f64 {
        self.engine + self.kafka + self.other
    }

    pub fn since(&self, before: &Self) -> Self {
        Self { engine: self.engine - before.engine, kafka: self.kafka - before.kafka, other: self.other - before.other }
    }
}

/// What a process holds in memory, in bytes.
pub fn resident(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("the worker runs");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel names the field");
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number of kilobytes");
    kilobytes * 1_024
}
