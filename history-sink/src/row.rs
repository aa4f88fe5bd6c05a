//! From a record of the location log to a row of the history.

use nearcast_schemas::event::{LocationEvent, LocationKind};

use crate::history::HistoryRow;

/// The row that a record leaves in the history; `None` for records that carry no position.
///
/// `appended_at` is the broker's append time in ms since the epoch. Every position of a user counts, whichever session
/// sent it: only what is shown as now depends on sessions.
pub fn row_of(user: &str, event: &LocationEvent, partition: i32, offset: i64, appended_at: i64) -> Option<HistoryRow> {
    let fix = event.fix.as_ref()?;
    let late = match event.kind {
        LocationKind::Hello | LocationKind::Fix => false,
        LocationKind::Backfill => true,
        LocationKind::Unknown
        | LocationKind::Presence
        | LocationKind::Mode
        | LocationKind::Leave
        | LocationKind::Erase => return None,
    };
    Some(HistoryRow {
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
    })
}

#[cfg(test)]
mod tests {
    use nearcast_schemas::event::{Fix, Mode, NO_SESSION};

    use super::*;

    fn event(kind: LocationKind, with_fix: bool) -> LocationEvent {
        let fix = Fix {
            lat: 1.0,
            lon: 2.0,
            accuracy_m: Some(5.0),
            speed_mps: None,
            heading_deg: None,
            altitude_m: None,
            device: "d".into(),
            n: 7,
            device_time: 900,
            fixed_at: 1_000,
        };
        LocationEvent {
            kind,
            session: NO_SESSION,
            route: None,
            list_version: 0,
            reset: false,
            mode: Mode::default(),
            fix: with_fix.then_some(fix),
            gateway_time: 1_100,
        }
    }

    fn check(kind: LocationKind, with_fix: bool, expect_late: Option<bool>) {
        let row = row_of("u", &event(kind, with_fix), 3, 4, 1_200);
        assert_eq!(row.as_ref().map(|r| r.late), expect_late, "{kind:?}");
        if let Some(row) = row {
            assert_eq!((row.fixed_at, row.appended_at, row.partition, row.offset, row.n), (1_000, 1_200, 3, 4, 7));
        }
    }

    #[test]
    fn positions_are_kept_and_nothing_else() {
        check(LocationKind::Hello, true, Some(false));
        check(LocationKind::Hello, false, None);
        check(LocationKind::Fix, true, Some(false));
        check(LocationKind::Backfill, true, Some(true));
        for kind in [LocationKind::Presence, LocationKind::Mode, LocationKind::Leave, LocationKind::Erase] {
            check(kind, false, None);
        }
    }
}
