//! What the gateway sends.

use std::sync::Arc;

use nearcast_schemas::delivery::{FriendPosition, RemovalReason, ResetEntry, Stranger};
use nearcast_schemas::event::Role;
use nearcast_schemas::refusal::{Refusal, Retry};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::auth::Authed;
use super::client::Kind;

/// One message to a client.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerMessage {
    /// The session has begun.
    Welcome(Box<Welcome>),
    /// The connection goes on with a new token.
    Authed(Authed),
    /// Changes of the list.
    Nearby(Nearby),
    /// The list is what the client holds.
    Unchanged(Unchanged),
    /// A report was accepted.
    Ack(Box<Ack>),
    /// The answer to `subscribe`.
    Friend(Box<FriendMessage>),
    /// What the list is at this point of the stream.
    Digest(DigestMessage),
    /// All strangers near.
    Strangers(StrangersMessage),
    /// A message was refused; the connection stays.
    Error(Box<ErrorMessage>),
    /// The connection ends.
    Bye(Box<Bye>),
}

impl ServerMessage {
    /// The value of `type`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Welcome(_) => "welcome",
            Self::Authed(_) => "authed",
            Self::Nearby(_) => "nearby",
            Self::Unchanged(_) => "unchanged",
            Self::Ack(_) => "ack",
            Self::Friend(_) => "friend",
            Self::Digest(_) => "digest",
            Self::Strangers(_) => "strangers",
            Self::Error(_) => "error",
            Self::Bye(_) => "bye",
        }
    }

    /// The text of a frame of JSON.
    pub fn encode(&self) -> String {
        // Only maps with keys that are no strings, and writers that fail, make this fail; here is neither.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The bytes of a frame of MessagePack.
    pub fn encode_binary(&self) -> Vec<u8> {
        // Into memory, and every type of ours has a shape: nothing makes this fail.
        rmp_serde::to_vec_named(self).unwrap_or_default()
    }
}

/// What a session is for, in the client's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RoleName {
    /// Moves the user's position.
    Reporting,
    /// Shows the same list.
    Watching,
    /// Shows the one person of a share link.
    Link,
}

impl RoleName {
    /// In the client's words.
    pub fn of(role: Role) -> Self {
        match role {
            Role::Reporting => Self::Reporting,
            Role::Watching => Self::Watching,
            Role::Link => Self::Link,
        }
    }
}

/// `welcome`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Welcome {
    /// 1.
    pub protocol: u32,
    /// ms since the epoch.
    pub server_time: i64,
    /// Who the token says the client is.
    pub user: String,
    /// Names the session in support requests; opaque.
    pub session: String,
    /// What the session is for.
    pub role: RoleName,
    /// How often to report, in seconds.
    pub report_interval_s: u32,
    /// A report that moved less is thinned out; metres.
    pub min_move_m: f64,
    /// At the latest this long after the last published report the next one is published; seconds.
    pub max_silence_s: u32,
    /// A friend silent for this long disappears; seconds.
    pub friend_ttl_s: u32,
    /// The viewer's radius in metres.
    pub radius_m: i32,
    /// The server pings this often; seconds.
    pub ping_every_s: u32,
    /// What the client must keep to.
    pub limits: Limits,
    /// The report that `hello` carried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Accepted>,
}

/// What the client must keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Largest message in bytes.
    pub message_bytes: u32,
    /// Most late fixes in one message.
    pub fixes: u32,
    /// Messages a second.
    pub messages_per_s: u32,
}

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AckResult {
    /// It is in the log and moves the position.
    Published,
    /// It hardly moved, so that nobody needs it.
    Thinned,
    /// It is late, or of an older session: in the history only.
    Stored,
}

/// The report that `hello` carried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Accepted {
    /// The installation.
    pub device: String,
    /// The report's number.
    pub n: i64,
    /// What became of it.
    pub result: AckResult,
}

/// `ack`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ack {
    /// The installation.
    pub device: String,
    /// The report's number; the highest of several.
    pub n: i64,
    /// What became of it.
    pub result: AckResult,
    /// Of several: how many were accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// Of several: those that were refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<Vec<RefusedFix>>,
    /// The client's name for the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub re: Option<String>,
}

/// One refused fix of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RefusedFix {
    /// The report's number.
    pub n: i64,
    /// Why.
    pub code: Refusal,
}

/// A friend's position as one worker wrote it, shared by all viewers on this gateway.
#[derive(Clone, Debug, PartialEq)]
pub struct Sighting {
    /// The friend's user id.
    pub friend: Arc<str>,
    /// What the friend is called.
    pub display_name: String,
    /// Where.
    pub position: FriendPosition,
}

/// One friend in a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Who and where.
    pub sighting: Arc<Sighting>,
    /// As in [`nearcast_schemas::delivery::UpsertViewer`].
    pub distance_dm: i32,
    /// When the broker appended the delivery, in ms since the epoch; 0 where none was. Not sent.
    pub appended_at: i64,
}

impl Entry {
    /// The friend's user id.
    pub fn friend(&self) -> &Arc<str> {
        &self.sighting.friend
    }

    /// An entry of a whole list.
    pub fn of_reset(entry: ResetEntry, appended_at: i64) -> Self {
        let ResetEntry { friend, display_name, position, distance_dm } = entry;
        Self {
            sighting: Arc::new(Sighting { friend: friend.into(), display_name, position }),
            distance_dm,
            appended_at,
        }
    }
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Sighting { friend, display_name, position } = &*self.sighting;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &**friend)?;
        map.serialize_entry("display_name", display_name)?;
        map.serialize_entry("lat", &position.lat)?;
        map.serialize_entry("lon", &position.lon)?;
        let distance_m = (self.distance_dm >= 0).then(|| f64::from(self.distance_dm) / 10.0);
        map.serialize_entry("distance_m", &distance_m)?;
        map.serialize_entry("at", &position.at)?;
        if position.coarse {
            map.serialize_entry("approximate", &true)?;
        }
        for (name, measure) in [
            ("accuracy_m", position.accuracy_m),
            ("speed_mps", position.speed_mps),
            ("heading_deg", position.heading_deg),
        ] {
            if let Some(measure) = measure {
                map.serialize_entry(name, &measure)?;
            }
        }
        map.end()
    }
}

/// Why a friend left the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GoneReason {
    /// Too far.
    OutOfRange,
    /// No report within the TTL.
    Silent,
    /// Not shared any more.
    NotShared,
    /// Muted by this session.
    Muted,
}

impl From<RemovalReason> for GoneReason {
    fn from(reason: RemovalReason) -> Self {
        match reason {
            RemovalReason::OutOfRange => Self::OutOfRange,
            RemovalReason::Silent => Self::Silent,
            RemovalReason::NotShared => Self::NotShared,
        }
    }
}

/// A friend left the list.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Gone {
    /// The friend's user id.
    #[serde(rename = "id", serialize_with = "text")]
    pub friend: Arc<str>,
    /// Why.
    pub reason: GoneReason,
    /// When the broker appended the delivery, in ms since the epoch; 0 where none was. Not sent.
    #[serde(skip)]
    pub appended_at: i64,
}

fn text<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

/// Which part of a whole list a frame is. Part 1 empties the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ResetPart {
    /// From 1 to `parts`.
    pub part: i32,
    /// At least 1.
    pub parts: i32,
    /// The first answer, soon replaced.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub provisional: bool,
    /// Of a first answer: false when the last positions could not be read, so that it is empty for that reason.
    #[serde(skip_serializing_if = "is_true")]
    pub known: bool,
}

fn is_true(known: &bool) -> bool {
    *known
}

/// `nearby`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Nearby {
    /// Part of a whole list; else a change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reset: Option<ResetPart>,
    /// Friends who came or moved.
    pub upserts: Vec<Entry>,
    /// Friends who left.
    pub removals: Vec<Gone>,
}

/// `unchanged`: in place of a whole list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unchanged {
    /// In place of the first answer, soon followed by another word.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub provisional: bool,
    /// Friends in the list.
    pub count: usize,
    /// [`nearcast_schemas::digest::ListDigest::to_hex`].
    pub digest: String,
}

/// `friend`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FriendMessage {
    /// The friend's user id.
    #[serde(rename = "id", serialize_with = "text")]
    pub friend: Arc<str>,
    /// What the friend is called.
    pub display_name: String,
    /// The last position within the TTL, if the friend shares it at this distance.
    pub position: Option<Entry>,
    /// The client's name for the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub re: Option<String>,
}

/// `digest`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DigestMessage {
    /// Friends in the list.
    pub count: i32,
    /// [`nearcast_schemas::digest::ViewDigest::to_hex`].
    pub digest: String,
}

/// `strangers`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StrangersMessage {
    /// In place of all that were there before, nearest first.
    #[serde(serialize_with = "strangers")]
    pub strangers: Vec<Stranger>,
}

fn strangers<S: Serializer>(strangers: &[Stranger], serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Shown {
        /// In hexadecimal digits, because JSON numbers lose bits.
        alias: String,
        lat: f64,
        lon: f64,
        distance_m: f64,
        at: i64,
        approximate: bool,
    }
    serializer.collect_seq(strangers.iter().map(|stranger| Shown {
        alias: format!("{:016x}", stranger.alias),
        lat: stranger.lat,
        lon: stranger.lon,
        distance_m: f64::from(stranger.distance_dm) / 10.0,
        at: stranger.at,
        approximate: true,
    }))
}

/// `error`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ErrorMessage {
    /// Why.
    pub code: Refusal,
    /// For people.
    pub message: String,
    /// What the client should do.
    pub retry: Retry,
    /// When to try again, in ms from now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<i64>,
    /// The client's name for the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub re: Option<String>,
    /// The number of the report that was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n: Option<i64>,
    /// The type of the refused message.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "kind")]
    pub of: Option<Kind>,
}

fn kind<S: Serializer>(kind: &Option<Kind>, serializer: S) -> Result<S::Ok, S::Error> {
    match kind {
        Some(kind) => serializer.serialize_str(kind.name()),
        None => serializer.serialize_none(),
    }
}

impl ErrorMessage {
    /// The refusal with the table's sentence.
    pub fn new(refusal: Refusal) -> Self {
        let row = refusal.row();
        Self {
            code: refusal,
            message: row.sentence.to_owned(),
            retry: row.retry,
            retry_after_ms: None,
            re: None,
            n: None,
            of: None,
        }
    }
}

/// `bye`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bye {
    /// Why.
    pub code: Refusal,
    /// For people.
    pub message: String,
    /// What the client should do.
    pub retry: Retry,
    /// Whether the client should connect again by itself with the same token.
    pub reconnect: bool,
    /// When, in ms from now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reconnect_in_ms: Option<i64>,
}

impl Bye {
    /// The refusal with the table's sentence; the table also says whether to connect again.
    pub fn new(refusal: Refusal, reconnect_in_ms: Option<i64>) -> Self {
        let row = refusal.row();
        Self {
            code: refusal,
            message: row.sentence.to_owned(),
            retry: row.retry,
            reconnect: row.retry == Retry::After,
            reconnect_in_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(message: ServerMessage, expect: &str) {
        assert_eq!(message.encode(), expect);
        let binary = message.encode_binary();
        let read: serde_json::Value = rmp_serde::from_slice(&binary).unwrap();
        assert_eq!(read, serde_json::from_str::<serde_json::Value>(expect).unwrap());
    }

    fn entry(coarse: bool, distance_dm: i32) -> Entry {
        let position = FriendPosition {
            lat: 52.5,
            lon: 13.25,
            at: 1_700_000_000_000,
            coarse,
            accuracy_m: (!coarse).then_some(4.5),
            speed_mps: None,
            heading_deg: None,
        };
        Entry {
            sighting: Arc::new(Sighting { friend: "bob".into(), display_name: "Bob".into(), position }),
            distance_dm,
            appended_at: 5,
        }
    }

    #[test]
    fn writes_lists() {
        check(
            ServerMessage::Nearby(Nearby {
                reset: Some(ResetPart { part: 1, parts: 2, provisional: false, known: true }),
                upserts: vec![entry(false, 12_345)],
                removals: Vec::new(),
            }),
            r#"{"type":"nearby","reset":{"part":1,"parts":2},"upserts":[{"id":"bob","display_name":"Bob","lat":52.5,"lon":13.25,"distance_m":1234.5,"at":1700000000000,"accuracy_m":4.5}],"removals":[]}"#,
        );
        check(
            ServerMessage::Nearby(Nearby {
                reset: Some(ResetPart { part: 1, parts: 1, provisional: true, known: false }),
                ..Nearby::default()
            }),
            r#"{"type":"nearby","reset":{"part":1,"parts":1,"provisional":true,"known":false},"upserts":[],"removals":[]}"#,
        );
        check(
            ServerMessage::Nearby(Nearby {
                reset: None,
                upserts: vec![entry(true, -1)],
                removals: vec![Gone { friend: "eve".into(), reason: GoneReason::OutOfRange, appended_at: 5 }],
            }),
            r#"{"type":"nearby","upserts":[{"id":"bob","display_name":"Bob","lat":52.5,"lon":13.25,"distance_m":null,"at":1700000000000,"approximate":true}],"removals":[{"id":"eve","reason":"out_of_range"}]}"#,
        );
    }

    #[test]
    fn writes_strangers() {
        let stranger = Stranger { alias: -2, lat: 52.5, lon: 13.25, at: 1_700_000_000_000, distance_dm: 24_310 };
        check(
            ServerMessage::Strangers(StrangersMessage { strangers: vec![stranger] }),
            r#"{"type":"strangers","strangers":[{"alias":"fffffffffffffffe","lat":52.5,"lon":13.25,"distance_m":2431.0,"at":1700000000000,"approximate":true}]}"#,
        );
        check(ServerMessage::Strangers(StrangersMessage::default()), r#"{"type":"strangers","strangers":[]}"#);
        let text = format!("{stranger:?}");
        assert!(!text.contains("52.5") && !text.contains("13.25"), "{text}");
    }

    #[test]
    fn writes_answers() {
        check(
            ServerMessage::Ack(Box::new(Ack {
                device: "d1".into(),
                n: 7,
                result: AckResult::Thinned,
                count: None,
                refused: None,
                re: Some("m1".into()),
            })),
            r#"{"type":"ack","device":"d1","n":7,"result":"thinned","re":"m1"}"#,
        );
        let error = ErrorMessage { n: Some(3), of: Some(Kind::Location), ..ErrorMessage::new(Refusal::NotReporting) };
        check(
            ServerMessage::Error(Box::new(error)),
            r#"{"type":"error","code":"not_reporting","message":"This session only watches; say `hello` without `watch` to report.","retry":"never","n":3,"of":"location"}"#,
        );
        check(
            ServerMessage::Digest(DigestMessage { count: 0, digest: "0000000000000000".into() }),
            r#"{"type":"digest","count":0,"digest":"0000000000000000"}"#,
        );
        let unchanged = Unchanged { provisional: false, count: 3, digest: "00000000000000ff".into() };
        check(
            ServerMessage::Unchanged(unchanged.clone()),
            r#"{"type":"unchanged","count":3,"digest":"00000000000000ff"}"#,
        );
        check(
            ServerMessage::Unchanged(Unchanged { provisional: true, ..unchanged }),
            r#"{"type":"unchanged","provisional":true,"count":3,"digest":"00000000000000ff"}"#,
        );
    }

    #[test]
    fn a_bye_says_whether_to_come_back() {
        assert!(Bye::new(Refusal::Drain, Some(1_000)).reconnect);
        assert!(Bye::new(Refusal::Idle, None).reconnect);
        assert!(!Bye::new(Refusal::Superseded, None).reconnect);
        assert!(!Bye::new(Refusal::SignedOut, None).reconnect);
        assert!(!Bye::new(Refusal::TokenExpired, None).reconnect);
    }

    #[test]
    fn debug_hides_coordinates() {
        let text = format!("{:?}", entry(false, 1));
        assert!(!text.contains("52.5") && !text.contains("13.25"), "{text}");
    }
}
