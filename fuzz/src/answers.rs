//! What the gateway says, in both formats.

use nearcast_gateway::frames::ServerMessage;
use serde_json::Value;

/// Both encodings can be read, and say the same.
pub fn check(message: &ServerMessage) {
    let json: Value = serde_json::from_str(&message.encode()).expect("a message is JSON");
    let binary: Value = rmp_serde::from_slice(&message.encode_binary()).expect("a message is MessagePack");
    assert_eq!(json["type"], message.name());
    assert!(alike(&json, &binary), "the formats differ in a message of type {}", message.name());
}

/// JSON has a measure's shortest decimal digits, MessagePack its 32 bits.
fn alike(json: &Value, binary: &Value) -> bool {
    match (json, binary) {
        (Value::Number(a), Value::Number(b)) => {
            a == b || a.as_f64().map(|number| number as f32) == b.as_f64().map(|number| number as f32)
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| alike(a, b)))
        }
        (a, b) => a == b,
    }
}
