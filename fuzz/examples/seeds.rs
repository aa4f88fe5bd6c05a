//! Writes the first entries of the corpora: `cargo run -p nearcast-fuzz --example seeds`. From the records of
//! `schemas/golden`, and from messages, tokens and headers as they come.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Between a step and the next, between a header and claims.
const END: u8 = 0xc1;

const FRAMES: &[&str] = &[
    r#"{"type":"hello","id":"h1","device":"d1","clock":1760000000000,"position":{"n":12,"lat":52.5,"lon":13.4,"time":1759999999000,"accuracy_m":5,"speed_mps":1.4,"heading_deg":359.9,"altitude_m":34.5}}"#,
    r#"{"type":"hello","device":"d1","watch":true,"resume":{"count":2,"digest":"7ba0f73d891c7511"}}"#,
    r#"{"type":"location","id":"l1","n":13,"lat":-90,"lon":180,"time":1759999999500,"clock":1760003600000,"ack":true}"#,
    r#"{"type":"locations","device":"d2","ack":true,"fixes":[{"n":1,"lat":0,"lon":-0.0,"time":1759900000000},{"n":2,"lat":1e-9,"lon":7,"time":1759900001000}]}"#,
    r#"{"type":"sync"}"#,
    r#"{"type":"auth","id":"a1","token":"a.b.c"}"#,
    r#"{"type":"subscribe","id":"s1","friend":"bob"}"#,
    r#"{"type":"unsubscribe","friend":"Z\u00fcrich"}"#,
    r#"{"type":"dance","id":5}"#,
    r#"{"id":"x","type":"location","n":"7","nested":[{"a":[null,true,1.5e300]}]}"#,
];

const HEADERS: &[&str] = &[r#"{"typ":"JWT","alg":"HS256"}"#, r#"{"alg":"EdDSA","kid":"k1"}"#, r#"{"alg":"none"}"#];

const CLAIMS: &[&str] = &[
    r#"{"sub":"alice","aud":"nearcast","iss":"https://issuer.example","iat":-10,"nbf":-10,"exp":600,"scope":"a b"}"#,
    r#"{"sub":"bob","aud":["other","nearcast"],"exp":600.5,"scp":["friends"]}"#,
    r#"{"sub":"bob","aud":"other","exp":600}"#,
    r#"{"sub":"bob","aud":"nearcast","exp":-600}"#,
    r#"{"sub":"bob","aud":"nearcast","nbf":600,"exp":1200}"#,
    r#"{"sub":"bob","aud":"nearcast","exp":99999999}"#,
    r#"{"sub":"","aud":"nearcast","exp":600}"#,
    r#"{"sub":5,"aud":"nearcast","exp":600,"exp":"x"}"#,
];

const KEYS: &[&str] = &[
    r#"{"keys":[]}"#,
    r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"a","use":"sig","alg":"EdDSA"}]}"#,
    r#"{"keys":[{"kty":"EC","crv":"P-256","x":"paWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaU","y":"paWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaU","key_ops":["verify"]},{"kty":"oct","k":"paWlpaWlpaU"}]}"#,
    r#"{"keys":[{"kty":"oct","k":"paWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaU","alg":"HS256"}]}"#,
];

const FORWARDED: &[&str] = &[
    "for=192.0.2.43",
    "For=\"[2001:db8:cafe::17]:4711\";proto=https;by=10.0.0.1, for=10.1.2.3",
    "for=\"192.0.2\\.43:_port\" ; x=\"a, for=1.1.1.1\"\nfor=unknown",
    "198.51.100.1, 192.0.2.43:80, 10.0.0.1\n::ffff:10.0.0.1",
];

struct Corpus(PathBuf);

impl Corpus {
    fn of(target: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn add(&self, name: &str, data: &[u8]) {
        fs::write(self.0.join(format!("seed-{name}")), data).unwrap();
    }
}

fn msgpack(text: &str) -> Vec<u8> {
    rmp_serde::to_vec(&serde_json::from_str::<Value>(text).unwrap()).unwrap()
}

fn main() {
    let (frames, hello) = (Corpus::of("frames"), Corpus::of("hello"));
    for (at, text) in FRAMES.iter().enumerate() {
        let bytes = msgpack(text);
        frames.add(&format!("json-{at}"), text.as_bytes());
        frames.add(&format!("msgpack-{at}"), &bytes);
        if at < 4 {
            hello.add(&format!("json-{at}"), &[&[0; 8], text.as_bytes()].concat());
            hello.add(&format!("msgpack-{at}"), &[&[1, 0, 0, 0, 0, 0, 0, 0], bytes.as_slice()].concat());
        }
    }

    // Bytes that could be text, for a key: MessagePack tells the two apart, and so do messages.
    frames.add("bytes-for-a-key", b"\x82\xc4\x04ty\xc5\x80\x60\xa4type\xa4auth");

    hello.add("clock-at-its-end", &[&[0, 0, 0, 0, 0, 0, 0, 0x80], FRAMES[0].as_bytes()].concat());

    let session = Corpus::of("session");
    let step = |what: u8, wait: u8, frame: &[u8]| [&[what, wait], frame, &[END]].concat();
    for (name, first, what) in [("json", 0xf2, b't'), ("msgpack", 0xf3, b'b')] {
        let say = |at: usize, wait| {
            step(what, wait, &if what == b't' { FRAMES[at].as_bytes().to_vec() } else { msgpack(FRAMES[at]) })
        };
        let begin = [vec![first], say(0, 0x15), step(b'j', 0x12, b"")].concat();
        let reports = [say(2, 0xa5), say(3, 0x01), say(4, 0x01), say(5, 0x01), step(b'a', 1, b"")].concat();
        let others =
            [say(6, 0x22), say(7, 0x22), say(8, 0x22), say(9, 0x22), say(0, 0x22), step(b's', 0xcf, b"")].concat();
        session.add(&format!("{name}-reports"), &[begin.as_slice(), &reports].concat());
        session.add(&format!("{name}-others"), &[begin.as_slice(), &others].concat());
        session.add(&format!("{name}-early"), &[vec![first], say(2, 0x22)].concat());
        session.add(&format!("{name}-many"), &[begin, say(4, 0).repeat(50)].concat());
        let refused =
            [vec![first], say(0, 1), step(b'n', 1, b""), say(1, 0xaf), step(b'w', 1, b""), say(2, 1)].concat();
        session.add(&format!("{name}-watches"), &refused);
        let deaf = [vec![first], say(1, 1), step(b'w', 1, b""), step(b'o', 1, b""), step(b'h', 0xef, b"")].concat();
        session.add(&format!("{name}-deaf"), &[deaf, step(b'k', 0xef, b""), step(b'h', 0xff, b"")].concat());
        session.add(&format!("{name}-other-format"), &[vec![first ^ 1], say(0, 1)].concat());
    }

    let tokens = Corpus::of("tokens");
    for (at, claims) in CLAIMS.iter().enumerate() {
        let (key, header) = if at % 2 == 0 { (b's', HEADERS[0]) } else { (b'e', HEADERS[1]) };
        tokens.add(&format!("claims-{at}"), &[&[key], header.as_bytes(), &[END], claims.as_bytes()].concat());
    }
    for (name, key, header) in [("other", b'o', 0), ("confused", b'p', 0), ("theirs", b'f', 1), ("none", b'n', 2)] {
        tokens.add(name, &[&[key], HEADERS[header].as_bytes(), &[END], CLAIMS[0].as_bytes()].concat());
    }
    tokens.add("text", b"rBearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.AAAA");
    tokens.add("query", b"ra=b&access_token=x");

    let keys = Corpus::of("keys");
    let rsa = format!(r#"{{"keys":[{{"kty":"RSA","e":"AQAB","kid":"r","n":"{}"}}]}}"#, "paWl".repeat(86));
    for (at, text) in KEYS.iter().copied().chain([rsa.as_str()]).enumerate() {
        keys.add(&at.to_string(), text.as_bytes());
    }

    let entrance = Corpus::of("entrance");
    for (at, text) in FORWARDED.iter().enumerate() {
        entrance.add(&format!("forwarded-{at}"), text.as_bytes());
    }
    let prefix = b"\r\n\r\n\0\r\nQUIT\n";
    let v4 = b"\x21\x11\x00\x0c\xc0\x00\x02\x2b\x0a\x00\x00\x01\x12\x67\x01\xbb";
    entrance.add("proxy-v4", &[&prefix[..], v4, b"GET /"].concat());
    entrance.add("proxy-v6", &[&prefix[..], b"\x21\x21\x00\x24", &[0x20; 36]].concat());
    entrance.add("proxy-local", &[&prefix[..], b"\x20\x00\x00\x00"].concat());
    entrance.add("proxy-tlv", &[&prefix[..], b"\x21\x11\x00\x11", &v4[4..], b"\x04\x00\x02\x00\x00"].concat());

    let records = Corpus::of("records");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/golden");
    for file in fs::read_dir(golden).unwrap() {
        let file = file.unwrap().path();
        if file.extension().is_some_and(|extension| extension == "hex") {
            let text = fs::read_to_string(&file).unwrap();
            let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
            let mut record: Vec<u8> = digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect();
            let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
            records.add(&name, &record);
            record[4] += 10;
            records.add(&format!("{name}.again"), &record);
            for id in 21..=27 {
                record[4] = id;
                records.add(&format!("{name}.by-{id}"), &record);
            }
        }
    }
    // A notice, to be resolved, whose first string says that it has 400 MB.
    records.add("lying-length", b"\0\0\0\0\x0e\x00\x80\xb0\xbc\xfd\x02");
    records
        .add("hello-request", br#"{"user":"alice","role":"reporting","issued_at":5,"place":{"lat":52.5,"lon":13.4}}"#);
    records.add("problem", br#"{"code":"busy","message":"Try again."}"#);
}
