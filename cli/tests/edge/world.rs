//! Who is friends with whom, where they are, and what each must see.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};

use futures_util::stream::{self, StreamExt};
use reqwest::Method;
use serde_json::json;

use crate::client::Edge;

/// Users of one group: three beside each other, and one far away who is a friend of the first.
pub const GROUP: usize = 4;
/// Calls under way at once.
const AT_ONCE: usize = 24;

/// A list: whom, and where.
pub type View = BTreeMap<String, (f64, f64)>;

/// Where somebody is. Groups are 100 km apart and more, and two groups are at one place: people whom one does not know.
/// `steps` are what the first of a group walked, 100 m each.
pub fn place(user: usize, steps: u32) -> (f64, f64) {
    let (group, member) = (user / GROUP, user % GROUP);
    let lat = -50.0 + (group / 2) as f64;
    // 30 km off for the last, out of everybody's radius of 8 km.
    let lon = 10.0 + member as f64 * 0.005 + if member == GROUP - 1 { 0.5 } else { 0.0 };
    (if member == 0 { lat + f64::from(steps) * 0.0009 } else { lat }, lon)
}

pub struct World {
    pub users: Vec<String>,
}

impl World {
    pub fn new(users: usize) -> Self {
        let run = RandomState::new().hash_one(());
        Self { users: (0..users / GROUP * GROUP).map(|user| format!("edge-{run:016x}-{user}")).collect() }
    }

    fn friends(user: usize) -> Vec<usize> {
        let first = user - user % GROUP;
        let members: &[usize] = match user % GROUP {
            0 => &[1, 2, 3],
            1 => &[0, 2],
            2 => &[0, 1],
            _ => &[0],
        };
        members.iter().map(|member| first + member).collect()
    }

    /// What a user must see after the first of each group has walked so many steps: friends who are near.
    pub fn view(&self, user: usize, steps: u32) -> View {
        let near = |friend: &usize| (friend % GROUP == GROUP - 1) == (user % GROUP == GROUP - 1);
        let seen = Self::friends(user).into_iter().filter(near);
        seen.map(|friend| (self.users[friend].clone(), place(friend, steps))).collect()
    }

    /// Makes the friendships through the edge; returns how many.
    pub async fn befriend(&self, edge: &Edge) -> usize {
        let pairs =
            (0..self.users.len()).flat_map(|user| Self::friends(user).into_iter().map(move |other| (user, other)));
        let pairs: Vec<_> = pairs.filter(|(user, other)| user < other).collect();
        stream::iter(0..self.users.len())
            .for_each_concurrent(AT_ONCE, |user| self.call(edge, user, Method::PUT, "/v1/me".to_owned()))
            .await;
        stream::iter(pairs.clone())
            .for_each_concurrent(AT_ONCE, async |(user, other)| {
                let path = |whom: usize, what| format!("/v1/friends/{}/{what}", self.users[whom]);
                self.call(edge, user, Method::POST, path(other, "request")).await;
                self.call(edge, other, Method::POST, path(user, "accept")).await;
            })
            .await;
        pairs.len()
    }

    async fn call(&self, edge: &Edge, user: usize, method: Method, path: String) {
        let mut call = edge.http.request(method.clone(), edge.url(&path)).bearer_auth(edge.token(&self.users[user]));
        if method == Method::PUT {
            call = call.json(&json!({ "display_name": format!("User {user}") }));
        }
        let answer = call.send().await.unwrap();
        let status = answer.status();
        assert!(status.is_success(), "{path}: {status} {}", answer.text().await.unwrap_or_default());
    }
}
