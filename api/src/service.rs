//! What the handlers share.

use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache as Known;
use nearcast_history_sink::history::History;
use nearcast_ingest::{Cache, CacheError, Ingest, LastSeen};
use nearcast_runtime::Secret;
use nearcast_runtime::auth::{LinkSigner, Verifier};
use nearcast_runtime::clock::now_ms;
use nearcast_schemas::deployment::Deployment;
use nearcast_schemas::event::Mode;
use nearcast_schemas::list::VisibilityList;

use crate::changes::Changes;
use crate::failure::Failure;
use crate::lists::Lists;
use crate::rules::Moment;
use crate::sign_out::SignOuts;
use crate::store::{Profile, Store, User};

/// Users that are remembered as registered, so that their requests need not ask the database.
const KNOWN_USERS: u64 = 200_000;
const KNOWN_FOR: Duration = Duration::from_secs(600);

/// What the handlers share.
pub(crate) struct Service {
    pub deployment: Deployment,
    pub store: Arc<dyn Store>,
    pub history: Arc<dyn History>,
    pub cache: Arc<dyn Cache>,
    pub ingest: Ingest,
    pub lists: Arc<Lists>,
    pub changes: Changes,
    pub sign_outs: SignOuts,
    pub verifier: Verifier,
    pub link_signer: Option<LinkSigner>,
    pub internal_key: Secret,
    pub request_timeout: Duration,
    pub known: Known<String, ()>,
}

/// A viewer's list and the last positions of those on it.
pub(crate) struct Around {
    pub moment: Moment,
    /// In the order of the list's entries.
    pub seen: Vec<Option<LastSeen>>,
    /// The viewer.
    pub own: Option<LastSeen>,
}

/// An empty memory of registered users.
pub(crate) fn known_users() -> Known<String, ()> {
    Known::builder().max_capacity(KNOWN_USERS).time_to_live(KNOWN_FOR).build()
}

impl Service {
    /// Registers a user at the first authenticated use, named by the id: operators who bring their own ids need no
    /// further step.
    pub async fn register(&self, id: &str) -> Result<(), Failure> {
        if self.known.contains_key(id) {
            return Ok(());
        }
        if self.store.user(id).await?.is_none() {
            let profile = Profile { display_name: id.to_owned(), picture_url: None, radius_m: None };
            let user = User { id: id.to_owned(), profile, mode: Mode::default(), created_at: now_ms() };
            self.store.create_user(user).await?;
        }
        self.known.insert(id.to_owned(), ()).await;
        Ok(())
    }

    /// The last positions of everybody on a viewer's list, and of the viewer.
    pub async fn around(&self, viewer: &str, list: &VisibilityList) -> Result<Around, CacheError> {
        let friends = list.entries.iter().map(|entry| entry.friend.clone());
        let mut seen = self.cache.positions(&friends.chain([viewer.to_owned()]).collect::<Vec<_>>()).await?;
        let own = seen.pop().flatten();
        Ok(Around { moment: self.moment(own.as_ref()), seen, own })
    }

    /// Now, as seen by whoever was last seen there.
    pub fn moment(&self, viewer: Option<&LastSeen>) -> Moment {
        Moment::at_last_seen(now_ms(), self.deployment.ttl_ms(), *self.ingest.coarsener(), viewer)
    }

    /// Where a user was last seen; none where nowhere within the TTL, or the cache does not say.
    pub async fn last_seen(&self, user: &str) -> Option<LastSeen> {
        self.cache.positions(&[user.to_owned()]).await.ok()?.into_iter().next().flatten()
    }
}
