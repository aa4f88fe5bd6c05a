//! The enums of the schemas: a symbol is written as its place in the schema's list.

use crate::delivery::RemovalReason;
use crate::event::{LocationKind, Role, Sharing};
use crate::list::{Precision, VisibilityKind};
use crate::notice::NoticeKind;

/// An enum whose variants are declared in the order of the schema's symbols.
pub(super) trait Symbols: Copy + 'static {
    /// In the order of the schema.
    const SYMBOLS: &'static [Self];

    /// The place in the schema's list, from 0.
    fn index(self) -> i64;
}

impl Symbols for LocationKind {
    const SYMBOLS: &'static [Self] =
        &[Self::Unknown, Self::Hello, Self::Fix, Self::Presence, Self::Mode, Self::Leave, Self::Backfill, Self::Erase];

    fn index(self) -> i64 {
        self as i64
    }
}

impl Symbols for Role {
    const SYMBOLS: &'static [Self] = &[Self::Reporting, Self::Watching, Self::Link];

    fn index(self) -> i64 {
        self as i64
    }
}

impl Symbols for Sharing {
    const SYMBOLS: &'static [Self] = &[Self::Exact, Self::Coarse, Self::Hidden];

    fn index(self) -> i64 {
        self as i64
    }
}

impl Symbols for VisibilityKind {
    const SYMBOLS: &'static [Self] = &[Self::Unknown, Self::List, Self::Claim];

    fn index(self) -> i64 {
        self as i64
    }
}

impl Symbols for Precision {
    const SYMBOLS: &'static [Self] = &[Self::Exact, Self::Coarse];

    fn index(self) -> i64 {
        self as i64
    }
}

impl Symbols for RemovalReason {
    const SYMBOLS: &'static [Self] = &[Self::OutOfRange, Self::Silent, Self::NotShared];

    fn index(self) -> i64 {
        self as i64
    }
}

impl Symbols for NoticeKind {
    const SYMBOLS: &'static [Self] = &[Self::Unknown, Self::Forget, Self::Mode, Self::Close];

    fn index(self) -> i64 {
        self as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The symbols of the enum `name`, wherever it is in the schema.
    fn in_schema(schema: &serde_json::Value, name: &str) -> Option<Vec<String>> {
        match schema {
            serde_json::Value::Object(fields) if fields.get("name").is_some_and(|n| n == name) => {
                let symbols = fields.get("symbols")?.as_array()?;
                Some(symbols.iter().map(|s| s.as_str().unwrap().to_owned()).collect())
            }
            serde_json::Value::Object(fields) => fields.values().find_map(|v| in_schema(v, name)),
            serde_json::Value::Array(items) => items.iter().find_map(|v| in_schema(v, name)),
            _ => None,
        }
    }

    fn check<S: Symbols + serde::Serialize>(avsc: &str, name: &str) {
        let schema = serde_json::from_str(avsc).unwrap();
        let ours: Vec<String> = S::SYMBOLS
            .iter()
            .enumerate()
            .map(|(at, symbol)| {
                assert_eq!(symbol.index(), at as i64, "{name}");
                serde_json::to_value(symbol).unwrap().as_str().unwrap().to_owned()
            })
            .collect();
        assert_eq!(in_schema(&schema, name), Some(ours), "{name}");
    }

    #[test]
    fn variants_are_the_schemas_symbols_in_their_order() {
        use super::super::avsc;
        check::<LocationKind>(avsc::LOCATION_EVENT, "LocationKind");
        check::<Role>(avsc::LOCATION_EVENT, "Role");
        check::<Sharing>(avsc::LOCATION_EVENT, "Sharing");
        check::<Sharing>(avsc::NOTICE, "Sharing");
        check::<VisibilityKind>(avsc::VISIBILITY_LIST, "VisibilityKind");
        check::<Precision>(avsc::VISIBILITY_LIST, "Precision");
        check::<RemovalReason>(avsc::DELIVERY_BATCH, "RemovalReason");
        check::<NoticeKind>(avsc::NOTICE, "NoticeKind");
    }
}
