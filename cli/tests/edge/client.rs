//! A WebSocket through the balancer, as phones and browsers open it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use nearcast_runtime::auth::{AuthConfig, Signer};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::header::{AUTHORIZATION, HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

/// Between connecting and the answer to the upgrade; beyond it a phone tries again.
const PATIENCE: Duration = Duration::from_secs(15);

/// The deployment as clients know it: an address, an authority that they trust, and tokens.
pub struct Edge {
    address: String,
    tls: TlsConnector,
    pub http: reqwest::Client,
    signer: Signer,
}

/// An open socket.
pub struct Socket {
    ws: WebSocketStream<TlsStream<TcpStream>>,
    /// Ordinal of the gateway, as the balancer names it.
    pub gateway: u32,
}

impl Edge {
    pub fn new(address: String, authority: &Path) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
        let tls = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let http = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(tls.clone()).build().unwrap();
        // The public key for development, which the cluster's services take too.
        let defaults: toml::Table = include_str!("../../nearcast.default.toml").parse().unwrap();
        let auth: AuthConfig = defaults["auth"].clone().try_into().unwrap();
        Self { address, tls: TlsConnector::from(Arc::new(tls)), http, signer: Signer::new(&auth).unwrap() }
    }

    pub fn token(&self, user: &str) -> String {
        self.signer.sign(user, Duration::from_secs(3_600), &[]).unwrap()
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    /// Opens a socket; the token goes into the header or, as browsers do, into a subprotocol. The error says which step
    /// failed.
    pub async fn open(&self, token: &str, as_browser: bool) -> Result<Socket, String> {
        let open = async {
            let stream = TcpStream::connect(&self.address).await.map_err(|_| "connect")?;
            stream.set_nodelay(true).map_err(|_| "connect")?;
            let name = ServerName::try_from("localhost").unwrap();
            let stream = self.tls.connect(name, stream).await.map_err(|_| "tls")?;
            let mut request = format!("wss://{}/v1/ws", self.address).into_client_request().unwrap();
            let (name, value) = if as_browser {
                (SEC_WEBSOCKET_PROTOCOL, format!("nearcast.v1, bearer.{token}"))
            } else {
                (AUTHORIZATION, format!("Bearer {token}"))
            };
            request.headers_mut().insert(name, HeaderValue::from_str(&value).unwrap());
            let config = WebSocketConfig::default().read_buffer_size(4_096).write_buffer_size(0);
            match tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await {
                Ok((ws, answer)) => {
                    let name = answer.headers()["x-nearcast-gateway"].to_str().unwrap();
                    Ok(Socket { ws, gateway: name.strip_prefix("gateway").unwrap().parse().unwrap() })
                }
                Err(Error::Http(answer)) => Err(format!("http_{}", answer.status().as_u16())),
                Err(_) => Err("upgrade".to_owned()),
            }
        };
        timeout(PATIENCE, open).await.unwrap_or_else(|_| Err("slow".to_owned()))
    }
}

impl Socket {
    /// What fails shows at the next read.
    pub async fn say(&mut self, message: &Value) {
        let _ = self.ws.send(Message::text(message.to_string())).await;
    }

    /// The next message; none when the connection is over. Takes nothing when it is not waited for to the end.
    pub async fn hear(&mut self) -> Option<Value> {
        loop {
            match self.ws.next().await? {
                Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).unwrap()),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }
}
