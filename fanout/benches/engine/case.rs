//! The cases, and the run of one.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::baseline::{Cells, Mutual, Naive, Start, measure};
use crate::check;
use crate::measure::{Length, Rounds};
use crate::subject::{Measured, SetUp, Subject};
use crate::world::{SEED, Size, World};

/// A world that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    name: &'static str,
    size: Size,
}

/// Everybody whom a list names is online.
const fn all_online(users: u32) -> Case {
    Case { name: "all_online", size: Size { users, listed: 40, online: 40 } }
}

/// Lists name ten times as many as are online.
const fn tenth_online(users: u32) -> Case {
    Case { name: "tenth_online", size: Size { users, listed: 400, online: 40 } }
}

/// What is measured.
pub const LONG: &[Case] = &[
    all_online(100_000),
    all_online(1_000_000),
    all_online(10_000_000),
    tenth_online(100_000),
    tenth_online(1_000_000),
];

/// What is checked in seconds.
pub const SHORT: &[Case] = &[all_online(10_000), tenth_online(2_000)];

/// Time of one round, of which there are six.
const ROUND: Duration = Duration::from_secs(2);
/// Reports in one round of a short run.
const SHORT_ROUND: u64 = 4_096;

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.size.users)
    }
}

impl Case {
    /// The case that [`fmt::Display`] writes so.
    pub fn named(name: &str) -> Option<Self> {
        LONG.iter().chain(SHORT).find(|case| case.to_string() == name).copied()
    }

    /// Whether it is meant by a name, a number of users, or both.
    pub fn is_called(&self, name: &str) -> bool {
        name == self.name || name == self.size.users.to_string() || name == self.to_string()
    }

    /// Measures the case in this process; its rows. The engine goes first, so that its memory is the process's first.
    pub fn run(self, short: bool) -> Value {
        // If memory runs out, it is this process that has to end, and no server of somebody else.
        let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
        let length = if short { Length::Records(SHORT_ROUND) } else { Length::Time(ROUND) };
        let world = World::new(self.size);
        let (mut subject, set_up) = Subject::new(&world);
        eprintln!("{self}: set up in {:.0} s", set_up.wall.as_secs_f64());
        let measured = subject.measure(length);
        let say = |who, rounds: &Rounds| {
            eprintln!("{self}: {who} decides {:.1} million pairs/s", rounds.pairs_per_second() / 1e6);
        };
        say("the engine", &measured.join);
        let in_range = check::share_in_range(&world, &subject.walk);
        let known = subject.engine.known();
        let truth = short.then(|| check::engine(&world, &subject));
        drop(subject);

        let start = Start::new(&world);
        let (naive, transitions) = measure(&world, &mut Naive::new(&start), length, |walk, views| {
            if let Some(truth) = &truth {
                truth.check_baseline(walk, views);
            }
        });
        let same = |views: &_| {
            if let Some(truth) = &truth {
                truth.check_same(views);
            }
        };
        let (mutual, _) = measure(&world, &mut Mutual(Naive::new(&start)), length, |_, views| same(views));
        let (cells, _) = measure(&world, &mut Cells::new(&start), length, |_, views| same(views));
        if short {
            check::same_work(&measured.join, &[&naive, &mutual, &cells]);
        }

        let mut row = self.row(&set_up, &measured);
        // By the processor's time: the contenders run one after the other, and others may have wanted it meanwhile.
        let rate = measured.join.pairs_per_cpu_second();
        for (name, rounds) in [("naive", &naive), ("naive_mutual", &mutual), ("h3", &cells)] {
            say(name, rounds);
            row[format!("{name}_pairs_per_second")] = json!(rounds.pairs_per_second().round());
            row[format!("times_{name}")] = json!(rate / rounds.pairs_per_cpu_second());
        }
        row["users_known"] = json!(known);
        row["share_in_range"] = json!(in_range);
        row["naive_transitions_per_record"] = json!(transitions);
        json!([row, self.decode_row(&measured)])
    }

    fn row(self, set_up: &SetUp, measured: &Measured) -> Value {
        let Size { users, listed, online } = self.size;
        let Measured { join, before, after, memory, .. } = measured;
        let records = (after.records - before.records) as f64;
        let per_record =
            |count: fn(&nearcast_fanout::engine::Stats) -> u64| (count(after) - count(before)) as f64 / records;
        let removals = per_record(|stats| stats.removals_out_of_range + stats.removals_silent);
        let (slowest, fastest) = join.spread();
        let of_users = set_up.users.resident - set_up.empty.resident;
        let of_lists = memory.resident.saturating_sub(set_up.users.resident);
        json!({
            "case": self.name,
            "users": users,
            "friends_online": online,
            "friends_listed": listed,
            "seed": SEED,
            "pairs_per_second": join.pairs_per_second().round(),
            "pairs_per_cpu_second": join.pairs_per_cpu_second().round(),
            "pairs_per_second_slowest": slowest.round(),
            "pairs_per_second_fastest": fastest.round(),
            "ns_per_pair": 1e9 / join.pairs_per_second(),
            "records_per_second": join.median(|work| work.records_per_second()).round(),
            "ns_per_record": 1e9 / join.median(|work| work.records_per_second()),
            "pairs_per_record": per_record(|stats| stats.pair_checks),
            "upserts_per_record": per_record(|stats| stats.upserts),
            "removals_per_record": removals,
            "bytes_per_user": of_users as f64 / f64::from(users),
            "bytes_per_friendship": of_lists as f64 / set_up.friendships as f64,
            "bytes_in_all": of_users + of_lists,
            "bytes_in_huge_pages": memory.huge.saturating_sub(set_up.empty.huge),
            "bytes_of_harness": set_up.empty.resident,
            "on_cpu": join.total().on_cpu(),
            "set_up_seconds": set_up.wall.as_secs_f64(),
            "list_entries_per_second": (set_up.friendships as f64 / set_up.listing.as_secs_f64()).round(),
            "harness_ns_per_record": 1e9 / measured.prepare.records_per_second(),
        })
    }

    fn decode_row(self, measured: &Measured) -> Value {
        let Size { users, listed, online } = self.size;
        let rate = measured.decode.records_per_second();
        json!({
            "case": "decode",
            "users": users,
            "friends_online": online,
            "friends_listed": listed,
            "records_per_second": rate.round(),
            "ns_per_record": 1e9 / rate,
            "on_cpu": measured.decode.on_cpu(),
        })
    }
}
