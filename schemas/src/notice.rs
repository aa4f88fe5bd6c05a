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
    /// In `Forget`, the version of the list without that friend; else 0.
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
