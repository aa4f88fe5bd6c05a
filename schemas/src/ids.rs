//! Ids that come from outside.

/// Longest id in bytes.
pub const MAX_ID_BYTES: usize = 64;

/// What the ids of share links as viewers begin with. No user's does.
pub const LINK_PREFIX: &str = "link~";

/// What is wrong with an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Empty or too long.
    #[error("an id has 1 to 64 bytes")]
    Length,
    /// Holds a control character or white space.
    #[error("an id holds no control characters and no white space")]
    Character,
}

/// Checks a user, friend or device id: an opaque string of 1 to 64 bytes of UTF-8 without control characters
/// and white space.
///
/// # Errors
/// What is wrong with it.
pub fn check_id(id: &str) -> Result<(), IdError> {
    if id.is_empty() || id.len() > MAX_ID_BYTES {
        return Err(IdError::Length);
    }
    if id.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(IdError::Character);
    }
    Ok(())
}

/// Whether this may be the `sub` of a token: a share link's where the token is of one, else a user's.
pub fn is_subject(id: &str, of_link: bool) -> bool {
    check_id(id).is_ok() && is_link(id) == of_link
}

/// Whether a viewer is a share link, and no user.
pub fn is_link(viewer: &str) -> bool {
    viewer.starts_with(LINK_PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_link_is_no_user() {
        for (id, of_link, expect) in [
            ("alice", false, true),
            ("link~x", true, true),
            ("link", false, true),
            ("alice", true, false),
            ("link~x", false, false),
            ("", false, false),
        ] {
            assert_eq!(is_subject(id, of_link), expect, "{id}");
        }
    }

    #[test]
    fn ids_are_short_and_printable() {
        assert_eq!(check_id("alice"), Ok(()));
        assert_eq!(check_id("00u1-Ünal"), Ok(()));
        assert_eq!(check_id(""), Err(IdError::Length));
        assert_eq!(check_id(&"x".repeat(65)), Err(IdError::Length));
        assert_eq!(check_id("a b"), Err(IdError::Character));
        assert_eq!(check_id("a\0"), Err(IdError::Character));
    }
}
