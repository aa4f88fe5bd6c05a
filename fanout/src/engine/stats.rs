//! Counts since the start.

/// What the engine did. Each grows only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Location records taken.
    pub records: u64,
    /// Of those, without effect here: late fixes for the history.
    pub records_for_history: u64,
    /// Of those, of a kind that this build does not know.
    pub records_unknown: u64,
    /// Of those, by a session that a newer one superseded, or of one among too many watching ones.
    pub records_superseded: u64,
    /// Of those, with a position that is none, or under a name that is none.
    pub records_invalid: u64,
    /// Of those, older than the time to live.
    pub records_stale: u64,
    /// Of those, that the restored copy knew already.
    pub records_saved: u64,
    /// Of those, whose positions were joined.
    pub joined: u64,
    /// Lists and deletions of lists taken.
    pub lists: u64,
    /// Of those, with a lower version than the known one.
    pub lists_stale: u64,
    /// Of those, not in their viewer's partition.
    pub lists_misplaced: u64,
    /// Of those, with a negative radius or under a name that is none.
    pub lists_invalid: u64,
    /// Lists forgotten because their viewers went offline long ago.
    pub lists_evicted: u64,
    /// Entries left out of their lists, with a negative radius or a name that is none.
    pub entries_invalid: u64,
    /// Pairs decided.
    pub pair_checks: u64,
    /// Positions told, one a session.
    pub upserts: u64,
    /// Removals told, one a session: friends out of range.
    pub removals_out_of_range: u64,
    /// Removals told, one a session: silent friends, and all friends of a silent viewer.
    pub removals_silent: u64,
    /// Removals told, one a session: friends who do not share any more.
    pub removals_not_shared: u64,
    /// Resets told because sessions began.
    pub resets_hello: u64,
    /// Resets told because sessions asked.
    pub resets_asked: u64,
    /// Resets told because a partition was claimed.
    pub resets_ownership: u64,
    /// Resets told because a batch may be lost.
    pub resets_delivery: u64,
    /// Lists told to be in force, one a session.
    pub applied: u64,
    /// Digests told, one a session.
    pub digests: u64,
    /// Lists of strangers told, one a session.
    pub strangers: u64,
    /// Sessions superseded.
    pub superseded: u64,
}
