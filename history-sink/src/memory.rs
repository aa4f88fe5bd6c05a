//! A history in memory, for the embedded mode: gone with the process.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use crate::history::{Failed, History, HistoryError, HistoryKey, HistoryRow};

/// Rows kept per user; the oldest go first.
const ROWS_PER_USER: usize = 10_000;

/// A history that forgets when the process ends.
#[derive(Default)]
pub struct MemoryHistory {
    users: Mutex<HashMap<String, User>>,
}

struct User {
    rows: BTreeMap<HistoryKey, HistoryRow>,
    /// What was appended until then is erased, in ms since the epoch.
    erased_until: i64,
}

impl Default for User {
    fn default() -> Self {
        Self { rows: BTreeMap::new(), erased_until: i64::MIN }
    }
}

impl MemoryHistory {
    fn users(&self) -> std::sync::MutexGuard<'_, HashMap<String, User>> {
        // Every change is one insert or remove, so a panic elsewhere leaves nothing half done.
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl History for MemoryHistory {
    async fn write(&self, rows: &[HistoryRow]) -> Vec<Failed> {
        let mut users = self.users();
        for row in rows {
            let user = users.entry(row.user.clone()).or_default();
            // A report that was shown as now and came once more, late, stays what it was.
            let newer = !row.late || user.rows.get(&row.key()).is_none_or(|known| known.late);
            if newer && row.appended_at > user.erased_until {
                user.rows.insert(row.key(), row.clone());
            }
            if user.rows.len() > ROWS_PER_USER {
                user.rows.pop_first();
            }
        }
        Vec::new()
    }

    async fn erase(&self, user: &str, at: i64) -> Result<(), HistoryError> {
        let mut users = self.users();
        let user = users.entry(user.to_owned()).or_default();
        user.erased_until = user.erased_until.max(at);
        user.rows.retain(|_, row| row.appended_at > at);
        Ok(())
    }

    async fn range(
        &self,
        user: &str,
        from_ms: i64,
        to_ms: i64,
        limit: usize,
        after: Option<&HistoryKey>,
    ) -> Result<Vec<HistoryRow>, HistoryError> {
        let users = self.users();
        let Some(user) = users.get(user) else { return Ok(Vec::new()) };
        Ok(user
            .rows
            .values()
            .filter(|row| (from_ms..to_ms).contains(&row.fixed_at) && after.is_none_or(|key| row.key() > *key))
            .take(limit)
            .cloned()
            .collect())
    }
}
