//! From the command line to the account.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::BufReader;
use std::ops::RangeInclusive;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use futures_util::{StreamExt, TryStreamExt};
use nearcast_history_sink::stored::{DAY_MS, Stored};
use nearcast_runtime::clock::now_ms;
use nearcast_runtime::cql;
use nearcast_runtime::kafka::Kafka;
use nearcast_schemas::codec::Codec;
use nearcast_schemas::event::LocationKind;
use nearcast_schemas::topics::{Topics, partition_of};
use rdkafka::message::{BorrowedMessage, Message};

use super::account::Account;
use super::args::AuditArgs;
use super::books::{Books, Place};
use super::finding::{Findings, Kind};
use super::judge::{Terms, judge};
use super::kafka::{self, Span};
use super::ledger::Ledger;
use crate::failure::Failure;
use crate::output::{line, moment};
use crate::settings::Settings;
use crate::topics::cluster;

/// Users whose rows are read at once, of each partition.
const USERS_AT_ONCE: usize = 8;

/// A fix is at most so far ahead of the log.
const AHEAD_MS: i64 = DAY_MS;

/// Everything that partitions have in common.
struct Auditor {
    kafka: Kafka,
    topic: String,
    codec: Codec,
    stored: Stored,
    ledger: Ledger,
    /// Of users, if any are named.
    only: HashSet<String>,
    dead: HashMap<i32, HashSet<i64>>,
    partitions: i32,
    most: usize,
    list: usize,
    days: RangeInclusive<i64>,
}

/// Audits, and prints the account.
///
/// # Errors
/// When the account could not be drawn up, or does not close.
pub async fn run(args: AuditArgs, settings: &Settings) -> Result<(), Failure> {
    let now_ms = now_ms();
    // What comes while it is read is of another range.
    let (from_ms, to_ms) = (args.from.at(now_ms), args.to.at(now_ms).min(now_ms));
    if from_ms >= to_ms {
        return Err(Failure::Configuration(anyhow!("--from must be before --to, and before now")));
    }
    let mut ledger = Ledger::default();
    for file in &args.ledger {
        let opened = File::open(file).with_context(|| format!("{} cannot be read", file.display()))?;
        let read = ledger.read(BufReader::new(opened), u64::from(args.max_records));
        read.with_context(|| format!("{}", file.display()))?;
    }
    let topics = Topics::new(&settings.deployment.prefix);
    let kafka = cluster(settings).await?;
    let mut spans = kafka::spans(&kafka, &topics.locations(), from_ms, to_ms).await?;
    let partitions = i32::try_from(spans.len()).context("there are too many partitions")?;
    let only: HashSet<String> = args.user.into_iter().collect();
    if !only.is_empty() {
        let theirs: HashSet<i32> = only.iter().map(|user| partition_of(user.as_bytes(), partitions)).collect();
        spans.retain(|(span, _)| theirs.contains(&span.partition));
    }
    let session = cql::connect(&settings.cassandra).await?;
    let stored = Stored::new(session).await.context("the history cannot be read; is it there? (`nearcast migrate`)")?;
    let committed = kafka::until_stored(&kafka, &topics, &spans, args.wait).await?;
    let most = args.max_records as usize;
    let dead = kafka::dead_letters(&kafka, &topics, from_ms, most).await?;
    let expired_ms = now_ms - i64::from(settings.history_sink.keep_days) * DAY_MS;
    let oldest_ms = (from_ms - settings.ingest.age_limits().max_late_ms).max(expired_ms) - AHEAD_MS;
    let days = oldest_ms.div_euclid(DAY_MS)..=(to_ms + AHEAD_MS).div_euclid(DAY_MS);
    let (topic, codec, list) = (topics.locations(), Codec::new(settings.schema_ids), args.list);
    let auditor = Auditor { kafka, topic, codec, stored, ledger, only, dead, partitions, most, list, days };
    let auditor = Arc::new(auditor);
    let each = spans.into_iter().map(|(Span { partition, start, end }, cut)| {
        let committed = committed.get(&partition).copied();
        let terms = Terms { partition, start, end, from_ms, to_ms, expired_ms, committed };
        Arc::clone(&auditor).partition(terms, cut)
    });
    let mut accounts = futures_util::stream::iter(each).buffer_unordered(usize::from(args.partitions_at_once));
    let mut account = Account::new(list);
    while let Some(of_one) = accounts.try_next().await? {
        account.merge(of_one);
    }
    let range = format!("{} to {}", moment(from_ms), moment(to_ms));
    if args.json {
        line(format_args!("{}", serde_json::to_string_pretty(&account.json(&range))?));
    } else {
        line(format_args!("{}", account.table(&range).trim_end()));
    }
    if account.closes() { Ok(()) } else { Err(anyhow!("the audit: {}", account.sentence()).into()) }
}

impl Auditor {
    /// Reads a partition and judges its users. `cut`: the log has lost what was before.
    async fn partition(self: Arc<Self>, mut terms: Terms, cut: bool) -> anyhow::Result<Account> {
        let reader = Arc::clone(&self);
        let reading = tokio::task::spawn_blocking(move || reader.books(terms));
        let mut books = reading.await.context("a partition was not read to the end")??;
        if cut {
            terms.from_ms = terms.from_ms.max(books.begun_at().unwrap_or(terms.to_ms));
        }
        let account = self.judged(&terms, &books).await?;
        if account.findings.of(Kind::NotStored) == 0 {
            return Ok(account);
        }
        // Whoever was erased after the range has nothing left of it.
        let (_, high) = self.kafka.watermarks(&self.topic, terms.partition).await?;
        let reader = Arc::clone(&self);
        let reading = tokio::task::spawn_blocking(move || {
            let span = Span { partition: terms.partition, start: terms.end, end: high };
            kafka::read(&reader.kafka, &reader.topic, span, |message| {
                let event = reader.codec.decode_location(message.payload().unwrap_or_default());
                if event.is_ok_and(|event| event.kind == LocationKind::Erase) {
                    books.erase(&key(message), place(message));
                }
                Ok(())
            })
            .map(|()| books)
        });
        let books = reading.await.context("erasures were not read to the end")??;
        self.judged(&terms, &books).await
    }

    /// Reads a partition.
    fn books(&self, terms: Terms) -> anyhow::Result<Books> {
        let Terms { partition, start, end, .. } = terms;
        let findings = Findings::new(self.list);
        let mut books = Books::new(partition, self.partitions, start, self.most, findings);
        let dead = self.dead.get(&partition);
        kafka::read(&self.kafka, &self.topic, Span { partition, start, end }, |message| {
            let (user, at) = (key(message), place(message));
            if !self.only.is_empty() && !self.only.contains(&user) {
                return Ok(());
            }
            match self.codec.decode_location(message.payload().unwrap_or_default()) {
                Ok(event) => books.take(at, &user, &event)?,
                Err(_) => books.undecodable(at, &user, dead.is_some_and(|dead| dead.contains(&at.offset))),
            }
            Ok(())
        })?;
        books.close();
        Ok(books)
    }

    /// Judges everybody of a partition: who has a record in it, and whom a ledger or the command line names.
    async fn judged(&self, terms: &Terms, books: &Books) -> anyhow::Result<Account> {
        let is_here = |user: &&str| {
            (self.only.is_empty() || self.only.contains(*user))
                && partition_of(user.as_bytes(), self.partitions) == terms.partition
        };
        let named = self.ledger.users().chain(self.only.iter().map(String::as_str)).filter(is_here);
        let users: BTreeSet<&str> = books.users().iter().map(String::as_str).chain(named).collect();
        let none = HashSet::new();
        let dead = self.dead.get(&terms.partition).unwrap_or(&none);
        let mut account = Account::new(self.list);
        account.findings = books.findings.clone();
        account.log.without_position = books.without_position();
        let rows = users.into_iter().map(|user| async move {
            let rows = self.stored.rows(user, self.days.clone()).await?;
            anyhow::Ok((user, rows))
        });
        let mut rows = futures_util::stream::iter(rows).buffer_unordered(USERS_AT_ONCE);
        while let Some((user, rows)) = rows.try_next().await? {
            judge(terms, books, user, self.ledger.of(user), &rows, dead, &mut account);
        }
        Ok(account)
    }
}

fn key(message: &BorrowedMessage<'_>) -> String {
    String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned()
}

fn place(message: &BorrowedMessage<'_>) -> Place {
    Place { offset: message.offset(), appended_at: message.timestamp().to_millis().unwrap_or_default() }
}
