//! One phone's WebSocket.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::header::{AUTHORIZATION, HOST, HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_util::either::Either;

use super::frames::{Hear, Problem, Say};
use super::trust::BadCertificate;

/// A phone holds thousands of neighbours in one process: small buffers.
const BUFFER_BYTES: usize = 4_096;
/// Connecting, and handing a message to the kernel, take no longer than this on a network that works.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the gateways are.
#[derive(Clone)]
pub(crate) struct Address {
    url: String,
    host_and_port: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// Boxed where it is TLS, so that a phone without is as small as it was.
type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

impl Address {
    /// From `ws://host[:port]/path`, or with `wss://` for TLS.
    ///
    /// # Errors
    /// What a URL must be.
    pub(crate) fn parse(url: &str, tls: &Arc<ClientConfig>) -> Result<Self, String> {
        let bad = || format!("{url}: not ws://host[:port]/path or wss://host[:port]/path");
        let (scheme, rest) = url.split_once("://").ok_or_else(bad)?;
        let default_port = match scheme {
            "ws" => 80,
            "wss" => 443,
            _ => return Err(bad()),
        };
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if port.parse::<u16>().is_ok() => host,
            _ => authority,
        };
        if host.is_empty() || authority.contains('@') {
            return Err(bad());
        }
        let host_and_port = if host == authority { format!("{host}:{default_port}") } else { authority.to_owned() };
        let tls = if scheme == "wss" {
            let name = host.trim_matches(['[', ']']).to_owned();
            Some((TlsConnector::from(Arc::clone(tls)), ServerName::try_from(name).map_err(|_| bad())?))
        } else {
            None
        };
        Ok(Self { url: url.to_owned(), host_and_port, tls })
    }

    async fn connect(&self) -> io::Result<Stream> {
        let stream = TcpStream::connect(&self.host_and_port).await?;
        // Frames are small and latency is measured.
        stream.set_nodelay(true)?;
        Ok(match &self.tls {
            Some((tls, name)) => Either::Right(Box::new(tls.connect(name.clone(), stream).await?)),
            None => Either::Left(stream),
        })
    }

    /// Looks once at the certificate that is shown here. Whatever else goes wrong the phones meet, and try again.
    ///
    /// # Errors
    /// When it is not accepted.
    pub(crate) async fn check(&self) -> Result<(), BadCertificate> {
        match timeout(PATIENCE, self.connect()).await {
            Ok(Err(error)) => BadCertificate::of(&self.url, &error).map_or(Ok(()), Err),
            _ => Ok(()),
        }
    }
}

/// An open socket.
pub(crate) struct Socket(WebSocketStream<Stream>);

/// What came, or that nothing will come any more.
pub(crate) enum Heard {
    /// A message.
    Message(Box<Hear>),
    /// A ping or pong: the server is there.
    Alive,
    /// Text or bytes that are no message of the protocol.
    Unreadable,
    /// The connection is over.
    Over,
}

impl Socket {
    /// Connects and upgrades. The token goes into the header, or into a subprotocol as browsers do.
    ///
    /// # Errors
    /// A code: the server's own where it refused, else what failed.
    pub(crate) async fn open(to: &Address, token: &str, as_browser: bool) -> Result<Self, String> {
        let connecting = async {
            let stream = to.connect().await.map_err(|_| "connect")?;
            let mut request = to.url.as_str().into_client_request().map_err(|_| "url")?;
            let headers = request.headers_mut();
            headers.insert(HOST, HeaderValue::from_str(&to.host_and_port).map_err(|_| "url")?);
            let (name, value) = if as_browser {
                (SEC_WEBSOCKET_PROTOCOL, format!("nearcast.v1, bearer.{token}"))
            } else {
                (AUTHORIZATION, format!("Bearer {token}"))
            };
            let mut value = HeaderValue::from_str(&value).map_err(|_| "token")?;
            value.set_sensitive(true);
            headers.insert(name, value);
            let config = WebSocketConfig::default().read_buffer_size(BUFFER_BYTES).write_buffer_size(0);
            match tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await {
                Ok((socket, _)) => Ok(Self(socket)),
                Err(WsError::Http(answer)) => {
                    let body = answer.body().as_deref().unwrap_or_default();
                    let code = serde_json::from_slice::<Problem>(body).map(|problem| problem.code);
                    Err(code.unwrap_or_else(|_| format!("http_{}", answer.status().as_u16())))
                }
                Err(_) => Err("upgrade".to_owned()),
            }
        };
        timeout(PATIENCE, connecting).await.unwrap_or_else(|_| Err("connect_timeout".to_owned()))
    }

    /// Hands a message to the kernel.
    ///
    /// # Errors
    /// When the socket is gone.
    pub(crate) async fn say(&mut self, what: &Say<'_>) -> Result<(), Gone> {
        let text = serde_json::to_string(what).map_err(|_| Gone)?;
        timeout(PATIENCE, self.0.send(Message::text(text))).await.map_err(|_| Gone)?.map_err(|_| Gone)
    }

    /// Waits for what comes next. May be dropped while waiting.
    pub(crate) async fn hear(&mut self) -> Heard {
        match self.0.next().await {
            Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
                Ok(message) => Heard::Message(Box::new(message)),
                Err(_) => Heard::Unreadable,
            },
            Some(Ok(Message::Binary(_))) => Heard::Unreadable,
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Heard::Alive,
            Some(Ok(Message::Close(_)) | Err(_)) | None => Heard::Over,
        }
    }

    /// Ends the connection as a network does that is gone: TCP is reset and no WebSocket close is sent.
    pub(crate) fn cut(self) {
        let tcp = match self.0.get_ref() {
            Either::Left(tcp) => tcp,
            Either::Right(tls) => tls.get_ref().0,
        };
        // Best effort: without it the kernel sends FIN, which is no WebSocket close either.
        let _ = tcp.set_zero_linger();
    }

    /// Ends the connection as the standard says.
    pub(crate) async fn close(mut self) {
        let closing = async {
            self.0.close(None).await.ok()?;
            while let Some(Ok(_)) = self.0.next().await {}
            Some(())
        };
        let _ = timeout(Duration::from_secs(2), closing).await;
    }
}

/// The socket is gone.
#[derive(Debug)]
pub(crate) struct Gone;

#[cfg(test)]
mod tests {
    use super::super::trust;
    use super::*;

    #[test]
    fn addresses() {
        let tls = trust::client(None).unwrap();
        let parse = |url| Address::parse(url, &tls).map(|a| (a.host_and_port, a.tls.is_some())).map_err(|_| ());
        let port = |url| parse(url).map(|a| a.0);
        assert_eq!(port("ws://127.0.0.1:7400/v1/ws"), Ok("127.0.0.1:7400".to_owned()));
        assert_eq!(port("ws://[::1]:7400/v1/ws"), Ok("[::1]:7400".to_owned()));
        assert_eq!(port("ws://example.org/v1/ws"), Ok("example.org:80".to_owned()));
        assert_eq!(parse("wss://example.org/v1/ws"), Ok(("example.org:443".to_owned(), true)));
        assert_eq!(parse("wss://[::1]:7443/v1/ws"), Ok(("[::1]:7443".to_owned(), true)));
        assert_eq!(parse("ws://[::1]/v1/ws"), Ok(("[::1]:80".to_owned(), false)));
        for bad in ["wss://a b/", "http://example.org", "ws://", "ws://:1/", "ws:///v1/ws", "wss://u:p@h/v1/ws"] {
            assert_eq!(port(bad), Err(()), "{bad}");
        }
    }
}
