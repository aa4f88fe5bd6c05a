//! From the bytes of a record to what it does to the history; for the log and for dead letters alike.

use nearcast_schemas::codec::Codec;
use nearcast_schemas::ids::check_id;

use crate::row::{Entry, Poison, entry_of};

/// What a record of the location log does to the history.
///
/// # Errors
/// The record is poison: nobody will ever store it.
pub fn entry_of_record(
    codec: &Codec,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    appended_at: Option<i64>,
    partition: i32,
    offset: i64,
) -> Result<Option<Entry>, Poison> {
    let user = std::str::from_utf8(key.ok_or_else(|| Poison::undecodable("no key"))?)
        .map_err(|_| Poison::undecodable("the key is not UTF-8"))?;
    check_id(user).map_err(|error| Poison::undecodable(format!("the key is no user's id: {error}")))?;
    let event =
        codec.decode_location(value.unwrap_or_default()).map_err(|error| Poison::undecodable(error.to_string()))?;
    let appended_at = appended_at.ok_or_else(|| Poison::untimed("no append time"))?;
    entry_of(user, &event.to_owned(), partition, offset, appended_at)
}
