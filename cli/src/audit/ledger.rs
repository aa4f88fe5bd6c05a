//! The other side of the account: what phones sent, and what they were told.
//!
//! A ledger is lines of words. `phone INDEX USER DEVICE` names an installation; `WORD INDEX N TIME` says of its report
//! what became of it at that time, in ms since the epoch: `sent` before it goes to the socket, and one more when it is
//! answered. What the last line of a report says is so.

use std::collections::HashMap;
use std::io::{self, BufRead};

/// The first line of a ledger.
pub const HEADER: &str = "nearcast-ledger 1";

/// What a phone knows of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It was sent, and nothing more.
    Sent,
    /// Acknowledged as being in the log, and shown as now.
    Published,
    /// Acknowledged as left out, because the log has one close by.
    Thinned,
    /// Acknowledged as being in the log, for the history alone; an earlier sending may have been published.
    Stored,
    /// It will never be taken.
    Refused,
    /// It was not taken just then.
    Declined,
    /// The server did not know.
    Unknown,
}

impl Heard {
    const ALL: [(Self, &'static str); 7] = [
        (Self::Sent, "sent"),
        (Self::Published, "published"),
        (Self::Thinned, "thinned"),
        (Self::Stored, "stored"),
        (Self::Refused, "refused"),
        (Self::Declined, "declined"),
        (Self::Unknown, "unknown"),
    ];

    fn word(self) -> &'static str {
        Self::ALL.iter().find(|(heard, _)| *heard == self).map_or("unknown", |(_, word)| word)
    }

    fn of(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == word).map(|(heard, _)| *heard)
    }

    /// The log has to hold the report.
    pub fn is_in_log(self) -> bool {
        matches!(self, Self::Published | Self::Stored)
    }
}

/// The line of a phone.
pub fn phone_line(index: u32, user: &str, device: &str) -> String {
    format!("phone {index} {user} {device}\n")
}

/// The line of a report.
pub fn report_line(heard: Heard, phone: u32, n: i64, at_ms: i64) -> String {
    format!("{} {phone} {n} {at_ms}\n", heard.word())
}

/// One report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its number.
    pub n: i64,
    /// What is known of it.
    pub heard: Heard,
    /// When it was first sent, in ms since the epoch.
    pub sent_ms: i64,
    /// When that became known.
    pub heard_ms: i64,
}

/// One installation.
#[derive(Clone, Debug)]
pub struct Phone {
    /// Its name.
    pub device: String,
    /// Its reports by their numbers.
    pub reports: Vec<Told>,
}

/// What all ledgers together say.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    phones: Vec<Phone>,
    by_name: HashMap<(String, String), usize>,
    by_user: HashMap<String, Vec<usize>>,
    reports: u64,
}

/// Why a ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// It is none, or of another version.
    #[error("is no ledger of this version: its first line is not `{HEADER}`; `nearcast simulate --ledger` writes one")]
    Header,
    /// A line is none.
    #[error("line {0} is none of a ledger")]
    Line(usize),
    /// It has more reports than fit.
    #[error("the ledgers have more than {0} reports: audit with fewer of them, or raise --max-records")]
    TooMany(u64),
}

impl Ledger {
    /// Takes a ledger in, beside those before it. A last line without an end is one that its writer did not live to
    /// finish, and is left out.
    ///
    /// # Errors
    /// When it is none, or there are more than `most` reports in all.
    pub fn read(&mut self, mut from: impl BufRead, most: u64) -> Result<(), LedgerError> {
        let mut names: HashMap<u32, usize> = HashMap::new();
        let mut line = String::new();
        for number in 1.. {
            line.clear();
            from.read_line(&mut line)?;
            let Some(text) = line.strip_suffix('\n') else { break };
            if number == 1 || text == HEADER {
                // Ledgers put into one file are one.
                names.clear();
                if text != HEADER {
                    return Err(LedgerError::Header);
                }
                continue;
            }
            self.take(text, &mut names).ok_or(LedgerError::Line(number))?;
            if self.reports > most {
                return Err(LedgerError::TooMany(most));
            }
        }
        if line.is_empty() || !names.is_empty() { Ok(()) } else { Err(LedgerError::Header) }
    }

    fn take(&mut self, line: &str, names: &mut HashMap<u32, usize>) -> Option<()> {
        let mut words = line.split(' ');
        let (word, index) = (words.next()?, words.next()?.parse().ok()?);
        let (third, fourth) = (words.next()?, words.next()?);
        if words.next().is_some() {
            return None;
        }
        if word == "phone" {
            names.insert(index, self.phone(third, fourth));
            return Some(());
        }
        let (n, at_ms) = (third.parse().ok()?, fourth.parse().ok()?);
        let heard = Heard::of(word)?;
        let reports = &mut self.phones[*names.get(&index)?].reports;
        match reports.binary_search_by_key(&n, |told| told.n) {
            Ok(at) if heard != Heard::Sent => (reports[at].heard, reports[at].heard_ms) = (heard, at_ms),
            Ok(_) => {}
            Err(at) if heard == Heard::Sent => {
                reports.insert(at, Told { n, heard, sent_ms: at_ms, heard_ms: at_ms });
                self.reports += 1;
            }
            // Nothing is answered that was not sent.
            Err(_) => return None,
        }
        Some(())
    }

    fn phone(&mut self, user: &str, device: &str) -> usize {
        let next = self.phones.len();
        let index = *self.by_name.entry((user.to_owned(), device.to_owned())).or_insert(next);
        if index == next {
            self.phones.push(Phone { device: device.to_owned(), reports: Vec::new() });
            self.by_user.entry(user.to_owned()).or_default().push(index);
        }
        index
    }

    /// Everybody whose phones it knows.
    pub fn users(&self) -> impl Iterator<Item = &str> {
        self.by_user.keys().map(String::as_str)
    }

    /// A user's phones.
    pub fn of(&self, user: &str) -> impl Iterator<Item = &Phone> {
        self.by_user.get(user).into_iter().flatten().map(|&index| &self.phones[index])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(texts: &[&str]) -> Result<Ledger, LedgerError> {
        let mut ledger = Ledger::default();
        texts.iter().try_for_each(|text| ledger.read(text.as_bytes(), 4)).map(|()| ledger)
    }

    #[test]
    fn what_is_written_is_read() {
        let mut text = format!("{HEADER}\n{}", phone_line(3, "alice", "d-1"));
        for (at, (heard, word)) in (1..).zip(Heard::ALL) {
            let line = report_line(heard, 3, 7, at);
            assert_eq!(line, format!("{word} 3 7 {at}\n"));
            text += &line;
        }
        let ledger = read(&[&text]).unwrap();
        let phones: Vec<_> = ledger.of("alice").collect();
        assert_eq!((phones.len(), phones[0].device.as_str()), (1, "d-1"));
        let last = Told { n: 7, heard: Heard::Unknown, sent_ms: 1, heard_ms: 7 };
        assert_eq!(phones[0].reports, [last]);
        assert_eq!(ledger.users().collect::<Vec<_>>(), ["alice"]);
        assert_eq!(ledger.of("bob").count(), 0);
    }

    #[test]
    fn a_torn_end_is_left_out() {
        let text = format!("{HEADER}\nphone 0 a d\nsent 0 1 5\npublished 0 1");
        let ledger = read(&[&text]).unwrap();
        let phone = ledger.of("a").next().unwrap();
        assert_eq!(phone.reports, [Told { n: 1, heard: Heard::Sent, sent_ms: 5, heard_ms: 5 }]);
    }

    #[test]
    fn several_are_one() {
        let one = format!("{HEADER}\nphone 0 a d\nsent 0 1 5\n");
        let other = format!("{HEADER}\nphone 0 b d\nsent 0 1 6\nstored 0 1 7\n");
        for texts in [vec![one.as_str(), &other], vec![&(one.clone() + &other)]] {
            let ledger = read(&texts).unwrap();
            assert_eq!(ledger.of("a").next().unwrap().reports[0].heard, Heard::Sent);
            assert_eq!(ledger.of("b").next().unwrap().reports[0].heard, Heard::Stored);
        }
    }

    #[test]
    fn what_is_no_ledger_is_refused() {
        for (text, expect) in [
            ("user,device,1\n", "is no ledger"),
            ("user", "is no ledger"),
            ("nearcast-ledger 2\nphone 0 a d\n", "is no ledger"),
            ("nearcast-ledger 1\nsent 0 1 5\n", "line 2"),
            ("nearcast-ledger 1\nphone 0 a d\nlost 0 1 5\n", "line 3"),
            ("nearcast-ledger 1\nphone 0 a d\npublished 0 1 5\n", "line 3"),
            ("nearcast-ledger 1\nphone 0 a d\nsent 0 1 5 6\n", "line 3"),
        ] {
            let error = read(&[text]).unwrap_err().to_string();
            assert!(error.contains(expect), "{text}: {error}");
        }
        let many: String = (0..5).map(|n| report_line(Heard::Sent, 0, n, 1)).collect();
        let error = read(&[&format!("{HEADER}\nphone 0 a d\n{many}")]).unwrap_err().to_string();
        assert!(error.contains("more than 4 reports"), "{error}");
        read(&[""]).unwrap();
    }
}
