//! What proxies say of the client, before or in the request's head.

use std::net::IpAddr;
use std::sync::LazyLock;

use futures_util::FutureExt;
use nearcast_gateway::{ForwardedHeader, Networks, forwarded_client, read_proxy_header};
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderName, HeaderValue};

/// What stands before a header's length, and the length.
const FIXED_BYTES: usize = 16;
/// What a proxy that is trusted writes for the client that is there.
const CLIENT: &str = "192.0.2.43";

static TRUSTED: LazyLock<Networks> = LazyLock::new(|| {
    Networks::try_from(vec!["10.0.0.0/8".to_owned(), "2001:db8:ffff::/48".to_owned()]).expect("these are networks")
});

/// The first bytes of a connection, and lines of `Forwarded` and of `X-Forwarded-For`.
pub fn entrance(data: &[u8]) {
    proxy_header(data);
    for header in [ForwardedHeader::Forwarded, ForwardedHeader::XForwardedFor] {
        forwarded(data, header);
    }
}

/// Exactly the header is read.
fn proxy_header(data: &[u8]) {
    let mut rest = data;
    let read = read_proxy_header(&mut rest).now_or_never().expect("bytes in memory are there at once");
    if let Ok(client) = read {
        let length = usize::from(u16::from_be_bytes([data[FIXED_BYTES - 2], data[FIXED_BYTES - 1]]));
        assert_eq!(data.len() - rest.len(), FIXED_BYTES + length);
        assert!(data.starts_with(b"\r\n\r\n\0\r\nQUIT\n"));
        assert!(client.is_none_or(|client| client == client.to_canonical()));
    }
}

fn forwarded(data: &[u8], header: ForwardedHeader) {
    let name = match header {
        ForwardedHeader::Forwarded => HeaderName::from_static("forwarded"),
        ForwardedHeader::XForwardedFor => HeaderName::from_static("x-forwarded-for"),
    };
    let lines: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
    let ask = |lines: &[Vec<u8>]| {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name.clone(), HeaderValue::from_bytes(line).ok()?);
        }
        Some(forwarded_client(&headers, header, &TRUSTED))
    };
    let mut lines: Vec<Vec<u8>> = lines.into_iter().map(<[u8]>::to_vec).collect();
    let Some(told) = ask(&lines) else { return };
    if let Ok(Some(client)) = told {
        assert!(!TRUSTED.contains(client) && client == client.to_canonical(), "a proxy is no client");
    }

    // The proxy that is trusted adds the client to what the client sent, on the same line or on one of its own: nobody
    // chooses an address.
    let client: IpAddr = CLIENT.parse().expect("this is an address");
    let said = match header {
        ForwardedHeader::Forwarded => format!("for={CLIENT}"),
        ForwardedHeader::XForwardedFor => CLIENT.to_owned(),
    };
    if let Some(last) = lines.last_mut() {
        let before = last.len();
        last.extend_from_slice(format!(", {said}").as_bytes());
        let told = ask(&lines);
        assert!(told.is_some_and(|told| told.is_err() || told == Ok(Some(client))), "it was chosen");
        lines.last_mut().expect("it is still there").truncate(before);
    }
    lines.push(said.into_bytes());
    let told = ask(&lines);
    assert!(told.is_some_and(|told| told.is_err() || told == Ok(Some(client))), "it was chosen");
}
