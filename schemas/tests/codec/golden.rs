//! The bytes of records, checked in: a change of them is a change of the contract. See `golden/README.md`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use nearcast_schemas::codec::Codec;
use nearcast_schemas::delivery::DeliveryBatch;
use nearcast_schemas::event::LocationEvent;
use nearcast_schemas::list::VisibilityList;
use nearcast_schemas::notice::Notice;

use crate::reference::{Record, encoded};

/// Set to `write` to write the bytes anew instead of comparing them.
const VARIABLE: &str = "NEARCAST_GOLDEN";

#[test]
fn records_keep_their_bytes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let mut seen = BTreeSet::new();
    for file in fs::read_dir(folder).unwrap() {
        let file = file.unwrap().path();
        if file.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let name = file.file_stem().unwrap().to_str().unwrap();
        let record = name.split('.').next().unwrap();
        match record {
            "location_event" => check::<LocationEvent>(&file),
            "visibility_list" => check::<VisibilityList>(&file),
            "delivery_batch" => check::<DeliveryBatch>(&file),
            "notice" => check::<Notice>(&file),
            _ => panic!("{name} is no record"),
        }
        seen.insert(record.to_owned());
    }
    assert_eq!(seen.len(), 4, "each schema has golden bytes: {seen:?}");
}

fn check<R: Record>(json: &Path) {
    let value: R = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    let file = json.with_extension("hex");
    let bytes = encoded(&value);
    if std::env::var_os(VARIABLE).is_some_and(|set| set == "write") {
        fs::write(&file, to_hex(&bytes)).unwrap();
    }
    let golden = fs::read_to_string(&file).unwrap();
    assert_eq!(to_hex(&bytes), golden, "{} changed; if it is meant to, see golden/README.md", file.display());
    assert_eq!(R::decode(&Codec::default(), &from_hex(&golden)).unwrap(), value, "{}", file.display());
}

/// The header on the first line, then 32 bytes a line.
fn to_hex(record: &[u8]) -> String {
    let (header, datum) = record.split_at(5);
    std::iter::once(header)
        .chain(datum.chunks(32))
        .map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n")
        .collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap()).collect()
}
