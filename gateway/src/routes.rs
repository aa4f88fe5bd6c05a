//! Which sessions live on this gateway: by handle, and by user.

use std::collections::HashMap;
use std::sync::Arc;

use nearcast_schemas::event::Role;

#[derive(Debug)]
struct Of {
    handle: i32,
    role: Role,
    seated: bool,
}

/// The sessions of this process. `T` is how a session is reached.
#[derive(Debug)]
pub struct Routes<T> {
    by_handle: HashMap<i32, (Arc<str>, T)>,
    by_user: HashMap<Arc<str>, Vec<Of>>,
    last_handle: i32,
}

impl<T> Default for Routes<T> {
    fn default() -> Self {
        Self { by_handle: HashMap::new(), by_user: HashMap::new(), last_handle: 0 }
    }
}

impl<T: Clone> Routes<T> {
    /// Lets a session in: it is reached from now on, and takes nobody's place before it is seated. Returns its name in
    /// routes and deliveries, which a process never gives twice; `None` when the process has given all 2^31: it must be
    /// started anew.
    pub fn register(&mut self, user: &str, role: Role, session: T) -> Option<i32> {
        let handle = self.last_handle.checked_add(1)?;
        self.last_handle = handle;
        let user: Arc<str> = match self.by_user.get_key_value(user) {
            Some((user, _)) => user.clone(),
            None => user.into(),
        };
        self.by_user.entry(user.clone()).or_default().push(Of { handle, role, seated: false });
        self.by_handle.insert(handle, (user, session));
        Some(handle)
    }

    /// A session begins. It takes the place of the user's oldest one of its kind beyond those that [`Role::at_once`]
    /// allows. Returns those whose place it took; they have no route any more.
    pub fn seat(&mut self, handle: i32) -> Vec<T> {
        let Some((user, _)) = self.by_handle.get(&handle) else { return Vec::new() };
        let Some(sessions) = self.by_user.get_mut(user) else { return Vec::new() };
        let Some(at) = sessions.iter().position(|of| of.handle == handle) else { return Vec::new() };
        // To the end: the seated ones stand in the order of their hellos in the log.
        let role = sessions.remove(at).role;
        let reporting = role == Role::Reporting;
        let peers = |of: &&Of| of.seated && (of.role == Role::Reporting) == reporting;
        let peers: Vec<i32> = sessions.iter().filter(peers).map(|of| of.handle).collect();
        sessions.push(Of { handle, role, seated: true });
        let excess = (peers.len() + 1).saturating_sub(role.at_once());
        peers.into_iter().take(excess).filter_map(|handle| self.unregister(handle)).collect()
    }

    /// Lets a session go.
    pub fn unregister(&mut self, handle: i32) -> Option<T> {
        let (user, session) = self.by_handle.remove(&handle)?;
        if let Some(sessions) = self.by_user.get_mut(&user) {
            sessions.retain(|of| of.handle != handle);
            if sessions.is_empty() {
                self.by_user.remove(&user);
            }
        }
        Some(session)
    }

    /// The session with this handle.
    pub fn get(&self, handle: i32) -> Option<&T> {
        self.by_handle.get(&handle).map(|(_, session)| session)
    }

    /// The sessions of a user and their handles.
    pub fn sessions_of<'a>(&'a self, user: &'a str) -> impl Iterator<Item = (i32, &'a T)> + 'a {
        self.of_user(user).filter_map(|of| self.get(of.handle).map(|session| (of.handle, session)))
    }

    /// All sessions and their handles, in no order.
    pub fn all(&self) -> impl Iterator<Item = (i32, &T)> + '_ {
        self.by_handle.iter().map(|(handle, (_, session))| (*handle, session))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_handle.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_handle.is_empty()
    }

    fn of_user(&self, user: &str) -> impl Iterator<Item = &Of> + '_ {
        self.by_user.get(user).into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join(routes: &mut Routes<&'static str>, user: &str, role: Role, name: &'static str) -> Vec<&'static str> {
        let handle = routes.register(user, role, name).unwrap();
        routes.seat(handle)
    }

    fn names_of(routes: &Routes<&'static str>, user: &str) -> Vec<&'static str> {
        routes.sessions_of(user).map(|(_, name)| *name).collect()
    }

    #[test]
    fn a_user_reports_once_and_watches_thrice() {
        let mut routes = Routes::default();
        assert!(join(&mut routes, "alice", Role::Reporting, "r1").is_empty());
        for name in ["w1", "w2", "w3"] {
            assert!(join(&mut routes, "alice", Role::Watching, name).is_empty());
        }
        assert!(join(&mut routes, "bob", Role::Reporting, "b1").is_empty());
        assert_eq!(join(&mut routes, "alice", Role::Watching, "w4"), ["w1"]);
        assert_eq!(join(&mut routes, "alice", Role::Reporting, "r2"), ["r1"]);
        assert_eq!(names_of(&routes, "alice"), ["w2", "w3", "w4", "r2"]);
        assert_eq!(routes.len(), 5);
    }

    #[test]
    fn many_look_through_one_link() {
        let mut routes = Routes::default();
        for name in ["l1", "l2"].into_iter().chain(["more"; 18]) {
            assert!(join(&mut routes, "link~x", Role::Link, name).is_empty());
        }
        assert_eq!(join(&mut routes, "link~x", Role::Link, "l21"), ["l1"]);
    }

    #[test]
    fn a_session_is_reached_before_it_takes_a_place() {
        let mut routes = Routes::default();
        join(&mut routes, "alice", Role::Reporting, "r1");
        let second = routes.register("alice", Role::Reporting, "r2").unwrap();
        let third = routes.register("alice", Role::Reporting, "r3").unwrap();
        assert_eq!(names_of(&routes, "alice"), ["r1", "r2", "r3"]);
        assert_eq!(routes.seat(third), ["r1"], "and not the one that may never begin");
        assert_eq!(routes.seat(second), ["r3"], "whoever begins last is the newest");
        assert_eq!(names_of(&routes, "alice"), ["r2"]);
        assert_eq!(routes.seat(third), [""; 0], "it has no route any more");
    }

    #[test]
    fn handles_are_never_given_twice() {
        let mut routes = Routes::default();
        let first = routes.register("alice", Role::Reporting, "a").unwrap();
        assert_eq!(routes.unregister(first), Some("a"));
        assert_eq!(routes.unregister(first), None);
        assert!(routes.is_empty() && routes.by_user.is_empty());
        let second = routes.register("alice", Role::Reporting, "b").unwrap();
        assert_ne!(first, second);
        assert_eq!(routes.get(first), None);
        assert_eq!(routes.get(second), Some(&"b"));
        routes.last_handle = i32::MAX;
        assert_eq!(routes.register("alice", Role::Reporting, "c"), None);
        assert_eq!(routes.len(), 1, "nobody lost a place to it");
    }
}
