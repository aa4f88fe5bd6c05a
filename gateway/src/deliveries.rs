//! From a record of the gateway's topic to the feeds of the sessions that it is for.

use std::collections::BTreeMap;
use std::sync::Arc;

use nearcast_schemas::codec::GatewayRecord;
use nearcast_schemas::delivery::{DeliveryBatch, Item, Removal, Strangers, Upsert};
use nearcast_schemas::notice::{Notice, NoticeKind};
use nearcast_schemas::refusal::Refusal;

use crate::epochs::{Admitted, Dropped, Epochs};
use crate::feed::{Address, Feed};
use crate::frames::{Entry, Sighting};
use crate::routes::Routes;

/// How a session's feed is reached.
pub trait Reach: Clone {
    /// Looks at the feed and changes it.
    fn feed<R>(&self, change: impl FnOnce(&mut Feed) -> R) -> R;
    /// Wakes the connection's task.
    fn wake(&self);
}

/// When a record is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// When the broker appended it, in ms since the epoch.
    pub appended_at: i64,
    /// Now, in ms of the clock that the feeds use.
    pub now: i64,
}

/// What became of a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Updates that went into a feed.
    pub queued: u64,
    /// Those of them that replaced one which the client never saw.
    pub conflated: u64,
    /// What was not passed on, by cause.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Batches of the worker were missing; so many sessions ask for a reset.
    pub gap: Option<usize>,
    /// What a notice asked for.
    pub notice: Option<NoticeKind>,
}

impl Tally {
    fn count(&mut self, outcome: Result<bool, Dropped>) {
        match outcome {
            Ok(conflated) => {
                self.queued += 1;
                self.conflated += u64::from(conflated);
            }
            Err(cause) => self.dropped(cause),
        }
    }

    fn dropped(&mut self, cause: Dropped) {
        *self.dropped.entry(cause.name()).or_default() += 1;
    }
}

/// Passes one record on.
pub fn deliver<T: Reach>(epochs: &mut Epochs, routes: &Routes<T>, record: GatewayRecord, taken: Taken) -> Tally {
    match record {
        GatewayRecord::Batch(batch) => deliver_batch(epochs, routes, batch, taken),
        GatewayRecord::Notice(notice) => obey(routes, &notice),
    }
}

fn deliver_batch<T: Reach>(epochs: &mut Epochs, routes: &Routes<T>, batch: DeliveryBatch, taken: Taken) -> Tally {
    let mut tally = Tally::default();
    let admitted = match epochs.admit(&batch, taken.now) {
        Ok(admitted) => admitted,
        Err(cause) => {
            tally.dropped(cause);
            return tally;
        }
    };
    let DeliveryBatch { worker, items, .. } = batch;
    // Batches are grouped by friend. A task that was woken by the first of its friends would write a frame for that one.
    let mut reach = Reaching { admitted: &admitted, routes, to_wake: Vec::new() };
    for item in items {
        deliver_item(&mut reach, item, taken, &mut tally);
    }
    reach.to_wake.iter().for_each(T::wake);
    if admitted.gap {
        tally.gap = Some(ask_again(epochs, routes, &worker, taken.now));
    }
    tally
}

fn deliver_item<T: Reach>(reach: &mut Reaching<'_, T>, item: Item, taken: Taken, tally: &mut Tally) {
    let Taken { appended_at, now } = taken;
    match item {
        Item::Upsert(Upsert { friend, display_name, position, viewers }) => {
            let sighting = Arc::new(Sighting { friend: friend.into(), display_name, position });
            for viewer in viewers {
                let outcome = reach.change(viewer.handle, Feed::wake_for_changes, |feed, to| {
                    let entry = Entry { sighting: sighting.clone(), distance_dm: viewer.distance_dm, appended_at };
                    feed.upsert(to, entry)
                });
                tally.count(outcome);
            }
        }
        Item::Removal(Removal { friend, reason, viewers }) => {
            let friend: Arc<str> = friend.into();
            for handle in viewers {
                let outcome = reach
                    .change(handle, Feed::wake_for_changes, |feed, to| feed.removal(to, &friend, reason, appended_at));
                tally.count(outcome);
            }
        }
        Item::Reset(reset) => {
            let outcome =
                reach.change(reset.handle, Feed::wake_now, |feed, to| feed.reset(to.epoch, reset, appended_at, now));
            tally.count(outcome.map(|()| false));
        }
        Item::Applied(applied) => {
            let outcome = reach.change(applied.handle, |_| false, |feed, to| feed.applied(to, applied.list_version));
            tally.count(outcome.map(|()| false));
        }
        Item::Digest(digest) => {
            let outcome = reach.change(digest.handle, Feed::wake_for_changes, |feed, to| feed.digest(to.epoch, digest));
            tally.count(outcome.map(|()| false));
        }
        Item::Strangers(Strangers { viewer, entries }) => {
            let outcome = reach.change(viewer, Feed::wake_for_changes, |feed, to| feed.strangers(to, entries));
            tally.count(outcome);
        }
        Item::Superseded(superseded) => {
            let outcome = reach.change(superseded.handle, Feed::wake_now, |feed, to| feed.superseded(to.handle));
            tally.count(outcome.map(|()| false));
        }
    }
}

/// The sessions that one batch speaks to.
struct Reaching<'a, T> {
    admitted: &'a Admitted,
    routes: &'a Routes<T>,
    to_wake: Vec<T>,
}

impl<T: Reach> Reaching<'_, T> {
    /// Changes the feed of a session if the batch may speak for its viewer. Whatever came of it, the task is to be woken
    /// if the feed says so: a part of a reset that cannot be used leads to a question.
    fn change<R>(
        &mut self,
        handle: i32,
        wake: impl FnOnce(&mut Feed) -> bool,
        change: impl FnOnce(&mut Feed, Address) -> Result<R, Dropped>,
    ) -> Result<R, Dropped> {
        let session = self.routes.get(handle).ok_or(Dropped::UnknownHandle)?;
        let (outcome, wake) = session.feed(|feed| {
            let outcome = feed
                .partition_of(handle)
                .ok_or(Dropped::UnknownHandle)
                .and_then(|partition| self.admitted.epoch(partition))
                .and_then(|epoch| change(feed, Address { handle, epoch }));
            let news = !matches!(outcome, Err(Dropped::BeforeReset | Dropped::Muted | Dropped::Forgotten));
            (outcome, news && wake(feed))
        });
        if wake {
            self.to_wake.push(session.clone());
        }
        outcome
    }
}

/// Every session that a gap may concern asks for a reset.
fn ask_again<T: Reach>(epochs: &Epochs, routes: &Routes<T>, worker: &str, now: i64) -> usize {
    let mut asked = 0;
    for (handle, session) in routes.all() {
        let wake = session.feed(|feed| {
            let concerned = feed.partition_of(handle).is_some_and(|partition| epochs.may_concern(worker, partition));
            if concerned {
                asked += 1;
                feed.want_reset(now);
            }
            concerned && feed.wake_now()
        });
        if wake {
            session.wake();
        }
    }
    asked
}

/// Does at once what a notice asks for.
fn obey<T: Reach>(routes: &Routes<T>, notice: &Notice) -> Tally {
    let friend: Arc<str> = notice.friend.as_str().into();
    for (_, session) in routes.sessions_of(&notice.user) {
        let wake = session.feed(|feed| {
            match notice.kind {
                NoticeKind::Unknown => return false,
                NoticeKind::Forget => feed.forget(&friend, notice.list_version),
                NoticeKind::Mode => {
                    if let Some(mode) = notice.mode {
                        feed.set_mode(mode);
                    }
                }
                NoticeKind::Close if !notice.ends(feed.issued_at()) => return false,
                NoticeKind::Close => {
                    let told = Refusal::from_code(&notice.reason).filter(|told| told.row().close.is_some());
                    feed.end(told.unwrap_or(Refusal::SignedOut), None);
                }
            }
            feed.wake_now()
        });
        if wake {
            session.wake();
        }
    }
    Tally { notice: Some(notice.kind), ..Tally::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::{self, Ending};
    use crate::frames::{Limits, RoleName, ServerMessage, Welcome};
    use crate::outbox::Next;
    use nearcast_schemas::delivery::{
        Applied, FriendPosition, PartitionEpoch, RemovalReason, Reset, ResetEntry, Superseded, UpsertViewer,
    };
    use nearcast_schemas::event::{Mode, Role, Sharing};
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;

    #[derive(Clone)]
    struct Line(Rc<(RefCell<Feed>, Cell<u32>, Cell<usize>)>);

    impl Reach for Line {
        fn feed<R>(&self, change: impl FnOnce(&mut Feed) -> R) -> R {
            change(&mut self.0.0.borrow_mut())
        }

        fn wake(&self) {
            self.0.1.set(self.0.1.get() + 1);
            self.0.2.set(self.0.0.borrow().changes_len());
        }
    }

    impl Line {
        /// Everything that waits; then the task rests.
        fn read(&self) -> Vec<String> {
            let mut words = Vec::new();
            while let Next::Message(message) = self.feed(|feed| feed.next(i64::MAX)) {
                let ServerMessage::Nearby(nearby) = message else { continue };
                let mut word: String = nearby.upserts.iter().map(|e| format!("+{}", e.friend())).collect();
                word.extend(nearby.removals.iter().map(|gone| format!("-{}", gone.friend)));
                words.push(if nearby.reset.is_some() { format!("[{word}]") } else { word });
            }
            self.feed(|feed| {
                feed.attend();
                feed.rest(crate::feed::Rest::Idle)
            });
            words
        }

        fn wakes(&self) -> u32 {
            self.0.1.replace(0)
        }
    }

    #[test]
    fn a_task_is_woken_when_all_of_a_batch_is_there() {
        let mut stage = Stage::new();
        let (handle, line) = stage.live_session("alice", 0);
        stage.batch(10, vec![upsert("bob", &[handle]), upsert("carol", &[handle]), upsert("dave", &[handle])]);
        assert_eq!((line.wakes(), line.0.2.get()), (1, 3));
    }

    /// A gateway of incarnation 7 and a worker `w` that owns partitions 0 and 1 by epoch 10.
    struct Stage {
        epochs: Epochs,
        routes: Routes<Line>,
        seq: i64,
    }

    impl Stage {
        fn new() -> Self {
            Self { epochs: Epochs::new(7), routes: Routes::default(), seq: 0 }
        }

        fn session(&mut self, user: &str, partition: i32) -> (i32, Line) {
            let line = Line(Rc::new((
                RefCell::new(Feed::new(feed::Rules { window_ms: 0, reset_wait_ms: 10_000, waiting_bytes: 1 << 20 })),
                Cell::new(0),
                Cell::new(0),
            )));
            let handle = self.routes.register(user, Role::Watching, line.clone()).unwrap();
            self.routes.seat(handle);
            let welcome = Welcome {
                protocol: 1,
                server_time: 0,
                user: user.into(),
                session: String::new(),
                role: RoleName::Watching,
                report_interval_s: 1,
                min_move_m: 1.0,
                max_silence_s: 1,
                friend_ttl_s: 1,
                radius_m: 1,
                ping_every_s: 1,
                limits: Limits { message_bytes: 1, fixes: 1, messages_per_s: 1 },
                accepted: None,
            };
            line.feed(|feed| {
                feed.join(handle, partition);
                feed.answered(3, Mode::default());
                feed.welcome(welcome, Vec::new(), true, 0);
            });
            line.read();
            (handle, line)
        }

        fn live_session(&mut self, user: &str, partition: i32) -> (i32, Line) {
            let (handle, line) = self.session(user, partition);
            self.batch(10, vec![reset(handle, &[])]);
            line.read();
            line.wakes();
            (handle, line)
        }

        fn batch(&mut self, epoch: i64, items: Vec<Item>) -> Tally {
            self.seq += 1;
            self.batch_of("w", self.seq, epoch, items)
        }

        fn batch_of(&mut self, worker: &str, seq: i64, epoch: i64, items: Vec<Item>) -> Tally {
            let batch = DeliveryBatch {
                worker: worker.into(),
                worker_incarnation: 1,
                seq,
                sent_at: 0,
                gateway_incarnation: 7,
                epochs: vec![PartitionEpoch { partition: 0, epoch }, PartitionEpoch { partition: 1, epoch }],
                items,
            };
            self.take(GatewayRecord::Batch(batch))
        }

        fn take(&mut self, record: GatewayRecord) -> Tally {
            deliver(&mut self.epochs, &self.routes, record, Taken { appended_at: 5, now: 1_000 })
        }
    }

    fn position() -> FriendPosition {
        FriendPosition {
            lat: 0.0,
            lon: 0.0,
            at: 0,
            coarse: false,
            accuracy_m: None,
            speed_mps: None,
            heading_deg: None,
        }
    }

    fn upsert(friend: &str, handles: &[i32]) -> Item {
        let viewers = handles.iter().map(|&handle| UpsertViewer { handle, distance_dm: 1 }).collect();
        Item::Upsert(Upsert { friend: friend.into(), display_name: String::new(), position: position(), viewers })
    }

    fn removal(friend: &str, handles: &[i32]) -> Item {
        Item::Removal(Removal { friend: friend.into(), reason: RemovalReason::Silent, viewers: handles.to_vec() })
    }

    fn reset(handle: i32, friends: &[&str]) -> Item {
        let entries = friends
            .iter()
            .map(|friend| ResetEntry {
                friend: (*friend).into(),
                display_name: String::new(),
                position: position(),
                distance_dm: 0,
            })
            .collect();
        Item::Reset(Reset { handle, list_version: 3, part: 1, parts: 1, entries })
    }

    fn dropped(tally: &Tally, cause: Dropped) -> u64 {
        tally.dropped.get(cause.name()).copied().unwrap_or_default()
    }

    #[test]
    fn one_position_reaches_all_its_viewers() {
        let mut stage = Stage::new();
        let (alice, alices) = stage.live_session("alice", 0);
        let (bob, bobs) = stage.live_session("bob", 1);
        let tally = stage.batch(10, vec![upsert("eve", &[alice, bob, 99])]);
        assert_eq!((tally.queued, dropped(&tally, Dropped::UnknownHandle)), (2, 1));
        assert_eq!((alices.read(), bobs.read()), (vec!["+eve".to_owned()], vec!["+eve".to_owned()]));
        assert_eq!((alices.wakes(), bobs.wakes()), (1, 1));
        stage.batch(10, vec![removal("eve", &[bob]), upsert("eve", &[alice])]);
        assert_eq!((alices.read(), bobs.read()), (vec!["+eve".to_owned()], vec!["-eve".to_owned()]));
    }

    #[test]
    fn other_incarnations_and_older_epochs_are_dropped() {
        let mut stage = Stage::new();
        let (alice, line) = stage.live_session("alice", 0);
        stage.batch_of("w2", 1, 20, vec![reset(alice, &["new"])]);
        let tally = stage.batch(10, vec![upsert("old", &[alice])]);
        assert_eq!(dropped(&tally, Dropped::OldEpoch), 1);
        assert_eq!(line.read(), ["[+new]"]);
        let foreign = DeliveryBatch {
            worker: "w".into(),
            worker_incarnation: 1,
            seq: 1,
            sent_at: 0,
            gateway_incarnation: 6,
            epochs: vec![PartitionEpoch { partition: 0, epoch: 30 }],
            items: vec![upsert("old", &[alice])],
        };
        let tally = stage.take(GatewayRecord::Batch(foreign));
        assert_eq!(dropped(&tally, Dropped::OtherIncarnation), 1);
        let tally = stage.batch_of("w2", 2, 20, vec![upsert("new", &[alice])]);
        assert_eq!((tally.queued, tally.gap), (1, None));
        let (watcher, _) = stage.session("alice", 5);
        let tally = stage.batch_of("w2", 3, 20, vec![upsert("new", &[watcher])]);
        assert_eq!(dropped(&tally, Dropped::NoEpoch), 1);
    }

    #[test]
    fn a_gap_makes_sessions_ask_for_a_reset() {
        let mut stage = Stage::new();
        let (_, alices) = stage.live_session("alice", 0);
        let (_, bobs) = stage.live_session("bob", 1);
        let batch = DeliveryBatch {
            worker: "w2".into(),
            worker_incarnation: 1,
            seq: 1,
            sent_at: 0,
            gateway_incarnation: 7,
            epochs: vec![PartitionEpoch { partition: 1, epoch: 20 }],
            items: Vec::new(),
        };
        stage.take(GatewayRecord::Batch(batch));
        stage.seq += 1;
        let tally = stage.batch(10, Vec::new());
        assert_eq!(tally.gap, Some(1), "bob's partition is another worker's by now");
        assert!(alices.feed(|feed| feed.take_ask(1_000)));
        assert!(!bobs.feed(|feed| feed.take_ask(1_000)));
        assert_eq!((alices.wakes(), bobs.wakes()), (1, 0));
        assert_eq!(stage.batch(10, Vec::new()).gap, None);
    }

    #[test]
    fn a_forget_notice_is_obeyed_until_applied() {
        let mut stage = Stage::new();
        let (alice, line) = stage.live_session("alice", 0);
        stage.batch(10, vec![upsert("eve", &[alice])]);
        let tally = stage.take(GatewayRecord::Notice(Notice::forget("alice", "eve", 4)));
        assert_eq!(tally.notice, Some(NoticeKind::Forget));
        assert_eq!(line.read(), ["-eve"]);
        let tally = stage.batch(10, vec![upsert("eve", &[alice])]);
        assert_eq!(dropped(&tally, Dropped::Forgotten), 1);
        let applied = Item::Applied(Applied { handle: alice, list_version: 4 });
        stage.batch(10, vec![applied, upsert("eve", &[alice])]);
        assert_eq!(line.read(), ["+eve"]);
    }

    #[test]
    fn modes_and_farewells_reach_all_sessions_of_the_user() {
        let mut stage = Stage::new();
        let (_, first) = stage.live_session("alice", 0);
        let (_, second) = stage.live_session("alice", 0);
        let (_, other) = stage.live_session("bob", 0);
        let mode = Mode { sharing: Sharing::Hidden, until: 0, discoverable: false, version: 2 };
        stage.take(GatewayRecord::Notice(Notice::mode("alice", mode)));
        assert_eq!(first.feed(Feed::take_mode), Some(mode));
        assert_eq!(second.feed(Feed::take_mode), Some(mode));
        assert_eq!(other.feed(Feed::take_mode), None);
        stage.take(GatewayRecord::Notice(Notice::close("alice", "no such code")));
        let told = Some(Ending { refusal: Refusal::SignedOut, reconnect_in_ms: None });
        assert_eq!((first.feed(|f| f.ending()), second.feed(|f| f.ending())), (told, told));
        assert_eq!(other.feed(|feed| feed.ending()), None);
        assert_eq!((first.wakes(), other.wakes()), (1, 0));
    }

    #[test]
    fn a_sign_out_leaves_sessions_by_newer_tokens() {
        let mut stage = Stage::new();
        let (_, older) = stage.live_session("alice", 0);
        let (_, newer) = stage.live_session("alice", 0);
        older.feed(|feed| feed.set_issued_at(Some(10)));
        newer.feed(|feed| feed.set_issued_at(Some(11)));
        stage.take(GatewayRecord::Notice(Notice::signed_out("alice", 10_500)));
        assert_eq!(older.feed(|feed| feed.ending()).map(|ending| ending.refusal), Some(Refusal::SignedOut));
        assert_eq!(newer.feed(|feed| feed.ending()), None);
    }

    #[test]
    fn strangers_wait_for_the_reset_and_wake_the_task() {
        let mut stage = Stage::new();
        let (alice, line) = stage.session("alice", 0);
        let strangers = || Item::Strangers(Strangers { viewer: alice, entries: Vec::new() });
        assert_eq!(dropped(&stage.batch(10, vec![strangers()]), Dropped::BeforeReset), 1);
        assert_eq!(line.wakes(), 0);
        stage.batch(10, vec![reset(alice, &[])]);
        line.read();
        line.wakes();
        let tally = stage.batch(10, vec![strangers(), strangers()]);
        assert_eq!((tally.queued, tally.conflated, line.wakes()), (2, 1, 1));
        assert!(matches!(line.feed(|feed| feed.next(0)), Next::Message(ServerMessage::Strangers(_))));
        stage.batch_of("w2", 1, 20, vec![reset(alice, &[])]);
        assert_eq!(dropped(&stage.batch(10, vec![strangers()]), Dropped::OldEpoch), 1);
    }

    #[test]
    fn a_worker_supersedes_before_any_reset() {
        let mut stage = Stage::new();
        let (alice, line) = stage.session("alice", 0);
        stage.batch(10, vec![Item::Superseded(Superseded { handle: alice })]);
        assert_eq!(line.feed(|feed| feed.ending()).map(|ending| ending.refusal), Some(Refusal::Superseded));
        assert_eq!(line.wakes(), 1);
    }
}
