//! Gateway processes by number.

use std::sync::Arc;

use rustc_hash::FxHashMap;

/// One process of a gateway.
#[derive(Debug)]
struct Gateway {
    id: Arc<str>,
    incarnation: i64,
    sessions: u32,
}

/// The gateway processes that sessions named. Numbers are never used again: a row costs tens of bytes, and a process
/// adds one.
#[derive(Debug, Default)]
pub(super) struct Gateways {
    rows: Vec<Gateway>,
    by_name: FxHashMap<Arc<str>, Vec<u32>>,
}

impl Gateways {
    pub(super) fn number(&mut self, id: &str, incarnation: i64) -> u32 {
        if let Some(numbers) = self.by_name.get(id)
            && let Some(&number) =
                numbers.iter().rev().find(|&&number| self.rows[number as usize].incarnation == incarnation)
        {
            return number;
        }
        let number = self.rows.len() as u32;
        let id: Arc<str> = id.into();
        self.rows.push(Gateway { id: id.clone(), incarnation, sessions: 0 });
        self.by_name.entry(id).or_default().push(number);
        number
    }

    /// The gateway's id and incarnation.
    pub(super) fn name(&self, number: u32) -> (&str, i64) {
        let gateway = &self.rows[number as usize];
        (&gateway.id, gateway.incarnation)
    }

    pub(super) fn sessions_mut(&mut self, number: u32) -> &mut u32 {
        &mut self.rows[number as usize].sessions
    }

    pub(super) fn sessions(&self, number: u32) -> u32 {
        self.rows[number as usize].sessions
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }
}
