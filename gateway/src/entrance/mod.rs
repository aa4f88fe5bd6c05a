//! The way in, up to the first byte of HTTP: who is there, may it come in, and TLS.
//!
//! In this order: a load balancer's header, the limits, TLS. What is refused before TLS is told so inside it; as that
//! costs a handshake, only some are.

mod events;
mod forwarded;
mod limits;
mod networks;
mod proxy;
mod stream;
mod tls;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use governor::DefaultDirectRateLimiter;
use governor::Quota;
use governor::clock::DefaultClock;
use nearcast_schemas::refusal::Refusal;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::tungstenite::http::HeaderMap;

use crate::config::Config;
use crate::events::UpgradeRefused;
use limits::{Handshakes, Places};

pub use events::{HandshakeFailed, Stage};
pub use forwarded::{ForwardedHeader, Malformed as ForwardedMalformed, client as forwarded_client};
pub use limits::{Denied, Place};
pub use networks::Networks;
pub use proxy::{ProxyError, ProxyProtocol, read_header as read_proxy_header};
pub use stream::Stream;
pub use tls::{Files, Tls, TlsError};

/// Connections that are told at the same time why they are refused; more are closed without a word.
const TOLD_AT_ONCE: usize = 256;
/// Handshakes a second that are made only to say so.
const TOLD_PER_S: std::num::NonZeroU32 = std::num::NonZeroU32::new(100).unwrap();

/// What all connections share on their way in. Several listeners may.
pub struct Entrance {
    tls: Option<Tls>,
    proxy_protocol: ProxyProtocol,
    trusted: Networks,
    header: ForwardedHeader,
    handshake: Duration,
    room: Arc<Semaphore>,
    telling: Arc<Semaphore>,
    told: DefaultDirectRateLimiter,
    handshakes: Handshakes,
    places: Arc<Places>,
}

/// A place in this process while it lives, be it only to hear that there is no room.
pub struct Door {
    full: bool,
    _place: OwnedSemaphorePermit,
}

/// Why a connection is not let in, and what else its answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turned {
    /// A limit.
    Denied(Denied),
    /// Not by a proxy that is trusted.
    NotAProxy,
    /// Not the header of a proxy.
    NoHeader,
    /// A header of a proxy against its grammar.
    Malformed,
}

impl Turned {
    /// The code of the answer.
    pub fn refusal(self) -> Refusal {
        match self {
            Self::Denied(denied) => denied.refusal,
            Self::NotAProxy => Refusal::NotAProxy,
            Self::NoHeader | Self::Malformed => Refusal::Malformed,
        }
    }

    /// Where the code's own sentence says something else.
    pub fn message(self) -> Option<&'static str> {
        match self {
            Self::Denied(Denied { refusal: Refusal::Busy, .. }) => {
                Some("This gateway has as many connections as it takes, or new ones come too fast; try again.")
            }
            Self::Denied(_) | Self::NotAProxy => None,
            Self::NoHeader => Some("A connection to this gateway begins with a PROXY protocol header, version 2."),
            Self::Malformed => Some("The header that names the client, written by a proxy, is malformed."),
        }
    }

    /// When to come back.
    pub fn retry_after(self) -> Option<Duration> {
        match self {
            Self::Denied(denied) => Some(denied.retry_after),
            Self::NotAProxy | Self::NoHeader | Self::Malformed => None,
        }
    }
}

impl From<Denied> for Turned {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied)
    }
}

/// Somebody who came in.
pub struct Visitor {
    /// A proxy is at the other end that names the client in the request's head; then this is looked up.
    names: Option<Arc<Entrance>>,
    place: Option<Place>,
}

impl Entrance {
    /// As configured, with a certificate or without.
    pub fn new(config: &Config, tls: Option<Tls>) -> Self {
        Self {
            tls,
            proxy_protocol: config.proxy_protocol,
            trusted: config.trusted_proxies.clone(),
            header: config.forwarded_header,
            handshake: Duration::from_secs(config.handshake_timeout_s.into()),
            room: Arc::new(Semaphore::new(config.max_connections.min(Semaphore::MAX_PERMITS))),
            telling: Arc::new(Semaphore::new(TOLD_AT_ONCE)),
            told: DefaultDirectRateLimiter::direct(Quota::per_second(TOLD_PER_S)),
            handshakes: Handshakes::new(
                DefaultClock::default(),
                config.handshakes_per_s,
                config.handshakes_per_s_per_address,
            ),
            places: Arc::new(Places::new(config.max_connections_per_address)),
        }
    }

    /// For a connection that was accepted just now. None: there is neither room nor anybody to say so.
    pub fn door(&self) -> Option<Door> {
        let place = Arc::clone(&self.room).try_acquire_owned();
        let full = place.is_err();
        let place = place.or_else(|_| Arc::clone(&self.telling).try_acquire_owned());
        place.ok().map(|place| Door { full, _place: place })
    }

    /// Until when a connection of now has to have sent its request.
    pub fn deadline(&self) -> Instant {
        Instant::now() + self.handshake
    }

    /// From a TCP connection to one that speaks HTTP, let in or not. None: it has ended, or is not worth an answer.
    pub async fn enter(
        self: &Arc<Self>,
        mut stream: TcpStream,
        peer: IpAddr,
        door: &Door,
        deadline: Instant,
    ) -> Option<(Stream, Result<Visitor, Turned>)> {
        let from = match timeout_at(deadline, self.origin(&mut stream, peer)).await {
            Ok(Ok(from)) => from,
            Ok(Err(failed)) => {
                failed.emit();
                return None;
            }
            Err(_) => {
                HandshakeFailed::late(Stage::Proxy).emit();
                return None;
            }
        };
        let admitted = if door.full {
            Err(Denied { refusal: Refusal::Busy, retry_after: Duration::from_secs(1) }.into())
        } else {
            from.and_then(|from| self.admit(from))
        };
        let Some(tls) = &self.tls else { return Some((Stream::Plain(stream), admitted)) };
        if let Err(turned) = &admitted
            && (*turned == Turned::NoHeader || self.told.check().is_err())
        {
            UpgradeRefused { refusal: turned.refusal() }.emit();
            return None;
        }
        match timeout_at(deadline, tls.accept(stream)).await {
            Ok(Ok(stream)) => Some((Stream::Tls(Box::new(stream)), admitted)),
            Ok(Err(error)) => {
                HandshakeFailed::of(Stage::Tls, &error).emit();
                None
            }
            Err(_) => {
                HandshakeFailed::late(Stage::Tls).emit();
                None
            }
        }
    }

    /// Who is there: an address, or a proxy that has not said yet for whom it speaks, or speaks for itself.
    async fn origin(&self, stream: &mut TcpStream, peer: IpAddr) -> Result<Result<Origin, Turned>, HandshakeFailed> {
        let trusted = self.trusted.contains(peer);
        match self.proxy_protocol {
            ProxyProtocol::Off if trusted => Ok(Ok(Origin::Proxy { names_later: true })),
            ProxyProtocol::Off => Ok(Ok(Origin::Client(peer))),
            ProxyProtocol::V2 if !trusted => Ok(Err(Turned::NotAProxy)),
            ProxyProtocol::V2 => match proxy::read_header(stream).await {
                Ok(Some(client)) => Ok(Ok(Origin::Client(client))),
                Ok(None) => Ok(Ok(Origin::Proxy { names_later: false })),
                Err(ProxyError::Gone(error)) => Err(HandshakeFailed::of(Stage::Proxy, &error)),
                Err(ProxyError::Malformed) => Ok(Err(Turned::NoHeader)),
            },
        }
    }

    fn admit(self: &Arc<Self>, from: Origin) -> Result<Visitor, Turned> {
        let (place, names) = match from {
            Origin::Client(address) => (self.place(address)?, None),
            Origin::Proxy { names_later } => (None, names_later.then(|| Arc::clone(self))),
        };
        // After the address: who comes too often does not take the others' share.
        self.handshakes.check_all()?;
        Ok(Visitor { names, place })
    }

    fn place(&self, address: IpAddr) -> Result<Option<Place>, Denied> {
        let source = address.into();
        self.handshakes.check(source)?;
        self.places.take(source)
    }
}

enum Origin {
    Client(IpAddr),
    Proxy { names_later: bool },
}

impl Visitor {
    /// Looks at the head of the request, where a proxy may name the client.
    ///
    /// # Errors
    /// When a proxy's header is against its grammar, or its client is over a limit.
    pub fn shows(&mut self, headers: &HeaderMap) -> Result<(), Turned> {
        if let Some(entrance) = &self.names {
            let client = forwarded::client(headers, entrance.header, &entrance.trusted);
            if let Some(client) = client.map_err(|_| Turned::Malformed)? {
                self.place = entrance.place(client)?;
            }
        }
        Ok(())
    }

    /// Whom no limit concerns.
    #[cfg(test)]
    pub fn of_nobody() -> Self {
        Self { names: None, place: None }
    }

    /// What the connection holds while it lives.
    pub fn into_place(self) -> Option<Place> {
        self.place
    }
}
