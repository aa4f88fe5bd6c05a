//! The terminal while a run is under way: one line that changes, or plain lines where nobody watches.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use tokio::sync::watch;

use super::ledger::Progress;
use crate::output;

/// Plain lines come this often.
const PLAIN_EVERY: f64 = 5.0;

/// Prints a line for good, over a line that changes.
pub(crate) fn say(text: &str) {
    if std::io::stdout().is_terminal() {
        // Carriage return, and erase to the end of the line (ECMA-48, EL).
        output::line(format_args!("\r\x1b[K{text}"));
    } else {
        output::line(format_args!("{text}"));
    }
}

/// Shows a line that the next one replaces; nothing where nobody watches.
pub(crate) fn show(text: &str) {
    let mut out = std::io::stdout();
    if out.is_terminal() {
        // A terminal that has gone ends nothing.
        let _ = write!(out, "\r\x1b[K{text}");
        let _ = out.flush();
    }
}

/// Tells the progress until its sender is gone.
pub(crate) async fn tell(mut progress: watch::Receiver<Progress>) {
    let on_terminal = std::io::stdout().is_terminal();
    let mut told_s = 0.0;
    while progress.changed().await.is_ok() {
        let now = progress.borrow_and_update().clone();
        if on_terminal {
            show(&line(&now));
        } else if now.elapsed_s - told_s >= PLAIN_EVERY {
            told_s = now.elapsed_s;
            say(&line(&now));
        }
    }
}

fn line(progress: &Progress) -> String {
    let elapsed = humantime::format_duration(Duration::from_secs(progress.elapsed_s as u64));
    let Progress { phones, connected, sent, acknowledged, updates, p50_ms, p99_ms, missing, wrong, stale, .. } =
        progress;
    format!(
        "{elapsed}: {connected}/{phones} phones, {acknowledged}/{sent} reports, {updates} updates, \
         p50 {p50_ms:.1} ms, p99 {p99_ms:.1} ms; {missing} missing, {wrong} wrong, {stale} stale"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_the_run_goes() {
        let progress =
            Progress { elapsed_s: 65.2, phones: 9, connected: 8, sent: 7, acknowledged: 6, ..Progress::default() };
        assert!(line(&progress).starts_with("1m 5s: 8/9 phones, 6/7 reports, 0 updates, p50 0.0 ms"));
    }
}
