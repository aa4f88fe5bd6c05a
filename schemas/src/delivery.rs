//! `DeliveryBatch`: what a worker writes to `<prefix>.gateway.<id>`.

use serde::{Deserialize, Serialize};

/// The epoch of one visibility partition: the offset of its owner's claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PartitionEpoch {
    /// Partition of `<prefix>.visibility`.
    pub partition: i32,
    /// Offset of the claim. A gateway drops lower ones than the highest it has seen.
    pub epoch: i64,
}

/// A friend's position as a viewer may see it. `Debug` leaves the coordinates out.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct FriendPosition {
    /// WGS84 degrees.
    pub lat: f64,
    /// WGS84 degrees.
    pub lon: f64,
    /// Append time of the report in ms since the epoch; of a coarse position, the scheduled instant.
    pub at: i64,
    /// The position is a cell's centre.
    pub coarse: bool,
    /// Metres.
    pub accuracy_m: Option<f32>,
    /// Metres a second.
    pub speed_mps: Option<f32>,
    /// Degrees clockwise from true north.
    pub heading_deg: Option<f32>,
}

impl std::fmt::Debug for FriendPosition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FriendPosition").field("at", &self.at).field("coarse", &self.coarse).finish_non_exhaustive()
    }
}

/// One viewer of an upsert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpsertViewer {
    /// The gateway's name for the session.
    pub handle: i32,
    /// Straight line between viewer and friend in decimetres; -1 where the viewer has no position.
    pub distance_dm: i32,
}

/// One friend's position for many viewers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Upsert {
    /// The friend's user id.
    pub friend: String,
    /// What the friend is called.
    pub display_name: String,
    /// Where.
    pub position: FriendPosition,
    /// For whom.
    pub viewers: Vec<UpsertViewer>,
}

/// Why a friend left a view. Who stopped sharing and how is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RemovalReason {
    /// Beyond 1.025 × the radius.
    OutOfRange,
    /// No report within the TTL.
    Silent,
    /// Paused, unfriended, blocked, expired or erased.
    NotShared,
}

/// A friend left the views of these viewers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// The friend's user id.
    pub friend: String,
    /// Why.
    pub reason: RemovalReason,
    /// Handles of the sessions.
    pub viewers: Vec<i32>,
}

/// One friend of a reset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResetEntry {
    /// The friend's user id.
    pub friend: String,
    /// What the friend is called.
    pub display_name: String,
    /// Where.
    pub position: FriendPosition,
    /// As in [`UpsertViewer`].
    pub distance_dm: i32,
}

/// One part of a whole view, nearest first over all parts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reset {
    /// The gateway's name for the session.
    pub handle: i32,
    /// The list that this view follows.
    pub list_version: i64,
    /// From 1 to `parts`.
    pub part: i32,
    /// At least 1: an empty view is one part without entries.
    pub parts: i32,
    /// The friends of this part.
    pub entries: Vec<ResetEntry>,
}

/// Every item after this one follows this version of the viewer's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The gateway's name for the session.
    pub handle: i32,
    /// The version.
    pub list_version: i64,
}

/// What a view is at this point of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// The gateway's name for the session.
    pub handle: i32,
    /// Friends in the view.
    pub count: i32,
    /// [`crate::digest::ViewDigest`] over the friends in the view.
    pub digest: i64,
}

/// Somebody near who is no friend, as far as a viewer may know. `Debug` leaves the coordinates out.
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Stranger {
    /// Names the stranger to this viewer alone, until the viewer's next worker.
    pub alias: i64,
    /// WGS84 degrees of the centre of a cell.
    pub lat: f64,
    /// WGS84 degrees of the centre of a cell.
    pub lon: f64,
    /// Scheduled instant of the cell's evaluation in ms since the epoch, rounded down to a whole period.
    pub at: i64,
    /// Straight line between the centres of the viewer's cell and the stranger's, in decimetres.
    pub distance_dm: i32,
}

impl std::fmt::Debug for Stranger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stranger").field("at", &self.at).finish_non_exhaustive()
    }
}

/// All strangers that a viewer is shown, in place of those before. A reset is followed by such a list, or by none where
/// it would be empty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Strangers {
    /// The gateway's name for the session. Not called as in a session that is over, which this must not look like.
    pub viewer: i32,
    /// Nearest first.
    pub entries: Vec<Stranger>,
}

/// A newer session of the same user took this one's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Superseded {
    /// The gateway's name for the older session.
    pub handle: i32,
}

/// One decision. Items of a batch apply in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Item {
    /// A friend's position.
    Upsert(Upsert),
    /// A friend left.
    Removal(Removal),
    /// A whole view.
    Reset(Reset),
    /// A list took effect.
    Applied(Applied),
    /// A view to compare with.
    Digest(Digest),
    /// A session is over.
    Superseded(Superseded),
    /// Strangers near.
    Strangers(Strangers),
}

/// What one worker decided for the viewers of one gateway in one tick.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeliveryBatch<I = Vec<Item>> {
    /// The worker's name.
    pub worker: String,
    /// When the worker's process started, in ms since the epoch.
    pub worker_incarnation: i64,
    /// Grows by one per (worker incarnation, gateway incarnation), heartbeats included; the first is 1.
    pub seq: i64,
    /// ms since the epoch by the worker's clock; diagnostic.
    pub sent_at: i64,
    /// The gateway process that gave the handles.
    pub gateway_incarnation: i64,
    /// The epoch of each visibility partition that a viewer in this batch belongs to.
    pub epochs: Vec<PartitionEpoch>,
    /// In order. Empty in a heartbeat.
    pub items: I,
}
