//! How long users felt something: from what the phones wrote down of each moment, and of each report.

use std::collections::HashMap;

use serde::Deserialize;

/// A report that waits longer for its answer is felt.
const PROMPT_MS: i64 = 2_000;
/// What is felt again within this time is the same spell.
const GAP_MS: i64 = 1_000;

/// A line of `nearcast simulate --timeline`.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Moment {
    at_ms: i64,
    connected: usize,
    away: usize,
    wrong: usize,
}

/// A time through which something was felt without a pause, in ms since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spell {
    pub from_ms: i64,
    pub to_ms: i64,
}

/// What was felt, until the last moment.
#[derive(Clone, Debug, Default)]
pub struct Felt {
    moments: Vec<Moment>,
    /// From the sending to the answer, of all that took long.
    waits: Vec<Spell>,
    answered: usize,
}

/// How long a fault was felt, seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recovery {
    /// From the fault until nothing that began before the healing was felt any more. None: it was not felt.
    pub fault_s: Option<f64>,
    /// From the healing until nothing that began after it was felt any more.
    pub healing_s: Option<f64>,
}

impl Felt {
    /// Reads both files. A last line that is not whole is left out.
    pub fn of(timeline: &str, ledger: &str) -> Self {
        let whole = |text: &str| text.rfind('\n').map_or(0, |end| end + 1);
        let lines = timeline[..whole(timeline)].lines();
        let moments: Vec<Moment> = lines.map(|line| serde_json::from_str(line).expect("a moment")).collect();
        let last_ms = moments.last().map_or(0, |moment| moment.at_ms);
        let mut open: HashMap<(&str, &str), i64> = HashMap::new();
        let (mut waits, mut answered) = (Vec::new(), 0);
        for line in ledger[..whole(ledger)].lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [word, phone, n, at] = words[..] else { continue };
            let Ok(at_ms) = at.parse() else { continue };
            match word {
                "sent" => {
                    open.insert((phone, n), at_ms);
                }
                "published" | "thinned" | "stored" | "refused" => {
                    answered += 1;
                    if let Some(from_ms) = open.remove(&(phone, n)) {
                        waits.push(Spell { from_ms, to_ms: at_ms });
                    }
                }
                _ => {}
            }
        }
        waits.extend(open.into_values().map(|from_ms| Spell { from_ms, to_ms: last_ms }));
        waits.retain(|wait| wait.to_ms - wait.from_ms > PROMPT_MS);
        Self { moments, waits, answered }
    }

    /// All phones have a session, and reports were answered.
    pub fn is_complete(&self, phones: usize) -> bool {
        self.answered > 0 && self.moments.iter().any(|moment| moment.connected == phones)
    }

    /// For how long nothing has been felt, ms.
    pub fn quiet_ms(&self) -> i64 {
        let Some(last) = self.moments.last() else { return 0 };
        let felt_ms = self.spells().last().map_or(self.moments[0].at_ms, |spell| spell.to_ms);
        last.at_ms - felt_ms
    }

    /// Entries of lists that were wrong at the last moment.
    pub fn wrong_at_last(&self) -> usize {
        self.moments.last().map_or(0, |moment| moment.wrong)
    }

    /// The most phones that were away at one moment.
    pub fn away_at_most(&self) -> usize {
        self.moments.iter().map(|moment| moment.away).max().unwrap_or(0)
    }

    /// The longest wait of a report for its answer that ended after a moment, seconds.
    pub fn longest_wait_s(&self, after_ms: i64) -> f64 {
        let waits = self.waits.iter().filter(|wait| wait.to_ms > after_ms).map(|wait| wait.to_ms - wait.from_ms);
        waits.max().unwrap_or(0) as f64 / 1_000.0
    }

    pub fn recovery(&self, fault_ms: i64, healed_ms: i64) -> Recovery {
        let ended = |spell: &Spell, since_ms: i64| (spell.to_ms - since_ms) as f64 / 1_000.0;
        let spells: Vec<Spell> = self.spells().into_iter().filter(|spell| spell.to_ms > fault_ms).collect();
        let of_fault = spells.iter().rfind(|spell| spell.from_ms < healed_ms);
        let of_healing = spells.iter().rfind(|spell| spell.from_ms >= healed_ms);
        Recovery {
            fault_s: of_fault.map(|spell| ended(spell, fault_ms)),
            healing_s: of_healing.map(|spell| ended(spell, healed_ms)),
        }
    }

    /// Everything that was felt, one after the other.
    fn spells(&self) -> Vec<Spell> {
        let moments = self.moments.iter().filter(|moment| moment.away + moment.wrong > 0);
        let moments = moments.map(|moment| Spell { from_ms: moment.at_ms, to_ms: moment.at_ms });
        let mut all: Vec<Spell> = moments.chain(self.waits.iter().copied()).collect();
        all.sort_by_key(|spell| spell.from_ms);
        let mut spells: Vec<Spell> = Vec::new();
        for spell in all {
            match spells.last_mut() {
                Some(last) if spell.from_ms - last.to_ms <= GAP_MS => last.to_ms = last.to_ms.max(spell.to_ms),
                _ => spells.push(spell),
            }
        }
        spells
    }
}
