//! A client that keeps what it is shown.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::run::PATIENCE;

pub struct Phone {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    device: &'static str,
    n: i64,
    /// Latitudes by friend.
    pub view: BTreeMap<String, f64>,
    /// Each position that it was ever shown.
    pub shown: Vec<(String, f64)>,
    welcomed: bool,
    /// A whole list has come that is not provisional.
    pub whole: bool,
    /// Numbers of the acknowledged reports.
    pub acknowledged: Vec<i64>,
    /// What it was told at the end, and the code of the close frame.
    pub bye: Option<Value>,
    pub closed: Option<u16>,
}

impl Phone {
    pub async fn connect(ws: &str, token: &str, device: &'static str) -> Self {
        let mut request = format!("ws://{ws}/v1/ws").into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        Self {
            socket: tokio_tungstenite::connect_async(request).await.unwrap().0,
            device,
            n: now_ms(),
            view: BTreeMap::new(),
            shown: Vec::new(),
            welcomed: false,
            whole: false,
            acknowledged: Vec::new(),
            bye: None,
            closed: None,
        }
    }

    /// A session that reports and begins at this latitude.
    pub async fn reporting(ws: &str, token: &str, device: &'static str, lat: f64) -> Self {
        let mut phone = Self::welcomed(ws, token, device, lat).await;
        phone.until("the list", |phone| phone.whole).await;
        phone
    }

    /// The same that no worker has told the whole list yet.
    pub async fn welcomed(ws: &str, token: &str, device: &'static str, lat: f64) -> Self {
        let mut phone = Self::connect(ws, token, device).await;
        let position = phone.position(lat);
        phone.say(json!({"type": "hello", "device": device, "position": position})).await;
        phone.until("the welcome", |phone| phone.welcomed).await;
        phone
    }

    /// A session that only watches.
    pub async fn watching(ws: &str, token: &str, device: &'static str) -> Self {
        let mut phone = Self::connect(ws, token, device).await;
        phone.say(json!({"type": "hello", "device": device, "watch": true})).await;
        phone.until("the list", |phone| phone.whole).await;
        phone
    }

    /// Reports; returns the report's number.
    pub async fn report(&mut self, lat: f64) -> i64 {
        let mut message = self.position(lat);
        let fields = message.as_object_mut().unwrap();
        fields.extend([("type".to_owned(), json!("location")), ("ack".to_owned(), json!(true))]);
        self.say(message).await;
        self.n
    }

    /// Reports, and waits for the acknowledgement.
    pub async fn moves_to(&mut self, lat: f64) {
        let n = self.report(lat).await;
        self.until("the acknowledgement", |phone| phone.acknowledged.contains(&n)).await;
    }

    /// Waits until it is shown somebody there.
    pub async fn sees(&mut self, friend: &str, lat: f64) {
        self.until(&format!("{friend} at {lat}"), |phone| phone.view.get(friend).is_some_and(|at| is_at(*at, lat)))
            .await;
    }

    /// Waits for the end, which must be this one for good.
    pub async fn is_superseded(&mut self) {
        self.until("the end", |phone| phone.closed.is_some()).await;
        let bye = self.bye.as_ref().expect("a farewell");
        assert_eq!((&bye["code"], &bye["reconnect"]), (&json!("superseded"), &json!(false)));
        assert_eq!(self.closed, Some(4009));
    }

    /// Listens until this holds.
    pub async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let listening = async {
            while !holds(self) {
                assert!(self.closed.is_none(), "{}: waits for {what}, and heard {:?}", self.device, self.bye);
                self.hear().await;
            }
        };
        timeout(PATIENCE, listening).await.unwrap_or_else(|_| panic!("a phone waits for {what}"));
    }

    async fn hear(&mut self) {
        let message: Value = match self.socket.next().await {
            Some(Ok(Message::Text(text))) => serde_json::from_str(&text).unwrap(),
            Some(Ok(Message::Close(frame))) => return self.closed = Some(frame.map_or(0, |frame| frame.code.into())),
            Some(Ok(_)) => return,
            Some(Err(_)) | None => return self.closed = Some(0),
        };
        match message["type"].as_str().unwrap() {
            "welcome" => self.welcomed = true,
            "nearby" => self.take(&message),
            "ack" => self.acknowledged.push(message["n"].as_i64().unwrap()),
            "bye" => self.bye = Some(message),
            "error" => panic!("{}: {message}", self.device),
            _ => {}
        }
    }

    fn take(&mut self, nearby: &Value) {
        let reset = &nearby["reset"];
        if reset["part"] == 1 {
            self.view.clear();
        }
        for gone in nearby["removals"].as_array().into_iter().flatten() {
            self.view.remove(gone["id"].as_str().unwrap());
        }
        for entry in nearby["upserts"].as_array().into_iter().flatten() {
            let (id, lat) = (entry["id"].as_str().unwrap().to_owned(), entry["lat"].as_f64().unwrap());
            self.shown.push((id.clone(), lat));
            self.view.insert(id, lat);
        }
        self.whole |= reset.is_object() && reset["provisional"] != true && reset["part"] == reset["parts"];
    }

    /// What fails shows at the next read.
    async fn say(&mut self, message: Value) {
        let _ = self.socket.send(Message::text(message.to_string())).await;
    }

    fn position(&mut self, lat: f64) -> Value {
        self.n += 1;
        let now = now_ms();
        json!({"n": self.n, "lat": lat, "lon": 13.4, "time": now, "clock": now})
    }
}

/// Positions are kept to a part of a metre.
pub fn is_at(shown: f64, lat: f64) -> bool {
    (shown - lat).abs() < 1e-5
}

pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}
