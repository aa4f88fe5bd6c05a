//! The rows as a file for machines and as a table for people.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::phones::PHONES;
use crate::row::Row;

/// A row a fault.
pub struct Report {
    seed: u64,
    file: PathBuf,
    rows: Vec<Row>,
}

impl Report {
    pub fn new(seed: u64, file: PathBuf) -> Self {
        println!(
            "{:<10}{:<28}{:>9}{:>6}{:>12}{:>12}{:>10}{:>9}{:>9}  clean",
            "fault", "target", "acked", "lost", "duplicated", "wrong views", "recovery", "healing", "history"
        );
        Self { seed, file, rows: Vec::new() }
    }

    /// Prints one more and writes the file anew.
    pub fn add(&mut self, row: Row) {
        let seconds = |value: Option<f64>| value.map_or("-".to_owned(), |seconds| format!("{seconds:.1}"));
        let clean = if row.not_run.is_some() {
            "not run"
        } else if row.is_clean() {
            "yes"
        } else {
            "NO"
        };
        println!(
            "{:<10}{:<28}{:>9}{:>6}{:>12}{:>12}{:>10}{:>9}{:>9}  {clean}",
            row.fault,
            row.target,
            row.acknowledged,
            row.lost,
            row.duplicated,
            row.wrong_views,
            seconds(row.recovery_seconds),
            seconds(row.healing_seconds),
            seconds(row.history_seconds),
        );
        for trouble in row.troubles.iter().chain(&row.not_run) {
            println!("  {trouble}");
        }
        self.rows.push(row);
        self.write(None);
    }

    /// All rows are there.
    pub fn end(&self, took: Duration) {
        self.write(Some(took));
        println!("\n{} faults in {:.0} s: {}", self.rows.len(), took.as_secs_f64(), self.file.display());
    }

    pub fn is_clean(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(Row::is_clean)
    }

    fn write(&self, took: Option<Duration>) {
        let rows: Vec<Value> = self.rows.iter().map(Row::json).collect();
        let json = json!({
            "clean": took.is_some() && self.is_clean(),
            "ended": took.is_some(),
            "seconds": took.map(|took| took.as_secs_f64()),
            "seed": self.seed,
            "phones": PHONES,
            "rows": rows,
        });
        std::fs::write(&self.file, serde_json::to_string_pretty(&json).unwrap() + "\n").unwrap();
    }
}
