//! A client.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::world::PATIENCE;

pub struct Phone<S = TcpStream> {
    socket: WebSocketStream<S>,
    /// Whether it speaks MessagePack.
    binary: bool,
}

impl Phone {
    pub async fn connect(addr: SocketAddr, token: &str) -> Result<Self, WsError> {
        Self::over(TcpStream::connect(addr).await?, token, &[]).await
    }

    /// One that offers a subprotocol, of which the server takes one.
    pub async fn connect_offering(addr: SocketAddr, token: &str, offer: &str) -> Self {
        let stream = TcpStream::connect(addr).await.unwrap();
        Self::over(stream, token, &[("sec-websocket-protocol", offer)]).await.unwrap()
    }

    /// One whose system takes little that it has not read.
    pub async fn connect_narrow(addr: SocketAddr, token: &str) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        let stream = socket.connect(addr).await.unwrap();
        Self::over(stream, token, &[]).await.unwrap()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Phone<S> {
    /// On a connection that there is, with further headers.
    pub async fn over(stream: S, token: &str, headers: &[(&'static str, &str)]) -> Result<Self, WsError> {
        let mut request = "ws://localhost/v1/ws".into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().append(*name, HeaderValue::from_str(value).unwrap());
        }
        let bearer = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
        request.headers_mut().insert("authorization", bearer);
        let (socket, response) = client_async(request, stream).await?;
        let chosen = response.headers().get("sec-websocket-protocol");
        Ok(Self { socket, binary: chosen.is_some_and(|chosen| chosen == "nearcast.v1.msgpack") })
    }

    pub async fn send(&mut self, message: Value) {
        let frame = match self.binary {
            true => Message::binary(rmp_serde::to_vec_named(&message).unwrap()),
            false => Message::text(message.to_string()),
        };
        self.send_raw(frame).await;
    }

    pub async fn send_raw(&mut self, message: Message) {
        timeout(PATIENCE, self.socket.send(message)).await.unwrap().unwrap();
    }

    /// What comes next; none at the end.
    async fn any(&mut self) -> Option<Result<Message, WsError>> {
        timeout(PATIENCE, self.socket.next()).await.expect("nothing came")
    }

    /// The next message.
    pub async fn next(&mut self) -> Value {
        loop {
            match self.any().await {
                Some(Ok(Message::Binary(bytes))) if self.binary => return rmp_serde::from_slice(&bytes).unwrap(),
                Some(Ok(Message::Text(text))) if !self.binary => return serde_json::from_str(&text).unwrap(),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("expected a message, got {other:?}"),
            }
        }
    }

    /// The next message, which is of this type.
    pub async fn expect(&mut self, kind: &str) -> Value {
        let message = self.next().await;
        assert_eq!(message["type"], kind, "{message}");
        message
    }

    /// The next message, which is this error.
    pub async fn expect_error(&mut self, code: &str) -> Value {
        let message = self.expect("error").await;
        assert_eq!(message["code"], code, "{message}");
        message
    }

    /// A farewell, and the close frame after it.
    pub async fn expect_bye(&mut self, code: &str, close: u16) -> Value {
        let message = self.expect("bye").await;
        assert_eq!(message["code"], code, "{message}");
        assert_eq!(self.closed().await, close);
        message
    }

    /// The code of the close frame that comes next; then the connection ends.
    pub async fn closed(&mut self) -> u16 {
        let code = match self.any().await {
            Some(Ok(Message::Close(Some(frame)))) => frame.code.into(),
            other => panic!("expected the end, got {other:?}"),
        };
        loop {
            match self.any().await {
                None | Some(Err(_)) => return code,
                Some(Ok(_)) => {}
            }
        }
    }

    /// Closes, and waits for the other end.
    pub async fn close(mut self) {
        self.socket.close(None).await.unwrap();
        while self.any().await.is_some_and(|message| message.is_ok()) {}
    }

    /// Stops speaking WebSocket.
    pub fn into_stream(self) -> S {
        self.socket.into_inner()
    }

    /// The next list or change, as words: `[1/1? +a]` a part of a whole list, `+a -b` changes.
    pub async fn nearby(&mut self) -> String {
        let message = self.expect("nearby").await;
        show(&message)
    }
}

pub fn show(message: &Value) -> String {
    let mut words: Vec<String> = Vec::new();
    for (list, sign) in [("upserts", '+'), ("removals", '-')] {
        let entries = message[list].as_array().unwrap();
        words.extend(entries.iter().map(|entry| format!("{sign}{}", entry["id"].as_str().unwrap())));
    }
    let words = words.join(" ");
    match message.get("reset") {
        Some(reset) => {
            let provisional = if reset["provisional"] == json!(true) { "?" } else { "" };
            format!("[{}/{}{provisional} {words}]", reset["part"], reset["parts"])
        }
        None => words,
    }
}

pub fn hello() -> Value {
    json!({"type": "hello", "device": "d1"})
}

/// A report that is as old as the phone's clock says: not at all.
pub fn location(n: i64, lat: f64, lon: f64) -> Value {
    json!({"type": "location", "n": n, "lat": lat, "lon": lon, "time": 1_700_000_000_000_i64, "clock": 1_700_000_000_000_i64, "ack": true})
}
