//! Phones that lose updates on purpose, to show that the audit notices.

use std::sync::atomic::{AtomicU64, Ordering};

use super::frames::Nearby;

/// One update in this many is dropped; the first after half as many.
const EVERY: u64 = 1_000;

/// Counts the updates of all phones, and drops one in a thousand.
#[derive(Default)]
pub(crate) struct Sabotage {
    seen: AtomicU64,
}

impl Sabotage {
    /// Takes what is to be dropped out of a frame before the phone sees it. Resets are left alone: they are no updates.
    /// Returns how many were dropped.
    pub(crate) fn spoil(&self, frame: &mut Nearby) -> u64 {
        if frame.reset.is_some() {
            return 0;
        }
        let before = frame.removals.len() + frame.upserts.len();
        frame.removals.retain(|_| !self.is_next());
        frame.upserts.retain(|_| !self.is_next());
        (before - frame.removals.len() - frame.upserts.len()) as u64
    }

    fn is_next(&self) -> bool {
        self.seen.fetch_add(1, Ordering::Relaxed) % EVERY == EVERY / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_one_update_in_a_thousand_and_no_reset() {
        let sabotage = Sabotage::default();
        let frame = |reset: &str| -> Nearby {
            let upsert = r#"{"id":"a","display_name":"A","lat":1,"lon":1,"at":1}"#;
            serde_json::from_str(&format!(
                r#"{{{reset}"upserts":[{upsert},{upsert},{upsert}],"removals":[{{"id":"b","reason":"silent"}}]}}"#
            ))
            .unwrap()
        };
        let dropped: u64 = (0..1_000).map(|_| sabotage.spoil(&mut frame(""))).sum();
        assert_eq!(dropped, 4);
        let dropped: u64 = (0..1_000).map(|_| sabotage.spoil(&mut frame(r#""reset":{"part":1,"parts":1},"#))).sum();
        assert_eq!(dropped, 0);
    }
}
