//! The rows of a copy of the engine's state, and their bytes.

use nearcast_schemas::event::{Mode, Sharing};
use serde::{Deserialize, Serialize};

/// One row. Times are ms before the moment of the part, so that they take few bytes.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub enum Row<'a> {
    /// A user who is online.
    #[serde(borrow)]
    User(Box<SavedUser<'a>>),
    /// A session that a newer one took the place of.
    #[serde(borrow)]
    Superseded(SavedSuperseded<'a>),
}

/// What is known of a user who is online.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedUser<'a> {
    /// The user's id.
    pub user: &'a str,
    /// The last record.
    pub last_ago: i64,
    /// Where it is not the default.
    pub mode: Option<Mode>,
    /// The last report, where there is a position.
    pub report: Option<SavedReport>,
    /// The coarse position that is shown.
    pub coarse: Option<SavedCell>,
    /// The highest reporting session seen.
    pub latest: i64,
    /// Whether that one has left.
    pub left: bool,
    /// Its route.
    #[serde(borrow)]
    pub reporting: Option<SavedSession<'a>>,
    /// Sessions that watch.
    #[serde(borrow)]
    pub watching: Vec<SavedSession<'a>>,
}

/// A report. `Debug` leaves the coordinates out: positions are secrets.
#[derive(PartialEq, Serialize, Deserialize)]
pub struct SavedReport {
    pub(super) lat: f64,
    pub(super) lon: f64,
    /// When it was appended.
    pub(super) at_ago: i64,
    pub(super) accuracy_m: Option<f32>,
    pub(super) speed_mps: Option<f32>,
    pub(super) heading_deg: Option<f32>,
    /// How finely it may ever be shown.
    pub(super) sharing: Sharing,
}

impl std::fmt::Debug for SavedReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SavedReport").field("at_ago", &self.at_ago).finish_non_exhaustive()
    }
}

/// A coarse position that is shown. `Debug` leaves the cell out, as above.
#[derive(PartialEq, Serialize, Deserialize)]
pub struct SavedCell {
    pub(super) cell: u64,
    /// Its instant.
    pub(super) at_ago: i64,
}

impl std::fmt::Debug for SavedCell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SavedCell").field("at_ago", &self.at_ago).finish_non_exhaustive()
    }
}

/// One connected session.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedSession<'a> {
    pub(super) hello: i64,
    pub(super) gateway: &'a str,
    pub(super) incarnation: i64,
    pub(super) handle: i32,
    /// Its last record.
    pub(super) seen_ago: i64,
    /// The list version that its next reset waits for; 0 after the first.
    pub waits_for: i64,
}

/// A session that a newer one took the place of.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedSuperseded<'a> {
    /// Of the visibility topic.
    pub(super) partition: u16,
    pub(super) ago: i64,
    #[serde(borrow)]
    pub(super) session: SavedSession<'a>,
}

/// Bytes that are no rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a row cannot be read")]
pub struct BadRow;

/// The rows in bytes that [`Engine::save`] wrote.
pub fn rows(mut bytes: &[u8]) -> impl Iterator<Item = Result<Row<'_>, BadRow>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let row = postcard::take_from_bytes(bytes).map_err(|_| BadRow);
        bytes = row.as_ref().map_or(&[], |(_, rest)| rest);
        Some(row.map(|(row, _)| row))
    })
}

/// Appends a row.
pub(super) fn append(row: &Row<'_>, bytes: &mut Vec<u8>) {
    let before = std::mem::take(bytes);
    // A row holds nothing that cannot be written, and memory does not end.
    *bytes = postcard::to_extend(row, before).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(hello: i64) -> SavedSession<'static> {
        SavedSession { hello, gateway: "g0", incarnation: 7, handle: 3, seen_ago: 20, waits_for: 1 }
    }

    fn report() -> SavedReport {
        SavedReport {
            lat: 1.0,
            lon: 2.0,
            at_ago: 20,
            accuracy_m: Some(5.0),
            speed_mps: None,
            heading_deg: None,
            sharing: Sharing::Coarse,
        }
    }

    fn sample() -> [Row<'static>; 2] {
        let user = SavedUser {
            user: "bob",
            last_ago: 10,
            mode: Some(Mode { sharing: Sharing::Hidden, until: 0, discoverable: false, version: 4 }),
            report: Some(report()),
            coarse: Some(SavedCell { cell: 5, at_ago: 60 }),
            latest: 9,
            left: false,
            reporting: Some(session(9)),
            watching: vec![session(8)],
        };
        let superseded = SavedSuperseded { partition: 2, ago: 30, session: session(6) };
        [Row::User(Box::new(user)), Row::Superseded(superseded)]
    }

    fn bytes() -> Vec<u8> {
        let mut bytes = Vec::new();
        for row in &sample() {
            append(row, &mut bytes);
        }
        bytes
    }

    /// Where this fails, the bytes of old files mean something else: count the version in `snapshot/format.rs` up.
    #[test]
    fn rows_have_these_bytes() {
        let hex: String = bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let user = "0003626f6214010200000801000000000000f03f000000000000004028010000a04000000101057812000112";
        let sessions = "0267300e06280201100267300e062802";
        let superseded = "01023c0c0267300e062802";
        assert_eq!(hex, [user, sessions, superseded].concat());
    }

    #[test]
    fn rows_come_back() {
        let bytes = bytes();
        assert_eq!(rows(&bytes).collect::<Result<Vec<_>, _>>().unwrap(), sample());
        assert!(rows(&bytes[..bytes.len() - 1]).any(|row| row == Err(BadRow)));
    }

    #[test]
    fn debug_shows_no_place() {
        let text = format!("{:?}", SavedReport { lat: 47.5, lon: 8.25, ..report() });
        let text = text + &format!("{:?}", SavedCell { cell: 123_456, at_ago: 0 });
        assert!(!text.contains("47") && !text.contains("8.25") && !text.contains("123"), "{text}");
    }
}
