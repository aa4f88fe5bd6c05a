//! The session registry was away and is back: each session takes its place in it again.
//!
//! A session that began meanwhile is not in it, and a registry that lost its memory knows none. Until a session is in it no
//! notice finds it. Its place is taken before it is asked whether the user signed out, as at a hello: a sign-out either
//! finds the session, or is found by it.

use std::sync::Arc;
use std::time::Duration;

use nearcast_runtime::lifecycle::Shutdown;
use nearcast_schemas::notice::issued_before;
use nearcast_schemas::refusal::Refusal;

use crate::connection::Connection;
use crate::deliveries::Reach;
use crate::events::{NotRegistered, RegistryBack, SignOutUnknown};
use crate::gateway::Gateway;
use crate::link::Link;
use crate::reports::Answer;

const LOOK_EVERY: Duration = Duration::from_millis(250);
/// So many sessions register at once, and the next after a pause: nothing else of theirs is to wait for that.
const AT_ONCE: usize = 500;
const PAUSE: Duration = Duration::from_millis(20);

/// Lets all sessions register again whenever the registry is back, until the shutdown begins.
pub async fn watch(gateway: Arc<Gateway>, shutdown: Shutdown) {
    let mut seen = gateway.parts.cache.returns();
    loop {
        tokio::select! {
            () = shutdown.begun() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let returns = gateway.parts.cache.returns();
        if returns != seen {
            seen = returns;
            gateway.began_registering();
            let links: Vec<Link> = gateway.routes(|routes| routes.all().map(|(_, link)| link.clone()).collect());
            RegistryBack { sessions: links.len() }.emit();
            for some in links.chunks(AT_ONCE) {
                some.iter().for_each(Link::wake);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

impl Connection {
    /// Takes the session's place in the registry again.
    pub(crate) fn register_again(&mut self) {
        let Some(joined) = &self.joined else { return };
        let (cache, user) = (Arc::clone(&self.gateway.parts.cache), Arc::clone(&self.user));
        let (entry, issued_at) = (joined.entry(), self.issued_at);
        self.answers.push(Box::pin(async move {
            if let Err(error) = cache.register(&user, &entry).await {
                NotRegistered { error: error.to_string() }.emit();
            }
            let signed_out = match cache.signed_out(&user).await {
                Ok(at) => at.is_some_and(|at| issued_before(issued_at, at)),
                Err(error) => {
                    SignOutUnknown { error: error.to_string() }.emit();
                    false
                }
            };
            Answer::Registered { signed_out: signed_out.then_some(issued_at) }
        }));
    }

    /// It has its place, and the user signed out before with the token of this time, or did not.
    pub(crate) fn on_registered(&self, signed_out: Option<Option<i64>>) {
        // A newer token may have come meanwhile.
        if signed_out == Some(self.issued_at) {
            self.link.feed(|feed| feed.end(Refusal::SignedOut, None));
        }
    }
}
