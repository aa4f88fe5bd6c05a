//! Runs against a small hub that speaks the documented protocol: the phones, the audit and the sums, without services.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use futures_util::{SinkExt, StreamExt};
use nearcast_geo::{Position, straight_line_m};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

use super::*;
use crate::simulate::graph::Graph;
use crate::simulate::report::Verdict;
use crate::simulate::run::{run_name, town};
use crate::simulate::trust;

/// Small, so that friends come and go within seconds.
const RADIUS_M: f64 = 3_000.0;

/// How the hub misbehaves.
#[derive(Clone, Copy, PartialEq)]
enum Defect {
    None,
    /// Removals are not told.
    NoRemovals,
    /// Who appears is not told.
    NoAppearances,
    /// Nobody is ever welcomed.
    Deaf,
}

#[derive(Default)]
struct Person {
    at: Option<Position>,
    reported_ms: i64,
    socket: Option<UnboundedSender<Value>>,
    sees: HashSet<u32>,
}

struct Hub {
    friends: Vec<Vec<u32>>,
    users: Vec<String>,
    indices: HashMap<String, u32>,
    defect: Defect,
    people: Mutex<Vec<Person>>,
}

fn in_range(a: &Person, b: &Person, was: bool) -> Option<f64> {
    let metres = straight_line_m(a.at?, b.at?);
    (metres <= if was { RADIUS_M * 1.025 } else { RADIUS_M }).then_some(metres)
}

impl Hub {
    fn entry(&self, friend: u32, people: &[Person], metres: f64) -> Value {
        let person = &people[friend as usize];
        let (lat, lon) = person.at.map_or((0.0, 0.0), |at| (at.lat_deg(), at.lon_deg()));
        let id = &self.users[friend as usize];
        json!({"id": id, "display_name": id, "lat": lat, "lon": lon, "distance_m": metres, "at": person.reported_ms})
    }

    fn tell(people: &[Person], user: u32, message: Value) {
        if let Some(socket) = &people[user as usize].socket {
            let _ = socket.send(message);
        }
    }

    /// Decides one pair; `moved` says that the friend reported.
    fn decide(&self, people: &mut [Person], viewer: u32, friend: u32, moved: bool) {
        let was = people[viewer as usize].sees.contains(&friend);
        match in_range(&people[viewer as usize], &people[friend as usize], was) {
            Some(metres) if moved || !was => {
                people[viewer as usize].sees.insert(friend);
                if was || self.defect != Defect::NoAppearances {
                    let upserts = [self.entry(friend, people, metres)];
                    Self::tell(people, viewer, json!({"type": "nearby", "upserts": upserts, "removals": []}));
                }
            }
            None if was => {
                people[viewer as usize].sees.remove(&friend);
                if self.defect != Defect::NoRemovals {
                    let removals = [json!({"id": self.users[friend as usize], "reason": "out_of_range"})];
                    Self::tell(people, viewer, json!({"type": "nearby", "upserts": [], "removals": removals}));
                }
            }
            _ => {}
        }
    }

    fn reported(&self, user: u32, fix: &Value) {
        let mut people = self.people.lock().unwrap();
        people[user as usize].at =
            Some(Position::new(fix["lat"].as_f64().unwrap(), fix["lon"].as_f64().unwrap()).unwrap());
        people[user as usize].reported_ms = fix["time"].as_i64().unwrap();
        for &friend in &self.friends[user as usize] {
            self.decide(&mut people, user, friend, false);
            self.decide(&mut people, friend, user, true);
        }
    }

    /// The whole list in parts of two, and its digest.
    fn list(&self, user: u32) {
        let mut people = self.people.lock().unwrap();
        let mut near: Vec<(f64, u32)> = self.friends[user as usize]
            .iter()
            .filter_map(|&f| Some((in_range(&people[user as usize], &people[f as usize], false)?, f)))
            .collect();
        near.sort_by(|a, b| a.0.total_cmp(&b.0));
        let parts: Vec<_> = if near.is_empty() { vec![&near[..]] } else { near.chunks(2).collect() };
        for (part, entries) in parts.iter().enumerate() {
            let upserts: Vec<Value> = entries.iter().map(|&(metres, f)| self.entry(f, &people, metres)).collect();
            let reset = json!({"part": part + 1, "parts": parts.len()});
            Self::tell(&people, user, json!({"type": "nearby", "reset": reset, "upserts": upserts, "removals": []}));
        }
        people[user as usize].sees = near.iter().map(|&(_, f)| f).collect();
    }

    async fn serve(self: Arc<Self>, stream: TcpStream) {
        // The type of the callback's error is the library's.
        #[allow(clippy::result_large_err)]
        let choose = |request: &Request, mut response: Response| {
            if request.headers().contains_key("sec-websocket-protocol") {
                response.headers_mut().insert("sec-websocket-protocol", "nearcast.v1".parse().unwrap());
            }
            Ok(response)
        };
        stream.set_nodelay(true).unwrap();
        let Ok(socket) = tokio_tungstenite::accept_hdr_async(stream, choose).await else { return };
        let (mut sink, mut source) = socket.split();
        let (out, mut outgoing) = unbounded_channel::<Value>();
        tokio::spawn(async move {
            while let Some(message) = outgoing.recv().await {
                if sink.send(Message::text(message.to_string())).await.is_err() {
                    return;
                }
            }
        });
        let mut me = None;
        while let Some(Ok(message)) = source.next().await {
            let Ok(text) = message.to_text() else { continue };
            let Ok(said) = serde_json::from_str::<Value>(text) else { continue };
            match said["type"].as_str() {
                Some("hello") if self.defect == Defect::Deaf => {}
                Some("hello") => {
                    let device = said["device"].as_str().unwrap();
                    let user = self.indices[device.trim_end_matches("-phone")];
                    me = Some(user);
                    self.people.lock().unwrap()[user as usize].socket = Some(out.clone());
                    let mut welcome = json!({"type": "welcome", "protocol": 1, "user": self.users[user as usize],
                        "friend_ttl_s": 600, "radius_m": RADIUS_M, "ping_every_s": 25});
                    if let Some(fix) = said.get("position") {
                        self.reported(user, fix);
                        welcome["accepted"] = json!({"device": device, "n": fix["n"], "result": "published"});
                    }
                    let _ = out.send(welcome);
                    self.list(user);
                }
                Some("location") => {
                    self.reported(me.unwrap(), &said);
                    let _ = out.send(json!({"type": "ack", "device": "d", "n": said["n"], "result": "published"}));
                }
                Some("locations") => {
                    let count = said["fixes"].as_array().unwrap().len();
                    let _ = out.send(json!({"type": "ack", "device": "d", "n": 0, "result": "stored", "count": count,
                        "refused": [], "re": said["id"]}));
                }
                Some("sync") => self.list(me.unwrap()),
                _ => {}
            }
        }
    }
}

/// 40 phones, 12 friends each, for a few seconds, against such a hub.
async fn run_against(defect: Defect, sabotage: bool, drop_rate: f64) -> Report {
    let centre = Position::new(52.52, 13.405).unwrap();
    let cast = town(run_name(), Graph::build(40, 12, centre, 3), centre, 3, 50.0);
    let indices: HashMap<String, u32> = cast.users.iter().cloned().zip(0..).collect();
    let people = Mutex::new(cast.users.iter().map(|_| Person::default()).collect());
    let (friends, users) = (cast.friends.clone(), cast.users.clone());
    let hub = Arc::new(Hub { friends, users, indices, defect, people });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/v1/ws", listener.local_addr().unwrap());
    let address = Address::parse(&url, &trust::client(None).unwrap()).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(Arc::clone(&hub).serve(stream));
        }
    });
    let play = Play {
        duration: Some(Duration::from_secs(7)),
        seed: 3,
        report_every: Duration::from_millis(1_500),
        drop_rate,
        away: None,
        slack: Duration::from_millis(500),
        sabotage,
        embedded: false,
    };
    let sign: Sign = Arc::new(|_: &str| Ok("token".to_owned()));
    let (progress, _watched) = watch::channel(Progress::default());
    let watchers = Watchers { progress, window: None, ledger: None, timeline: None };
    run(cast, &play, vec![address], sign, watchers, &Shutdown::new()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_hub_is_clean_while_sockets_drop() {
    let report = run_against(Defect::None, false, 4.0).await;
    assert!(report.passed(), "{}", report.table());
    assert!(report.drops > 5 && report.reconnects > 0 && report.reports_unacknowledged == 0, "{}", report.table());
    assert!(report.in_range_pair_seconds > 100.0 && report.latency_ms.samples > 100, "{}", report.table());
    assert_eq!((report.updates_unrecognised, report.retired), (0, 0), "{}", report.table());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_update_in_a_thousand_dropped_by_the_phones_is_found() {
    let report = run_against(Defect::None, true, 0.0).await;
    assert!(report.updates_sabotaged > 0, "{}", report.table());
    assert_eq!(report.verdict, Verdict::Wrong, "{}", report.table());
    assert!(report.wrong_seconds > 0.0 && !report.examples.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_forgets_removals_is_found() {
    let report = run_against(Defect::NoRemovals, false, 0.0).await;
    assert!(report.wrong > 0 && report.missing == 0, "{}", report.table());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_forgets_appearances_is_found() {
    let report = run_against(Defect::NoAppearances, false, 0.0).await;
    assert!(report.missing > 0, "{}", report.table());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_welcomes_nobody_shows_nothing() {
    let report = run_against(Defect::Deaf, false, 0.0).await;
    assert_eq!(report.verdict, Verdict::NothingAcknowledged, "{}", report.table());
    assert!(report.reports_sent > 0 && report.reports_unacknowledged == report.reports_sent);
}
