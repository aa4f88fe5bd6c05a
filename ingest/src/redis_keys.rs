//! Names of the keys in Redis.

use std::borrow::Cow;

/// Keys of one deployment. All keys of a user share one hash slot, so that a script may touch them in a cluster.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    prefix: String,
}

impl Keys {
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// Hash: last position.
    pub fn place(&self, user: &str) -> String {
        self.of_user("pos", user)
    }

    /// Hash: mode and erasure, which outlive the position.
    pub fn rules(&self, user: &str) -> String {
        self.of_user("rules", user)
    }

    /// Hash: live sessions.
    pub fn sessions(&self, user: &str) -> String {
        self.of_user("sessions", user)
    }

    /// String: when the user signed out.
    pub fn signed_out(&self, user: &str) -> String {
        self.of_user("signed-out", user)
    }

    /// String: bytes of a page.
    pub fn page(&self, key: &str) -> String {
        format!("{}:page:{key}", self.prefix)
    }

    /// Redis hashes what is between the first `{` and the next `}`, unless that is nothing (Redis Cluster
    /// specification, "Hash tags"). The prefix has no braces; an id may have, and its `}` are written another way.
    fn of_user(&self, what: &str, user: &str) -> String {
        let tag = if user.contains(['}', '%']) {
            Cow::Owned(user.replace('%', "%25").replace('}', "%7D"))
        } else {
            Cow::Borrowed(user)
        };
        format!("{}:{what}:{{{tag}}}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_user_is_the_hash_tag() {
        let keys = Keys::new("nearcast");
        assert_eq!(keys.place("alice"), "nearcast:pos:{alice}");
        assert_eq!(keys.sessions("}{%"), "nearcast:sessions:{%7D{%25}");
        assert_eq!(keys.page("p"), "nearcast:page:p");
    }

    /// The part that Redis hashes.
    fn hashed(key: &str) -> &str {
        let open = key.find('{').unwrap() + 1;
        &key[open..open + key[open..].find('}').unwrap()]
    }

    proptest! {
        #[test]
        fn one_slot_a_user_and_no_key_of_another(a in "[ab{}%27D]{1,6}", b in "[ab{}%27D]{1,6}") {
            let keys = Keys::new("p");
            prop_assert!(!hashed(&keys.place(&a)).is_empty());
            let (place, rules, sessions) = (keys.place(&a), keys.rules(&a), keys.sessions(&a));
            prop_assert_eq!(hashed(&place), hashed(&rules));
            prop_assert_eq!(hashed(&place), hashed(&sessions));
            prop_assert_eq!(a == b, keys.place(&a) == keys.place(&b));
        }
    }
}
