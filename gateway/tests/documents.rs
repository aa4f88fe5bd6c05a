//! `docs/protocol.md` and `docs/asyncapi.yaml` are what the gateway does: the server's own code parses the samples that
//! clients send, and both the samples that servers send and the frames that the code writes fit the document's shapes.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use nearcast_gateway::frames::{
    Accepted, Ack, AckResult, Authed, Bye, DigestMessage, Entry, ErrorMessage, Frame, FriendMessage, Gone, GoneReason,
    Limits, Nearby, RefusedFix, ResetPart, RoleName, ServerMessage, StrangersMessage, Unchanged, Welcome, parse,
};
use nearcast_gateway::session::{Reaction, Rules, Session};
use nearcast_schemas::delivery::{FriendPosition, ResetEntry, Stranger};
use nearcast_schemas::digest::{ListDigest, ViewDigest};
use nearcast_schemas::refusal::Refusal;
use serde_json::Value;

fn read(name: &str) -> String {
    std::fs::read_to_string(format!("{}/../docs/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The JSON blocks of the page under `<!-- sample: KIND -->`.
fn samples(kind: &str) -> Vec<String> {
    let page = read("protocol.md");
    let mark = format!("<!-- sample: {kind} -->\n```json\n");
    page.split(&mark).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

fn asyncapi() -> Value {
    serde_yaml_ng::from_str(&read("asyncapi.yaml")).unwrap()
}

/// The examples of the messages that the document names under an operation.
fn examples(document: &Value, operation: &str) -> Vec<Value> {
    let names = document["operations"][operation]["messages"].as_array().unwrap();
    let names = names.iter().map(|name| name["$ref"].as_str().unwrap().rsplit('/').next().unwrap());
    let messages = names.map(|name| &document["components"]["messages"][name]);
    messages.flat_map(|message| message["examples"].as_array().unwrap()).map(|e| e["payload"].clone()).collect()
}

/// What does not fit a shape of the document: as much of JSON Schema as the document uses.
fn misfit(document: &Value, schema: &Value, value: &Value, at: &str) -> Option<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document.pointer(reference.trim_start_matches('#')).unwrap_or_else(|| panic!("{reference}"));
        return misfit(document, target, value, at);
    }
    if let Some(expect) = schema.get("const") {
        return (expect != value).then(|| format!("{at}: {value} is not {expect}"));
    }
    if let Some(choices) = schema["enum"].as_array() {
        return (!choices.contains(value)).then(|| format!("{at}: {value} is none of {choices:?}"));
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let misfits: Vec<_> = choices.iter().map(|choice| misfit(document, choice, value, at)).collect();
        return misfits.iter().all(Option::is_some).then(|| format!("{misfits:?}"));
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(some) => some.iter().map(|one| one.as_str().unwrap()).collect(),
        _ => vec!["object"],
    };
    let fits = types.iter().any(|kind| match *kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        other => panic!("{other} is no type"),
    });
    if !fits {
        return Some(format!("{at}: {value} is not {types:?}"));
    }
    if let Some(items) = value.as_array() {
        return items
            .iter()
            .enumerate()
            .find_map(|(i, item)| misfit(document, &schema["items"], item, &format!("{at}[{i}]")));
    }
    let fields = value.as_object()?;
    let (mut properties, mut required) = (Vec::new(), Vec::new());
    gather(document, schema, &mut properties, &mut required);
    if let Some(missing) = required.iter().find(|name| !fields.contains_key(**name)) {
        return Some(format!("{at}: {missing} is missing"));
    }
    fields.iter().find_map(|(name, field)| match properties.iter().find(|(known, _)| known == name) {
        Some((_, property)) => misfit(document, property, field, &format!("{at}.{name}")),
        None => Some(format!("{at}.{name} is not in the document")),
    })
}

fn gather<'a>(
    document: &'a Value,
    schema: &'a Value,
    properties: &mut Vec<(&'a str, &'a Value)>,
    required: &mut Vec<&'a str>,
) {
    if let Some(reference) = schema["$ref"].as_str() {
        gather(document, document.pointer(reference.trim_start_matches('#')).unwrap(), properties, required);
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        gather(document, part, properties, required);
    }
    properties.extend(schema["properties"].as_object().into_iter().flatten().map(|(name, p)| (name.as_str(), p)));
    required.extend(schema["required"].as_array().into_iter().flatten().map(|name| name.as_str().unwrap()));
}

#[track_caller]
fn fits(document: &Value, message: &Value) {
    let name = message["type"].as_str().unwrap();
    let payload = &document["components"]["messages"][name]["payload"];
    assert!(payload.is_object(), "{name} is not in the document");
    assert_eq!(misfit(document, payload, message, name), None);
}

#[test]
fn what_clients_send_is_understood() {
    let document = asyncapi();
    let samples = samples("client");
    assert!(samples.len() >= 6, "the page has lost its samples");
    let samples = samples.iter().map(|sample| serde_json::from_str(sample).unwrap());
    for message in samples.chain(examples(&document, "toServer")) {
        fits(&document, &message);
        let read = parse(Frame::Text(&message.to_string())).unwrap_or_else(|refused| panic!("{message}: {refused:?}"));
        let binary = rmp_serde::to_vec_named(&message).unwrap();
        assert_eq!(parse(Frame::Binary(&binary)).ok(), Some(read), "{message}");
    }
}

#[test]
fn what_servers_send_has_the_shape_of_the_document() {
    let document = asyncapi();
    let samples = samples("server");
    assert!(samples.len() >= 8, "the page has lost its samples");
    let samples = samples.iter().map(|sample| serde_json::from_str(sample).unwrap());
    for message in samples.chain(examples(&document, "toClient")) {
        fits(&document, &message);
    }
}

#[test]
fn the_codes_of_the_samples_exist() {
    for kind in ["server", "http"] {
        for sample in samples(kind) {
            let message: Value = serde_json::from_str(&sample).unwrap();
            if let Some(code) = message["code"].as_str() {
                let refusal = Refusal::from_code(code).unwrap_or_else(|| panic!("{code}"));
                // After the sentence may stand where the trouble is.
                let place = message["message"].as_str().unwrap().strip_prefix(refusal.row().sentence);
                assert!(place.is_some_and(|place| place.is_empty() || place.starts_with(" (")), "{message}");
            }
        }
    }
}

#[test]
fn what_the_page_refuses_is_answered_as_it_says() {
    let rules = Rules { hello_ms: 1, ping_every_ms: 1, slow_ms: 1, presence_every_ms: 1, messages_per_s: 20 };
    let answers: Vec<Value> = samples("server").iter().map(|sample| serde_json::from_str(sample).unwrap()).collect();
    let refused = samples("refused");
    assert!(!refused.is_empty(), "the page has lost its samples");
    for message in refused {
        let Reaction::Refuse(error) = Session::new(rules, i64::MAX, 0).on_text(&message, 0) else {
            panic!("{message} is not refused");
        };
        let error = serde_json::from_str(&ServerMessage::Error(error).encode()).unwrap();
        assert!(answers.contains(&error), "{error}");
    }
}

#[test]
fn the_digest_of_the_page_is_right() {
    let mut digest = ViewDigest::default();
    digest.add("bob");
    assert!(read("protocol.md").contains(&digest.to_hex()));
    let mut list = ListDigest::default();
    list.add("bob", "Bob", 1_767_225_590_000, false);
    assert!(read("protocol.md").contains(&format!("`1767225590000 bob Bob` | `{}`", list.to_hex())));
    list.add("zoe", "Zoë K.", 1_767_225_300_000, true);
    assert!(read("protocol.md").contains(&format!("`~1767225300000 zoe Zoë K.` | `{}`", list.to_hex())));
}

#[test]
fn what_the_code_writes_has_the_shape_of_the_document() {
    let document = asyncapi();
    let position = |coarse| FriendPosition {
        lat: 1.5,
        lon: 2.5,
        at: 3,
        coarse,
        accuracy_m: (!coarse).then_some(4.0),
        speed_mps: (!coarse).then_some(5.0),
        heading_deg: (!coarse).then_some(6.0),
    };
    let entry = |coarse, distance_dm| {
        let (friend, display_name) = ("bob".to_owned(), "Bob".to_owned());
        Entry::of_reset(ResetEntry { friend, display_name, position: position(coarse), distance_dm }, 0)
    };
    let re = Some("q1".to_owned());
    let messages = [
        ServerMessage::Welcome(Box::new(Welcome {
            protocol: 1,
            server_time: 1,
            user: "alice".into(),
            session: "s".into(),
            role: RoleName::Watching,
            report_interval_s: 30,
            min_move_m: 10.0,
            max_silence_s: 180,
            friend_ttl_s: 600,
            radius_m: 8_000,
            ping_every_s: 25,
            limits: Limits { message_bytes: 1, fixes: 2, messages_per_s: 3 },
            accepted: Some(Accepted { device: "d".into(), n: 1, result: AckResult::Published }),
        })),
        ServerMessage::Authed(Authed { expires_at: 1, re: re.clone() }),
        ServerMessage::Nearby(Nearby {
            reset: Some(ResetPart { part: 1, parts: 2, provisional: true, known: false }),
            upserts: vec![entry(false, 10), entry(true, -1)],
            removals: vec![Gone { friend: "eve".into(), reason: GoneReason::Muted, appended_at: 0 }],
        }),
        ServerMessage::Nearby(Nearby::default()),
        ServerMessage::Unchanged(Unchanged { provisional: true, count: 1, digest: ListDigest::default().to_hex() }),
        ServerMessage::Ack(Box::new(Ack {
            device: "d".into(),
            n: 2,
            result: AckResult::Stored,
            count: Some(1),
            refused: Some(vec![RefusedFix { n: 3, code: Refusal::TimeOutOfRange }]),
            re: re.clone(),
        })),
        ServerMessage::Friend(Box::new(FriendMessage {
            friend: "bob".into(),
            display_name: "Bob".into(),
            position: Some(entry(false, 10)),
            re: re.clone(),
        })),
        ServerMessage::Digest(DigestMessage { count: 1, digest: ViewDigest::default().to_hex() }),
        ServerMessage::Strangers(StrangersMessage {
            strangers: vec![Stranger { alias: -1, lat: 1.5, lon: 2.5, at: 3, distance_dm: 4 }],
        }),
        ServerMessage::Error(Box::new(ErrorMessage { re, n: Some(5), ..ErrorMessage::new(Refusal::TooFast) })),
        ServerMessage::Bye(Box::new(Bye::new(Refusal::Drain, Some(10)))),
    ];
    for message in messages {
        fits(&document, &serde_json::from_str(&message.encode()).unwrap());
        fits(&document, &rmp_serde::from_slice(&message.encode_binary()).unwrap());
    }
}
