//! From a TCP connection to a WebSocket, or to an HTTP refusal.
//!
//! The request's head is read here and not by tungstenite's own handshake, which closes without an answer whatever is no
//! upgrade.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use nearcast_runtime::auth::{AuthError, Claims, Verifier, is_in_query};
use nearcast_runtime::lifecycle::Shutdown;
use nearcast_schemas::ids::is_subject;
use nearcast_schemas::internal::Problem;
use nearcast_schemas::refusal::Refusal;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{timeout, timeout_at};
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::machine::TryParse;
use tokio_tungstenite::tungstenite::handshake::server::{Request, create_response, write_response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode, header};
use tokio_util::task::TaskTracker;

use crate::connection::Connection;
use crate::entrance::{Door, HandshakeFailed, Place, Stage, Stream, Turned, Visitor};
use crate::events::{AcceptFailed, ConnectionGauge, UpgradeRefused};
use crate::frames::Format;
use crate::gateway::Gateway;
use crate::socket::Socket;
use crate::token::refusal_of;

/// Where clients connect.
pub const PATH: &str = "/v1/ws";
/// A client that cannot set headers names its token in a subprotocol with this beginning.
const BEARER: &str = "bearer.";

/// Largest head of a request.
const HEAD_BYTES: usize = 16 * 1_024;
/// After an answer, the rest of what the client is sending is read for this long, so that it gets to read the answer.
pub const LINGER: Duration = Duration::from_secs(2);
/// After a failure to accept, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections until the shutdown begins. Each becomes a task of `connections` on the runtime that this runs on, and
/// ends by itself once the shutdown has begun. Several listeners may be served at once: all limits are the gateway's.
pub async fn accept(listener: TcpListener, gateway: Arc<Gateway>, connections: TaskTracker, shutdown: Shutdown) {
    loop {
        let accepted = tokio::select! {
            () = shutdown.begun() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                AcceptFailed { error }.emit();
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        match gateway.entrance.door() {
            Some(door) => {
                let (gateway, shutdown) = (Arc::clone(&gateway), shutdown.clone());
                connections.spawn(serve(stream, peer.ip(), door, gateway, connections.clone(), shutdown));
            }
            None => UpgradeRefused { refusal: Refusal::Busy }.emit(),
        }
    }
}

/// What a connection holds while it lives.
pub struct Held {
    _door: Door,
    _place: Option<Place>,
    _counted: ConnectionGauge,
}

async fn serve(
    stream: TcpStream,
    peer: IpAddr,
    door: Door,
    gateway: Arc<Gateway>,
    connections: TaskTracker,
    shutdown: Shutdown,
) {
    let _counted = ConnectionGauge::enter();
    // Frames are gathered here already; a socket that is gone says so soon enough.
    let _ = stream.set_nodelay(true);
    let _ = socket2::SockRef::from(&stream).set_send_buffer_size(gateway.config.send_buffer_bytes);
    if let Some((socket, claims, format, _place)) = upgrade(stream, peer, &door, &gateway, &shutdown).await {
        let held = Held { _door: door, _place, _counted };
        // A task of its own: this one is as large as the handshake needs it.
        connections.spawn(Connection::new(gateway, socket, claims, format, held).run(shutdown));
    }
}

async fn upgrade(
    stream: TcpStream,
    peer: IpAddr,
    door: &Door,
    gateway: &Gateway,
    shutdown: &Shutdown,
) -> Option<(Socket, Claims, Format, Option<Place>)> {
    let deadline = gateway.entrance.deadline();
    let (mut stream, admitted) = tokio::select! {
        () = shutdown.begun() => return None,
        entered = gateway.entrance.enter(stream, peer, door, deadline) => entered?,
    };
    let mut visitor = match admitted {
        Ok(visitor) => visitor,
        Err(turned) => {
            refuse(stream, turned.into()).await;
            return None;
        }
    };
    let mut head = Vec::with_capacity(1_024);
    let answered = tokio::select! {
        () = shutdown.begun() => Ok(Err(Box::new(Refused::new(Refusal::Drain)))),
        answered = timeout_at(deadline, answer(&mut stream, &mut head, &gateway.parts.verifier, &mut visitor)) => answered,
    };
    let Upgrade { response, claims, format, rest } = match answered {
        Ok(Ok(Some(upgrade))) => upgrade,
        Ok(Ok(None)) => return None,
        Ok(Err(refused)) => {
            refuse(stream, *refused).await;
            return None;
        }
        Err(_) => {
            HandshakeFailed::late(Stage::Head).emit();
            let message = "The request did not come in time; reconnect.".to_owned();
            refuse(stream, Refused { message, ..Refused::new(Refusal::Idle) }).await;
            return None;
        }
    };
    timeout_at(deadline, write_all(&mut stream, &response)).await.ok()?.ok()?;
    let limit = usize::try_from(gateway.config.message_bytes).unwrap_or(usize::MAX);
    let socket = Socket::new(stream, head.split_off(rest), limit);
    Some((socket, claims, format, visitor.into_place()))
}

/// TLS keeps what the socket does not take at once.
async fn write_all(stream: &mut Stream, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// A request that was granted.
struct Upgrade {
    response: Vec<u8>,
    claims: Claims,
    format: Format,
    /// Length of the request.
    rest: usize,
}

/// A request that was not.
struct Refused {
    refusal: Refusal,
    status: StatusCode,
    message: String,
    /// Further headers of the response.
    header: Option<Cow<'static, str>>,
}

impl From<Turned> for Refused {
    fn from(turned: Turned) -> Self {
        let mut refused = Self::new(turned.refusal());
        if let Some(message) = turned.message() {
            message.clone_into(&mut refused.message);
        }
        if let Some(wait) = turned.retry_after() {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            refused.header = Some(format!("Retry-After: {}", seconds.max(1)).into());
        }
        refused
    }
}

impl Refused {
    fn new(refusal: Refusal) -> Self {
        let row = refusal.row();
        let header = match row.status {
            401 => Some("WWW-Authenticate: Bearer"),
            405 => Some("Allow: GET"),
            426 => Some("Upgrade: websocket\r\nSec-WebSocket-Version: 13"),
            429 | 503 => Some("Retry-After: 1"),
            _ => None,
        };
        let status = StatusCode::from_u16(row.status).unwrap_or(StatusCode::BAD_REQUEST);
        Self { refusal, status, message: row.sentence.to_owned(), header: header.map(Cow::Borrowed) }
    }

    fn response(&self) -> String {
        let problem = Problem { code: self.refusal.code().to_owned(), message: self.message.clone() };
        let body = serde_json::to_string(&problem).unwrap_or_default();
        let header = self.header.as_ref().map(|header| format!("{header}\r\n")).unwrap_or_default();
        format!(
            "HTTP/1.1 {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n{header}\r\n{body}",
            self.status,
            body.len()
        )
    }
}

/// Reads a request's head and decides. None: the client went away.
async fn answer<S: AsyncRead + Unpin>(
    stream: &mut S,
    head: &mut Vec<u8>,
    verifier: &Verifier,
    visitor: &mut Visitor,
) -> Result<Option<Upgrade>, Box<Refused>> {
    loop {
        match stream.read_buf(head).await {
            Ok(0) | Err(_) => return Ok(None),
            Ok(_) => {}
        }
        match Request::try_parse(head) {
            Ok(Some((rest, request))) => {
                visitor.shows(request.headers()).map_err(|turned| Box::new(turned.into()))?;
                return grant(&request, verifier, rest).await.map(Some);
            }
            Ok(None) if head.len() > HEAD_BYTES => return Err(Box::new(Refused::new(Refusal::TooLarge))),
            Ok(None) => {}
            Err(WsError::Protocol(ProtocolError::WrongHttpMethod)) => {
                let refusal = if asks_for_path(head) { Refusal::MethodNotAllowed } else { Refusal::NoSuchPath };
                return Err(Box::new(Refused::new(refusal)));
            }
            Err(_) => {
                let message = "This is not an HTTP/1.1 request.".to_owned();
                return Err(Box::new(Refused { message, ..Refused::new(Refusal::Malformed) }));
            }
        }
    }
}

/// Whether a request of another method is for the path that exists.
fn asks_for_path(head: &[u8]) -> bool {
    let target = head.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    target.split(|byte| *byte == b'?').next() == Some(PATH.as_bytes())
}

async fn grant(request: &Request, verifier: &Verifier, rest: usize) -> Result<Upgrade, Box<Refused>> {
    let refused = |refusal| Box::new(Refused::new(refusal));
    if request.uri().path() != PATH {
        let message = format!("There is no such path; this gateway serves {PATH}.");
        return Err(Box::new(Refused { message, ..Refused::new(Refusal::NoSuchPath) }));
    }
    if is_in_query(request.uri().query()) {
        return Err(refused(Refusal::TokenInUrl));
    }
    let mut response = create_response(request).map_err(|_| refused(Refusal::UpgradeRequired))?;
    let offered: Vec<&str> = request
        .headers()
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    let claims = match request.headers().get(header::AUTHORIZATION) {
        Some(value) => verifier.verify_header(Some(value.to_str().unwrap_or_default())).await,
        None => match offered.iter().find_map(|name| name.strip_prefix(BEARER)) {
            Some(token) => verifier.verify(token).await,
            None => Err(AuthError::Missing),
        },
    };
    let claims = claims.map_err(|error| refused(refusal_of(error)))?;
    if !is_subject(&claims.sub, claims.of_link) {
        return Err(refused(Refusal::TokenSubject));
    }
    // The first that it names, as clients list them by preference.
    let format = offered.iter().find_map(|name| Format::of_subprotocol(name));
    if let Some(format) = format {
        let chosen = HeaderValue::from_static(format.subprotocol());
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, chosen);
    }
    let mut bytes = Vec::with_capacity(256);
    write_response(&mut bytes, &response).map_err(|_| refused(Refusal::Internal))?;
    Ok(Upgrade { response: bytes, claims, format: format.unwrap_or_default(), rest })
}

async fn refuse(mut stream: Stream, refused: Refused) {
    UpgradeRefused { refusal: refused.refusal }.emit();
    let answered = async {
        write_all(&mut stream, refused.response().as_bytes()).await?;
        stream.shutdown().await
    };
    if matches!(timeout(LINGER, answered).await, Ok(Ok(()))) {
        let _ = timeout(LINGER, discard(&mut stream)).await;
    }
}

/// Reads until the other end has closed. Closing a socket with unread bytes resets the connection, and what was written
/// may be lost with it.
pub async fn discard(stream: &mut Stream) {
    // On the heap, so that it is no part of every connection's task.
    let mut bytes = vec![0; 1_024];
    while matches!(stream.read(&mut bytes).await, Ok(1..)) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearcast_runtime::Secret;
    use nearcast_runtime::auth::{AuthConfig, Signer};

    fn auth() -> AuthConfig {
        AuthConfig {
            hs256_secret: Some(Secret::new("0123456789abcdef0123456789abcdef")),
            leeway_s: 0,
            ..AuthConfig::default()
        }
    }

    fn token(user: &str) -> String {
        Signer::new(&auth()).unwrap().sign(user, Duration::from_secs(60), &[]).unwrap()
    }

    const UPGRADE: &str = "Host: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                           Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

    /// The response, or the user and what follows the request.
    async fn ask(request: &str) -> Result<(String, String, String), String> {
        let mut head = Vec::with_capacity(4_096);
        let verifier = Verifier::new(&auth()).unwrap();
        match answer(&mut request.as_bytes(), &mut head, &verifier, &mut Visitor::of_nobody()).await {
            Ok(Some(upgrade)) => {
                let rest = String::from_utf8(head.split_off(upgrade.rest)).unwrap();
                Ok((String::from_utf8(upgrade.response).unwrap(), upgrade.claims.sub, rest))
            }
            Ok(None) => Err("gone".into()),
            Err(refused) => Err(refused.response()),
        }
    }

    async fn check_refused(request: &str, status: &str, code: &str) {
        let response = ask(request).await.unwrap_err();
        assert!(response.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {response}");
        assert!(response.contains(&format!("\"code\":\"{code}\"")), "{request}: {response}");
    }

    #[tokio::test]
    async fn takes_the_token_from_the_header_or_the_subprotocol() {
        let token = token("alice");
        let request = format!("GET /v1/ws HTTP/1.1\r\n{UPGRADE}Authorization: Bearer {token}\r\n\r\nrest");
        let (response, user, rest) = ask(&request).await.unwrap();
        assert!(
            response.starts_with("HTTP/1.1 101") && response.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            "{response}"
        );
        assert!(!response.to_lowercase().contains("sec-websocket-protocol"));
        assert_eq!((user.as_str(), rest.as_str()), ("alice", "rest"));

        let offer = format!("Sec-WebSocket-Protocol: nearcast.v1, bearer.{token}\r\n");
        let (response, user, _) = ask(&format!("GET /v1/ws?x=1 HTTP/1.1\r\n{UPGRADE}{offer}\r\n")).await.unwrap();
        assert!(response.to_lowercase().contains("sec-websocket-protocol: nearcast.v1\r\n"), "{response}");
        assert!(!response.contains(&token));
        assert_eq!(user, "alice");
    }

    #[tokio::test]
    async fn takes_the_first_subprotocol_that_it_knows() {
        let token = token("alice");
        for (offer, expect) in [
            ("nearcast.v1.msgpack", Some("nearcast.v1.msgpack")),
            ("nearcast.v1.msgpack, nearcast.v1", Some("nearcast.v1.msgpack")),
            ("nearcast.v1, nearcast.v1.msgpack", Some("nearcast.v1")),
            ("nearcast.v9, nearcast.v1.msgpack,nearcast.v1", Some("nearcast.v1.msgpack")),
            ("nearcast.v9", None),
        ] {
            let offer = format!("Authorization: Bearer {token}\r\nSec-WebSocket-Protocol: {offer}\r\n");
            let (response, ..) = ask(&format!("GET /v1/ws HTTP/1.1\r\n{UPGRADE}{offer}\r\n")).await.unwrap();
            let response = response.to_lowercase();
            let chosen =
                response.split_once("sec-websocket-protocol: ").and_then(|(_, rest)| rest.split("\r\n").next());
            assert_eq!(chosen, expect, "{offer}");
        }
    }

    #[tokio::test]
    async fn refuses_with_a_status_and_a_code() {
        let get = |rest: &str| format!("GET /v1/ws HTTP/1.1\r\n{UPGRADE}{rest}\r\n");
        check_refused(&get(""), "401", "token_missing").await;
        check_refused(&get("Authorization: Basic x\r\n"), "401", "token_malformed").await;
        check_refused(&get("Authorization: Bearer x.y.z\r\n"), "401", "token_malformed").await;
        let mut forged = token("alice");
        forged.truncate(forged.len() - 4);
        forged.push_str("AAAA");
        check_refused(&get(&format!("Authorization: Bearer {forged}\r\n")), "401", "token_signature").await;
        let spaced = format!("Authorization: Bearer {}\r\n", token("a b"));
        check_refused(&get(&spaced), "401", "token_subject").await;
        // A good token beside it changes nothing: nobody is to get used to it.
        let good = format!("Authorization: Bearer {}\r\n", token("alice"));
        for query in ["token=x", "a=b&access_token=x"] {
            let request = format!("GET /v1/ws?{query} HTTP/1.1\r\n{UPGRADE}{good}\r\n");
            check_refused(&request, "400", "token_in_url").await;
        }
        check_refused("GET /v1/ws HTTP/1.1\r\nHost: h\r\n\r\n", "426", "upgrade_required").await;
        check_refused(&format!("GET /v2/ws HTTP/1.1\r\n{UPGRADE}\r\n"), "404", "no_such_path").await;
        check_refused("POST /v1/ws HTTP/1.1\r\nHost: h\r\n\r\n", "405", "method_not_allowed").await;
        check_refused("POST /v1/me HTTP/1.1\r\nHost: h\r\n\r\n", "404", "no_such_path").await;
        check_refused("hello\r\n\r\n", "400", "malformed").await;
        let long = format!("X: {}\r\n", "x".repeat(HEAD_BYTES));
        check_refused(&format!("GET /v1/ws HTTP/1.1\r\n{long}{long}"), "413", "too_large").await;
    }

    #[tokio::test]
    async fn a_client_that_goes_away_gets_no_answer() {
        assert_eq!(ask("GET /v1/ws HTTP/1.1\r\n").await.unwrap_err(), "gone");
    }
}
