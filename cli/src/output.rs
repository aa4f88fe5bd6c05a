//! Standard output: what a command was asked for. Everything else is logged.

use std::fmt;
use std::io::Write;

/// Prints a line. A reader that has gone (`| head`) ends nothing.
pub fn line(text: fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
