//! Share links: somebody's live position for whoever holds the link's secret, until it ends or is taken back.
//!
//! A link is a viewer of its own, with a list of one person and no radius; so everything that holds for lists holds for
//! links: the row follows from what is canonical here, and a link that is taken back is a list that becomes empty.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nearcast_schemas::event::Sharing;
use nearcast_schemas::ids::LINK_PREFIX;
use sha2::{Digest, Sha256};

use crate::pair::Share;
use crate::store::{Friend, User};

/// Bytes of a link's name: enough that none is given twice.
const NAME_BYTES: usize = 12;
/// Bytes of its secret: enough that none is guessed.
const SECRET_BYTES: usize = 24;

/// A share link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareLink {
    /// Its id as a viewer, which begins as no user's does.
    pub viewer: String,
    /// Whose position it shows.
    pub owner: String,
    /// SHA-256 of the secret. The secret itself is not kept.
    pub secret_hash: Vec<u8>,
    /// [`Sharing::Exact`] or [`Sharing::Coarse`].
    pub precision: Sharing,
    /// In ms since the epoch.
    pub created_at: i64,
    /// When it ends, in ms since the epoch.
    pub until: i64,
}

/// What whoever holds a link has. `Debug` leaves the secret out.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    name: String,
    secret: String,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Key {
    /// A new one.
    pub fn random() -> Self {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (name, secret): ([u8; NAME_BYTES], [u8; SECRET_BYTES]) = (rand::random(), rand::random());
        Self { name: text(&name), secret: text(&secret) }
    }

    /// From the text that [`Key::text`] gave; none of anything else.
    pub fn read(text: &str) -> Option<Self> {
        let (name, secret) = text.split_once('.')?;
        let key = Self { name: name.to_owned(), secret: secret.to_owned() };
        (Self::is_name(name) && is_text_of(secret, SECRET_BYTES)).then_some(key)
    }

    /// Whether a link may have this name.
    pub fn is_name(name: &str) -> bool {
        is_text_of(name, NAME_BYTES)
    }

    /// For the fragment of an address, which browsers send to nobody.
    pub fn text(&self) -> String {
        format!("{}.{}", self.name, self.secret)
    }

    /// The link's id as a viewer.
    pub fn viewer(&self) -> String {
        viewer(&self.name)
    }

    /// What is kept of the secret. It is random and long, so that nothing slower is needed to keep it from being found.
    pub fn hash(&self) -> Vec<u8> {
        Sha256::digest(self.secret.as_bytes()).to_vec()
    }
}

fn is_text_of(text: &str, bytes: usize) -> bool {
    URL_SAFE_NO_PAD.decode(text).is_ok_and(|read| read.len() == bytes)
}

/// The id of the link of this name as a viewer.
pub fn viewer(name: &str) -> String {
    format!("{LINK_PREFIX}{name}")
}

/// The name of the link that is this viewer.
pub fn name(viewer: &str) -> &str {
    viewer.strip_prefix(LINK_PREFIX).unwrap_or(viewer)
}

impl ShareLink {
    /// Whether its time is not over.
    pub fn is_alive(&self, now_ms: i64) -> bool {
        now_ms < self.until
    }

    /// The one row of its list.
    pub fn row(&self, owner: &User) -> Friend {
        let hidden = Share { precision: Sharing::Hidden, until: 0, within_m: 0 };
        Friend {
            id: self.owner.clone(),
            display_name: owner.profile.display_name.clone(),
            theirs: Share { precision: self.precision, until: self.until, within_m: 0 },
            mine: hidden,
            since: self.created_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_written() {
        let key = Key::random();
        assert_eq!(Key::read(&key.text()), Some(key.clone()));
        assert_eq!(name(&key.viewer()), key.name);
        assert_ne!(key.hash(), Key::random().hash());
        assert!(!format!("{key:?}").contains(&key.secret));
        let text = key.text();
        for bad in ["", ".", "a.b", &text[1..], &text[..text.len() - 1], &text.replace('.', "/"), &format!("{text}.")] {
            assert_eq!(Key::read(bad), None, "{bad}");
        }
    }
}
