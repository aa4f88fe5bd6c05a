//! Standard output: what a command was asked for. Everything else is logged.

use std::fmt;
use std::io::Write;

/// Prints a line. A reader that has gone (`| head`) ends nothing.
pub fn line(text: fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// A time for people, of ms since the epoch.
pub fn moment(ms: i64) -> String {
    let since = std::time::Duration::from_millis(u64::try_from(ms).unwrap_or_default());
    humantime::format_rfc3339_millis(std::time::UNIX_EPOCH + since).to_string()
}
