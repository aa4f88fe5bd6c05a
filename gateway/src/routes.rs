//! Which sessions live on this gateway: by handle, and by user.

use std::collections::HashMap;
use std::sync::Arc;

use nearcast_schemas::event::Role;

/// A user has this many sessions that watch; a newer one takes the oldest one's place.
pub const MAX_WATCHING: usize = 3;

#[derive(Debug)]
struct Of {
    handle: i32,
    role: Role,
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

/// A session that was let in.
#[derive(Debug, PartialEq, Eq)]
pub struct Registered<T> {
    /// Its name in routes and deliveries; never given twice by a process.
    pub handle: i32,
    /// Sessions whose place it took; they have no route any more.
    pub superseded: Vec<T>,
}

impl<T: Clone> Routes<T> {
    /// Lets a session in. One that reports takes the place of the user's older one; one that only watches, of the
    /// oldest beyond [`MAX_WATCHING`]. `None` when the process has given 2^31 handles: it must be started anew.
    pub fn register(&mut self, user: &str, role: Role, session: T) -> Option<Registered<T>> {
        let handle = self.last_handle.checked_add(1)?;
        self.last_handle = handle;
        let allowed_before = if role == Role::Reporting { 0 } else { MAX_WATCHING - 1 };
        let reporting = role == Role::Reporting;
        // In the order of their handles, which is that of their hellos.
        let peers: Vec<i32> =
            self.of_user(user).filter(|of| (of.role == Role::Reporting) == reporting).map(|of| of.handle).collect();
        let excess = peers.len().saturating_sub(allowed_before);
        let superseded = peers.into_iter().take(excess).filter_map(|handle| self.unregister(handle)).collect();
        let user: Arc<str> = match self.by_user.get_key_value(user) {
            Some((user, _)) => user.clone(),
            None => user.into(),
        };
        self.by_user.entry(user.clone()).or_default().push(Of { handle, role });
        self.by_handle.insert(handle, (user, session));
        Some(Registered { handle, superseded })
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

    fn register(routes: &mut Routes<&'static str>, user: &str, role: Role, name: &'static str) -> Vec<&'static str> {
        routes.register(user, role, name).unwrap().superseded
    }

    #[test]
    fn a_user_reports_once_and_watches_thrice() {
        let mut routes = Routes::default();
        assert!(register(&mut routes, "alice", Role::Reporting, "r1").is_empty());
        for name in ["w1", "w2", "w3"] {
            assert!(register(&mut routes, "alice", Role::Watching, name).is_empty());
        }
        assert!(register(&mut routes, "bob", Role::Reporting, "b1").is_empty());
        assert_eq!(register(&mut routes, "alice", Role::Watching, "w4"), ["w1"]);
        assert_eq!(register(&mut routes, "alice", Role::Reporting, "r2"), ["r1"]);
        let names: Vec<_> = routes.sessions_of("alice").map(|(_, name)| *name).collect();
        assert_eq!(names, ["w2", "w3", "w4", "r2"]);
        assert_eq!(routes.len(), 5);
    }

    #[test]
    fn handles_are_never_given_twice() {
        let mut routes = Routes::default();
        let first = routes.register("alice", Role::Reporting, "a").unwrap().handle;
        assert_eq!(routes.unregister(first), Some("a"));
        assert_eq!(routes.unregister(first), None);
        assert!(routes.is_empty() && routes.by_user.is_empty());
        let second = routes.register("alice", Role::Reporting, "b").unwrap().handle;
        assert_ne!(first, second);
        assert_eq!(routes.get(first), None);
        assert_eq!(routes.get(second), Some(&"b"));
        routes.last_handle = i32::MAX;
        assert_eq!(routes.register("alice", Role::Reporting, "c"), None);
        assert_eq!(routes.len(), 1, "nobody lost a place to it");
    }
}
