//! The user database's tables in Cassandra or ScyllaDB.
//!
//! Everything about one user is in partitions of that user; only the canonical row of a pair is in a partition of the
//! pair. A column that is ever written by a compare-and-set is always written by one, but for what is said below.

/// Schema changes, in order: version, name, statement. `nearcast migrate` applies them.
pub const MIGRATIONS: &[(u32, &str, &str)] = &[
    (
        1,
        "users",
        "CREATE TABLE IF NOT EXISTS users (
            user_id text PRIMARY KEY,
            display_name text, picture_url text, radius_m int,
            sharing text, sharing_until bigint, discoverable boolean, mode_version bigint,
            created_at bigint
        )",
    ),
    (
        2,
        "pairs",
        // A partition a pair: whoever has many friends does not make them wait for each other.
        "CREATE TABLE IF NOT EXISTS pairs (
            low text, high text,
            bond text, since bigint,
            low_precision text, low_until bigint, low_within_m int,
            high_precision text, high_until bigint, high_within_m int,
            version bigint,
            PRIMARY KEY ((low, high))
        )",
    ),
    (
        3,
        "requests",
        // Written with the pair's version as the timestamp, so that the order of writes does not matter.
        "CREATE TABLE IF NOT EXISTS requests (
            user_id text, direction text, other text,
            since bigint,
            PRIMARY KEY ((user_id), direction, other)
        )",
    ),
    (
        4,
        "lists",
        // A version and its rows change together, because they are in one partition. `published_version` and
        // `published_at` are written without a condition, and no condition reads them.
        "CREATE TABLE IF NOT EXISTS lists (
            viewer text, friend text,
            version bigint static, radius_m int static, friends int static, change text static,
            published_version bigint static, published_at bigint static,
            display_name text, since bigint,
            their_precision text, their_until bigint, their_within_m int,
            my_precision text, my_until bigint, my_within_m int,
            PRIMARY KEY ((viewer), friend)
        )",
    ),
    (
        5,
        "rule_changes",
        // Two days: longer than the location log is kept.
        "CREATE TABLE IF NOT EXISTS rule_changes (
            viewer text, version bigint,
            change text,
            PRIMARY KEY ((viewer), version)
        ) WITH default_time_to_live = 172800 AND gc_grace_seconds = 86400
          AND compaction = {'class': 'TimeWindowCompactionStrategy', 'compaction_window_unit': 'HOURS', 'compaction_window_size': 6}",
    ),
    (
        6,
        "due",
        // A partition a minute: what was struck off is not read again by those that look for what is left.
        "CREATE TABLE IF NOT EXISTS due (
            shard int, minute bigint, id text,
            at bigint, work text, subject text, other text,
            PRIMARY KEY ((shard, minute), id)
        ) WITH gc_grace_seconds = 86400",
    ),
    (
        7,
        "swept",
        "CREATE TABLE IF NOT EXISTS swept (
            shard int PRIMARY KEY,
            minute bigint
        )",
    ),
    (
        8,
        "links",
        // Rows go by themselves a while after a link's end.
        "CREATE TABLE IF NOT EXISTS links (
            viewer text PRIMARY KEY,
            owner text, secret_hash blob, precision text, created_at bigint, until bigint
        ) WITH gc_grace_seconds = 86400",
    ),
    (
        9,
        "links_of",
        // What the owner gets to see, and what an erasure of the owner finds the links by.
        "CREATE TABLE IF NOT EXISTS links_of (
            owner text, viewer text,
            secret_hash blob, precision text, created_at bigint, until bigint,
            PRIMARY KEY ((owner), viewer)
        ) WITH gc_grace_seconds = 86400",
    ),
];
