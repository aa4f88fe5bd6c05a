//! A history in memory, for the embedded mode: gone with the process.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use crate::history::{History, HistoryError, HistoryKey, HistoryRow};

/// Rows kept per user; the oldest go first.
const ROWS_PER_USER: usize = 10_000;

/// A history that forgets when the process ends.
#[derive(Default)]
pub struct MemoryHistory {
    users: Mutex<HashMap<String, BTreeMap<HistoryKey, HistoryRow>>>,
}

impl MemoryHistory {
    fn users(&self) -> std::sync::MutexGuard<'_, HashMap<String, BTreeMap<HistoryKey, HistoryRow>>> {
        // Every change is one insert or remove, so a panic elsewhere leaves nothing half done.
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl History for MemoryHistory {
    async fn store(&self, rows: &[HistoryRow]) -> Result<(), HistoryError> {
        let mut users = self.users();
        for row in rows {
            let history = users.entry(row.user.clone()).or_default();
            // A report that was shown as now and came once more, late, stays what it was.
            if !row.late || history.get(&row.key()).is_none_or(|known| known.late) {
                history.insert(row.key(), row.clone());
            }
            if history.len() > ROWS_PER_USER {
                history.pop_first();
            }
        }
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
        let Some(history) = users.get(user) else { return Ok(Vec::new()) };
        Ok(history
            .values()
            .filter(|row| (from_ms..to_ms).contains(&row.fixed_at) && after.is_none_or(|key| row.key() > *key))
            .take(limit)
            .cloned()
            .collect())
    }
}
