//! `--ledger FILE`: what was sent and what was acknowledged, for `nearcast audit`.
//!
//! A line is handed to the operating system before the report goes to the socket: a simulator that is killed leaves a
//! file that knows of every report which a server may have.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, anyhow};

use super::phone::device_of;
use crate::audit::ledger::{HEADER, Heard, phone_line, report_line};

/// The file of a run.
pub(crate) struct LedgerFile {
    path: PathBuf,
    file: Mutex<(File, io::Result<()>)>,
}

impl LedgerFile {
    /// Begins the file with the phones of these users.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn create(path: &Path, users: &[String]) -> anyhow::Result<Self> {
        let mut text = format!("{HEADER}\n");
        for (index, user) in (0..).zip(users) {
            text += &phone_line(index, user, &device_of(user));
        }
        let created = File::create(path).and_then(|mut file| file.write_all(text.as_bytes()).map(|()| file));
        let file = created.with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(Self { path: path.to_owned(), file: Mutex::new((file, Ok(()))) })
    }

    /// Writes what is known of a report of a phone. After a failure nothing more is written: see [`Self::end`].
    pub(crate) fn write(&self, heard: Heard, phone: u32, n: i64, at_ms: i64) {
        let line = report_line(heard, phone, n, at_ms);
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if file.1.is_ok() {
            // One call a line: lines of many phones do not mix, and none is held back.
            file.1 = file.0.write_all(line.as_bytes());
        }
    }

    /// Says whether everything was written.
    ///
    /// # Errors
    /// When something was not.
    pub(crate) fn end(&self) -> anyhow::Result<()> {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.1.as_ref().copied().map_err(|error| {
            anyhow!("{} could not be written to the end, and is no ledger of this run: {error}", self.path.display())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::ledger::{Ledger, Told};

    #[test]
    fn it_is_whole_at_every_moment() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let file = LedgerFile::create(path.path(), &["a".to_owned(), "b".to_owned()]).unwrap();
        let reports = |user: &str| {
            let mut ledger = Ledger::default();
            ledger.read(&*std::fs::read(path.path()).unwrap(), 10).unwrap();
            ledger.of(user).flat_map(|phone| phone.reports.clone()).collect::<Vec<_>>()
        };
        assert_eq!(reports("b"), []);
        file.write(Heard::Sent, 1, 4, 100);
        assert_eq!(reports("b"), [Told { n: 4, heard: Heard::Sent, sent_ms: 100, heard_ms: 100 }]);
        file.write(Heard::Published, 1, 4, 130);
        assert_eq!(reports("b"), [Told { n: 4, heard: Heard::Published, sent_ms: 100, heard_ms: 130 }]);
        file.end().unwrap();
    }

    #[test]
    fn what_cannot_be_written_is_said() {
        let error = LedgerFile::create(Path::new("/nowhere/ledger"), &[]).err().unwrap();
        assert!(format!("{error:#}").contains("/nowhere/ledger cannot be written"), "{error:#}");
        let full = LedgerFile { path: "full".into(), file: Mutex::new((File::open("/dev/null").unwrap(), Ok(()))) };
        full.write(Heard::Sent, 0, 1, 1);
        assert!(full.end().unwrap_err().to_string().contains("no ledger of this run"));
    }
}
