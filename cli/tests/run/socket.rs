//! A WebSocket at a gateway.

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::PATIENCE;

pub struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    /// At the gateway's `host:port`.
    pub async fn connect(ws: &str, token: &str) -> Self {
        let mut request = format!("ws://{ws}/v1/ws").into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        Self(tokio_tungstenite::connect_async(request).await.unwrap().0)
    }

    pub async fn send(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    /// The next message of this type.
    pub async fn expect(&mut self, kind: &str) -> Value {
        let message = async {
            loop {
                let message = self.0.next().await.expect("the socket stays").unwrap();
                let Message::Text(text) = message else { continue };
                let message: Value = serde_json::from_str(&text).unwrap();
                if message["type"] == kind {
                    return message;
                }
            }
        };
        timeout(PATIENCE, message).await.unwrap_or_else(|_| panic!("no {kind} came"))
    }

    /// The end of the connection.
    pub async fn closed(&mut self) {
        let end = async { while self.0.next().await.is_some_and(|message| message.is_ok()) {} };
        timeout(PATIENCE, end).await.expect("it is not closed");
    }
}
