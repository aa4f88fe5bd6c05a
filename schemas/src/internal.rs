//! What a gateway asks the API over HTTP, as JSON: `POST /internal/v1/hello` and `POST /internal/v1/friend`.

use serde::{Deserialize, Serialize};

use crate::delivery::{FriendPosition, ResetEntry};
use crate::event::{Mode, Role};

/// A position in a request. `Debug` leaves the coordinates out.
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// WGS84 degrees, -90 to 90.
    pub lat: f64,
    /// WGS84 degrees, -180 to 180.
    pub lon: f64,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Place(…)")
    }
}

/// A user says hello at a gateway.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HelloRequest {
    /// Who.
    pub user: String,
    /// What the session is for.
    pub role: Role,
    /// When the client's token was issued, in seconds since the epoch, if it says so.
    #[serde(default)]
    pub issued_at: Option<i64>,
    /// Where, if the phone said; else the last position within the TTL counts.
    pub place: Option<Place>,
}

/// A user's last report, and what may be shown of it approximately. `Debug` leaves the coordinates out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastReport {
    /// As reported.
    pub position: FriendPosition,
    /// The cell's centre; `at` is the scheduled instant.
    pub coarse: FriendPosition,
}

/// What the gateway needs to begin a session. The list with this version is in the log by now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HelloAnswer {
    /// Version of the viewer's list.
    pub list_version: i64,
    /// How the user shares.
    pub mode: Mode,
    /// The user's last report, from which the session's approximate position goes on; none where there is none, or where
    /// it may never be shown.
    pub last_report: Option<LastReport>,
    /// The viewer's own radius in metres, the deployment's maximum applied; 0 for none.
    pub radius_m: i32,
    /// The first answer, nearest first; the worker's reset replaces it.
    pub nearby: Vec<ResetEntry>,
    /// False when the last positions could not be read, so that `nearby` is empty for that reason.
    pub nearby_known: bool,
}

/// A viewer asks for one friend's last position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FriendRequest {
    /// Who asks.
    pub viewer: String,
    /// About whom.
    pub friend: String,
}

/// The friend, who shares with the viewer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FriendAnswer {
    /// What the friend is called.
    pub display_name: String,
    /// The last position within the TTL, if the friend shares it at this distance.
    pub entry: Option<ResetEntry>,
}

/// A refusal over HTTP, of REST and internal calls alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The stable code of [`crate::refusal::Refusal`].
    pub code: String,
    /// What to do, for people.
    pub message: String,
}
