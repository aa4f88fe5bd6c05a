//! What happens while the API is being asked for the answer to a hello.

use nearcast_schemas::event::{LocationKind, Mode, NO_SESSION, Sharing};
use nearcast_schemas::notice::Notice;

use crate::api::answer;
use crate::phone::{Phone, hello, location};
use crate::worker::{Seat, Worker, applied, entry, reset, upsert};
use crate::world::World;

/// Another session, which shows how far the gateway has read its topic.
struct Witness {
    phone: Phone,
    seat: Seat,
    worker: Worker,
}

impl Witness {
    async fn join(world: &mut World) -> Self {
        let (phone, seat) = world.join("witness").await;
        let worker = world.worker(&seat);
        Self { phone, seat, worker }
    }

    /// Writes notices, and returns once the gateway has taken them.
    async fn notices(&mut self, notices: Vec<Notice>) {
        for notice in notices {
            self.worker.notice(notice).await;
        }
        self.worker.batch(vec![reset(&self.seat, 1, &[])]).await;
        assert_eq!(self.phone.nearby().await, "[1/1 ]");
    }
}

#[tokio::test]
async fn a_notice_is_obeyed_by_a_hello_that_is_not_answered_yet() {
    let mut world = World::start().await;
    let mut witness = Witness::join(&mut world).await;
    let mut told = answer();
    told.nearby = vec![entry("bob"), entry("carol"), entry("eve")];
    world.api.answer("alice", told);
    let held = world.api.hold("alice");
    let mut phone = world.connect("alice").await;
    phone.send(hello()).await;
    held.asked().await;
    let sessions = world.cache.sessions("alice").await.unwrap();
    assert_eq!(sessions.len(), 1, "whoever looks for the session finds it");
    assert_eq!((sessions[0].gateway.as_str(), sessions[0].session), ("g1", NO_SESSION));

    // The answer is by list 1: it has what the first notice says, and not what the second does.
    let mode = Mode { sharing: Sharing::Hidden, until: 0, discoverable: false, version: 3 };
    let notices =
        vec![Notice::forget("alice", "bob", 1), Notice::forget("alice", "eve", 2), Notice::mode("alice", mode)];
    witness.notices(notices).await;
    held.go();
    phone.expect("welcome").await;
    assert_eq!(phone.nearby().await, "[1/1? +bob +carol]");
    let said = world.log.next("alice", LocationKind::Hello).await;
    assert_eq!((said.event.mode, said.event.list_version), (mode, 1));

    let handle = said.event.route.unwrap().handle;
    let seat = Seat { handle, session: said.offset, ..witness.seat.clone() };
    witness.worker.batch(vec![reset(&seat, 1, &["bob", "eve"]), upsert("eve", &[&seat])]).await;
    assert_eq!(phone.nearby().await, "[1/1 +bob]", "by the list before");
    witness.worker.batch(vec![applied(&seat, 2), upsert("eve", &[&seat])]).await;
    assert_eq!(phone.nearby().await, "+eve", "friends again by a later list");
    let known = world.cache.sessions("alice").await.unwrap();
    assert_eq!((known.len(), known[0].handle, known[0].session), (1, handle, said.offset));
}

#[tokio::test]
async fn a_user_who_is_signed_out_meanwhile_gets_no_session() {
    let mut world = World::start().await;
    let mut witness = Witness::join(&mut world).await;
    let held = world.api.hold("alice");
    let mut phone = world.connect("alice").await;
    phone.send(hello()).await;
    held.asked().await;
    let refused = world.cache.sessions("alice").await.unwrap()[0].handle;
    witness.notices(vec![Notice::close("alice", "signed_out")]).await;
    phone.expect_bye("signed_out", 4010).await;
    assert_eq!(world.cache.sessions("alice").await.unwrap(), []);
    held.go();
    let (_phone, seat) = world.join("alice").await;
    assert!(seat.handle > refused, "the log's first hello is that of the second session");
}

#[tokio::test]
async fn a_hello_that_fails_leaves_nothing_and_takes_nobodys_place() {
    let mut world = World::start().await;
    let (mut phone, seat) = world.join("alice").await;
    world.api.down(true);
    let mut second = world.connect("alice").await;
    second.send(hello()).await;
    second.expect_error("unavailable").await;
    let sessions = world.cache.sessions("alice").await.unwrap();
    assert_eq!(sessions.iter().map(|session| session.handle).collect::<Vec<_>>(), [seat.handle]);
    phone.send(location(1, 52.5, 13.25)).await;
    assert_eq!(phone.expect("ack").await["result"], "published");

    world.api.down(false);
    second.send(hello()).await;
    second.expect("welcome").await;
    phone.expect_bye("superseded", 4009).await;
}
