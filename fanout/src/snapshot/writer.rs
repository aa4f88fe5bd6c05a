//! The thread that writes, so that the engine's waits for no disk.

use std::fs::File;
use std::io::{self, BufWriter};
use std::sync::mpsc::Receiver;
use std::time::Instant;

use super::files::Files;
use super::format::{Head, LastRead, PartHead, SnapshotWriter};

/// What the engine's thread hands over. Without `Debug`: rows hold positions.
pub(crate) enum Job {
    /// A pass begins; an unfinished one before it is dropped.
    Begin(Box<Head>),
    /// A part, and its rows.
    Part(PartHead, Vec<u8>),
    /// The pass is whole. The last record that was read of each partition of the locations.
    End(Vec<Option<LastRead>>),
}

/// Writes one pass after the other.
pub(crate) struct Writer {
    files: Files,
    jobs: Receiver<Job>,
    pass: Option<Pass>,
}

struct Pass {
    to: SnapshotWriter<BufWriter<File>>,
    began: Instant,
}

impl Writer {
    pub(crate) fn new(files: Files, jobs: Receiver<Job>) -> Self {
        Self { files, jobs, pass: None }
    }

    /// Runs until the engine's thread has ended.
    pub(crate) fn run(mut self) {
        while let Ok(job) = self.jobs.recv() {
            if let Err(error) = self.take(job) {
                self.pass = None;
                self.files.discard();
                // The last one would outlive its time, and with it what was erased since.
                self.files.remove_last();
                super::failed(&self.files.last(), &error);
            }
        }
        self.files.discard();
    }

    fn take(&mut self, job: Job) -> io::Result<()> {
        match job {
            Job::Begin(head) => {
                self.pass = None;
                let file = BufWriter::with_capacity(1 << 20, self.files.create()?);
                self.pass = Some(Pass { to: SnapshotWriter::begin(file, *head)?, began: Instant::now() });
            }
            // Without a pass it is of one that failed.
            Job::Part(head, rows) => {
                if let Some(pass) = &mut self.pass {
                    pass.to.part(head, &rows)?;
                }
            }
            Job::End(last) => {
                if let Some(Pass { to, began }) = self.pass.take() {
                    let (file, rows, bytes) = to.end(last)?;
                    self.files.keep(file.get_ref())?;
                    super::written(rows, bytes, began.elapsed());
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::super::format::tests::{head, last};
    use super::super::format::{Piece, SnapshotReader};
    use super::*;

    fn run(files: &Files, jobs: Vec<Job>) {
        let (sender, receiver) = mpsc::channel();
        for job in jobs {
            sender.send(job).unwrap();
        }
        drop(sender);
        Writer::new(files.clone(), receiver).run();
    }

    fn begin() -> Job {
        Job::Begin(Box::new(head()))
    }

    fn end() -> Job {
        Job::End(last())
    }

    fn part() -> Job {
        Job::Part(PartHead { now_ms: 1, next: vec![9, 0], rows: 1 }, b"row".to_vec())
    }

    #[test]
    fn only_a_whole_pass_takes_the_place_of_the_last() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::new(dir.path(), "p", "w", 1);
        run(&files, vec![begin(), part()]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        run(&files, vec![begin(), begin(), part(), part(), end()]);
        run(&files, vec![begin(), part()]);
        let (mut reader, read) = SnapshotReader::begin(File::open(files.last()).unwrap()).unwrap();
        assert_eq!(read, head());
        for _ in 0..2 {
            assert!(matches!(reader.next(), Ok(Piece::Part(..))));
        }
        assert!(matches!(reader.next(), Ok(Piece::End(read)) if read == last()));
    }

    #[test]
    fn a_pass_that_cannot_be_written_ends_nothing_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::new(dir.path(), "p", "w", 1);
        run(&files, vec![begin(), end()]);
        assert!(files.last().exists());
        // A directory in the way of the file.
        let temporary = dir.path().join("p.w.1.tmp");
        std::fs::create_dir(&temporary).unwrap();
        run(&files, vec![begin(), part(), end()]);
        assert!(!files.last().exists());
        std::fs::remove_dir(&temporary).unwrap();
        run(&files, vec![part(), end(), begin(), part(), end()]);
        assert!(files.last().exists());
    }

    #[test]
    fn a_full_disk_fails_a_pass_and_not_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::new(dir.path(), "p", "w", 1);
        run(&files, vec![begin(), end()]);
        let on_full_disk = |jobs: Vec<Job>| {
            let (sender, receiver) = mpsc::channel();
            let full = BufWriter::new(File::options().write(true).open("/dev/full").unwrap());
            let pass = Pass { to: SnapshotWriter::begin(full, head()).unwrap(), began: Instant::now() };
            for job in jobs {
                sender.send(job).unwrap();
            }
            drop(sender);
            Writer { files: files.clone(), jobs: receiver, pass: Some(pass) }.run();
        };
        let large = || Job::Part(PartHead { now_ms: 1, next: vec![9, 0], rows: 1 }, vec![0; 1 << 16]);
        on_full_disk(vec![large(), part(), end()]);
        assert!(!files.last().exists(), "what was erased since does not stay");
        on_full_disk(vec![large(), part(), end(), begin(), part(), end()]);
        assert!(files.last().exists());
    }
}
