//! The engine's thread.
//!
//! One thread polls both consumers in turn, applies what it reads, and hands what was decided to the producer. So every
//! decision has one place in one order without a lock or a channel: a record of the locations, a list, a claim, a change
//! of the group and a lost delivery are each taken between two others. The group's callbacks run within this thread's
//! polls, and a full producer queue stops the reading by itself. Two threads with a channel in between would read while
//! the engine works; decoding costs less than a fifth of what the engine does with a record, so little is lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nearcast_runtime::clock;
use nearcast_runtime::health::Component;
use nearcast_runtime::kafka::Reader;
use nearcast_runtime::lifecycle::Shutdown;
use nearcast_schemas::list::VisibilityList;
use nearcast_schemas::topics::{CLAIM_KEY, Topics};
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, Message, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use tokio::sync::watch;

use crate::claims::Order;
use crate::deliveries::{Deliveries, Worker};
use crate::engine::Batch;
use crate::intake::{Intake, Record, Unusable};
use crate::kafka::{Ack, Change, Log, Member, Sent};
use crate::pace::Pace;
use crate::progress::Ends;
use crate::snapshot::saver::{Reading, Saver};
use crate::telemetry::{self, Export, Lines, Position};
use crate::vitals::Vitals;
use crate::worker::Error;

/// Records read from one consumer before the other has its turn.
const TURN: usize = 1_000;
/// Slots looked at in one tick for sessions that are due a reset.
const SLOTS_PER_TICK: usize = 65_536;
/// Between two exports of metrics.
const EXPORT_EVERY: Duration = Duration::from_secs(1);
/// Between two words about a replay.
const SAY_EVERY: Duration = Duration::from_secs(5);
/// One record of the locations in this many is timed.
const TIMED: i64 = 64;

/// Everything that the thread owns.
pub(crate) struct EngineThread {
    pub(crate) intake: Intake,
    pub(crate) reader: Reader,
    pub(crate) member: Member,
    pub(crate) log: Log,
    pub(crate) deliveries: Deliveries,
    pub(crate) worker: Worker,
    pub(crate) topics: Topics,
    pub(crate) pace: Pace,
    /// Where snapshots are written.
    pub(crate) saver: Option<Saver>,
    pub(crate) resets_per_tick: usize,
    pub(crate) vitals: Arc<Vitals>,
    pub(crate) ends: watch::Receiver<Option<Ends>>,
    pub(crate) replay: Component,
    pub(crate) began: Instant,
    pub(crate) stop: Shutdown,
    pub(crate) lines: Lines,
    pub(crate) say_progress: Duration,
    /// The last batch as it was written, for the room that it takes.
    pub(crate) bytes: Vec<u8>,
}

impl EngineThread {
    /// Runs until the shutdown begins.
    pub(crate) fn run(mut self) -> Result<(), Error> {
        let (mut joined, mut more) = (false, false);
        let mut next_tick = self.began.elapsed();
        let mut next_export = next_tick;
        let mut export = Export::default();
        while !self.stop.is_begun() {
            self.vitals.came_round();
            let now = self.began.elapsed();
            // While lists are there to be read, nothing waits for a location.
            self.read_locations(if more { Duration::ZERO } else { next_tick.saturating_sub(now) })?;
            if joined {
                more = self.read_visibility()?;
                self.claim();
            } else if self.caught_up(self.began.elapsed()) {
                self.member.subscribe(&[&self.topics.visibility()])?;
                telemetry::replayed(self.intake.engine.stats().records);
                self.intake.engine.replayed();
                self.replay.ready();
                joined = true;
            }
            self.acknowledgements();
            let now = self.began.elapsed();
            if now >= next_tick {
                let lasts = self.pace.after(self.tick(now));
                next_tick = now + lasts;
                if joined {
                    self.save(now);
                }
                telemetry::tick(lasts);
            }
            if now >= next_export {
                next_export = now + EXPORT_EVERY;
                let position = self.position(now);
                export.emit(&self.intake.engine, position);
            }
        }
        self.leave(joined)
    }

    /// Reads what is there of the locations, and waits for the first record if nothing is. The engine takes them together.
    fn read_locations(&mut self, mut wait: Duration) -> Result<(), Error> {
        let mut messages = Vec::new();
        let mut failed = None;
        while messages.len() < TURN {
            match self.reader.poll(wait) {
                None => break,
                Some(Ok(message)) => messages.push(message),
                Some(Err(error)) => {
                    failed = Some(error);
                    break;
                }
            }
            wait = Duration::ZERO;
        }
        let records: Vec<_> = messages.iter().map(record_of).collect();
        for record in records.iter().filter(|record| record.offset % TIMED == 0) {
            let age_ms = (clock::now_ms() - record.append_ms).max(0);
            metrics::histogram!("nearcast_fanout_record_age_seconds").record(age_ms as f64 / 1_000.0);
        }
        let elapsed = self.began.elapsed();
        for (at, unusable) in self.intake.locations(&records, elapsed) {
            let (message, record) = (&messages[at], records[at]);
            let (partition, offset) = (record.partition, record.offset);
            self.lines.undecodable(message.topic(), partition, offset, &unusable.to_string(), elapsed);
            if self.intake.speaks_for(record.key) {
                dead_letter(&mut self.log, &self.topics.dead_letters(), message, unusable);
            }
        }
        for (partition, next) in self.intake.next.iter().enumerate() {
            self.vitals.set_next(partition, *next);
        }
        match failed {
            Some(error) => consumer_error(error, &mut self.lines, self.began.elapsed()),
            None => Ok(()),
        }
    }

    /// Reads what is there of the visibility topic, and does what the group says. Whether the turn ended before that did.
    fn read_visibility(&mut self) -> Result<bool, Error> {
        for _ in 0..TURN {
            let message = self.member.poll(Duration::ZERO);
            // The poll may have run the group's callbacks before it found a record.
            while let Some(change) = self.member.context().change() {
                match change {
                    Change::Given(partitions) => {
                        tracing::info!(?partitions, "partitions given");
                        self.intake.given(&partitions);
                    }
                    Change::Taken(partitions) => {
                        tracing::info!(?partitions, "partitions taken");
                        self.intake.taken(&partitions);
                    }
                }
            }
            let message = match message {
                None => return Ok(false),
                Some(Ok(message)) => message,
                Some(Err(error)) => {
                    consumer_error(error, &mut self.lines, self.began.elapsed())?;
                    return Ok(false);
                }
            };
            let (record, elapsed) = (record_of(&message), self.began.elapsed());
            if let Err(unusable) = self.intake.visibility(record, elapsed) {
                self.lines.undecodable(
                    message.topic(),
                    record.partition,
                    record.offset,
                    &unusable.to_string(),
                    elapsed,
                );
                dead_letter(&mut self.log, &self.topics.dead_letters(), &message, unusable);
            }
        }
        Ok(true)
    }

    /// Appends the claims that are due.
    fn claim(&mut self) {
        for order in self.intake.claims.due(self.began.elapsed()) {
            let Order::Claim { partition, number } = order else { continue };
            let claim = VisibilityList::claim(&self.worker.name, self.worker.incarnation, clock::now_ms());
            let mut bytes = Vec::new();
            self.intake.codec.encode_list(&claim, &mut bytes);
            let topic = self.topics.visibility();
            let sent = Box::new(Sent::Claim { partition, number });
            let record =
                BaseRecord::with_opaque_to(&topic, sent).partition(partition).key(CLAIM_KEY).payload(&bytes[..]);
            self.log.write(record);
        }
    }

    fn caught_up(&mut self, now: Duration) -> bool {
        let ends = self.ends.borrow();
        let Some(ends) = &*ends else { return false };
        if ends.reached(&self.intake.next, now) {
            return true;
        }
        if now >= self.say_progress {
            self.say_progress = now + SAY_EVERY;
            let behind = ends.behind(&self.intake.next);
            self.replay.not_ready(format!("replaying the locations: {behind} records to go"));
        }
        false
    }

    /// Learns what became of what was written.
    fn acknowledgements(&mut self) {
        let now = self.began.elapsed();
        while let Some(Ack { sent, result }) = self.log.acknowledged() {
            match (sent, result) {
                (Sent::Batch { at, .. }, Ok(_)) => {
                    metrics::histogram!("nearcast_fanout_delivery_ack_seconds").record(at.elapsed().as_secs_f64());
                }
                (Sent::Batch { gateway, .. }, Err(code)) => self.delivery_failed(gateway, code, now),
                (Sent::Claim { partition, number }, result) => {
                    self.intake.claimed(partition, number, result.ok());
                }
                (Sent::DeadLetter, Ok(_)) => metrics::counter!("nearcast_fanout_dead_letters_total").increment(1),
                (Sent::DeadLetter, Err(code)) => self.lines.dead_letter_failed(&code, now),
            }
        }
        for gateway in self.deliveries.repairs(now) {
            self.intake.engine.lost(gateway, &mut self.intake.out);
        }
    }

    fn delivery_failed(&mut self, gateway: u32, code: RDKafkaErrorCode, now: Duration) {
        let unknown = [
            RDKafkaErrorCode::UnknownTopic,
            RDKafkaErrorCode::UnknownTopicOrPartition,
            RDKafkaErrorCode::UnknownPartition,
            RDKafkaErrorCode::InvalidTopic,
        ];
        if unknown.contains(&code) {
            let dropped = self.intake.engine.gone(gateway);
            self.lines.gateway_gone(self.intake.engine.gateway(gateway).0, dropped, now);
        } else {
            self.deliveries.failed(gateway);
            self.lines.delivery_failed(self.intake.engine.gateway(gateway).0, &code, now);
        }
    }

    /// Copies what is due of the state for the next snapshot.
    fn save(&mut self, now: Duration) {
        let Intake { engine, next, last, .. } = &self.intake;
        if let Some(saver) = &mut self.saver {
            let began = Instant::now();
            saver.tick(engine, Reading { next, last }, now);
            metrics::histogram!("nearcast_fanout_snapshot_copy_seconds").record(began.elapsed().as_secs_f64());
        }
    }

    /// Does what is due by time, and sends what was decided; returns how many batches that were.
    fn tick(&mut self, now: Duration) -> usize {
        let Intake { engine, out, clock, .. } = &mut self.intake;
        if let Some(now_ms) = clock.now_ms(now) {
            engine.sweep(now_ms, out);
        }
        engine.resets(self.resets_per_tick, SLOTS_PER_TICK, out);
        let news = out.take();
        let mut written = news.len();
        for batch in news {
            self.deliver(batch);
        }
        let heartbeats = self.deliveries.heartbeats(self.intake.engine.gateways(), now);
        written += heartbeats.len();
        for batch in heartbeats {
            self.deliver(batch);
        }
        written
    }

    fn deliver(&mut self, batch: Batch) {
        let gateway = batch.gateway;
        let (id, incarnation) = self.intake.engine.gateway(gateway);
        let topic = self.topics.gateway(id);
        let delivery = self.deliveries.stamp(batch, incarnation, self.began.elapsed(), clock::now_ms());
        self.bytes.clear();
        self.intake.codec.encode_gathered(&delivery, &mut self.bytes);
        telemetry::batch_written(id, self.bytes.len(), delivery.items.len(), delivery.seq);
        let sent = Box::new(Sent::Batch { gateway, at: Instant::now() });
        self.log.write(BaseRecord::with_opaque_to(&topic, sent).partition(0).payload(&self.bytes[..]));
    }

    fn position(&mut self, now: Duration) -> Position {
        let (given, owned) = self.intake.claims.count();
        let Intake { lag, next, .. } = &mut self.intake;
        let ends = self.ends.borrow();
        Position {
            lag_seconds: lag.take(ends.as_ref(), next, now).as_secs_f64(),
            lag_records: ends.as_ref().map_or(0, |ends| ends.behind(next)),
            given,
            owned,
        }
    }

    /// Gives the partitions back, so that nobody waits for a session's end, and lets out what is on its way.
    fn leave(mut self, joined: bool) -> Result<(), Error> {
        self.tick(self.began.elapsed());
        if joined {
            self.member.unsubscribe();
            let begun = Instant::now();
            while self.intake.claims.count().0 > 0 && begun.elapsed() < Duration::from_secs(5) {
                // Records of partitions that are on their way out count for nothing.
                let _ = self.member.poll(Duration::from_millis(50));
                while let Some(change) = self.member.context().change() {
                    if let Change::Taken(partitions) = change {
                        self.intake.taken(&partitions);
                    }
                }
            }
        }
        self.reader.unassign()?;
        Ok(self.log.flush()?)
    }
}

fn record_of<'a>(message: &'a BorrowedMessage<'a>) -> Record<'a> {
    Record {
        partition: message.partition(),
        offset: message.offset(),
        // Every record of a topic with append times has one.
        append_ms: message.timestamp().to_millis().unwrap_or_else(clock::now_ms),
        key: message.key(),
        payload: message.payload(),
    }
}

fn dead_letter(log: &mut Log, topic: &str, message: &BorrowedMessage<'_>, unusable: Unusable) {
    let headers = [
        ("error", unusable.to_string()),
        ("topic", message.topic().to_owned()),
        ("partition", message.partition().to_string()),
        ("offset", message.offset().to_string()),
    ];
    let headers = headers
        .iter()
        .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(value) }));
    let mut record = BaseRecord::with_opaque_to(topic, Box::new(Sent::DeadLetter)).headers(headers);
    record.key = message.key();
    record.payload = message.payload();
    log.write(record);
}

/// Only a fatal error ends the worker: librdkafka recovers from all others by itself.
fn consumer_error(error: ClientError, lines: &mut Lines, now: Duration) -> Result<(), Error> {
    if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
        return Err(Error::Client(error));
    }
    lines.consumer_error(&error, now);
    Ok(())
}
