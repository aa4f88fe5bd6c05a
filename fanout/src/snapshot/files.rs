//! Where a worker's snapshot lies, and how it is replaced.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The files of one worker. Several workers share a directory; two of one name replace each other's last file, and write
/// into files of their own until then.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    dir: PathBuf,
    /// Of the last file and of all that are being written.
    stem: String,
    incarnation: i64,
}

impl Files {
    pub(crate) fn new(dir: &Path, prefix: &str, worker: &str, incarnation: i64) -> Self {
        Self { dir: dir.to_owned(), stem: format!("{prefix}.{}", plain(worker)), incarnation }
    }

    /// The last snapshot that was written whole.
    pub(crate) fn last(&self) -> PathBuf {
        self.dir.join(format!("{}.snapshot", self.stem))
    }

    fn temporary(&self) -> PathBuf {
        self.dir.join(format!("{}.{}.tmp", self.stem, self.incarnation))
    }

    /// A new file, which nobody else may read. It is locked while it is open, so that a worker that starts knows it from
    /// those that were left.
    pub(crate) fn create(&self) -> io::Result<File> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        self.discard();
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.temporary())?;
        file.lock()?;
        Ok(file)
    }

    /// Puts what was written in the place of the last snapshot.
    pub(crate) fn keep(&self, file: &File) -> io::Result<()> {
        file.sync_all()?;
        fs::rename(self.temporary(), self.last())?;
        File::open(&self.dir)?.sync_all()
    }

    /// Removes what was written so far.
    pub(crate) fn discard(&self) {
        // Most often there is none, and what cannot be removed is found at the next start.
        let _ = fs::remove_file(self.temporary());
    }

    pub(crate) fn remove_last(&self) {
        let removed = fs::remove_file(self.last());
        if let Err(error) = removed
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.last().display(), %error, "snapshot not removed, remove it: it holds positions");
        }
    }

    /// Removes what workers of this name left half-written, as by SIGKILL.
    pub(crate) fn remove_leftovers(&self) {
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let incarnation =
                name.strip_prefix(&*self.stem).and_then(|rest| rest.strip_prefix('.')?.strip_suffix(".tmp"));
            let is_ours = incarnation.is_some_and(|number| number.parse::<i64>().is_ok());
            let is_left = || File::open(&path).is_ok_and(|file| file.try_lock().is_ok());
            if is_ours && is_left() {
                let _ = fs::remove_file(&path);
            }
        }
    }
}

/// A name that is one of a file, and has no dot.
fn plain(name: &str) -> String {
    let mut plain = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
            plain.push(char::from(byte));
        } else {
            plain.push_str(&format!("%{byte:02x}"));
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = entries.collect();
        names.sort();
        names
    }

    #[test]
    fn a_name_stays_within_the_directory() {
        assert_eq!(plain("worker-1_a"), "worker-1_a");
        assert_eq!(plain("../a.b"), "%2e%2e%2fa%2eb");
    }

    #[test]
    fn is_replaced_at_once_and_read_by_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::new(&dir.path().join("deep"), "p", "w.0", 7);
        for content in [&b"one"[..], b"two"] {
            let mut file = files.create().unwrap();
            file.write_all(content).unwrap();
            files.keep(&file).unwrap();
            assert_eq!(fs::read(files.last()).unwrap(), content);
        }
        assert_eq!(names(&dir.path().join("deep")), ["p.w%2e0.snapshot"]);
        assert_eq!(fs::metadata(files.last()).unwrap().permissions().mode() & 0o777, 0o600);
        files.remove_last();
        assert!(names(&dir.path().join("deep")).is_empty());
    }

    #[test]
    fn a_start_removes_what_was_left_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let files = |worker, incarnation| Files::new(dir.path(), "p", worker, incarnation);
        drop(files("w", 1).create().unwrap());
        drop(files("v", 1).create().unwrap());
        let written = files("w", 2).create().unwrap();
        fs::write(dir.path().join("p.w.snapshot"), "").unwrap();
        files("w", 3).remove_leftovers();
        assert_eq!(names(dir.path()), ["p.v.1.tmp", "p.w.2.tmp", "p.w.snapshot"]);
        drop(written);
        files("w", 3).remove_leftovers();
        assert_eq!(names(dir.path()), ["p.v.1.tmp", "p.w.snapshot"]);
    }
}
