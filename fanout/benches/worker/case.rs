//! The cases.

use std::fmt;

use serde_json::Value;

use crate::world::{Land, Size};
use crate::{burst, heavy, start};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    /// How fast a backlog is read, joined and delivered.
    Burst(Land),
    /// How late others are told with and without a user of many friends; so many reports a second.
    Heavy(u32),
    /// How soon a start is ready; so many reports a user are in the log.
    Start(u32),
}

/// A world, and what is measured in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Case {
    name: &'static str,
    what: What,
    size: Size,
}

/// The file that a case's rows go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    Worker,
    Start,
}

/// Nobody near: what is read, decoded, applied and compared, and hardly anything told.
const FAR: Land = Land { cities: 5, spread_m: 300_000.0 };
/// A fifth of all pairs live in one city, and half of those within 8 km.
const CITIES: Land = Land { cities: 5, spread_m: 4_800.0 };
/// Everybody is near everybody.
pub const TOWN: Land = Land { cities: 1, spread_m: 1_000.0 };

const fn all_online(users: u32) -> Size {
    Size { users, listed: 40, online: 40 }
}

const fn burst(name: &'static str, land: Land, users: u32) -> Case {
    Case { name, what: What::Burst(land), size: all_online(users) }
}

const fn heavy(users: u32, reports_per_second: u32) -> Case {
    Case { name: "heavy", what: What::Heavy(reports_per_second), size: all_online(users) }
}

const fn start(users: u32, reports: u32) -> Case {
    Case { name: "start", what: What::Start(reports), size: all_online(users) }
}

/// What is measured. A log holds the last ten minutes, in which everybody reported twenty times.
pub const LONG: &[Case] = &[
    burst("near_0", FAR, 100_000),
    burst("near_4", CITIES, 100_000),
    burst("near_40", TOWN, 100_000),
    heavy(5_000, 500),
    start(10_000, 20),
    start(100_000, 20),
    start(1_000_000, 20),
];

/// What is checked in seconds.
pub const SHORT: &[Case] =
    &[burst("near_4", CITIES, 2_000), burst("near_40", TOWN, 2_000), heavy(400, 200), start(1_000, 3)];

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.size.users)
    }
}

impl Case {
    /// Whether it is meant by a name, a number of users, or both.
    pub fn is_called(&self, name: &str) -> bool {
        name == self.name || name == self.size.users.to_string() || name == self.to_string()
    }

    pub fn file(&self) -> File {
        if matches!(self.what, What::Start(_)) { File::Start } else { File::Worker }
    }

    /// Measures it; its rows.
    pub fn run(&self, short: bool) -> Vec<Value> {
        match self.what {
            What::Burst(land) => vec![burst::run(self.name, land, self.size, short)],
            What::Heavy(rate) => heavy::run(self.size, rate, short),
            What::Start(reports) => start::run(self.size, reports, short),
        }
    }
}
