//! `--timeline FILE`: how phones fare, moment by moment, for whoever asks how long a fault was felt.
//!
//! `--slack` decides whether a run is right; here the slack is always the same, short one, so that times compare.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::ledger::Moment;
use super::truth::Micros;

/// The file of a run.
pub(crate) struct Timeline {
    path: PathBuf,
    file: File,
}

impl Timeline {
    /// Whatever takes longer is felt.
    pub(crate) const SLACK: Micros = 2_000_000;

    /// Begins the file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn create(path: &Path) -> anyhow::Result<Self> {
        let file = File::create(path).with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Writes a moment, in one call: whoever reads along sees whole lines.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write(&mut self, moment: &Moment) -> anyhow::Result<()> {
        let line = serde_json::to_string(moment)? + "\n";
        let written = self.file.write_all(line.as_bytes());
        written.with_context(|| format!("{} could not be written to the end", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_line() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let mut timeline = Timeline::create(path.path()).unwrap();
        timeline.write(&Moment { at_ms: 1, connected: 2, away: 3, wrong: 4 }).unwrap();
        let text = std::fs::read_to_string(path.path()).unwrap();
        assert_eq!(text, "{\"at_ms\":1,\"connected\":2,\"away\":3,\"wrong\":4}\n");
    }

    #[test]
    fn what_cannot_be_written_is_said() {
        let error = Timeline::create(Path::new("/nowhere/timeline")).err().unwrap();
        assert!(format!("{error:#}").contains("/nowhere/timeline cannot be written"), "{error:#}");
    }
}
