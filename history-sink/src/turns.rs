//! Whose batch is written next: partitions take turns, a batch each.
//!
//! A partition with an hour of backlog and one that is a second behind get the same share of the database while both have
//! something to write: what is new in the one waits for a batch of the other, not for its hour.

use std::collections::{HashMap, VecDeque};

/// What waits to be written, by partition.
#[derive(Debug)]
pub struct Turns<T> {
    waiting: HashMap<i32, VecDeque<T>>,
    /// Partitions that have something waiting, the next one first.
    order: VecDeque<i32>,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self { waiting: HashMap::new(), order: VecDeque::new() }
    }
}

impl<T> Turns<T> {
    /// Puts something behind all else of its partition.
    pub fn add(&mut self, partition: i32, item: T) {
        let items = self.waiting.entry(partition).or_default();
        if items.is_empty() {
            self.order.push_back(partition);
        }
        items.push_back(item);
    }

    /// The oldest of the partition whose turn it is.
    pub fn next(&mut self) -> Option<T> {
        let partition = self.order.pop_front()?;
        let items = self.waiting.get_mut(&partition)?;
        let item = items.pop_front();
        if items.is_empty() {
            self.waiting.remove(&partition);
        } else {
            self.order.push_back(partition);
        }
        item
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_waits_for_the_others_after_each_batch() {
        let mut turns = Turns::default();
        for batch in 0..4 {
            turns.add(7, (7, batch));
        }
        assert_eq!(turns.next(), Some((7, 0)));
        turns.add(1, (1, 0));
        turns.add(2, (2, 0));
        turns.add(1, (1, 1));
        let rest: Vec<_> = std::iter::from_fn(|| turns.next()).collect();
        assert_eq!(rest, [(7, 1), (1, 0), (2, 0), (7, 2), (1, 1), (7, 3)]);
        assert!(turns.is_empty());
    }
}
