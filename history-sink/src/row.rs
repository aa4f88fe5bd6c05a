//! From a record of the location log to what it does to the history.

use nearcast_schemas::event::{LocationEvent, LocationKind};

use crate::history::HistoryRow;

/// Milliseconds of a day of the history.
pub const DAY_MS: i64 = 86_400_000;

/// A late row is written as of this long before its fix, others as of their append time; ms.
pub const LATE_WRITTEN_BEFORE_MS: i64 = 60_000;

/// What a record does to the history.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// It adds a row.
    Row(HistoryRow),
    /// It erases everything of this user that was appended until then.
    Erase {
        /// Whose.
        user: String,
        /// The append time of the erasure, in ms since the epoch.
        at: i64,
    },
}

/// Why a record will never be stored, whoever tries again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poison {
    /// One word for metrics: `undecodable`, `untimed` or `refused`.
    pub kind: &'static str,
    /// What is wrong with it. Names no values.
    pub cause: String,
}

impl Poison {
    /// A record that is not in the form that the log has.
    pub fn undecodable(cause: impl Into<String>) -> Self {
        Self { kind: "undecodable", cause: cause.into() }
    }

    /// A record with a time that cannot be.
    pub fn untimed(cause: impl Into<String>) -> Self {
        Self { kind: "untimed", cause: cause.into() }
    }

    /// A row that the database refused.
    pub fn refused(cause: impl Into<String>) -> Self {
        Self { kind: "refused", cause: cause.into() }
    }
}

/// What a record does to the history; `None` for records that carry no position.
///
/// `appended_at` is the broker's append time in ms since the epoch. Every position of a user counts, whichever session
/// sent it: only what is shown as now depends on sessions.
///
/// # Errors
/// The fix is of before 1970 or lies more than a day ahead of the log: nobody could ask for its row.
pub fn entry_of(
    user: &str,
    event: &LocationEvent,
    partition: i32,
    offset: i64,
    appended_at: i64,
) -> Result<Option<Entry>, Poison> {
    let late = match event.kind {
        LocationKind::Hello | LocationKind::Fix => false,
        LocationKind::Backfill => true,
        LocationKind::Erase => return Ok(Some(Entry::Erase { user: user.to_owned(), at: appended_at })),
        LocationKind::Unknown | LocationKind::Presence | LocationKind::Mode | LocationKind::Leave => return Ok(None),
    };
    let Some(fix) = event.fix.as_ref() else { return Ok(None) };
    if appended_at < 0 || fix.fixed_at < 0 {
        return Err(Poison::untimed("its time is before 1970"));
    }
    if fix.fixed_at > appended_at.saturating_add(DAY_MS) {
        return Err(Poison::untimed("its fix is more than a day ahead of the log"));
    }
    Ok(Some(Entry::Row(HistoryRow {
        user: user.to_owned(),
        fixed_at: fix.fixed_at,
        device: fix.device.clone(),
        n: fix.n,
        lat: fix.lat,
        lon: fix.lon,
        accuracy_m: fix.accuracy_m,
        speed_mps: fix.speed_mps,
        heading_deg: fix.heading_deg,
        altitude_m: fix.altitude_m,
        device_time: fix.device_time,
        appended_at,
        partition,
        offset,
        late,
    })))
}

/// The database's timestamp of a row, in us: the append time, so that whoever writes the record again, in whatever order,
/// leaves the same row, and an erasure that was appended later outlasts it.
///
/// A late row is written as of a minute before its fix, which is before its append time, so that a report that was shown as
/// now and came once more, late, stays what it was.
pub fn written_at_us(row: &HistoryRow) -> i64 {
    let at_ms = if row.late { row.appended_at.min(row.fixed_at - LATE_WRITTEN_BEFORE_MS) } else { row.appended_at };
    at_ms.saturating_mul(1_000)
}

/// How long a row lives from now on, in seconds: `keep_days` from its fix on, however late it is written. Not positive when
/// that time is over.
pub fn lives_s(row: &HistoryRow, keep_days: u16, now_ms: i64) -> i64 {
    let age_ms = (now_ms - row.fixed_at.min(row.appended_at)).max(0);
    i64::from(keep_days) * DAY_MS / 1_000 - age_ms / 1_000
}

#[cfg(test)]
mod tests {
    use nearcast_schemas::event::{Fix, Mode, NO_SESSION};

    use super::*;

    fn event(kind: LocationKind, fixed_at: Option<i64>) -> LocationEvent {
        let fix = |fixed_at| Fix {
            lat: 1.0,
            lon: 2.0,
            accuracy_m: Some(5.0),
            speed_mps: None,
            heading_deg: None,
            altitude_m: None,
            device: "d".into(),
            n: 7,
            device_time: 900,
            fixed_at,
        };
        LocationEvent {
            kind,
            session: NO_SESSION,
            route: None,
            list_version: 0,
            reset: false,
            mode: Mode::default(),
            fix: fixed_at.map(fix),
            gateway_time: 1_100,
        }
    }

    fn row(kind: LocationKind, fixed_at: i64, appended_at: i64) -> HistoryRow {
        match entry_of("u", &event(kind, Some(fixed_at)), 3, 4, appended_at) {
            Ok(Some(Entry::Row(row))) => row,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn positions_are_kept_and_erasures_obeyed() {
        for (kind, late) in [(LocationKind::Hello, false), (LocationKind::Fix, false), (LocationKind::Backfill, true)] {
            let row = row(kind, 1_000, 1_200);
            assert_eq!((row.fixed_at, row.appended_at, row.partition, row.offset, row.n), (1_000, 1_200, 3, 4, 7));
            assert_eq!(row.late, late, "{kind:?}");
        }
        let none = [LocationKind::Presence, LocationKind::Mode, LocationKind::Leave, LocationKind::Hello];
        for kind in none {
            assert_eq!(entry_of("u", &event(kind, None), 3, 4, 1_200), Ok(None), "{kind:?}");
        }
        let erase = entry_of("u", &event(LocationKind::Erase, None), 3, 4, 1_200);
        assert_eq!(erase, Ok(Some(Entry::Erase { user: "u".into(), at: 1_200 })));
    }

    #[test]
    fn a_time_that_cannot_be_is_poison() {
        for (fixed_at, appended_at) in [(-1, 5), (5, -1), (i64::MIN, 5), (i64::MAX, 5), (DAY_MS + 6, 5)] {
            for kind in [LocationKind::Fix, LocationKind::Backfill] {
                let entry = entry_of("u", &event(kind, Some(fixed_at)), 3, 4, appended_at);
                assert_eq!(entry.map_err(|poison| poison.kind), Err("untimed"), "{fixed_at} {appended_at}");
            }
        }
        row(LocationKind::Fix, DAY_MS + 5, 5);
    }

    #[test]
    fn no_row_is_newer_than_its_append_time() {
        let now = row(LocationKind::Fix, 100_000, 101_000);
        let late = row(LocationKind::Backfill, 100_000, 900_000);
        assert_eq!((written_at_us(&now), written_at_us(&late)), (101_000_000, 40_000_000));
        assert_eq!(written_at_us(&row(LocationKind::Backfill, 200_000, 100_000)), 100_000_000);
    }

    #[test]
    fn a_row_lives_from_its_fix_on() {
        let late = row(LocationKind::Backfill, 0, 10 * DAY_MS);
        assert_eq!(lives_s(&late, 30, 10 * DAY_MS), 20 * 86_400);
        assert_eq!(lives_s(&late, 30, 11 * DAY_MS), 19 * 86_400, "written again a day later it ends at the same time");
        assert_eq!(lives_s(&late, 10, 10 * DAY_MS), 0);
        assert_eq!(lives_s(&row(LocationKind::Fix, 9_000, 5_000), 1, 0), 86_400, "a clock that is behind");
    }
}
