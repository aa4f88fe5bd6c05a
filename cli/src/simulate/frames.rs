//! The WebSocket protocol as a foreign client sees it, written from docs/protocol.md and nothing else.
//!
//! On purpose it shares no type with the gateway: what the two disagree about shows.

use serde::{Deserialize, Serialize};

use super::point::Point;

/// What a phone says.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Say<'a> {
    /// The first message.
    Hello {
        device: &'a str,
        clock: i64,
        #[serde(skip_serializing_if = "Option::is_none")]
        position: Option<Fix>,
    },
    /// A report.
    Location {
        #[serde(flatten)]
        fix: Fix,
        clock: i64,
        ack: bool,
    },
    /// Reports that were not acknowledged, again.
    Locations { id: String, clock: i64, ack: bool, fixes: &'a [Fix] },
    /// Asks for the whole list.
    Sync,
}

/// A measured position. Has no `Debug`: coordinates are secrets.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Fix {
    pub(crate) n: i64,
    pub(crate) lat: f64,
    pub(crate) lon: f64,
    pub(crate) time: i64,
    pub(crate) accuracy_m: f32,
    pub(crate) speed_mps: f32,
}

impl Fix {
    /// Report number `n`: here, at that time (ms since the epoch), that fast.
    pub(crate) fn new(n: i64, point: Point, time: i64, speed_mps: f64) -> Self {
        Self { n, lat: point.lat(), lon: point.lon(), time, accuracy_m: 5.0, speed_mps: speed_mps as f32 }
    }
}

/// What a phone hears. Fields that a simulated phone has no use for are left out.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Hear {
    Welcome(Welcome),
    Nearby(Nearby),
    Ack(Ack),
    Digest(Digest),
    Error(Refused),
    Bye(Bye),
    /// A type of a newer protocol.
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
pub(crate) struct Welcome {
    pub(crate) protocol: u32,
    pub(crate) user: String,
    pub(crate) friend_ttl_s: u32,
    pub(crate) radius_m: f64,
    pub(crate) ping_every_s: u32,
    pub(crate) accepted: Option<Accepted>,
}

#[derive(Deserialize)]
pub(crate) struct Accepted {
    pub(crate) n: i64,
    pub(crate) result: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    Published,
    Thinned,
    Stored,
}

#[derive(Deserialize)]
pub(crate) struct Ack {
    pub(crate) n: i64,
    pub(crate) result: Outcome,
    pub(crate) re: Option<String>,
    pub(crate) count: Option<u64>,
    #[serde(default)]
    pub(crate) refused: Vec<RefusedFix>,
}

#[derive(Deserialize)]
pub(crate) struct RefusedFix {
    pub(crate) n: i64,
    pub(crate) code: String,
}

#[derive(Deserialize)]
pub(crate) struct Nearby {
    pub(crate) reset: Option<Reset>,
    #[serde(default)]
    pub(crate) upserts: Vec<Upsert>,
    #[serde(default)]
    pub(crate) removals: Vec<Removal>,
}

#[derive(Clone, Copy, Deserialize)]
pub(crate) struct Reset {
    pub(crate) part: u32,
    pub(crate) parts: u32,
    #[serde(default)]
    pub(crate) provisional: bool,
}

#[derive(Clone, Deserialize)]
pub(crate) struct Upsert {
    pub(crate) id: String,
    pub(crate) display_name: String,
    pub(crate) lat: f64,
    pub(crate) lon: f64,
    pub(crate) distance_m: Option<f64>,
    pub(crate) at: i64,
    #[serde(default)]
    pub(crate) approximate: bool,
}

#[derive(Deserialize)]
pub(crate) struct Removal {
    pub(crate) id: String,
    pub(crate) reason: String,
}

#[derive(Deserialize)]
pub(crate) struct Digest {
    pub(crate) count: usize,
    pub(crate) digest: String,
}

#[derive(Deserialize)]
pub(crate) struct Refused {
    pub(crate) code: String,
    pub(crate) retry: String,
    pub(crate) retry_after_ms: Option<u64>,
    pub(crate) re: Option<String>,
    pub(crate) n: Option<i64>,
}

#[derive(Deserialize)]
pub(crate) struct Bye {
    pub(crate) code: String,
    pub(crate) reconnect: bool,
    pub(crate) reconnect_in_ms: Option<u64>,
}

/// The body of a refused upgrade, and of a refused REST call.
#[derive(Deserialize)]
pub(crate) struct Problem {
    pub(crate) code: String,
    pub(crate) message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The samples of docs/protocol.md after the given marker.
    fn samples(marker: &str) -> Vec<String> {
        let page = include_str!("../../../docs/protocol.md");
        let marker = format!("<!-- sample: {marker} -->\n```json\n");
        page.split(&marker).skip(1).filter_map(|rest| rest.split("\n```").next()).map(str::to_owned).collect()
    }

    #[test]
    fn hears_every_sample_of_the_documents() {
        let samples = samples("server");
        assert!(samples.len() >= 9, "{} samples", samples.len());
        for sample in samples {
            let heard: Hear = serde_json::from_str(&sample).unwrap_or_else(|e| panic!("{e} in {sample}"));
            // Only the answers to `subscribe`, `auth` and `resume`, which simulated phones do not send, and the strangers near
            // whoever opted in, which they do not, are not theirs.
            let others = ["friend", "strangers", "authed", "unchanged"].map(|kind| format!(r#""type": "{kind}""#));
            let others = others.iter().any(|kind| sample.contains(kind));
            assert_eq!(matches!(heard, Hear::Other), others, "{sample}");
        }
        for sample in self::samples("http") {
            assert!(
                serde_json::from_str::<Problem>(&sample).is_ok_and(|p| !p.code.is_empty() && !p.message.is_empty())
            );
        }
    }

    #[test]
    fn says_nothing_that_the_documents_do_not() {
        let fix = Fix::new(3, Point::of_degrees(52.5163, 13.3777), 1_767_225_599_000, 1.5);
        let said = [
            Say::Hello { device: "d", clock: 1, position: Some(fix) },
            Say::Hello { device: "d", clock: 1, position: None },
            Say::Location { fix, clock: 1, ack: true },
            Say::Locations { id: "l1".to_owned(), clock: 1, ack: true, fixes: &[fix] },
            Say::Sync,
        ];
        let mut documented: Vec<serde_json::Value> =
            samples("client").iter().map(|s| serde_json::from_str(s).unwrap()).collect();
        // `locations` and its `id` are documented apart.
        for sample in &mut documented {
            if sample["type"] == "locations" {
                sample["id"] = "".into();
                sample["fixes"][0]["accuracy_m"] = 1.into();
                sample["fixes"][0]["speed_mps"] = 1.into();
            }
            if sample["type"] == "hello" {
                sample["position"]["speed_mps"] = 1.into();
            }
        }
        for say in said {
            let said = serde_json::to_value(&say).unwrap();
            let known = documented.iter().any(|sample| is_within(&said, sample));
            assert!(known, "{}", said["type"]);
        }
    }

    /// Every field of `said` is in `sample`.
    fn is_within(said: &serde_json::Value, sample: &serde_json::Value) -> bool {
        use serde_json::Value;
        match (said, sample) {
            (Value::Object(said), Value::Object(sample)) => {
                said.get("type") == sample.get("type")
                    && said.iter().all(|(k, v)| sample.get(k).is_some_and(|other| is_within(v, other)))
            }
            (Value::Array(said), Value::Array(sample)) => {
                said.iter().all(|v| sample.first().is_some_and(|other| is_within(v, other)))
            }
            _ => true,
        }
    }

    #[test]
    fn unknown_types_and_fields_are_let_pass() {
        assert!(matches!(serde_json::from_str(r#"{"type":"weather","sun":true}"#), Ok(Hear::Other)));
        let ack = r#"{"type":"ack","device":"d","n":4,"result":"published","colour":"red"}"#;
        assert!(matches!(serde_json::from_str(ack), Ok(Hear::Ack(Ack { n: 4, .. }))));
    }
}
