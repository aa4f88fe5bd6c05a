//! `Notice`: what the API writes to `<prefix>.gateway.<id>`.

use serde::{Deserialize, Serialize};

use crate::event::Mode;

/// What the notice asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    /// A kind that a newer writer knows: skipped and counted.
    Unknown,
    /// Drop `friend` for the viewer `user`, queued frames included, until `Applied` with `list_version` comes by.
    Forget,
    /// Stamp what `user` reports from now on with `mode`.
    Mode,
    /// Close the sessions of `user`, telling them the code in `reason`.
    Close,
}

/// What the API tells a gateway about a user with a live session there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// What it asks for.
    pub kind: NoticeKind,
    /// Whose sessions it is for.
    pub user: String,
    /// In `Forget`, whom this viewer no longer sees; else empty.
    pub friend: String,
    /// In `Forget`, the version of the list without that friend. In `Close`, when the user signed out, in ms since the
    /// epoch: sessions by tokens that were issued later stay; 0 for none of them. Else 0.
    pub list_version: i64,
    /// In `Mode`, how the user shares from now on.
    pub mode: Option<Mode>,
    /// In `Close`, the code; else empty.
    pub reason: String,
}

impl Notice {
    /// `viewer` no longer sees `friend` from this list version on.
    pub fn forget(viewer: &str, friend: &str, list_version: i64) -> Self {
        Self {
            kind: NoticeKind::Forget,
            user: viewer.to_owned(),
            friend: friend.to_owned(),
            list_version,
            mode: None,
            reason: String::new(),
        }
    }

    /// `user` shares by `mode` from now on.
    pub fn mode(user: &str, mode: Mode) -> Self {
        Self {
            kind: NoticeKind::Mode,
            user: user.to_owned(),
            friend: String::new(),
            list_version: 0,
            mode: Some(mode),
            reason: String::new(),
        }
    }

    /// `user` signed out at this time, in ms since the epoch: the sessions by tokens that were issued before end.
    pub fn signed_out(user: &str, at: i64) -> Self {
        Self { list_version: at, ..Self::close(user, "signed_out") }
    }

    /// Whether a `Close` ends a session by a token that was issued at this time, in seconds since the epoch.
    pub fn ends(&self, issued_at: Option<i64>) -> bool {
        self.list_version == 0 || issued_before(issued_at, self.list_version)
    }

    /// The sessions of `user` end with this code.
    pub fn close(user: &str, reason: &str) -> Self {
        Self {
            kind: NoticeKind::Close,
            user: user.to_owned(),
            friend: String::new(),
            list_version: 0,
            mode: None,
            reason: reason.to_owned(),
        }
    }
}

/// Whether a token that says it was issued at this time, in seconds since the epoch, may be from before `at`, in ms since
/// the epoch. Of a token of the same second nobody knows, nor of one that does not say.
pub fn issued_before(issued_at: Option<i64>, at: i64) -> bool {
    issued_at.is_none_or(|issued_at| issued_at.saturating_mul(1_000) <= at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_out_ends_what_may_be_older() {
        let notice = Notice::signed_out("alice", 10_999);
        for (issued_at, ends) in [(Some(9), true), (Some(10), true), (Some(11), false), (None, true)] {
            assert_eq!(notice.ends(issued_at), ends, "{issued_at:?}");
            assert!(Notice::close("alice", "signed_out").ends(issued_at));
        }
    }
}
