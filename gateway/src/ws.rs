//! From a TCP connection to a WebSocket, or to an HTTP refusal.
//!
//! The request's head is read here and not by tungstenite's own handshake, which closes without an answer whatever is no
//! upgrade.

use std::sync::Arc;
use std::time::Duration;

use nearcast_runtime::auth::{AuthError, Claims, Verifier};
use nearcast_runtime::lifecycle::Shutdown;
use nearcast_schemas::ids::check_id;
use nearcast_schemas::internal::Problem;
use nearcast_schemas::refusal::Refusal;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::machine::TryParse;
use tokio_tungstenite::tungstenite::handshake::server::{Request, create_response, write_response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_util::task::TaskTracker;

use crate::connection::Connection;
use crate::events::{AcceptFailed, ConnectionGauge, UpgradeRefused};
use crate::frames::Format;
use crate::gateway::Gateway;

/// Where clients connect.
pub const PATH: &str = "/v1/ws";
/// A client that cannot set headers names its token in a subprotocol with this beginning.
const BEARER: &str = "bearer.";

/// Largest head of a request.
const HEAD_BYTES: usize = 16 * 1_024;
/// A head has to be here within this time.
const HEAD_WAIT: Duration = Duration::from_secs(10);
/// After an answer, the rest of what the client is sending is read for this long, so that it gets to read the answer.
pub const LINGER: Duration = Duration::from_secs(2);
/// After a failure to accept, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// tungstenite's own default of 128 KiB would cost that much a connection.
const READ_BUFFER: usize = 1_024;
/// Frames up to this together are one write.
const WRITE_BUFFER: usize = 4_096;
/// Beyond this a connection that takes nothing is given up. One frame is far smaller.
const MAX_WRITE_BUFFER: usize = 1 << 20;

/// Accepts connections until the shutdown begins. Each becomes a task of `connections`, which ends by itself once the
/// shutdown has begun.
pub async fn accept(listener: TcpListener, gateway: Arc<Gateway>, connections: TaskTracker, shutdown: Shutdown) {
    let room = Arc::new(Semaphore::new(gateway.config.max_connections.min(Semaphore::MAX_PERMITS)));
    loop {
        let accepted = tokio::select! {
            () = shutdown.begun() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                AcceptFailed { error }.emit();
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
            connections.spawn(refuse(stream, Refused::new(Refusal::Busy)));
            continue;
        };
        let (gateway, shutdown) = (Arc::clone(&gateway), shutdown.clone());
        connections.spawn(async move {
            serve(stream, gateway, shutdown).await;
            drop(permit);
        });
    }
}

async fn serve(stream: TcpStream, gateway: Arc<Gateway>, shutdown: Shutdown) {
    let _counted = ConnectionGauge::enter();
    // Frames are gathered here already; a socket that is gone says so soon enough.
    let _ = stream.set_nodelay(true);
    let _ = socket2::SockRef::from(&stream).set_send_buffer_size(gateway.config.send_buffer_bytes);
    // Boxed, so that its buffers do not stay a part of the task.
    if let Some((socket, claims, format)) = Box::pin(upgrade(stream, &gateway, &shutdown)).await {
        Connection::new(gateway, socket, claims, format).run(shutdown).await;
    }
}

async fn upgrade(
    mut stream: TcpStream,
    gateway: &Gateway,
    shutdown: &Shutdown,
) -> Option<(WebSocketStream<TcpStream>, Claims, Format)> {
    let mut head = Vec::with_capacity(1_024);
    let answered = tokio::select! {
        () = shutdown.begun() => {
            refuse(stream, Refused::new(Refusal::Drain)).await;
            return None;
        }
        answered = timeout(HEAD_WAIT, answer(&mut stream, &mut head, &gateway.parts.verifier)) => answered.ok()?,
    };
    let Upgrade { response, claims, format, rest } = match answered {
        Ok(Some(upgrade)) => upgrade,
        Ok(None) => return None,
        Err(refused) => {
            refuse(stream, *refused).await;
            return None;
        }
    };
    timeout(HEAD_WAIT, stream.write_all(&response)).await.ok()?.ok()?;
    let limit = usize::try_from(gateway.config.message_bytes).unwrap_or(usize::MAX);
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(MAX_WRITE_BUFFER)
        .max_message_size(Some(limit))
        .max_frame_size(Some(limit));
    let socket = WebSocketStream::from_partially_read(stream, head.split_off(rest), Role::Server, Some(config)).await;
    Some((socket, claims, format))
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
    header: Option<&'static str>,
}

impl Refused {
    fn new(refusal: Refusal) -> Self {
        let row = refusal.row();
        let header = match row.status {
            401 => Some("WWW-Authenticate: Bearer"),
            405 => Some("Allow: GET"),
            426 => Some("Upgrade: websocket\r\nSec-WebSocket-Version: 13"),
            503 => Some("Retry-After: 1"),
            _ => None,
        };
        let status = StatusCode::from_u16(row.status).unwrap_or(StatusCode::BAD_REQUEST);
        Self { refusal, status, message: row.sentence.to_owned(), header }
    }

    fn response(&self) -> String {
        let problem = Problem { code: self.refusal.code().to_owned(), message: self.message.clone() };
        let body = serde_json::to_string(&problem).unwrap_or_default();
        let header = self.header.map(|header| format!("{header}\r\n")).unwrap_or_default();
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
) -> Result<Option<Upgrade>, Box<Refused>> {
    loop {
        match stream.read_buf(head).await {
            Ok(0) | Err(_) => return Ok(None),
            Ok(_) => {}
        }
        match Request::try_parse(head) {
            Ok(Some((rest, request))) => return grant(&request, verifier, rest).map(Some),
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

fn grant(request: &Request, verifier: &Verifier, rest: usize) -> Result<Upgrade, Box<Refused>> {
    let refused = |refusal| Box::new(Refused::new(refusal));
    if request.uri().path() != PATH {
        let message = format!("There is no such path; this gateway serves {PATH}.");
        return Err(Box::new(Refused { message, ..Refused::new(Refusal::NoSuchPath) }));
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
        Some(value) => verifier.verify_header(Some(value.to_str().unwrap_or_default())),
        None => match offered.iter().find_map(|name| name.strip_prefix(BEARER)) {
            Some(token) => verifier.verify(token),
            None => Err(AuthError::Missing),
        },
    };
    let claims = claims.map_err(|error| refused(of_token(error)))?;
    check_id(&claims.sub).map_err(|_| refused(Refusal::TokenSubject))?;
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

fn of_token(error: AuthError) -> Refusal {
    match error {
        AuthError::Missing => Refusal::TokenMissing,
        AuthError::Malformed => Refusal::TokenMalformed,
        AuthError::Signature => Refusal::TokenSignature,
        AuthError::Expired => Refusal::TokenExpired,
        AuthError::NotYetValid => Refusal::TokenNotYetValid,
        AuthError::Audience => Refusal::TokenAudience,
        AuthError::Issuer => Refusal::TokenIssuer,
        AuthError::Subject => Refusal::TokenSubject,
    }
}

async fn refuse(mut stream: TcpStream, refused: Refused) {
    UpgradeRefused { refusal: refused.refusal }.emit();
    let answered = async {
        stream.write_all(refused.response().as_bytes()).await?;
        stream.shutdown().await
    };
    if matches!(timeout(LINGER, answered).await, Ok(Ok(()))) {
        let _ = timeout(LINGER, discard(&mut stream)).await;
    }
}

/// Reads until the other end has closed. Closing a socket with unread bytes resets the connection, and what was written
/// may be lost with it.
pub async fn discard(stream: &mut TcpStream) {
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
            ed25519_public_key: None,
            ed25519_private_key: None,
            audience: "nearcast".into(),
            issuer: None,
            leeway_s: 0,
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
        match answer(&mut request.as_bytes(), &mut head, &verifier).await {
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
