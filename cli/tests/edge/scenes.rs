//! What happens to the edge, and what must come of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use tokio::time::{Instant, sleep};

use crate::Plan;
use crate::client::Edge;
use crate::cluster::Cluster;
use crate::figures::figures;
use crate::phone::{Phone, State};
use crate::world::{World, place};

/// How long anything may take; the figures say how long it took.
const PATIENCE: Duration = Duration::from_secs(120);
/// Whoever lost a gateway holds the right list within this time of the next socket.
const PROMISED: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Phones that come one after the other come so many at once.
const AT_ONCE: usize = 50;

pub struct Scenes<'a> {
    cluster: &'a Cluster,
    plan: Plan,
    edge: Arc<Edge>,
    world: World,
    phones: Vec<Phone>,
    /// What the first of each group has walked.
    steps: u32,
}

impl<'a> Scenes<'a> {
    pub fn new(cluster: &'a Cluster, plan: Plan) -> Self {
        let edge = Arc::new(Edge::new(cluster.edge(), &cluster.authority()));
        Self { cluster, plan, edge, world: World::new(plan.phones), phones: Vec::new(), steps: 0 }
    }

    /// Users who reconnect again and again, with either way to send the token, always reach the same gateway.
    pub async fn everybody_has_one_gateway(&self) {
        let begun = Instant::now();
        let reached = stream::iter(0..self.plan.regulars)
            .map(async |user| {
                let token = self.edge.token(&format!("regular-{user}"));
                let mut reached = BTreeSet::new();
                for round in 0..self.plan.rounds {
                    reached.insert(self.edge.open(&token, round % 2 == 1).await.unwrap().gateway);
                }
                reached
            })
            .buffer_unordered(AT_ONCE)
            .collect::<Vec<_>>()
            .await;
        let mut shares = BTreeMap::<u32, usize>::new();
        for reached in &reached {
            assert_eq!(reached.len(), 1, "one user came to {reached:?}");
            *shares.entry(*reached.first().unwrap()).or_default() += 1;
        }
        println!(
            "sticky: {} users reconnected {} times in {:.1} s, each to one gateway; users by gateway: {shares:?}",
            reached.len(),
            self.plan.rounds,
            begun.elapsed().as_secs_f64(),
        );
        assert_eq!(shares.keys().copied().collect::<Vec<_>>(), [1, 2]);
        let fewest = *shares.values().min().unwrap();
        assert!(fewest * 10 >= reached.len() * 3, "shares are uneven: {shares:?}");
    }

    /// Friends find each other over both gateways.
    pub async fn phones_come(&mut self) {
        let begun = Instant::now();
        let friendships = self.world.befriend(&self.edge).await;
        println!("{friendships} friendships in {:.1} s", begun.elapsed().as_secs_f64());
        for (index, user) in self.world.users.iter().enumerate() {
            if index >= AT_ONCE {
                let before = &self.phones[index - AT_ONCE];
                until("those before are welcomed", || before.is(|state| state.gateway.is_some())).await;
            }
            let view = self.world.view(index, self.steps);
            self.phones.push(Phone::start(Arc::clone(&self.edge), user, place(index, self.steps), view));
        }
        self.all_are_right("the phones came").await;
        self.live("after they came").await;
    }

    /// A gateway that is killed: its users are with the other one and hold their lists, and nobody else notices.
    pub async fn one_is_killed(&mut self) {
        let before = self.states();
        let killed = Instant::now();
        self.cluster.run("cluster.sh", &["kill", "gateway", "1"]).await;
        self.moved_away("kill", 1, 2, &before, killed).await;
        self.live("after the kill").await;

        // It comes back, the balancer notices by itself, and whoever reconnects is where he was.
        self.start_again(1).await;
        let after = self.all_reconnect("reconnect after its return").await;
        assert_eq!(gateways(&after), gateways(&before), "the same gateways as before it was killed");
    }

    /// The balancer is told to send nothing new to a gateway: what is there stays.
    pub async fn one_is_put_aside(&self) {
        let before = self.states();
        self.cluster.run("balancer.sh", &["drain", "gateway", "2"]).await;
        let (of_it, _): (Vec<_>, Vec<_>) = (0..self.phones.len()).partition(|&phone| before[phone].gateway == Some(2));
        self.phones[of_it[0]].reconnect();
        until("it is elsewhere", || self.phones[of_it[0]].is(State::is_right)).await;
        assert_eq!(self.phones[of_it[0]].state().gateway, Some(1));
        assert_eq!(self.lost_since(&before), [] as [usize; 0], "those of the gateway that is put aside stay");
        self.cluster.run("balancer.sh", &["ready", "gateway", "2"]).await;
        self.phones[of_it[0]].reconnect();
        until("it is back", || self.phones[of_it[0]].is(State::is_right)).await;
        assert_eq!(self.phones[of_it[0]].state().gateway, Some(2));
        println!("put aside: {} sockets stayed, a new one went elsewhere", of_it.len() - 1);
    }

    /// A gateway that is asked to end: its users are told, and move.
    pub async fn one_drains(&mut self) {
        let before = self.states();
        let begun = Instant::now();
        self.cluster.run("cluster.sh", &["drain", "gateway", "2"]).await;
        println!("drain: the process ended after {:.1} s", begun.elapsed().as_secs_f64());
        self.moved_away("drain", 2, 1, &before, begun).await;
        for (phone, before) in self.phones.iter().zip(&before) {
            let after = phone.state();
            let said = &after.byes[before.byes.len()..];
            assert_eq!(said, if before.gateway == Some(2) { &["drain"][..] } else { &[] }, "who is told goodbye");
        }
        self.live("after the drain").await;
        self.start_again(2).await;
        self.all_reconnect("reconnect after its return").await;
    }

    /// A gateway that is added: nobody moves who does not reconnect, and then a third does, all of them to the new one.
    pub async fn one_is_added(&mut self) {
        let before = self.states();
        self.cluster.run("cluster.sh", &["add", "gateway", "3"]).await;
        assert_eq!(self.lost_since(&before), [] as [usize; 0], "nobody notices");
        let after = self.all_reconnect("reconnect after one was added").await;
        let moved: Vec<_> =
            before.iter().zip(&after).filter(|(before, after)| before.gateway != after.gateway).collect();
        println!("added: {} of {} users moved", moved.len(), after.len());
        assert!(moved.iter().all(|(_, after)| after.gateway == Some(3)), "whoever moves, moves to the new one");
        let share = moved.len() as f64 / after.len() as f64;
        assert!((0.15..0.5).contains(&share), "{share}");
        self.live("after one was added").await;
    }

    /// Everybody comes at once.
    pub async fn all_come_at_once(&self) {
        let begun = Instant::now();
        let mut phones: Vec<Phone> = Vec::new();
        for user in 0..self.plan.storm {
            if user >= AT_ONCE {
                let before = &phones[user - AT_ONCE];
                until("those before are welcomed", || before.is(|state| state.gateway.is_some())).await;
            }
            let at = (60.0, user as f64 * 0.02);
            phones.push(Phone::start(Arc::clone(&self.edge), &format!("storm-{user}"), at, Default::default()));
        }
        until("all have come", || phones.iter().all(|phone| phone.is(State::is_right))).await;
        println!("storm: {} phones came {AT_ONCE} at a time in {:.1} s", phones.len(), begun.elapsed().as_secs_f64());
        let before: Vec<_> = phones.iter().map(Phone::state).collect();
        let begun = Instant::now();
        for phone in &phones {
            phone.reconnect();
        }
        until("all are back", || phones.iter().all(|phone| phone.is(State::is_right))).await;
        println!("storm: all reconnected at once and had their lists after {:.1} s", begun.elapsed().as_secs_f64());
        let after: Vec<_> = phones.iter().map(Phone::state).collect();
        println!("  to a socket    {}", figures(after.iter().map(|state| state.open_at.unwrap() - begun).collect()));
        println!("  to a session   {}", figures(after.iter().map(|state| state.welcome_at.unwrap() - begun).collect()));
        println!("  to the list    {}", figures(after.iter().map(|state| state.right_at.unwrap() - begun).collect()));
        println!("  socket to list {}", figures(after.iter().map(State::to_list).collect()));
        println!("  failures       {:?}", failures(&before, &after));
        // Where a gateway does not take a connection within the balancer's two seconds, another one does.
        let moved = before.iter().zip(&after).filter(|(before, after)| before.gateway != after.gateway).count();
        println!("  elsewhere      {moved}, because their gateway was too slow to take them");
    }

    /// After `from` is no more: its users are at `to` with their lists, the others lost nothing.
    async fn moved_away(&self, what: &str, from: u32, to: u32, before: &[State], begun: Instant) {
        let of_it: Vec<_> = (0..before.len()).filter(|&phone| before[phone].gateway == Some(from)).collect();
        assert!(!of_it.is_empty() && of_it.len() < before.len());
        // Whoever is right with nobody lost has not noticed yet.
        let has_moved = |phone: usize| self.phones[phone].is(|state| state.gateway == Some(to) && state.is_right());
        until("all of it have moved", || of_it.iter().all(|&phone| has_moved(phone))).await;
        let after = self.states();
        assert_eq!(self.lost_since(before), of_it, "its users lost a socket, and nobody else");
        for (phone, state) in after.iter().enumerate() {
            assert!(state.is_right(), "{phone} holds {:?} and should {:?}", state.view, state.expected);
        }
        println!("{what}: {} users of gateway {from} moved, {} stayed", of_it.len(), after.len() - of_it.len());
        let moved = || of_it.iter().map(|&phone| &after[phone]);
        println!(
            "  to the loss                   {}",
            figures(moved().map(|it| it.lost_at.unwrap() - begun).collect())
        );
        println!("  from the loss to a new socket {}", figures(moved().map(State::away).collect()));
        let within = moved().filter(|state| state.to_list() <= PROMISED).count();
        println!("  from the socket to the list   {}", figures(moved().map(State::to_list).collect()));
        println!("  within {PROMISED:?} of the socket      {within} of {}", of_it.len());
        println!("  failures                      {:?}", failures(before, &after));
    }

    /// All leave at once and come back, and hold their lists again.
    async fn all_reconnect(&self, what: &str) -> Vec<State> {
        let before = self.states();
        for phone in &self.phones {
            phone.reconnect();
        }
        self.all_are_right(what).await;
        let after = self.states();
        println!("  failures                      {:?}", failures(&before, &after));
        after
    }

    /// The first of each group walks on, and everybody sees it.
    async fn live(&mut self, when: &str) {
        self.steps += 1;
        let begun = Instant::now();
        for (index, phone) in self.phones.iter().enumerate() {
            phone.expect(self.world.view(index, self.steps));
            phone.move_to(place(index, self.steps));
        }
        until("everybody sees the move", || self.phones.iter().all(|phone| phone.is(State::is_right))).await;
        let seen = self.states().iter().map(|state| state.right_at.unwrap().saturating_duration_since(begun)).collect();
        println!("live {when}: {}", figures(seen));
    }

    async fn start_again(&self, gateway: u32) {
        self.cluster.run("nearcast.sh", &["gateway", &gateway.to_string(), "up"]).await;
        let begun = Instant::now();
        let up = format!("gateway{gateway} UP");
        loop {
            let shown = self.cluster.run("balancer.sh", &["show"]).await;
            if shown.lines().any(|line| line.split_whitespace().collect::<Vec<_>>().join(" ").starts_with(&up)) {
                break;
            }
            assert!(begun.elapsed() < PATIENCE, "{shown}");
        }
    }

    async fn all_are_right(&self, what: &str) {
        let all = || self.phones.iter().all(|phone| phone.is(State::is_right));
        let ended = tokio::time::timeout(PATIENCE, until("all are right", all)).await;
        if ended.is_err() {
            let state = self.states().into_iter().find(|state| !state.is_right()).unwrap();
            panic!("{what}: one holds {:?} and should {:?}: {:?}", state.view, state.expected, state.failed);
        }
        println!("{what}: from the socket to the list {}", figures(self.states().iter().map(State::to_list).collect()));
    }

    fn lost_since(&self, before: &[State]) -> Vec<usize> {
        (0..before.len()).filter(|&phone| self.phones[phone].is(|state| state.lost != before[phone].lost)).collect()
    }

    fn states(&self) -> Vec<State> {
        self.phones.iter().map(Phone::state).collect()
    }
}

impl State {
    /// Between the loss of a socket and the next one.
    fn away(&self) -> Duration {
        self.open_at.unwrap() - self.lost_at.unwrap()
    }

    /// From the socket to the right list.
    fn to_list(&self) -> Duration {
        self.right_at.unwrap() - self.open_at.unwrap()
    }
}

fn gateways(states: &[State]) -> Vec<Option<u32>> {
    states.iter().map(|state| state.gateway).collect()
}

/// What failed since, and how often.
fn failures(before: &[State], after: &[State]) -> BTreeMap<String, usize> {
    let mut all = BTreeMap::new();
    for (before, after) in before.iter().zip(after) {
        for why in &after.failed[before.failed.len()..] {
            *all.entry(why.clone()).or_default() += 1;
        }
    }
    all
}

/// Waits for a condition.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        sleep(LOOK_EVERY).await;
    }
}
