//! The client's address by the headers of proxies: `Forwarded` (RFC 7239) or `X-Forwarded-For`.
//!
//! Read from the right, where the nearest proxy wrote: what stands left of the first address that is no proxy's was
//! written by nobody whom one could believe. A header against the grammar is no address and no reason to guess one:
//! a client may have sent the first half of it.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use tokio_tungstenite::tungstenite::http::HeaderMap;

use super::networks::Networks;

/// The header in which the deployment's proxies name the client. One and not both: a client can send the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeader {
    /// RFC 7239.
    #[default]
    Forwarded,
    /// What came before it.
    XForwardedFor,
}

/// The header is against its grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Address of the last hop that is not trusted. None where the proxies name none: there is no header, all hops are
/// trusted, or a proxy hides it.
///
/// # Errors
/// When the header is against its grammar.
pub fn client(headers: &HeaderMap, header: ForwardedHeader, trusted: &Networks) -> Result<Option<IpAddr>, Malformed> {
    let name = match header {
        ForwardedHeader::Forwarded => "forwarded",
        ForwardedHeader::XForwardedFor => "x-forwarded-for",
    };
    let mut hops = Vec::new();
    for line in headers.get_all(name) {
        let line = line.to_str().map_err(|_| Malformed)?;
        match header {
            ForwardedHeader::Forwarded => elements(line, &mut hops)?,
            ForwardedHeader::XForwardedFor => {
                // Nothing is quoted here, so that nonsense that a client sent ends at its comma.
                let parts = line.split(',').map(str::trim).filter(|hop| !hop.is_empty());
                hops.extend(parts.map(|hop| node(hop).unwrap_or(None)));
            }
        }
    }
    for hop in hops.into_iter().rev() {
        match hop {
            Some(address) if trusted.contains(address) => {}
            hop => return Ok(hop),
        }
    }
    Ok(None)
}

/// `for=192.0.2.1;by=10.0.0.1, for="[2001:db8::1]:80"`
fn elements(line: &str, hops: &mut Vec<Option<IpAddr>>) -> Result<(), Malformed> {
    let mut rest = line.trim_matches([' ', '\t']);
    while !rest.is_empty() {
        // An empty element is allowed in any list (RFC 9110, 5.6.1).
        if let Some(after) = rest.strip_prefix(',') {
            rest = after.trim_start_matches([' ', '\t']);
            continue;
        }
        let mut hop = None;
        loop {
            let (name, after) = rest.split_once('=').ok_or(Malformed)?;
            if !is_token(name) {
                return Err(Malformed);
            }
            let (value, after) = value(after)?;
            if name.eq_ignore_ascii_case("for") && hop.replace(node(&value)?).is_some() {
                return Err(Malformed);
            }
            rest = after.trim_start_matches([' ', '\t']);
            match rest.strip_prefix(';') {
                Some(after) => rest = after.trim_start_matches([' ', '\t']),
                None => break,
            }
        }
        hops.push(hop.flatten());
        if !rest.is_empty() && !rest.starts_with(',') {
            return Err(Malformed);
        }
    }
    Ok(())
}

/// A token or a quoted string, and what follows it.
fn value(text: &str) -> Result<(String, &str), Malformed> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ';', ' ', '\t']).unwrap_or(text.len());
        let (token, rest) = text.split_at(end);
        // A colon and brackets may not stand here without quotes, and some proxies write them all the same.
        let good = token.bytes().all(|b| is_token_byte(b) || b":[]".contains(&b));
        return if good && !token.is_empty() { Ok((token.to_owned(), rest)) } else { Err(Malformed) };
    };
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Ok((value, &quoted[at + 1..])),
            '\\' => value.push(letters.next().ok_or(Malformed)?.1),
            _ => value.push(letter),
        }
    }
    Err(Malformed)
}

/// An address, with a port or without; none for `unknown` and for names that a proxy made up.
fn node(text: &str) -> Result<Option<IpAddr>, Malformed> {
    if text.eq_ignore_ascii_case("unknown") || text.starts_with('_') {
        return Ok(None);
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(Some(address.to_canonical()));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(Some(address.ip().to_canonical()));
    }
    // The port may be made up too, or `unknown` may have one.
    let (host, port) = text.rsplit_once(':').ok_or(Malformed)?;
    if port.starts_with('_') || host.eq_ignore_ascii_case("unknown") { node(host) } else { Err(Malformed) }
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio_tungstenite::tungstenite::http::HeaderValue;

    fn trusted() -> Networks {
        Networks::try_from(vec!["10.0.0.0/8".to_owned(), "2001:db8:ffff::/48".to_owned()]).unwrap()
    }

    fn ask(header: ForwardedHeader, lines: &[&str]) -> Result<Option<IpAddr>, Malformed> {
        let mut headers = HeaderMap::new();
        for line in lines {
            let name = if header == ForwardedHeader::Forwarded { "forwarded" } else { "x-forwarded-for" };
            headers.append(name, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        client(&headers, header, &trusted())
    }

    fn check(header: ForwardedHeader, lines: &[&str], expect: &str) {
        let expect = match expect {
            "malformed" => Err(Malformed),
            "none" => Ok(None),
            address => Ok(Some(address.parse().unwrap())),
        };
        assert_eq!(ask(header, lines), expect, "{lines:?}");
    }

    #[test]
    fn the_last_hop_that_is_not_trusted() {
        let check = |lines: &[&str], expect| check(ForwardedHeader::Forwarded, lines, expect);
        check(&[], "none");
        check(&["for=192.0.2.43"], "192.0.2.43");
        check(&["For=\"192.0.2.43:4711\";proto=https;by=10.0.0.1"], "192.0.2.43");
        check(&["for=198.51.100.1, for=192.0.2.43, for=10.1.2.3"], "192.0.2.43");
        check(&["for=198.51.100.1", "for=192.0.2.43,for=10.1.2.3"], "192.0.2.43");
        check(&["for=\"[2001:db8:cafe::17]:4711\""], "2001:db8:cafe::17");
        check(&["for=\"[2001:db8:cafe::17]\", for=\"[2001:db8:ffff::1]\""], "2001:db8:cafe::17");
        check(&["for=\"::ffff:192.0.2.1\""], "192.0.2.1");
        check(&["for=10.0.0.1, for=10.0.0.2"], "none");
        check(&["for=192.0.2.43, for=unknown"], "none");
        check(&["for=192.0.2.43, for=_hidden"], "none");
        check(&["for=192.0.2.43, proto=https"], "none");
        check(&["for=\"192.0.2.43:_port\""], "192.0.2.43");
        check(&[" , for=192.0.2.43 , "], "192.0.2.43");
        check(&["for=\"192.0.2\\.43\" ; x=\"a, for=1.1.1.1\""], "192.0.2.43");
    }

    #[test]
    fn what_a_client_sent_before_does_not_hide_it() {
        let check = |lines: &[&str], expect| check(ForwardedHeader::Forwarded, lines, expect);
        check(&["for=\", for=192.0.2.43"], "malformed");
        check(&["x=\", for=\"[2001:db8::1]\""], "malformed");
        check(&["x, for=192.0.2.43"], "malformed");
        check(&["for=192.0.2.43 for=1.1.1.1"], "malformed");
        check(&["for=192.0.2.43;for=1.1.1.1"], "malformed");
        check(&["for=nonsense"], "malformed");
        check(&["for=192.0.2.43:99999"], "malformed");
        check(&["for="], "malformed");
        check(&["for=\u{e9}"], "malformed");
    }

    #[test]
    fn the_older_header() {
        let check = |lines: &[&str], expect| check(ForwardedHeader::XForwardedFor, lines, expect);
        check(&["198.51.100.1, 192.0.2.43, 10.0.0.1"], "192.0.2.43");
        check(&["198.51.100.1", "192.0.2.43:80"], "192.0.2.43");
        check(&["2001:db8::1"], "2001:db8::1");
        check(&["\"192.0.2.1, nonsense, 192.0.2.43"], "192.0.2.43");
        check(&["10.0.0.1"], "none");
    }

    proptest! {
        #[test]
        fn no_header_panics(line in "[ -~\\t]{0,60}", shaped in "(for=|\"|\\[|\\]|,|;|:|1|_|\\\\| |unknown){0,20}") {
            for line in [&line, &shaped] {
                for header in [ForwardedHeader::Forwarded, ForwardedHeader::XForwardedFor] {
                    let _ = ask(header, &[line]);
                }
            }
        }

        /// Whatever a client wrote before it: either the address that the proxy wrote, or nothing.
        #[test]
        fn nobody_chooses_an_address(before in "(for=|1\\.1\\.1\\.1|\"|,|;|\\\\| |x=|y){0,12}") {
            let expect = "192.0.2.43".parse().unwrap();
            for line in [format!("{before}, for=192.0.2.43"), format!("{before},for=\"192.0.2.43:80\"")] {
                let told = ask(ForwardedHeader::Forwarded, &[&line]);
                prop_assert!(told == Ok(Some(expect)) || told == Err(Malformed), "{line}: {told:?}");
            }
        }
    }
}
