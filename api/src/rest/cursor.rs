//! Cursors: where the next page begins, opaque to clients.
//!
//! One that cannot be read is refused like one that is too old: either way the client begins again without it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nearcast_history_sink::history::HistoryKey;
use nearcast_schemas::refusal::Refusal;

/// A cursor after the friend with this id.
pub(super) fn after_id(id: &str) -> String {
    URL_SAFE_NO_PAD.encode(id)
}

/// The id of [`after_id`].
pub(super) fn id(cursor: &str) -> Result<String, Refusal> {
    let id = text(cursor)?;
    nearcast_schemas::ids::check_id(&id).map_err(|_| Refusal::CursorExpired)?;
    Ok(id)
}

/// A cursor to a place in a snapshot.
pub(super) fn in_snapshot(snapshot: &str, offset: usize) -> String {
    URL_SAFE_NO_PAD.encode(format!("{offset} {snapshot}"))
}

/// Snapshot and place of [`in_snapshot`].
pub(super) fn snapshot(cursor: &str) -> Result<(String, usize), Refusal> {
    let text = text(cursor)?;
    let (offset, snapshot) = text.split_once(' ').ok_or(Refusal::CursorExpired)?;
    let is_name = snapshot.len() == 32 && snapshot.bytes().all(|byte| byte.is_ascii_hexdigit());
    let offset = offset.parse().map_err(|_| Refusal::CursorExpired)?;
    if is_name { Ok((snapshot.to_owned(), offset)) } else { Err(Refusal::CursorExpired) }
}

/// A cursor after a place in a history.
pub(super) fn after_key(key: &HistoryKey) -> String {
    URL_SAFE_NO_PAD.encode(format!("{} {} {}", key.fixed_at, key.n, key.device))
}

/// The place of [`after_key`].
pub(super) fn key(cursor: &str) -> Result<HistoryKey, Refusal> {
    let text = text(cursor)?;
    // A device's id holds no white space.
    let mut parts = text.splitn(3, ' ');
    let mut part = || parts.next().ok_or(Refusal::CursorExpired);
    let fixed_at = part()?.parse().map_err(|_| Refusal::CursorExpired)?;
    let n = part()?.parse().map_err(|_| Refusal::CursorExpired)?;
    Ok(HistoryKey { fixed_at, n, device: part()?.to_owned() })
}

fn text(cursor: &str) -> Result<String, Refusal> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| Refusal::CursorExpired)?;
    String::from_utf8(bytes).map_err(|_| Refusal::CursorExpired)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_come_back() {
        assert_eq!(id(&after_id("Ünal+1")), Ok("Ünal+1".to_owned()));
        let name = "0123456789abcdef0123456789abcdef";
        assert_eq!(snapshot(&in_snapshot(name, 40)), Ok((name.to_owned(), 40)));
        let place = HistoryKey { fixed_at: -5, device: "d-1".into(), n: 7 };
        assert_eq!(key(&after_key(&place)), Ok(place));
    }

    #[test]
    fn anything_else_is_refused() {
        for cursor in ["", "!", "AA", &after_id("a b"), &after_id("1 x"), &in_snapshot("short", 1)] {
            assert_eq!(snapshot(cursor), Err(Refusal::CursorExpired), "{cursor}");
            assert!(key(cursor).is_err(), "{cursor}");
        }
        for cursor in ["", "!", "AA", &after_id("a b")] {
            assert_eq!(id(cursor), Err(Refusal::CursorExpired), "{cursor}");
        }
    }
}
