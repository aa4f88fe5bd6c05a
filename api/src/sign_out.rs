//! Signing out: every session of a user by a token from before ends, and no such token is taken any more.
//!
//! The cache remembers it for as long as such a token may be valid. A cache that loses its memory forgets it; one that
//! does not answer lets tokens pass, as it lets sessions begin.

use std::sync::Arc;
use std::time::Duration;

use nearcast_ingest::Cache;
use nearcast_runtime::clock::now_ms;
use nearcast_schemas::notice::{Notice, issued_before};

use crate::events::SignOutUnknown;
use crate::failure::Failure;
use crate::lists::Lists;

/// Who signed out, and when. Clones are the same.
#[derive(Clone)]
pub(crate) struct SignOuts {
    pub cache: Arc<dyn Cache>,
    pub lists: Arc<Lists>,
    /// As long as a token may be valid.
    pub kept: Duration,
}

impl SignOuts {
    /// Whether a token that was issued at this time, in seconds since the epoch, is from before its user signed out.
    pub async fn cover(&self, user: &str, issued_at: Option<i64>) -> bool {
        match self.cache.signed_out(user).await {
            Ok(at) => at.is_some_and(|at| issued_before(issued_at, at)),
            Err(error) => {
                SignOutUnknown { error: &error }.emit();
                false
            }
        }
    }

    /// Signs a user out who shows a token that was issued at this time. Returns since when, in ms since the epoch. The
    /// gateways are told when this returns.
    ///
    /// A token from before an earlier sign-out repeats that one: whoever got no answer asks again, and a newer session is
    /// not concerned.
    pub async fn sign_out(&self, user: &str, issued_at: Option<i64>) -> Result<i64, Failure> {
        let earlier = self.cache.signed_out(user).await?;
        let at = match earlier {
            Some(at) if issued_before(issued_at, at) => at,
            _ => {
                let at = now_ms().max(earlier.unwrap_or_default());
                self.cache.sign_out(user, at, self.kept).await?;
                at
            }
        };
        // After that: a session that begins meanwhile is found here, or finds the sign-out.
        let sessions = self.cache.sessions(user).await?;
        self.lists.tell_at(sessions, &Notice::signed_out(user, at)).await?;
        Ok(at)
    }
}
