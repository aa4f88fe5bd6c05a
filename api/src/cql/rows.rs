//! Columns to types and back.

use nearcast_schemas::event::{Mode, Sharing};

use super::broken;
use crate::links::ShareLink;
use crate::pair::{Bond, Pair, PairIds, Share, Side};
use crate::store::{Direction, Friend, Head, Profile, Published, RuleChange, StoreError, User};

#[derive(scylla::DeserializeRow)]
pub(super) struct UserRow {
    pub(super) user_id: String,
    pub(super) display_name: String,
    pub(super) picture_url: Option<String>,
    pub(super) radius_m: Option<i32>,
    pub(super) sharing: String,
    pub(super) sharing_until: i64,
    pub(super) discoverable: bool,
    pub(super) mode_version: i64,
    pub(super) created_at: i64,
}

impl UserRow {
    pub(super) fn user(self) -> Result<User, StoreError> {
        Ok(User {
            profile: Profile {
                display_name: self.display_name,
                picture_url: self.picture_url,
                radius_m: self.radius_m.map(from_int),
            },
            mode: Mode {
                sharing: sharing_of(&self.sharing)?,
                until: self.sharing_until,
                discoverable: self.discoverable,
                version: self.mode_version,
            },
            created_at: self.created_at,
            id: self.user_id,
        })
    }
}

#[derive(scylla::DeserializeRow)]
pub(super) struct PairRow {
    pub(super) bond: String,
    pub(super) since: i64,
    pub(super) low_precision: String,
    pub(super) low_until: i64,
    pub(super) low_within_m: i32,
    pub(super) high_precision: String,
    pub(super) high_until: i64,
    pub(super) high_within_m: i32,
    pub(super) version: i64,
}

impl PairRow {
    pub(super) fn pair(self, ids: &PairIds) -> Result<Pair, StoreError> {
        Ok(Pair {
            ids: ids.clone(),
            bond: bond_of(&self.bond)?,
            since: self.since,
            low_shares: share(&self.low_precision, self.low_until, self.low_within_m)?,
            high_shares: share(&self.high_precision, self.high_until, self.high_within_m)?,
            version: self.version,
        })
    }
}

#[derive(scylla::DeserializeRow)]
pub(super) struct HeadRow {
    #[allow(dead_code, reason = "a partition's key comes with DISTINCT")]
    pub(super) viewer: String,
    pub(super) version: Option<i64>,
    pub(super) radius_m: Option<i32>,
    pub(super) friends: Option<i32>,
    pub(super) published_version: Option<i64>,
    pub(super) published_at: Option<i64>,
    pub(super) change: Option<String>,
}

impl HeadRow {
    pub(super) fn head(self) -> Result<Head, StoreError> {
        Ok(Head {
            version: self.version.unwrap_or(0),
            radius_m: self.radius_m.map(from_int),
            friends: self.friends.map_or(0, from_int),
            published: published(self.published_version, self.published_at),
            change: self.change.as_deref().map(change_of).transpose()?,
        })
    }
}

#[derive(scylla::DeserializeRow)]
pub(super) struct FriendRow {
    pub(super) friend: String,
    pub(super) display_name: String,
    pub(super) since: i64,
    pub(super) their_precision: String,
    pub(super) their_until: i64,
    pub(super) their_within_m: i32,
    pub(super) my_precision: String,
    pub(super) my_until: i64,
    pub(super) my_within_m: i32,
}

impl FriendRow {
    pub(super) fn friend(self) -> Result<Friend, StoreError> {
        Ok(Friend {
            id: self.friend,
            display_name: self.display_name,
            theirs: share(&self.their_precision, self.their_until, self.their_within_m)?,
            mine: share(&self.my_precision, self.my_until, self.my_within_m)?,
            since: self.since,
        })
    }
}

#[derive(scylla::DeserializeRow)]
pub(super) struct ListRow {
    pub(super) version: Option<i64>,
    pub(super) radius_m: Option<i32>,
    pub(super) published_version: Option<i64>,
    pub(super) published_at: Option<i64>,
    pub(super) friend: Option<String>,
    pub(super) display_name: Option<String>,
    pub(super) since: Option<i64>,
    pub(super) their_precision: Option<String>,
    pub(super) their_until: Option<i64>,
    pub(super) their_within_m: Option<i32>,
    pub(super) my_precision: Option<String>,
    pub(super) my_until: Option<i64>,
    pub(super) my_within_m: Option<i32>,
}

impl ListRow {
    pub(super) fn friend(self) -> Option<Result<Friend, StoreError>> {
        let row = FriendRow {
            friend: self.friend?,
            display_name: self.display_name?,
            since: self.since?,
            their_precision: self.their_precision?,
            their_until: self.their_until?,
            their_within_m: self.their_within_m?,
            my_precision: self.my_precision?,
            my_until: self.my_until?,
            my_within_m: self.my_within_m?,
        };
        Some(row.friend())
    }
}

#[derive(scylla::DeserializeRow)]
pub(super) struct LinkRow {
    pub(super) viewer: String,
    pub(super) owner: String,
    pub(super) secret_hash: Vec<u8>,
    pub(super) precision: String,
    pub(super) created_at: i64,
    pub(super) until: i64,
}

impl LinkRow {
    pub(super) fn link(self) -> Result<ShareLink, StoreError> {
        let Self { viewer, owner, secret_hash, precision, created_at, until } = self;
        Ok(ShareLink { viewer, owner, secret_hash, precision: sharing_of(&precision)?, created_at, until })
    }
}

pub(super) const INCOMING: &str = "incoming";
pub(super) const OUTGOING: &str = "outgoing";

pub(super) fn direction_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Incoming => INCOMING,
        Direction::Outgoing => OUTGOING,
    }
}

pub(super) fn bond_name(bond: Bond) -> &'static str {
    match bond {
        Bond::Strangers => "strangers",
        Bond::Asked(Side::Low) => "low_asked",
        Bond::Asked(Side::High) => "high_asked",
        Bond::Friends => "friends",
    }
}

pub(super) fn bond_of(name: &str) -> Result<Bond, StoreError> {
    match name {
        "strangers" => Ok(Bond::Strangers),
        "low_asked" => Ok(Bond::Asked(Side::Low)),
        "high_asked" => Ok(Bond::Asked(Side::High)),
        "friends" => Ok(Bond::Friends),
        other => Err(StoreError::Broken(format!("a pair is {other:?}, which this version does not know"))),
    }
}

pub(super) fn sharing_name(sharing: Sharing) -> &'static str {
    match sharing {
        Sharing::Exact => "exact",
        Sharing::Coarse => "coarse",
        Sharing::Hidden => "hidden",
    }
}

pub(super) fn sharing_of(name: &str) -> Result<Sharing, StoreError> {
    match name {
        "exact" => Ok(Sharing::Exact),
        "coarse" => Ok(Sharing::Coarse),
        "hidden" => Ok(Sharing::Hidden),
        other => Err(StoreError::Broken(format!("somebody shares {other:?}, which this version does not know"))),
    }
}

pub(super) fn share(precision: &str, until: i64, within_m: i32) -> Result<Share, StoreError> {
    Ok(Share { precision: sharing_of(precision)?, until, within_m: from_int(within_m) })
}

pub(super) fn published(version: Option<i64>, at: Option<i64>) -> Option<Published> {
    Some(Published { version: version?, at: at? })
}

pub(super) fn change_text(change: &RuleChange) -> Result<String, StoreError> {
    serde_json::to_string(change).map_err(broken)
}

pub(super) fn change_of(text: &str) -> Result<RuleChange, StoreError> {
    serde_json::from_str(text).map_err(broken)
}

/// A column that was never written is null, which a version of 0 stands for.
pub(super) fn unless_0(version: i64) -> Option<i64> {
    (version != 0).then_some(version)
}

/// CQL's `int`. Metres and numbers of friends are far below its end.
pub(super) fn to_int(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

pub(super) fn from_int(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

pub(super) fn limit_of(limit: usize) -> i32 {
    i32::try_from(limit).unwrap_or(i32::MAX)
}
