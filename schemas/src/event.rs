//! `LocationEvent`: one record of `<prefix>.locations`, keyed by user id.

use serde::{Deserialize, Serialize};

/// The session of a record that belongs to none, and of a hello, whose own offset is the session.
pub const NO_SESSION: i64 = -1;

/// What happened to a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LocationKind {
    /// A kind that a newer writer knows: skipped.
    Unknown,
    /// A session begins; with a position if the phone has one.
    Hello,
    /// A position.
    Fix,
    /// Still connected: refreshes the route and nothing else; may ask for a reset.
    Presence,
    /// The user changed how they share.
    Mode,
    /// The session ended: the position stays until its TTL.
    Leave,
    /// A late fix, for the history alone.
    Backfill,
    /// The user erased everything.
    Erase,
}

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The one session of a user that moves the user's position.
    Reporting,
    /// A further session that shows the same list.
    Watching,
    /// A share link's viewer.
    Link,
}

/// The most sessions of one user or share link that do not report.
pub const MOST_WATCHING: usize = 20;

impl Role {
    /// So many sessions one user or share link may have at once; a newer one takes the place of the oldest. Many people
    /// may hold one link.
    pub const fn at_once(self) -> usize {
        match self {
            Self::Reporting => 1,
            Self::Watching => 3,
            Self::Link => MOST_WATCHING,
        }
    }
}

/// Where a session is connected.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Route {
    /// Ordinal of the gateway, the `<id>` of its topic.
    pub gateway: String,
    /// When the gateway's process started, in ms since the epoch.
    pub incarnation: i64,
    /// The gateway's short name for the session; never reused within an incarnation.
    pub handle: i32,
    /// What the session is for.
    pub role: Role,
}

/// How finely a user shares with everybody; finer ones are less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sharing {
    /// As exactly as each list entry allows.
    Exact,
    /// The cell's centre to everybody.
    Coarse,
    /// Nothing to anybody.
    Hidden,
}

/// How a user shares, and since which change. Part of every record that carries a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mode {
    /// How finely.
    pub sharing: Sharing,
    /// When it ends and exact holds again, in ms since the epoch; 0 for no end.
    pub until: i64,
    /// Whether strangers may be shown this user's cell.
    pub discoverable: bool,
    /// Grows with each change; the highest seen wins.
    pub version: i64,
}

impl Default for Mode {
    /// What a user has who never changed it.
    fn default() -> Self {
        Self { sharing: Sharing::Exact, until: 0, discoverable: false, version: 0 }
    }
}

/// A reported position and the report's name, (user, `device`, `n`).
///
/// `Debug` leaves the coordinates out: positions are secrets.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Fix {
    /// WGS84 degrees, -90 to 90.
    pub lat: f64,
    /// WGS84 degrees, -180 to 180.
    pub lon: f64,
    /// Radius of 68 % confidence in metres, at least 0.
    pub accuracy_m: Option<f32>,
    /// Metres a second, at least 0.
    pub speed_mps: Option<f32>,
    /// Degrees clockwise from true north, 0 to 360.
    pub heading_deg: Option<f32>,
    /// Metres above the ellipsoid.
    pub altitude_m: Option<f32>,
    /// The installation that numbers its reports, 1 to 64 bytes.
    pub device: String,
    /// Grows per installation.
    pub n: i64,
    /// What the phone said, in ms since the epoch.
    pub device_time: i64,
    /// `device_time` corrected by the phone's clock at sending, in ms since the epoch.
    pub fixed_at: i64,
}

impl std::fmt::Debug for Fix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fix").field("n", &self.n).finish_non_exhaustive()
    }
}

/// One record of `<prefix>.locations`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LocationEvent {
    /// What happened.
    pub kind: LocationKind,
    /// Offset of the session's hello in the user's partition; [`NO_SESSION`] in a hello and where there is none.
    pub session: i64,
    /// Where the session is connected.
    pub route: Option<Route>,
    /// In a hello, the version of the viewer's list that the reset must wait for; else 0.
    pub list_version: i64,
    /// In a presence: the session asks for a reset.
    pub reset: bool,
    /// How the user shares, as the writer knew it.
    pub mode: Mode,
    /// The position, if the record carries one.
    pub fix: Option<Fix>,
    /// When the server took it, in ms since the epoch by its own clock; diagnostic.
    pub gateway_time: i64,
}
