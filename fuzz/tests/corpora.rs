//! Every entry of every corpus, once, without a fuzzer.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use nearcast_fuzz::TARGETS;

/// A corpus is to be pleasant to keep.
const MOST_BYTES: u64 = 2 << 20;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// One test, because a target may limit the memory of the whole process.
#[test]
fn every_entry_passes() {
    let (mut bytes, mut failed) = (0, Vec::new());
    for (name, target) in TARGETS {
        let entries = files(&root().join("corpus").join(name));
        assert!(!entries.is_empty(), "{name} has no corpus");
        for entry in entries {
            let data = fs::read(&entry).unwrap();
            bytes += data.len() as u64;
            if catch_unwind(AssertUnwindSafe(|| target(&data))).is_err() {
                failed.push(entry);
            }
        }
    }
    assert!(failed.is_empty(), "these entries of a corpus fail: {failed:#?}");
    assert!(bytes <= MOST_BYTES, "the corpora have {bytes} bytes: merge them, see fuzz/README.md");
}

/// A target without a binary is fuzzed by nobody, a folder without a target is read by nobody.
#[test]
fn targets_have_a_corpus_and_a_binary() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let names = |folder: &str| -> BTreeSet<String> {
        files(&root().join(folder)).iter().map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("corpus"), targets);
    assert_eq!(names("libfuzzer/targets"), targets);
    let manifest = fs::read_to_string(root().join("libfuzzer/Cargo.toml")).unwrap();
    for name in targets {
        assert!(manifest.contains(&format!("path = \"targets/{name}.rs\"")), "{name} is no binary");
    }
}
