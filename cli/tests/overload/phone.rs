//! A socket that costs little, and what came of opening it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

pub type Socket = WebSocketStream<TcpStream>;

/// A phone gives up a connection that is not there by then.
const GIVE_UP: Duration = Duration::from_secs(30);
/// What a phone's own system takes before it says that the network is slow.
const SEND_BUFFER: u32 = 4_096;

/// How often phones were refused, by code.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<BTreeMap<String, u64>>);

impl Refusals {
    pub fn count(&self, code: &str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(code.to_owned()).or_default() += 1;
    }

    pub fn all(&self) -> BTreeMap<String, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Nobody answered: the connection was closed, or did not come. The client reconnects as after any loss.
pub const NO_ANSWER: &str = "(closed)";
pub const TIMEOUT: &str = "(no answer in 30 s)";

/// Connects.
///
/// # Errors
/// The code of the refusal, or one of the two above.
pub async fn connect(ws: &str, token: &str) -> Result<Socket, String> {
    let connecting = async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_send_buffer_size(SEND_BUFFER).unwrap();
        let stream = socket.connect(ws.parse().unwrap()).await.map_err(|_| NO_ANSWER)?;
        stream.set_nodelay(true).map_err(|_| NO_ANSWER)?;
        let mut request = format!("ws://{ws}/v1/ws").into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        let config = WebSocketConfig::default().read_buffer_size(1_024).write_buffer_size(0);
        match client_async_with_config(request, stream, Some(config)).await {
            Ok((socket, _)) => Ok(socket),
            Err(WsError::Http(answer)) => {
                let body: Value =
                    serde_json::from_slice(answer.body().as_deref().unwrap_or_default()).unwrap_or_default();
                Err(body["code"].as_str().map_or_else(|| format!("http_{}", answer.status().as_u16()), str::to_owned))
            }
            Err(_) => Err(NO_ANSWER.to_owned()),
        }
    };
    timeout(GIVE_UP, connecting).await.unwrap_or_else(|_| Err(TIMEOUT.to_owned()))
}

/// Ends it as a network does that is gone.
pub fn cut(socket: &Socket) {
    let _ = socket.get_ref().set_zero_linger();
}

/// The number in a message, which is read for little.
pub fn number(text: &str) -> Option<i64> {
    let (_, rest) = text.split_once("\"n\":")?;
    rest.split([',', '}']).next()?.parse().ok()
}

/// The text of a field that holds a word.
pub fn word<'a>(text: &'a str, field: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("\"{field}\":\""))?;
    rest.split('"').next()
}

pub fn now_ms() -> i64 {
    nearcast_runtime::clock::now_ms()
}

/// A report; `place` says where, 22 m apart, so that none is thinned out for being close. What it says of its accuracy is its
/// number, by which whoever is shown it knows it again.
pub fn report(n: i64, place: i64) -> Message {
    let (lat, now) = (latitude(place), now_ms());
    Message::text(format!(
        r#"{{"type":"location","n":{n},"lat":{lat:.4},"lon":13.4,"time":{now},"clock":{now},"accuracy_m":{n},"ack":true}}"#
    ))
}

pub fn hello(device: &str, n: i64, place: i64) -> Message {
    let now = now_ms();
    let position = json!({"n": n, "lat": latitude(place), "lon": 13.4, "time": now});
    Message::text(json!({"type": "hello", "device": device, "clock": now, "position": position}).to_string())
}

/// Places are so many, then the way begins anew: 3 km, all in range.
const PLACES: i64 = 150;

fn latitude(place: i64) -> f64 {
    52.5 + (place % PLACES) as f64 * 2e-4
}
