//! The header of the PROXY protocol, version 2, by which a load balancer that only passes bytes on names the client.

use std::io;
use std::net::IpAddr;

use ppp::v2::{Addresses, Command, Header, PROTOCOL_PREFIX};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest header that is read. Load balancers write some hundred bytes at most.
const HEADER_BYTES: usize = 4_096;
/// The prefix, two bytes, and the length of the rest.
const FIXED_BYTES: usize = 16;
/// Where the header's length stands, after the prefix and two bytes.
const LENGTH_AT: usize = 14;

/// Whether connections begin with a header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyProtocol {
    /// None does.
    #[default]
    Off,
    /// Each does, with one of version 2.
    V2,
}

/// Why there is no header.
#[derive(Debug)]
pub enum ProxyError {
    /// The other end went away.
    Gone(io::Error),
    /// What came is none.
    Malformed,
}

/// Reads the header and not a byte more. None: the proxy speaks for itself, as for a health check, or does not say for
/// whom.
///
/// # Errors
/// When no header comes.
pub async fn read_header<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Option<IpAddr>, ProxyError> {
    let mut header = vec![0; FIXED_BYTES];
    stream.read_exact(&mut header).await.map_err(ProxyError::Gone)?;
    let length = usize::from(u16::from_be_bytes([header[LENGTH_AT], header[LENGTH_AT + 1]]));
    if !header.starts_with(PROTOCOL_PREFIX) || length > HEADER_BYTES {
        return Err(ProxyError::Malformed);
    }
    header.resize(FIXED_BYTES + length, 0);
    stream.read_exact(&mut header[FIXED_BYTES..]).await.map_err(ProxyError::Gone)?;
    let header = Header::try_from(header.as_slice()).map_err(|_| ProxyError::Malformed)?;
    Ok(match (header.command, header.addresses) {
        (Command::Proxy, Addresses::IPv4(addresses)) => Some(addresses.source_address.into()),
        (Command::Proxy, Addresses::IPv6(addresses)) => Some(IpAddr::from(addresses.source_address).to_canonical()),
        (Command::Local, _) | (_, Addresses::Unspecified | Addresses::Unix(_)) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ppp::v2::{Builder, Protocol, Version};
    use proptest::prelude::*;
    use std::net::SocketAddr;

    fn header(command: Command, source: &str) -> Vec<u8> {
        let source: SocketAddr = source.parse().unwrap();
        let here: SocketAddr = if source.is_ipv4() { "10.0.0.1:443" } else { "[2001:db8::1]:443" }.parse().unwrap();
        Builder::with_addresses(Version::Two | command, Protocol::Stream, (source, here)).build().unwrap()
    }

    async fn read(mut bytes: &[u8]) -> (Result<Option<IpAddr>, ProxyError>, usize) {
        let told = read_header(&mut bytes).await;
        (told, bytes.len())
    }

    #[tokio::test]
    async fn names_the_client_and_leaves_the_rest() {
        for (source, expect) in [
            ("192.0.2.43:4711", "192.0.2.43"),
            ("[2001:db8::9]:4711", "2001:db8::9"),
            ("[::ffff:192.0.2.1]:1", "192.0.2.1"),
        ] {
            let mut bytes = header(Command::Proxy, source);
            bytes.extend_from_slice(b"GET /");
            let (told, rest) = read(&bytes).await;
            assert_eq!((told.unwrap(), rest), (Some(expect.parse().unwrap()), 5));
        }
        let (told, rest) = read(&header(Command::Local, "192.0.2.43:4711")).await;
        assert_eq!((told.unwrap(), rest), (None, 0));
        // Without addresses at all.
        let (told, _) = read(b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00").await;
        assert_eq!(told.unwrap(), None);
        // With more behind them: a type, a length, two bytes.
        let mut bytes = header(Command::Proxy, "192.0.2.43:4711");
        bytes[LENGTH_AT + 1] += 5;
        bytes.extend_from_slice(b"\x04\x00\x02\x00\x00x");
        let (told, rest) = read(&bytes).await;
        assert_eq!((told.unwrap(), rest), (Some("192.0.2.43".parse().unwrap()), 1));
    }

    #[tokio::test]
    async fn what_is_none_is_told_from_silence() {
        assert!(matches!(read(b"GET /v1/ws HTTP/1.1\r\n").await.0, Err(ProxyError::Malformed)));
        assert!(matches!(read(b"PROXY TCP4 192.0.2.1 10.0.0.1 1 2\r\n").await.0, Err(ProxyError::Malformed)));
        assert!(matches!(read(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff").await.0, Err(ProxyError::Malformed)));
        assert!(matches!(read(b"\r\n\r\n\0\r\nQUIT\n\x31\x11\x00\x00").await.0, Err(ProxyError::Malformed)));
        assert!(matches!(read(b"\r\n\r\n").await.0, Err(ProxyError::Gone(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), command in 0_u8..255, family in 0_u8..255) {
            let mut prefixed = PROTOCOL_PREFIX.to_vec();
            prefixed.extend([command, family, 0]);
            prefixed.extend(&bytes);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let _ = read(&bytes).await;
                let _ = read(&prefixed).await;
            });
        }
    }
}
