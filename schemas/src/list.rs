//! `VisibilityList`: one record of `<prefix>.visibility`.

use serde::{Deserialize, Serialize};

/// What the record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VisibilityKind {
    /// A kind that a newer writer knows: skipped.
    Unknown,
    /// Whom a viewer may see; the key is the viewer's id.
    List,
    /// A worker's claim to the partition; the key is [`crate::topics::CLAIM_KEY`].
    Claim,
}

/// How finely a position is shown; the coarser of two is the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// As reported.
    Exact,
    /// The centre of the cell.
    Coarse,
}

/// One person whom the viewer may see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VisibilityEntry {
    /// The friend's user id.
    pub friend: String,
    /// What the friend is called.
    pub display_name: String,
    /// How finely the friend shares with this viewer.
    pub precision: Precision,
    /// The friend's `share_within` in metres; 0 for none.
    pub radius_m: i32,
    /// When the entry ends, in ms since the epoch; 0 for no end.
    pub expires_at: i64,
}

/// One record of `<prefix>.visibility`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VisibilityList {
    /// A list or a claim.
    pub kind: VisibilityKind,
    /// Grows with each change of this viewer's list.
    pub version: i64,
    /// ms since the epoch by the writer's clock; diagnostic.
    pub published_at: i64,
    /// The viewer's own radius in metres, at most the deployment's; 0 for none.
    pub radius_m: i32,
    /// Whom the viewer may see.
    pub entries: Vec<VisibilityEntry>,
    /// In a claim, the worker; else empty.
    pub worker: String,
    /// In a claim, when that worker's process started, in ms since the epoch; else 0.
    pub worker_incarnation: i64,
}

impl VisibilityList {
    /// A viewer's list.
    pub fn list(version: i64, published_at: i64, radius_m: i32, entries: Vec<VisibilityEntry>) -> Self {
        Self {
            kind: VisibilityKind::List,
            version,
            published_at,
            radius_m,
            entries,
            worker: String::new(),
            worker_incarnation: 0,
        }
    }

    /// A worker's claim to the partition it is appended to.
    pub fn claim(worker: &str, worker_incarnation: i64, published_at: i64) -> Self {
        Self {
            kind: VisibilityKind::Claim,
            version: 0,
            published_at,
            radius_m: 0,
            entries: Vec::new(),
            worker: worker.to_owned(),
            worker_incarnation,
        }
    }
}
