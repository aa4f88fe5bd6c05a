//! The store in Cassandra or ScyllaDB. See [`crate::tables`].
//!
//! Compare-and-sets are `SERIAL` and everything else `QUORUM`, over all datacenters: there is one truth about who may
//! see whom.

mod rows;

use std::sync::Arc;

use async_trait::async_trait;
use nearcast_schemas::event::Mode;
use scylla::client::session::Session;
use scylla::deserialize::row::DeserializeRow;
use scylla::response::query_result::QueryResult;
use scylla::serialize::row::SerializeRow;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;
use scylla::statement::{Consistency, SerialConsistency};
use scylla::value::{CqlValue, Row};

use self::rows::{
    FriendRow, HeadRow, INCOMING, LinkRow, ListRow, OUTGOING, PairRow, UserRow, bond_name, change_of, change_text,
    direction_name, from_int, limit_of, published, sharing_name, to_int, unless_0,
};
use crate::links::ShareLink;
use crate::pair::{Bond, Pair, PairIds, Side};
use crate::store::{
    Direction, Due, DueId, Friend, Head, List, ListChange, Profile, Published, Read, Request, RuleChange, Store,
    StoreError, User, Work,
};

/// A store in the keyspace of a session.
pub struct CqlStore {
    session: Arc<Session>,
    statements: Statements,
}

struct Statements {
    user: PreparedStatement,
    create_user: PreparedStatement,
    set_profile: PreparedStatement,
    set_mode: PreparedStatement,
    pair: PreparedStatement,
    pair_settled: PreparedStatement,
    set_pair: PreparedStatement,
    put_request: PreparedStatement,
    drop_request: PreparedStatement,
    requests: PreparedStatement,
    head: PreparedStatement,
    head_settled: PreparedStatement,
    friend: PreparedStatement,
    friends: PreparedStatement,
    list: PreparedStatement,
    set_head: PreparedStatement,
    put_friend: PreparedStatement,
    drop_friend: PreparedStatement,
    keep_change: PreparedStatement,
    changes: PreparedStatement,
    set_published: PreparedStatement,
    put_link: PreparedStatement,
    put_link_of: PreparedStatement,
    drop_link: PreparedStatement,
    drop_link_of: PreparedStatement,
    link: PreparedStatement,
    links: PreparedStatement,
    drop_head: PreparedStatement,
    schedule: PreparedStatement,
    finish: PreparedStatement,
    due: PreparedStatement,
    swept_to: PreparedStatement,
    set_swept_to: PreparedStatement,
}

const FRIEND: &str =
    "friend, display_name, since, their_precision, their_until, their_within_m, my_precision, my_until, my_within_m";

const LINK: &str = "viewer, owner, secret_hash, precision, created_at, until";
/// How long a link's row outlives the link; s.
const LINK_KEPT_S: i64 = 86_400;

impl CqlStore {
    /// Prepares the statements. The session's keyspace holds the tables.
    ///
    /// # Errors
    /// A table is missing (run `nearcast migrate`), or the database does not answer.
    pub async fn new(session: Arc<Session>) -> Result<Self, StoreError> {
        let prepare = async |cql: &str, consistency: Consistency| {
            let mut statement =
                session.prepare(cql).await.map_err(|error| StoreError::Unavailable(error.to_string()))?;
            statement.set_consistency(consistency);
            statement.set_serial_consistency(Some(SerialConsistency::Serial));
            // A condition may hold the first time and fail the second: such a statement is never repeated unasked.
            statement.set_is_idempotent(!cql.contains(" IF "));
            Ok::<_, StoreError>(statement)
        };
        let (quorum, serial) = (Consistency::Quorum, Consistency::Serial);
        let head = "SELECT DISTINCT viewer, version, radius_m, friends, published_version, published_at, change \
                    FROM lists WHERE viewer = ?";
        let pair = "SELECT bond, since, low_precision, low_until, low_within_m, high_precision, high_until, \
                    high_within_m, version FROM pairs WHERE low = ? AND high = ?";
        let friend = format!("SELECT {FRIEND} FROM lists WHERE viewer = ? AND friend = ?");
        let statements = Statements {
            user: prepare(
                "SELECT user_id, display_name, picture_url, radius_m, sharing, sharing_until, discoverable, \
                 mode_version, created_at FROM users WHERE user_id = ?",
                quorum,
            )
            .await?,
            create_user: prepare(
                "INSERT INTO users (user_id, display_name, picture_url, radius_m, sharing, sharing_until, \
                 discoverable, mode_version, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) IF NOT EXISTS",
                quorum,
            )
            .await?,
            set_profile: prepare(
                "UPDATE users SET display_name = ?, picture_url = ?, radius_m = ? WHERE user_id = ? \
                 IF display_name = ? AND picture_url = ? AND radius_m = ?",
                quorum,
            )
            .await?,
            set_mode: prepare(
                "UPDATE users SET sharing = ?, sharing_until = ?, discoverable = ?, mode_version = ? \
                 WHERE user_id = ? IF mode_version = ?",
                quorum,
            )
            .await?,
            pair: prepare(pair, quorum).await?,
            pair_settled: prepare(pair, serial).await?,
            set_pair: prepare(
                "UPDATE pairs SET bond = ?, since = ?, low_precision = ?, low_until = ?, low_within_m = ?, \
                 high_precision = ?, high_until = ?, high_within_m = ?, version = ? \
                 WHERE low = ? AND high = ? IF version = ?",
                quorum,
            )
            .await?,
            put_request: prepare(
                "INSERT INTO requests (user_id, direction, other, since) VALUES (?, ?, ?, ?) USING TIMESTAMP ?",
                quorum,
            )
            .await?,
            drop_request: prepare(
                "DELETE FROM requests USING TIMESTAMP ? WHERE user_id = ? AND direction = ? AND other = ?",
                quorum,
            )
            .await?,
            requests: prepare(
                "SELECT other, since FROM requests WHERE user_id = ? AND direction = ? AND other > ? LIMIT ?",
                quorum,
            )
            .await?,
            head: prepare(head, quorum).await?,
            head_settled: prepare(head, serial).await?,
            friend: prepare(&friend, quorum).await?,
            friends: prepare(&format!("SELECT {FRIEND} FROM lists WHERE viewer = ? AND friend > ? LIMIT ?"), quorum)
                .await?,
            list: prepare(
                &format!(
                    "SELECT version, radius_m, published_version, published_at, {FRIEND} FROM lists WHERE viewer = ?"
                ),
                quorum,
            )
            .await?,
            set_head: prepare(
                "UPDATE lists SET version = ?, radius_m = ?, friends = ?, change = ? WHERE viewer = ? IF version = ?",
                quorum,
            )
            .await?,
            put_friend: prepare(
                &format!("INSERT INTO lists (viewer, {FRIEND}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"),
                quorum,
            )
            .await?,
            drop_friend: prepare("DELETE FROM lists WHERE viewer = ? AND friend = ?", quorum).await?,
            keep_change: prepare("INSERT INTO rule_changes (viewer, version, change) VALUES (?, ?, ?)", quorum).await?,
            changes: prepare("SELECT change FROM rule_changes WHERE viewer = ? AND version >= ?", quorum).await?,
            set_published: prepare("UPDATE lists SET published_version = ?, published_at = ? WHERE viewer = ?", quorum)
                .await?,
            put_link: prepare(&format!("INSERT INTO links ({LINK}) VALUES (?, ?, ?, ?, ?, ?) USING TTL ?"), quorum)
                .await?,
            put_link_of: prepare(
                &format!("INSERT INTO links_of ({LINK}) VALUES (?, ?, ?, ?, ?, ?) USING TTL ?"),
                quorum,
            )
            .await?,
            drop_link: prepare("DELETE FROM links WHERE viewer = ?", quorum).await?,
            drop_link_of: prepare("DELETE FROM links_of WHERE owner = ? AND viewer = ?", quorum).await?,
            link: prepare(&format!("SELECT {LINK} FROM links WHERE viewer = ?"), quorum).await?,
            links: prepare(&format!("SELECT {LINK} FROM links_of WHERE owner = ?"), quorum).await?,
            drop_head: prepare(
                "DELETE version, radius_m, friends, change, published_version, published_at FROM lists \
                 WHERE viewer = ? IF version = ?",
                quorum,
            )
            .await?,
            schedule: prepare(
                "INSERT INTO due (shard, minute, id, at, work, subject, other) VALUES (?, ?, ?, ?, ?, ?, ?)",
                quorum,
            )
            .await?,
            finish: prepare("DELETE FROM due WHERE shard = ? AND minute = ? AND id = ?", quorum).await?,
            due: prepare("SELECT id, at, work, subject, other FROM due WHERE shard = ? AND minute = ?", quorum).await?,
            swept_to: prepare("SELECT minute FROM swept WHERE shard = ?", quorum).await?,
            set_swept_to: prepare("UPDATE swept SET minute = ? WHERE shard = ?", quorum).await?,
        };
        Ok(Self { session, statements })
    }

    async fn run(&self, statement: &PreparedStatement, values: impl SerializeRow) -> Result<QueryResult, StoreError> {
        self.session
            .execute_unpaged(statement, values)
            .await
            .map_err(|error| StoreError::Unavailable(error.to_string()))
    }

    /// Runs a conditional statement; whether its condition held.
    async fn compare_and_set(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<bool, StoreError> {
        applied(self.run(statement, values).await?)
    }

    async fn rows<R>(&self, statement: &PreparedStatement, values: impl SerializeRow) -> Result<Vec<R>, StoreError>
    where
        R: for<'frame> DeserializeRow<'frame, 'frame>,
    {
        let result = self.run(statement, values).await?.into_rows_result().map_err(broken)?;
        result.rows::<R>().map_err(broken)?.collect::<Result<_, _>>().map_err(broken)
    }

    async fn row<R>(&self, statement: &PreparedStatement, values: impl SerializeRow) -> Result<Option<R>, StoreError>
    where
        R: for<'frame> DeserializeRow<'frame, 'frame>,
    {
        Ok(self.rows(statement, values).await?.into_iter().next())
    }

    /// Brings one side's two request rows, which share a partition, in line with the pair.
    async fn set_requests_of(&self, pair: &Pair, side: Side) -> Result<(), StoreError> {
        let (user, other) = (pair.ids.id(side), pair.ids.id(side.other()));
        let (put, drop_) = (&self.statements.put_request, &self.statements.drop_request);
        let mut batch = Batch::new(BatchType::Unlogged);
        batch.set_consistency(Consistency::Quorum);
        batch.set_is_idempotent(true);
        let asked = match pair.bond {
            Bond::Asked(asker) if asker == side => Some((OUTGOING, INCOMING)),
            Bond::Asked(_) => Some((INCOMING, OUTGOING)),
            Bond::Strangers | Bond::Friends => None,
        };
        let result = if let Some((present, absent)) = asked {
            batch.append_statement(put.clone());
            batch.append_statement(drop_.clone());
            let put = (user, present, other, pair.since, pair.version);
            self.session.batch(&batch, (put, (pair.version, user, absent, other))).await
        } else {
            batch.append_statement(drop_.clone());
            batch.append_statement(drop_.clone());
            let drop_of = |direction| (pair.version, user, direction, other);
            self.session.batch(&batch, (drop_of(INCOMING), drop_of(OUTGOING))).await
        };
        result.map(drop).map_err(|error| StoreError::Unavailable(error.to_string()))
    }
}

#[async_trait]
impl Store for CqlStore {
    async fn user(&self, id: &str) -> Result<Option<User>, StoreError> {
        self.row::<UserRow>(&self.statements.user, (id,)).await?.map(UserRow::user).transpose()
    }

    async fn create_user(&self, user: User) -> Result<User, StoreError> {
        let (profile, mode) = (&user.profile, &user.mode);
        let values = (
            &user.id,
            &profile.display_name,
            &profile.picture_url,
            profile.radius_m.map(to_int),
            sharing_name(mode.sharing),
            mode.until,
            mode.discoverable,
            mode.version,
            user.created_at,
        );
        if self.compare_and_set(&self.statements.create_user, values).await? {
            return Ok(user);
        }
        self.user(&user.id).await?.ok_or_else(|| StoreError::Broken("a user who exists was not found".to_owned()))
    }

    async fn set_profile(&self, id: &str, expect: &Profile, profile: &Profile) -> Result<bool, StoreError> {
        let values = (
            &profile.display_name,
            &profile.picture_url,
            profile.radius_m.map(to_int),
            id,
            &expect.display_name,
            &expect.picture_url,
            expect.radius_m.map(to_int),
        );
        self.compare_and_set(&self.statements.set_profile, values).await
    }

    async fn set_mode(&self, id: &str, expect: i64, mode: &Mode) -> Result<bool, StoreError> {
        let values = (sharing_name(mode.sharing), mode.until, mode.discoverable, mode.version, id, expect);
        self.compare_and_set(&self.statements.set_mode, values).await
    }

    async fn pair(&self, ids: &PairIds, read: Read) -> Result<Pair, StoreError> {
        let statement = match read {
            Read::Answered => &self.statements.pair,
            Read::Settled => &self.statements.pair_settled,
        };
        match self.row::<PairRow>(statement, (ids.low(), ids.high())).await? {
            Some(row) => row.pair(ids),
            None => Ok(Pair::strangers(ids.clone())),
        }
    }

    async fn set_pair(&self, pair: &Pair, expect: i64) -> Result<bool, StoreError> {
        let (low, high) = (pair.low_shares, pair.high_shares);
        let values = (
            bond_name(pair.bond),
            pair.since,
            sharing_name(low.precision),
            low.until,
            to_int(low.within_m),
            sharing_name(high.precision),
            high.until,
            to_int(high.within_m),
            pair.version,
            pair.ids.low(),
            pair.ids.high(),
            unless_0(expect),
        );
        self.compare_and_set(&self.statements.set_pair, values).await
    }

    async fn set_requests(&self, pair: &Pair) -> Result<(), StoreError> {
        tokio::try_join!(self.set_requests_of(pair, Side::Low), self.set_requests_of(pair, Side::High)).map(drop)
    }

    async fn requests(
        &self,
        user: &str,
        direction: Direction,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Request>, StoreError> {
        let values = (user, direction_name(direction), after.unwrap_or_default(), limit_of(limit));
        let rows: Vec<(String, i64)> = self.rows(&self.statements.requests, values).await?;
        Ok(rows.into_iter().map(|(other, since)| Request { other, since }).collect())
    }

    async fn head(&self, viewer: &str, read: Read) -> Result<Head, StoreError> {
        let statement = match read {
            Read::Answered => &self.statements.head,
            Read::Settled => &self.statements.head_settled,
        };
        match self.row::<HeadRow>(statement, (viewer,)).await? {
            Some(row) => row.head(),
            None => Ok(Head::default()),
        }
    }

    async fn friend(&self, viewer: &str, friend: &str) -> Result<Option<Friend>, StoreError> {
        self.row::<FriendRow>(&self.statements.friend, (viewer, friend)).await?.map(FriendRow::friend).transpose()
    }

    async fn friends(&self, viewer: &str, after: Option<&str>, limit: usize) -> Result<Vec<Friend>, StoreError> {
        let values = (viewer, after.unwrap_or_default(), limit_of(limit));
        self.rows::<FriendRow>(&self.statements.friends, values).await?.into_iter().map(FriendRow::friend).collect()
    }

    async fn list(&self, viewer: &str) -> Result<List, StoreError> {
        // One page: a list that is read in two could be of two versions.
        let rows = self.rows::<ListRow>(&self.statements.list, (viewer,)).await?;
        let mut list = List::default();
        for row in rows {
            list.version = row.version.unwrap_or(0);
            list.radius_m = row.radius_m.map(from_int);
            list.published = published(row.published_version, row.published_at);
            // A partition without friends has one row of its version alone.
            if let Some(friend) = row.friend() {
                list.friends.push(friend?);
            }
        }
        Ok(list)
    }

    async fn set_list(&self, viewer: &str, expect: &Head, change: &ListChange) -> Result<bool, StoreError> {
        // The change that made a version travels with the version and gets its own row before the next one, so none is
        // lost in between.
        if let Some(last) = &expect.change {
            self.run(&self.statements.keep_change, (viewer, last.version, change_text(last)?)).await?;
        }
        let head = (
            change.change.version,
            change.change.radius_after_m.map(to_int),
            to_int(change.friends),
            change_text(&change.change)?,
            viewer,
            unless_0(expect.version),
        );
        let Some((id, row)) = &change.row else {
            return self.compare_and_set(&self.statements.set_head, head).await;
        };
        let mut batch = Batch::new(BatchType::Unlogged);
        batch.set_consistency(Consistency::Quorum);
        batch.set_serial_consistency(Some(SerialConsistency::Serial));
        batch.append_statement(self.statements.set_head.clone());
        let result = if let Some(friend) = row {
            batch.append_statement(self.statements.put_friend.clone());
            let row = (
                viewer,
                id,
                &friend.display_name,
                friend.since,
                sharing_name(friend.theirs.precision),
                friend.theirs.until,
                to_int(friend.theirs.within_m),
                sharing_name(friend.mine.precision),
                friend.mine.until,
                to_int(friend.mine.within_m),
            );
            self.session.batch(&batch, (head, row)).await
        } else {
            batch.append_statement(self.statements.drop_friend.clone());
            self.session.batch(&batch, (head, (viewer, id))).await
        };
        applied(result.map_err(|error| StoreError::Unavailable(error.to_string()))?)
    }

    async fn set_published(&self, viewer: &str, published: Published) -> Result<(), StoreError> {
        self.run(&self.statements.set_published, (published.version, published.at, viewer)).await.map(drop)
    }

    async fn rule_changes(&self, viewer: &str, from_ms: i64) -> Result<Vec<RuleChange>, StoreError> {
        // A change's version is at least its time.
        let rows: Vec<(String,)> = self.rows(&self.statements.changes, (viewer, from_ms)).await?;
        let mut changes = rows.iter().map(|(text,)| change_of(text)).collect::<Result<Vec<_>, _>>()?;
        changes.extend(self.head(viewer, Read::Answered).await?.change);
        changes.retain(|change| change.at >= from_ms);
        // A new version between the two reads brings the last of the rows again.
        changes.dedup_by_key(|change| change.version);
        Ok(changes)
    }

    async fn create_link(&self, link: &ShareLink) -> Result<(), StoreError> {
        let ShareLink { viewer, owner, secret_hash, precision, created_at, until } = link;
        let ttl_s = i32::try_from((until - created_at) / 1_000 + LINK_KEPT_S).unwrap_or(i32::MAX);
        let values = (viewer, owner, secret_hash, sharing_name(*precision), created_at, until, ttl_s);
        // The owner can take back whatever works.
        self.run(&self.statements.put_link_of, &values).await?;
        self.run(&self.statements.put_link, &values).await.map(drop)
    }

    async fn link(&self, viewer: &str) -> Result<Option<ShareLink>, StoreError> {
        self.row::<LinkRow>(&self.statements.link, (viewer,)).await?.map(LinkRow::link).transpose()
    }

    async fn links(&self, owner: &str) -> Result<Vec<ShareLink>, StoreError> {
        self.rows::<LinkRow>(&self.statements.links, (owner,)).await?.into_iter().map(LinkRow::link).collect()
    }

    async fn remove_link(&self, owner: &str, viewer: &str) -> Result<(), StoreError> {
        self.run(&self.statements.drop_link, (viewer,)).await?;
        self.run(&self.statements.drop_link_of, (owner, viewer)).await.map(drop)
    }

    async fn remove_list(&self, viewer: &str, expect: &Head) -> Result<bool, StoreError> {
        self.compare_and_set(&self.statements.drop_head, (viewer, unless_0(expect.version))).await
    }

    async fn schedule(&self, at_ms: i64, work: &Work) -> Result<DueId, StoreError> {
        let id = DueId::random(at_ms);
        let (name, subject, other) = match work {
            Work::Pair(ids) => ("pair", ids.low(), Some(ids.high())),
            Work::Profile(user) => ("profile", user.as_str(), None),
            Work::Mode(user) => ("mode", user.as_str(), None),
            Work::Refresh(viewer) => ("refresh", viewer.as_str(), None),
            Work::Link(viewer) => ("link", viewer.as_str(), None),
        };
        let values = (i32::from(id.shard), id.minute, &id.id, at_ms, name, subject, other);
        self.run(&self.statements.schedule, values).await?;
        Ok(id)
    }

    async fn finish(&self, due: &DueId) -> Result<(), StoreError> {
        self.run(&self.statements.finish, (i32::from(due.shard), due.minute, &due.id)).await.map(drop)
    }

    async fn due(&self, shard: u8, minute: i64) -> Result<Vec<Due>, StoreError> {
        let rows: Vec<(String, i64, String, String, Option<String>)> =
            self.rows(&self.statements.due, (i32::from(shard), minute)).await?;
        let due = rows.into_iter().map(|(id, at, name, subject, other)| {
            let work = match (name.as_str(), other) {
                ("pair", Some(other)) => PairIds::new(&subject, &other).map(Work::Pair),
                ("profile", None) => Some(Work::Profile(subject)),
                ("mode", None) => Some(Work::Mode(subject)),
                ("refresh", None) => Some(Work::Refresh(subject)),
                ("link", None) => Some(Work::Link(subject)),
                _ => None,
            };
            Due { id: DueId { shard, minute, id }, at, work }
        });
        Ok(due.collect())
    }

    async fn swept_to(&self, shard: u8) -> Result<Option<i64>, StoreError> {
        let row: Option<(i64,)> = self.row(&self.statements.swept_to, (i32::from(shard),)).await?;
        Ok(row.map(|(minute,)| minute))
    }

    async fn set_swept_to(&self, shard: u8, minute: i64) -> Result<(), StoreError> {
        self.run(&self.statements.set_swept_to, (minute, i32::from(shard))).await.map(drop)
    }
}

/// Whether the condition held; the first column of every answer to a conditional statement.
fn applied(result: QueryResult) -> Result<bool, StoreError> {
    let rows = result.into_rows_result().map_err(broken)?;
    let row: Row = rows.first_row().map_err(broken)?;
    Ok(matches!(row.columns.first(), Some(Some(CqlValue::Boolean(true)))))
}

fn broken(error: impl std::fmt::Display) -> StoreError {
    StoreError::Broken(error.to_string())
}
