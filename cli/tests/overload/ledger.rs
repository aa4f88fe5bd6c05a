//! What phones sent and were told, as `nearcast audit --ledger` reads it.

use std::fmt::Write as _;
use std::path::Path;

/// One installation's reports: number, when sent and the answer's word if there was one; ms since the epoch.
#[derive(Debug, Default)]
pub struct Book {
    pub user: String,
    pub device: &'static str,
    pub reports: Vec<(i64, i64, Option<&'static str>)>,
}

impl Book {
    /// Reports that the log has to hold.
    pub fn accepted(&self) -> u64 {
        let held = |answer: &Option<&str>| matches!(answer, Some("published" | "stored"));
        self.reports.iter().filter(|(_, _, answer)| held(answer)).count() as u64
    }
}

pub fn write(path: &Path, books: &[Book]) {
    let mut text = "nearcast-ledger 1\n".to_owned();
    for (index, Book { user, device, .. }) in books.iter().enumerate() {
        writeln!(text, "phone {index} {user} {device}").unwrap();
    }
    for (index, book) in books.iter().enumerate() {
        for (n, at, answer) in &book.reports {
            writeln!(text, "sent {index} {n} {at}").unwrap();
            if let Some(answer) = answer {
                writeln!(text, "{answer} {index} {n} {at}").unwrap();
            }
        }
    }
    std::fs::write(path, text).unwrap();
}
