//! Documents of keys, as an issuer may publish them.

use nearcast_runtime::auth::KeySet;
use serde_json::{Value, json};

/// The key of RFC 8037, appendix A.2.
const KNOWN: &str = r#"{"kty":"OKP","crv":"Ed25519","kid":"known","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

/// A document that is a set, or is none; and no key in it spoils another.
pub fn keys(data: &[u8]) {
    let set = KeySet::parse(data);
    let Ok(document) = serde_json::from_slice::<Value>(data) else {
        assert!(set.is_err(), "a set is JSON");
        return;
    };
    let Some(Value::Array(keys)) = document.get("keys") else {
        assert!(document.is_array() || set.is_err(), "a set has keys");
        return;
    };
    for key in keys {
        let symmetric = key.get("kty").is_some_and(|kind| kind == "oct");
        if symmetric && keys.len() == 1 {
            assert!(set.is_err(), "a symmetric key is none that an issuer would publish");
        }
    }
    let known: Value = serde_json::from_str(KNOWN).expect("the key is JSON");
    let first: Vec<&Value> = std::iter::once(&known).chain(keys).collect();
    let set = KeySet::parse(json!({ "keys": first }).to_string().as_bytes());
    assert!(set.is_ok_and(|set| set.knows("known")), "no key spoils another");
}
