//! Arbitrary records: every variant, every length of number, any text. No NaN, which equals nothing.

use nearcast_schemas::delivery::{
    Applied, DeliveryBatch, Digest, FriendPosition, Item, PartitionEpoch, Removal, RemovalReason, Reset, ResetEntry,
    Stranger, Strangers, Superseded, Upsert, UpsertViewer,
};
use nearcast_schemas::event::{Fix, LocationEvent, LocationKind, Mode, Role, Route, Sharing};
use nearcast_schemas::list::{Precision, VisibilityEntry, VisibilityKind, VisibilityList};
use nearcast_schemas::notice::{Notice, NoticeKind};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

/// Numbers of every length, not only the longest.
fn long() -> impl Strategy<Value = i64> {
    (any::<i64>(), 0..64u32).prop_map(|(n, shift)| n >> shift)
}

fn int() -> impl Strategy<Value = i32> {
    (any::<i32>(), 0..32u32).prop_map(|(n, shift)| n >> shift)
}

fn double() -> impl Strategy<Value = f64> {
    use prop::num::f64::{INFINITE, NEGATIVE, NORMAL, POSITIVE, SUBNORMAL, ZERO};
    POSITIVE | NEGATIVE | NORMAL | SUBNORMAL | ZERO | INFINITE
}

fn measure() -> impl Strategy<Value = Option<f32>> {
    use prop::num::f32::{INFINITE, NEGATIVE, NORMAL, POSITIVE, SUBNORMAL, ZERO};
    option::of(POSITIVE | NEGATIVE | NORMAL | SUBNORMAL | ZERO | INFINITE)
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z0-9-]{0,20}", any::<String>(), Just("n".repeat(200))]
}

fn mode() -> impl Strategy<Value = Mode> {
    (select(&[Sharing::Exact, Sharing::Coarse, Sharing::Hidden]), long(), any::<bool>(), long())
        .prop_map(|(sharing, until, discoverable, version)| Mode { sharing, until, discoverable, version })
}

fn route() -> impl Strategy<Value = Route> {
    (text(), long(), int(), select(&[Role::Reporting, Role::Watching, Role::Link]))
        .prop_map(|(gateway, incarnation, handle, role)| Route { gateway, incarnation, handle, role })
}

fn fix() -> impl Strategy<Value = Fix> {
    ((double(), double()), (measure(), measure(), measure(), measure()), text(), (long(), long(), long())).prop_map(
        |((lat, lon), (accuracy_m, speed_mps, heading_deg, altitude_m), device, (n, device_time, fixed_at))| Fix {
            lat,
            lon,
            accuracy_m,
            speed_mps,
            heading_deg,
            altitude_m,
            device,
            n,
            device_time,
            fixed_at,
        },
    )
}

pub fn location() -> impl Strategy<Value = LocationEvent> {
    let kinds = &[
        LocationKind::Unknown,
        LocationKind::Hello,
        LocationKind::Fix,
        LocationKind::Presence,
        LocationKind::Mode,
        LocationKind::Leave,
        LocationKind::Backfill,
        LocationKind::Erase,
    ];
    (select(kinds), long(), option::of(route()), long(), any::<bool>(), mode(), option::of(fix()), long()).prop_map(
        |(kind, session, route, list_version, reset, mode, fix, gateway_time)| LocationEvent {
            kind,
            session,
            route,
            list_version,
            reset,
            mode,
            fix,
            gateway_time,
        },
    )
}

fn entry() -> impl Strategy<Value = VisibilityEntry> {
    (text(), text(), select(&[Precision::Exact, Precision::Coarse]), int(), long()).prop_map(
        |(friend, display_name, precision, radius_m, expires_at)| VisibilityEntry {
            friend,
            display_name,
            precision,
            radius_m,
            expires_at,
        },
    )
}

pub fn list() -> impl Strategy<Value = VisibilityList> {
    let kinds = &[VisibilityKind::Unknown, VisibilityKind::List, VisibilityKind::Claim];
    (select(kinds), long(), long(), int(), vec(entry(), 0..8), text(), long()).prop_map(
        |(kind, version, published_at, radius_m, entries, worker, worker_incarnation)| VisibilityList {
            kind,
            version,
            published_at,
            radius_m,
            entries,
            worker,
            worker_incarnation,
        },
    )
}

fn position() -> impl Strategy<Value = FriendPosition> {
    (double(), double(), long(), any::<bool>(), measure(), measure(), measure()).prop_map(
        |(lat, lon, at, coarse, accuracy_m, speed_mps, heading_deg)| FriendPosition {
            lat,
            lon,
            at,
            coarse,
            accuracy_m,
            speed_mps,
            heading_deg,
        },
    )
}

fn upsert() -> impl Strategy<Value = Upsert> {
    let viewer = (int(), int()).prop_map(|(handle, distance_dm)| UpsertViewer { handle, distance_dm });
    (text(), text(), position(), vec(viewer, 0..6)).prop_map(|(friend, display_name, position, viewers)| Upsert {
        friend,
        display_name,
        position,
        viewers,
    })
}

fn removal() -> impl Strategy<Value = Removal> {
    let reasons = &[RemovalReason::OutOfRange, RemovalReason::Silent, RemovalReason::NotShared];
    (text(), select(reasons), vec(int(), 0..6)).prop_map(|(friend, reason, viewers)| Removal {
        friend,
        reason,
        viewers,
    })
}

fn reset() -> impl Strategy<Value = Reset> {
    let entry = (text(), text(), position(), int()).prop_map(|(friend, display_name, position, distance_dm)| {
        ResetEntry { friend, display_name, position, distance_dm }
    });
    (int(), long(), int(), int(), vec(entry, 0..5)).prop_map(|(handle, list_version, part, parts, entries)| Reset {
        handle,
        list_version,
        part,
        parts,
        entries,
    })
}

fn strangers() -> impl Strategy<Value = Strangers> {
    let entry = (long(), double(), double(), long(), int())
        .prop_map(|(alias, lat, lon, at, distance_dm)| Stranger { alias, lat, lon, at, distance_dm });
    (int(), vec(entry, 0..5)).prop_map(|(viewer, entries)| Strangers { viewer, entries })
}

fn item() -> impl Strategy<Value = Item> {
    prop_oneof![
        upsert().prop_map(Item::Upsert),
        removal().prop_map(Item::Removal),
        reset().prop_map(Item::Reset),
        (int(), long()).prop_map(|(handle, list_version)| Item::Applied(Applied { handle, list_version })),
        (int(), int(), long()).prop_map(|(handle, count, digest)| Item::Digest(Digest { handle, count, digest })),
        strangers().prop_map(Item::Strangers),
        int().prop_map(|handle| Item::Superseded(Superseded { handle })),
    ]
}

pub fn batch() -> impl Strategy<Value = DeliveryBatch> {
    let epoch = (int(), long()).prop_map(|(partition, epoch)| PartitionEpoch { partition, epoch });
    (text(), (long(), long(), long(), long()), vec(epoch, 0..4), vec(item(), 0..8)).prop_map(
        |(worker, (worker_incarnation, seq, sent_at, gateway_incarnation), epochs, items)| DeliveryBatch {
            worker,
            worker_incarnation,
            seq,
            sent_at,
            gateway_incarnation,
            epochs,
            items,
        },
    )
}

pub fn notice() -> impl Strategy<Value = Notice> {
    let kinds = &[NoticeKind::Unknown, NoticeKind::Forget, NoticeKind::Mode, NoticeKind::Close];
    (select(kinds), text(), text(), long(), option::of(mode()), text()).prop_map(
        |(kind, user, friend, list_version, mode, reason)| Notice { kind, user, friend, list_version, mode, reason },
    )
}
