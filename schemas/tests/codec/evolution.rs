//! Records of other builds' schemas: the examples in `avro/compat/` decode, what cannot is refused when it is
//! registered or read.

use apache_avro::Schema;
use apache_avro::types::Value;
use nearcast_schemas::codec::{Codec, DecodeError, GatewayRecord, SchemaError, SchemaIds, avsc};
use nearcast_schemas::delivery::{
    Applied, DeliveryBatch, Digest, Item, RemovalReason, Stranger, Strangers, Superseded,
};
use nearcast_schemas::event::{LocationKind, Mode, Role, Sharing};
use nearcast_schemas::list::{Precision, VisibilityKind};
use nearcast_schemas::notice::{Notice, NoticeKind};
use serde_json::json;

use crate::reference::{avro_write, framed, schema};

const OTHER: u32 = 1000;

const LOCATION_NEWER: &str = include_str!("../../avro/compat/location_event.newer.avsc");
const LOCATION_OLDER: &str = include_str!("../../avro/compat/location_event.older.avsc");
const LIST_NEWER: &str = include_str!("../../avro/compat/visibility_list.newer.avsc");
const BATCH_NEWER: &str = include_str!("../../avro/compat/delivery_batch.newer.avsc");
const BATCH_OLDER: &str = include_str!("../../avro/compat/delivery_batch.older.avsc");
const NOTICE_NEWER: &str = include_str!("../../avro/compat/notice.newer.avsc");
const NOTICE_OLDER: &str = include_str!("../../avro/compat/notice.older.avsc");

/// A codec that knows `avsc`, and the record that a build with that schema would write.
fn written(avsc: &str, value: serde_json::Value) -> (Codec, Vec<u8>) {
    let schema = schema(avsc);
    let value = Value::try_from(value).unwrap().resolve(&schema).unwrap();
    (Codec::default().with_writer(OTHER, avsc).unwrap(), framed(OTHER, &avro_write(&schema, value)))
}

#[test]
fn a_newer_location_event_decodes() {
    let (codec, record) = written(
        LOCATION_NEWER,
        json!({
            "trace": [1, 2, 3], "kind": "teleport", "session": 5,
            "route": {"gateway": "2", "incarnation": 9, "handle": 4, "region": "eu", "role": "tv"},
            "list_version": 3, "reset": true,
            "mode": {"sharing": "town", "until": 7, "discoverable": true, "version": 8},
            "fix": {"lat": 1.5, "lon": -2.5, "accuracy_m": 3.0, "speed_mps": null, "heading_deg": null,
                    "altitude_m": 4.0, "battery": 80, "device": "d", "n": 6, "device_time": 10, "fixed_at": 11},
            "gateway_time": 12,
        }),
    );
    let event = codec.decode_location(&record).unwrap().to_owned();
    assert_eq!(event.kind, LocationKind::Unknown, "a kind this build does not know");
    let route = event.route.unwrap();
    assert_eq!((route.gateway.as_str(), route.incarnation, route.handle), ("2", 9, 4));
    assert_eq!(route.role, Role::Watching, "a role this build does not know moves no position");
    let hidden = Mode { sharing: Sharing::Hidden, until: 7, discoverable: true, version: 8 };
    assert_eq!(event.mode, hidden, "a sharing this build does not know shows nothing");
    let fix = event.fix.unwrap();
    assert_eq!((fix.lat, fix.lon, fix.accuracy_m, fix.altitude_m), (1.5, -2.5, Some(3.0), Some(4.0)));
    assert_eq!((fix.n, fix.fixed_at, event.gateway_time), (6, 11, 12));
}

#[test]
fn an_older_location_event_decodes() {
    let (codec, record) = written(
        LOCATION_OLDER,
        json!({
            "kind": "fix", "session": 5, "route": null,
            "mode": {"sharing": "exact", "until": 0, "discoverable": false, "version": 0},
            "fix": {"lat": 1.5, "lon": -2.5, "accuracy_m": 3.0, "speed_mps": null, "device": "d", "n": 6,
                    "device_time": 10, "fixed_at": 11},
            "gateway_time": 12,
        }),
    );
    let event = codec.decode_location(&record).unwrap().to_owned();
    assert_eq!((event.kind, event.list_version, event.reset), (LocationKind::Fix, 0, false));
    let fix = event.fix.unwrap();
    assert_eq!((fix.accuracy_m, fix.heading_deg, fix.altitude_m), (Some(3.0), None, None));
}

#[test]
fn a_newer_list_decodes() {
    let entry = |precision| json!({"friend": "b", "display_name": "B", "precision": precision, "since": 1, "radius_m": 2, "expires_at": 3});
    let (codec, record) = written(
        LIST_NEWER,
        json!({"kind": "patch", "version": 4, "published_at": 5, "radius_m": 6, "entries": [entry("town"), entry("exact")]}),
    );
    let list = codec.decode_list(&record).unwrap();
    assert_eq!((list.kind, list.version, list.radius_m), (VisibilityKind::Unknown, 4, 6));
    assert_eq!((list.worker.as_ref(), list.worker_incarnation), ("", 0));
    assert_eq!(list.entries().len(), 2);
    let precisions: Vec<_> = list.entries().map(|entry| (entry.friend, entry.precision, entry.expires_at)).collect();
    assert_eq!(precisions, [("b", Precision::Coarse, 3), ("b", Precision::Exact, 3)]);
}

/// The branches of the items' union in `avsc` by name, and the value of a batch with the items given by theirs.
fn newer_batch(items: &[(&str, serde_json::Value)]) -> (Codec, Vec<u8>) {
    batch_by(BATCH_NEWER, items)
}

fn batch_by(avsc: &str, items: &[(&str, serde_json::Value)]) -> (Codec, Vec<u8>) {
    let schema = schema(avsc);
    let Schema::Record(batch) = &schema else { panic!("a batch is a record") };
    let field = batch.fields.iter().find(|field| field.name == "items").unwrap();
    let Schema::Array(array) = &field.schema else { panic!("items are an array") };
    let Schema::Union(union) = array.items.as_ref() else { panic!("an item is a union") };
    let items = items
        .iter()
        .map(|(name, value)| {
            let branch = union.variants().iter().position(|b| b.name().is_some_and(|n| n.name() == *name)).unwrap();
            let value = Value::try_from(value.clone())
                .unwrap()
                .resolve_schemata(&union.variants()[branch], vec![&schema])
                .unwrap();
            Value::Union(branch as u32, Box::new(value))
        })
        .collect();
    let value = Value::Record(vec![
        ("worker".into(), Value::String("w".into())),
        ("worker_incarnation".into(), Value::Long(1)),
        ("seq".into(), Value::Long(2)),
        ("sent_at".into(), Value::Long(3)),
        ("gateway_incarnation".into(), Value::Long(4)),
        ("epochs".into(), Value::Array(Vec::new())),
        ("items".into(), Value::Array(items)),
    ]);
    let codec = Codec::default().with_writer(OTHER, avsc).unwrap();
    (codec, framed(OTHER, &avro_write(&schema, value)))
}

#[test]
fn a_newer_batch_decodes_and_its_items_go_by_name() {
    let position = json!({"lat": 1.0, "lon": 2.0, "at": 3, "coarse": false, "accuracy_m": 4.0, "speed_mps": null});
    let entry = json!({"friend": "c", "display_name": "C", "position": position, "distance_dm": 9});
    let (codec, record) = newer_batch(&[
        ("Superseded", json!({"handle": 7, "list_version": 8})),
        ("Removal", json!({"friend": "b", "reason": "moved_house", "viewers": [1, 2]})),
        ("Digest", json!({"handle": 7, "count": 1, "algorithm": "sum", "digest": -5})),
        (
            "Upsert",
            json!({"friend": "c", "display_name": "C", "position": position, "viewers": [{"handle": 1, "distance_dm": -1}]}),
        ),
        ("Reset", json!({"handle": 7, "list_version": 8, "part": 1, "parts": 1, "entries": [entry]})),
        ("Applied", json!({"handle": 7, "list_version": 8})),
    ]);
    let Ok(GatewayRecord::Batch(batch)) = codec.decode_gateway_record(&record) else { panic!("a batch decodes") };
    assert_eq!((batch.worker.as_str(), batch.seq, batch.gateway_incarnation), ("w", 2, 4));
    let [superseded, removal, digest, upsert, reset, applied] = &batch.items[..] else { panic!("six items") };
    assert_eq!(superseded, &Item::Superseded(Superseded { handle: 7 }), "not the Applied that it looks like");
    let Item::Removal(removal) = removal else { panic!("a removal") };
    assert_eq!((removal.reason, &removal.viewers[..]), (RemovalReason::NotShared, &[1, 2][..]));
    assert_eq!(digest, &Item::Digest(Digest { handle: 7, count: 1, digest: -5 }));
    let Item::Upsert(upsert) = upsert else { panic!("an upsert") };
    assert_eq!((upsert.position.lat, upsert.position.accuracy_m, upsert.position.heading_deg), (1.0, Some(4.0), None));
    let Item::Reset(reset) = reset else { panic!("a reset") };
    assert_eq!((reset.entries[0].friend.as_str(), reset.entries[0].position.lon), ("c", 2.0));
    assert!(matches!(applied, Item::Applied(_)));
}

#[test]
fn a_batch_of_before_there_were_strangers_decodes() {
    let items = [("Superseded", json!({"handle": 7})), ("Applied", json!({"handle": 7, "list_version": 8}))];
    let (codec, record) = batch_by(BATCH_OLDER, &items);
    let Ok(GatewayRecord::Batch(batch)) = codec.decode_gateway_record(&record) else { panic!("a batch decodes") };
    let expect = [Item::Superseded(Superseded { handle: 7 }), Item::Applied(Applied { handle: 7, list_version: 8 })];
    assert_eq!(batch.items, expect);
}

#[test]
fn strangers_of_another_build_go_by_name() {
    let more =
        |text: &str| text.replace(r#"{"name": "alias","#, r#"{"name": "since", "type": "long"}, {"name": "alias","#);
    let newer = more(avsc::DELIVERY_BATCH);
    assert_ne!(newer, avsc::DELIVERY_BATCH);
    let entry = json!({"since": 1, "alias": -2, "lat": 1.5, "lon": 2.5, "at": 3, "distance_dm": 4});
    let (codec, record) = batch_by(&newer, &[("Strangers", json!({"viewer": 7, "entries": [entry]}))]);
    let Ok(GatewayRecord::Batch(batch)) = codec.decode_gateway_record(&record) else { panic!("a batch decodes") };
    let stranger = Stranger { alias: -2, lat: 1.5, lon: 2.5, at: 3, distance_dm: 4 };
    assert_eq!(batch.items, [Item::Strangers(Strangers { viewer: 7, entries: vec![stranger] })]);
}

#[test]
fn a_heartbeat_of_a_newer_build_decodes() {
    let (codec, record) = newer_batch(&[]);
    let heartbeat = codec.decode_gateway_record(&record).unwrap();
    assert!(matches!(heartbeat, GatewayRecord::Batch(DeliveryBatch { seq: 2, .. })));
}

#[test]
fn newer_and_older_notices_decode() {
    let decode = |(codec, record): (Codec, Vec<u8>)| match codec.decode_gateway_record(&record).unwrap() {
        GatewayRecord::Notice(notice) => notice,
        GatewayRecord::Batch(_) => panic!("no batch"),
    };
    let mode = json!({"sharing": "coarse", "until": 1, "discoverable": false, "version": 2});
    let newer = json!({"kind": "celebrate", "user": "a", "friend": "", "list_version": 0, "mode": mode, "song": "la", "reason": "r"});
    let newer = decode(written(NOTICE_NEWER, newer));
    assert_eq!((newer.kind, newer.user.as_str(), newer.reason.as_str()), (NoticeKind::Unknown, "a", "r"));
    assert_eq!(newer.mode, Some(Mode { sharing: Sharing::Coarse, until: 1, discoverable: false, version: 2 }));
    let older = decode(written(NOTICE_OLDER, json!({"kind": "forget", "user": "a", "friend": "b", "mode": null})));
    assert_eq!(older, Notice::forget("a", "b", 0));
}

#[test]
fn schemas_that_cannot_be_used_are_refused_when_registered() {
    let refused = |id, avsc: &str| Codec::default().with_writer(id, avsc).map(|_| ()).unwrap_err();
    assert_eq!(refused(1, avsc::LOCATION_EVENT), SchemaError::IdTaken(1));
    assert!(matches!(refused(9, "{"), SchemaError::Invalid { id: 9, .. }));
    let foreign = |name: &str| SchemaError::Foreign { id: 9, name: name.to_owned() };
    assert_eq!(refused(9, "\"string\""), foreign("a type without a name"));
    assert_eq!(refused(9, r#"{"type": "record", "name": "LocationEvent", "fields": []}"#), foreign("LocationEvent"));
    let lacking = avsc::LOCATION_EVENT.replace("\"lat\"", "\"latitude\"");
    assert!(matches!(refused(9, &lacking), SchemaError::Incompatible { id: 9, .. }));
    let other_type = avsc::NOTICE.replace(r#""user", "type": "string""#, r#""user", "type": "long""#);
    assert!(matches!(refused(9, &other_type), SchemaError::Incompatible { id: 9, .. }));
    // A kind of item that this build has no place for: readers learn it before the first writer writes it.
    let superseded = r#"{"type": "record", "name": "Superseded","#;
    let more = format!(r#"{{"type": "record", "name": "Gone", "fields": []}}, {superseded}"#);
    let new_kind = avsc::DELIVERY_BATCH.replace(superseded, &more);
    assert_ne!(new_kind, avsc::DELIVERY_BATCH);
    assert!(matches!(refused(9, &new_kind), SchemaError::Incompatible { id: 9, .. }));
    let twice = Codec::default().with_writer(9, avsc::NOTICE).unwrap().with_writer(9, avsc::NOTICE);
    assert_eq!(twice.map(|_| ()), Err(SchemaError::IdTaken(9)));
}

#[test]
fn ids_are_configurable_and_differ() {
    let ids: SchemaIds = serde_json::from_value(json!({"notice": 40})).unwrap();
    assert_eq!(ids, SchemaIds { notice: 40, ..SchemaIds::default() });
    assert_eq!(ids.check(), Ok(()));
    assert_eq!(SchemaIds { notice: 3, ..ids }.check(), Err(SchemaError::IdTaken(3)));
    let mut record = Vec::new();
    let notice = Notice::close("a", "signed_out");
    Codec::new(ids).encode_notice(&notice, &mut record);
    assert_eq!(record[..5], [0, 0, 0, 0, 40]);
    assert_eq!(Codec::new(ids).decode_gateway_record(&record), Ok(GatewayRecord::Notice(notice)));
    assert_eq!(Codec::default().decode_gateway_record(&record), Err(DecodeError::UnknownSchema(40)));
}

#[test]
fn the_mode_is_the_same_in_both_files_that_define_it() {
    fn find(schema: &serde_json::Value) -> Option<&serde_json::Value> {
        match schema {
            serde_json::Value::Object(fields) if fields.get("name").is_some_and(|name| name == "Mode") => Some(schema),
            serde_json::Value::Object(fields) => fields.values().find_map(find),
            serde_json::Value::Array(items) => items.iter().find_map(find),
            _ => None,
        }
    }
    let parse = |text| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let (event, notice) = (parse(avsc::LOCATION_EVENT), parse(avsc::NOTICE));
    assert!(find(&event).is_some());
    assert_eq!(find(&event), find(&notice));
}
