//! What every store must do. The same checks run on memory and on Cassandra.

use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt, join_all};
use nearcast_api::MemoryStore;
use nearcast_api::links::ShareLink;
use nearcast_api::pair::{Bond, Pair, PairIds, Share, Side, Step};
use nearcast_api::store::{
    Direction, Friend, Head, List, ListChange, Profile, Published, Read, RuleChange, SHARDS, Store, User, Work,
    minute_of,
};
use nearcast_runtime::clock::now_ms;
use nearcast_schemas::event::{Mode, Sharing};
use nearcast_schemas::list::{Precision, VisibilityEntry};

type Check = (&'static str, fn(Arc<dyn Store>) -> BoxFuture<'static, ()>);

/// Each begins with users of its own and shares the store with the others.
pub const CONTRACT: &[Check] = &[
    ("users are registered once", |store| users_are_registered_once(store).boxed()),
    ("profiles and modes are compared and set", |store| profiles_and_modes(store).boxed()),
    ("pairs are compared and set", |store| pairs(store).boxed()),
    ("one of two changes of a pair wins", |store| one_change_of_a_pair_wins(store).boxed()),
    ("requests follow the newest pair", |store| requests_follow_the_newest_pair(store).boxed()),
    ("requests come by page", |store| requests_by_page(store).boxed()),
    ("lists grow by compare and set", |store| lists(store).boxed()),
    ("one of many changes of a list wins", |store| one_change_of_a_list_wins(store).boxed()),
    ("lists come by page and whole", |store| lists_by_page(store).boxed()),
    ("what is published is remembered", |store| published(store).boxed()),
    ("every change of a list is kept", |store| rule_changes(store).boxed()),
    ("share links are kept and forgotten", |store| links(store).boxed()),
    ("work is scheduled and struck off", |store| work(store).boxed()),
    ("sweeps are remembered", |store| sweeps(store).boxed()),
];

#[tokio::test]
async fn memory_keeps_the_contract() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    for (name, check) in CONTRACT {
        eprintln!("{name}");
        check(Arc::clone(&store)).await;
    }
}

/// A user id that no other test has.
pub fn someone() -> String {
    format!("u{:016x}", rand::random::<u64>())
}

fn user(id: &str) -> User {
    let profile = Profile { display_name: "Ünal \"x\" 🙂".into(), picture_url: None, radius_m: None };
    User { id: id.to_owned(), profile, mode: Mode::default(), created_at: 5 }
}

fn strangers() -> Pair {
    Pair::strangers(PairIds::new(&someone(), &someone()).unwrap())
}

fn friend(id: &str) -> Friend {
    Friend {
        id: id.to_owned(),
        display_name: "Bob".into(),
        theirs: Share { precision: Sharing::Coarse, until: 9, within_m: 500 },
        mine: Share::default(),
        since: 3,
    }
}

/// The change of `head` that writes a friend's row, or removes it.
fn change(head: &Head, id: &str, row: Option<Friend>) -> ListChange {
    let at = now_ms();
    let friends = if row.is_some() { head.friends + 1 } else { head.friends - 1 };
    let after = row.as_ref().map(|_| VisibilityEntry {
        friend: id.to_owned(),
        display_name: "Bob".into(),
        precision: Precision::Coarse,
        radius_m: 500,
        expires_at: 9,
    });
    let change = RuleChange {
        version: (head.version + 1).max(at),
        at,
        friend: Some(id.to_owned()),
        before: None,
        after,
        radius_before_m: head.radius_m,
        radius_after_m: head.radius_m,
    };
    ListChange { row: Some((id.to_owned(), row)), friends, change }
}

/// Adds a friend to a viewer's list and returns the head.
async fn add(store: &Arc<dyn Store>, viewer: &str, id: &str) -> Head {
    let head = store.head(viewer, Read::Settled).await.unwrap();
    assert!(store.set_list(viewer, &head, &change(&head, id, Some(friend(id)))).await.unwrap());
    store.head(viewer, Read::Settled).await.unwrap()
}

async fn users_are_registered_once(store: Arc<dyn Store>) {
    let id = someone();
    assert_eq!(store.user(&id).await.unwrap(), None);
    assert_eq!(store.create_user(user(&id)).await.unwrap(), user(&id));
    let other = User { created_at: 6, ..user(&id) };
    assert_eq!(store.create_user(other).await.unwrap(), user(&id), "the first stays");
    assert_eq!(store.user(&id).await.unwrap(), Some(user(&id)));
}

async fn profiles_and_modes(store: Arc<dyn Store>) {
    let id = someone();
    let first = user(&id).profile;
    let second = Profile {
        display_name: "Ada".into(),
        picture_url: Some("https://example.com/a.png".into()),
        radius_m: Some(500),
    };
    assert!(!store.set_profile(&id, &first, &second).await.unwrap(), "nobody is registered by it");
    let mode = Mode { sharing: Sharing::Hidden, until: 77, discoverable: true, version: 1_000 };
    assert!(!store.set_mode(&id, 0, &mode).await.unwrap());
    assert_eq!(store.user(&id).await.unwrap(), None);

    store.create_user(user(&id)).await.unwrap();
    assert!(store.set_profile(&id, &first, &second).await.unwrap());
    assert!(!store.set_profile(&id, &first, &second).await.unwrap(), "it is another by now");
    assert!(store.set_mode(&id, 0, &mode).await.unwrap());
    assert!(!store.set_mode(&id, 0, &Mode { version: 2_000, ..mode }).await.unwrap());
    assert_eq!(store.user(&id).await.unwrap(), Some(User { profile: second.clone(), mode, ..user(&id) }));
    assert!(store.set_profile(&id, &second, &first).await.unwrap(), "back to nulls");
    assert_eq!(store.user(&id).await.unwrap().unwrap().profile, first);
}

async fn pairs(store: Arc<dyn Store>) {
    let pair = strangers();
    for read in [Read::Answered, Read::Settled] {
        assert_eq!(store.pair(&pair.ids, read).await.unwrap(), pair);
    }
    let asked = pair.after(Side::High, Step::Request, now_ms()).unwrap().unwrap();
    assert!(store.set_pair(&asked, 0).await.unwrap());
    assert!(!store.set_pair(&asked, 0).await.unwrap(), "there is a row by now");
    assert_eq!(store.pair(&pair.ids, Read::Settled).await.unwrap(), asked);
    let friends = asked.after(Side::Low, Step::Accept, now_ms()).unwrap().unwrap();
    assert!(!store.set_pair(&friends, asked.version - 1).await.unwrap());
    assert!(store.set_pair(&friends, asked.version).await.unwrap());
    let share = Step::Share(Share { precision: Sharing::Coarse, until: 12, within_m: 300 });
    let shared = friends.after(Side::Low, share, now_ms()).unwrap().unwrap();
    assert!(store.set_pair(&shared, friends.version).await.unwrap());
    assert_eq!(store.pair(&pair.ids, Read::Settled).await.unwrap(), shared);
    assert_eq!(shared.bond, Bond::Friends);
}

async fn one_change_of_a_pair_wins(store: Arc<dyn Store>) {
    let pair = strangers();
    let asked: Vec<Pair> =
        [Side::Low, Side::High].map(|side| pair.after(side, Step::Request, now_ms()).unwrap().unwrap()).to_vec();
    let won = join_all(asked.iter().map(|asked| store.set_pair(asked, 0))).await;
    let won: Vec<bool> = won.into_iter().map(Result::unwrap).collect();
    assert_eq!(won.iter().filter(|won| **won).count(), 1, "{won:?}");
    let kept = store.pair(&pair.ids, Read::Settled).await.unwrap();
    assert_eq!(kept, asked[won.iter().position(|won| *won).unwrap()]);
}

async fn requests_follow_the_newest_pair(store: Arc<dyn Store>) {
    let pair = strangers();
    let (low, high) = (pair.ids.low(), pair.ids.high());
    let check = async |expect: [usize; 4]| {
        let mut found = [0; 4];
        let questions = [
            (low, Direction::Incoming),
            (low, Direction::Outgoing),
            (high, Direction::Incoming),
            (high, Direction::Outgoing),
        ];
        for (found, (user, direction)) in found.iter_mut().zip(questions) {
            *found = store.requests(user, direction, None, 10).await.unwrap().len();
        }
        assert_eq!(found, expect);
    };
    let asked = pair.after(Side::High, Step::Request, now_ms()).unwrap().unwrap();
    store.set_requests(&asked).await.unwrap();
    store.set_requests(&asked).await.unwrap();
    check([1, 0, 0, 1]).await;
    let found = store.requests(low, Direction::Incoming, None, 10).await.unwrap();
    assert_eq!((found[0].other.as_str(), found[0].since), (high, asked.since));

    let cancelled = asked.after(Side::High, Step::Remove, now_ms()).unwrap().unwrap();
    store.set_requests(&cancelled).await.unwrap();
    check([0, 0, 0, 0]).await;
    store.set_requests(&asked).await.unwrap();
    check([0, 0, 0, 0]).await;
    let again = cancelled.after(Side::Low, Step::Request, now_ms()).unwrap().unwrap();
    store.set_requests(&again).await.unwrap();
    check([0, 1, 1, 0]).await;
    let friends = again.after(Side::High, Step::Accept, now_ms()).unwrap().unwrap();
    store.set_requests(&friends).await.unwrap();
    check([0, 0, 0, 0]).await;
}

async fn requests_by_page(store: Arc<dyn Store>) {
    let me = someone();
    let mut others: Vec<String> = (0..5).map(|_| someone()).collect();
    others.sort();
    for other in &others {
        let ids = PairIds::new(&me, other).unwrap();
        let side = ids.side_of(&me);
        let asked = Pair::strangers(ids).after(side, Step::Request, now_ms()).unwrap().unwrap();
        store.set_requests(&asked).await.unwrap();
    }
    let page = async |after: Option<&str>| {
        let found = store.requests(&me, Direction::Outgoing, after, 2).await.unwrap();
        found.into_iter().map(|request| request.other).collect::<Vec<_>>()
    };
    assert_eq!(page(None).await, others[..2]);
    assert_eq!(page(Some(&others[1])).await, others[2..4]);
    assert_eq!(page(Some(&others[3])).await, others[4..]);
}

async fn lists(store: Arc<dyn Store>) {
    let (viewer, bob) = (someone(), someone());
    let empty = store.head(&viewer, Read::Settled).await.unwrap();
    assert_eq!(empty, Head::default());
    let added = change(&empty, &bob, Some(friend(&bob)));
    assert!(store.set_list(&viewer, &empty, &added).await.unwrap());
    let head = store.head(&viewer, Read::Answered).await.unwrap();
    assert_eq!((head.version, head.friends, head.radius_m), (added.change.version, 1, None));
    assert_eq!(head.change, Some(added.change.clone()));
    assert_eq!(store.friend(&viewer, &bob).await.unwrap(), Some(friend(&bob)));
    assert_eq!(store.friend(&viewer, &viewer).await.unwrap(), None);

    // The radius alone.
    let mut wider = change(&head, &bob, None);
    wider.row = None;
    wider.friends = 1;
    wider.change.radius_after_m = Some(900);
    assert!(!store.set_list(&viewer, &empty, &wider).await.unwrap(), "the version is another by now");
    assert!(store.set_list(&viewer, &head, &wider).await.unwrap());
    let head = store.head(&viewer, Read::Settled).await.unwrap();
    assert_eq!((head.radius_m, head.friends), (Some(900), 1));
    assert_eq!(store.friend(&viewer, &bob).await.unwrap(), Some(friend(&bob)));

    let removed = change(&head, &bob, None);
    assert!(store.set_list(&viewer, &head, &removed).await.unwrap());
    assert_eq!(store.friend(&viewer, &bob).await.unwrap(), None);
    let list = store.list(&viewer).await.unwrap();
    assert_eq!((list.version, list.radius_m, list.friends.len()), (removed.change.version, Some(900), 0));
}

async fn one_change_of_a_list_wins(store: Arc<dyn Store>) {
    let viewer = someone();
    let head = store.head(&viewer, Read::Settled).await.unwrap();
    let ids: Vec<String> = (0..4).map(|_| someone()).collect();
    let changes: Vec<ListChange> = ids.iter().map(|id| change(&head, id, Some(friend(id)))).collect();
    let won = join_all(changes.iter().map(|change| store.set_list(&viewer, &head, change))).await;
    assert_eq!(won.into_iter().filter(|won| *won.as_ref().unwrap()).count(), 1);
    let list = store.list(&viewer).await.unwrap();
    assert_eq!(list.friends.len(), 1, "the losers left nothing");
    let head = store.head(&viewer, Read::Settled).await.unwrap();
    assert_eq!(head.change.unwrap().friend.unwrap(), list.friends[0].id);
}

async fn lists_by_page(store: Arc<dyn Store>) {
    let viewer = someone();
    assert_eq!(store.list(&viewer).await.unwrap().friends.len(), 0);
    let mut ids: Vec<String> = (0..5).map(|_| someone()).collect();
    for id in &ids {
        add(&store, &viewer, id).await;
    }
    ids.sort();
    let page = async |after: Option<&str>| {
        let found = store.friends(&viewer, after, 2).await.unwrap();
        found.into_iter().map(|friend| friend.id).collect::<Vec<_>>()
    };
    assert_eq!(page(None).await, ids[..2]);
    assert_eq!(page(Some(&ids[1])).await, ids[2..4]);
    assert_eq!(page(Some(&ids[3])).await, ids[4..]);
    let list = store.list(&viewer).await.unwrap();
    assert_eq!(list.friends, ids.iter().map(|id| friend(id)).collect::<Vec<_>>());
    assert_eq!(list.version, store.head(&viewer, Read::Answered).await.unwrap().version);
}

async fn published(store: Arc<dyn Store>) {
    let viewer = someone();
    let empty = Published { version: 0, at: 11 };
    store.set_published(&viewer, empty).await.unwrap();
    let head = store.head(&viewer, Read::Settled).await.unwrap();
    assert_eq!(head, Head { published: Some(empty), ..Head::default() }, "an empty list is published too");
    assert_eq!(store.list(&viewer).await.unwrap().published, Some(empty));
    let head = add(&store, &viewer, "bob").await;
    assert_eq!((head.friends, head.published), (1, Some(empty)));
    let now = Published { version: head.version, at: 12 };
    store.set_published(&viewer, now).await.unwrap();
    let list = store.list(&viewer).await.unwrap();
    assert_eq!((list.published, list.version, list.friends.len()), (Some(now), head.version, 1));
}

async fn rule_changes(store: Arc<dyn Store>) {
    let viewer = someone();
    let begin = now_ms();
    assert_eq!(store.rule_changes(&viewer, 0).await.unwrap(), []);
    for id in ["a", "b", "c"] {
        add(&store, &viewer, id).await;
    }
    let changes = store.rule_changes(&viewer, begin).await.unwrap();
    let friends: Vec<_> = changes.iter().map(|change| change.friend.as_deref().unwrap()).collect();
    assert_eq!(friends, ["a", "b", "c"]);
    assert!(changes.windows(2).all(|pair| pair[0].version < pair[1].version));
    assert_eq!(changes[0].after.as_ref().unwrap().radius_m, 500);
    assert_eq!(store.rule_changes(&viewer, now_ms() + 60_000).await.unwrap(), []);
}

async fn links(store: Arc<dyn Store>) {
    let (owner, now) = (someone(), now_ms());
    let link = |name: &str, precision| ShareLink {
        viewer: format!("link~{name}{owner}"),
        owner: owner.clone(),
        secret_hash: vec![0, 1, 255],
        precision,
        created_at: now,
        until: now + 60_000,
    };
    let (a, b) = (link("a", Sharing::Exact), link("b", Sharing::Coarse));
    assert_eq!(store.links(&owner).await.unwrap(), []);
    for link in [&b, &a] {
        store.create_link(link).await.unwrap();
    }
    assert_eq!(store.link(&a.viewer).await.unwrap(), Some(a.clone()));
    assert_eq!(store.links(&owner).await.unwrap(), [a.clone(), b.clone()]);
    for _ in 0..2 {
        store.remove_link(&owner, &a.viewer).await.unwrap();
        assert_eq!(store.link(&a.viewer).await.unwrap(), None);
        assert_eq!(store.links(&owner).await.unwrap(), std::slice::from_ref(&b));
    }
    // Its list is forgotten when nothing is on it any more.
    let viewer = &b.viewer;
    let before = add(&store, viewer, "bob").await;
    let change = RuleChange { version: before.version + 1, at: now, ..before.change.clone().unwrap() };
    let emptied = ListChange { row: Some(("bob".into(), None)), friends: 0, change };
    assert!(store.set_list(viewer, &before, &emptied).await.unwrap());
    store.set_published(viewer, Published { version: before.version + 1, at: 3 }).await.unwrap();
    assert!(!store.remove_list(viewer, &before).await.unwrap(), "it has changed since");
    let head = store.head(viewer, Read::Settled).await.unwrap();
    assert!(store.remove_list(viewer, &head).await.unwrap());
    assert_eq!(store.head(viewer, Read::Settled).await.unwrap(), Head::default());
    assert_eq!(store.list(viewer).await.unwrap(), List::default());
}

async fn work(store: Arc<dyn Store>) {
    // A minute that no other test uses.
    let at = 1_000_000_000_000_000 + i64::from(rand::random::<u32>()) * 60_000;
    let everything = [
        Work::Pair(PairIds::new("a", "b").unwrap()),
        Work::Profile("p".into()),
        Work::Mode("m".into()),
        Work::Refresh("r".into()),
        Work::Link("link~l".into()),
    ];
    let mut ids = Vec::new();
    for work in &everything {
        ids.push(store.schedule(at, work).await.unwrap());
    }
    let found = async || {
        let mut found = Vec::new();
        for shard in 0..SHARDS {
            found.extend(store.due(shard, minute_of(at)).await.unwrap());
        }
        found
    };
    let due = found().await;
    assert_eq!(due.len(), everything.len());
    for (id, work) in ids.iter().zip(&everything) {
        assert!(due.iter().any(|due| due.id == *id && due.at == at && due.work.as_ref() == Some(work)), "{work:?}");
    }
    for id in &ids {
        store.finish(id).await.unwrap();
        store.finish(id).await.unwrap();
    }
    assert_eq!(found().await, []);
}

async fn sweeps(store: Arc<dyn Store>) {
    // A shard that no sweeper has.
    let shard = SHARDS;
    assert_eq!(store.swept_to(shard).await.unwrap(), None);
    for minute in [5, 7] {
        store.set_swept_to(shard, minute).await.unwrap();
        assert_eq!(store.swept_to(shard).await.unwrap(), Some(minute));
    }
}
