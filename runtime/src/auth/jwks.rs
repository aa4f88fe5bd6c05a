//! A JWK Set (RFC 7517) as it was fetched: which of its keys may verify which tokens.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

/// More keys than this are not looked at: a token without a `kid` is tried with every key of its algorithm.
const MAX_KEYS: usize = 64;
/// The modulus of an RSA key of 2048 bits. Shorter ones can be broken.
const RSA_BYTES: usize = 256;

/// The keys of a set that can be used.
#[derive(Debug, Default)]
pub struct KeySet {
    keys: Vec<Key>,
}

struct Key {
    kid: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

/// Which key it is, and nothing of it.
impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("kid", &self.kid).field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl KeySet {
    /// The usable keys of a document. Others are passed over: a set may hold keys for other ends, and of kinds that are
    /// still to come.
    ///
    /// # Errors
    /// When it is no set, or none of its keys can be used.
    pub fn parse(document: &[u8]) -> Result<Self, &'static str> {
        let document: Document = serde_json::from_slice(document).map_err(|_| "the answer is no JWK Set")?;
        let keys: Vec<Key> = document.keys.into_iter().filter_map(Key::usable).take(MAX_KEYS).collect();
        if keys.is_empty() {
            return Err("the JWK Set has no public key for RS256, ES256 or EdDSA");
        }
        Ok(Self { keys })
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether a key of this name is there, for whatever algorithm.
    pub fn knows(&self, kid: &str) -> bool {
        self.keys.iter().any(|key| key.kid.as_deref() == Some(kid))
    }

    /// The keys that a token of this algorithm may be signed with: those of the name that it gives, or all where it gives
    /// none.
    pub(super) fn for_token(&self, kid: Option<&str>, algorithm: Algorithm) -> impl Iterator<Item = &DecodingKey> {
        self.keys
            .iter()
            .filter(move |key| key.algorithm == algorithm && (kid.is_none() || key.kid.as_deref() == kid))
            .map(|key| &key.key)
    }
}

impl Key {
    fn usable(value: Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(value).ok()?;
        let common = &jwk.common;
        if !matches!(common.public_key_use, None | Some(PublicKeyUse::Signature)) {
            return None;
        }
        if common.key_operations.as_ref().is_some_and(|operations| !operations.contains(&KeyOperations::Verify)) {
            return None;
        }
        // The kind of key decides, never the token: a symmetric key is none that an issuer would publish.
        let (algorithm, named) = match &jwk.algorithm {
            AlgorithmParameters::RSA(rsa) if bytes(&rsa.n)? >= RSA_BYTES => (Algorithm::RS256, KeyAlgorithm::RS256),
            AlgorithmParameters::EllipticCurve(point)
                if point.curve == EllipticCurve::P256 && bytes(&point.x)? == 32 && bytes(&point.y)? == 32 =>
            {
                (Algorithm::ES256, KeyAlgorithm::ES256)
            }
            AlgorithmParameters::OctetKeyPair(pair)
                if pair.curve == EllipticCurve::Ed25519 && bytes(&pair.x)? == 32 =>
            {
                (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
            }
            _ => return None,
        };
        if common.key_algorithm.is_some_and(|other| other != named) {
            return None;
        }
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        Some(Self { kid: jwk.common.key_id, algorithm, key })
    }
}

/// The length of what is encoded; none where it is not encoded so.
fn bytes(text: &str) -> Option<usize> {
    use base64::Engine;
    let decoded = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).ok()?;
    Some(decoded.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::json;

    fn encoded(length: usize) -> String {
        URL_SAFE_NO_PAD.encode(vec![0xa5; length])
    }

    fn rsa(with: Value) -> Value {
        merged(json!({"kty": "RSA", "n": encoded(256), "e": "AQAB"}), with)
    }

    fn ec(with: Value) -> Value {
        merged(json!({"kty": "EC", "crv": "P-256", "x": encoded(32), "y": encoded(32)}), with)
    }

    fn ed(with: Value) -> Value {
        merged(json!({"kty": "OKP", "crv": "Ed25519", "x": encoded(32)}), with)
    }

    fn merged(mut key: Value, with: Value) -> Value {
        for (name, value) in with.as_object().unwrap() {
            key[name] = value.clone();
        }
        key
    }

    fn set(keys: Value) -> Result<KeySet, &'static str> {
        KeySet::parse(json!({"keys": keys}).to_string().as_bytes())
    }

    #[track_caller]
    fn check(key: Value, expect: Option<Algorithm>) {
        let found = set(json!([key])).ok().map(|set| set.keys[0].algorithm);
        assert_eq!(found, expect, "{key}");
    }

    #[test]
    fn the_kind_of_key_says_which_tokens_it_verifies() {
        check(rsa(json!({})), Some(Algorithm::RS256));
        check(rsa(json!({"alg": "RS256", "use": "sig", "key_ops": ["verify"], "kid": "a"})), Some(Algorithm::RS256));
        check(ec(json!({})), Some(Algorithm::ES256));
        check(ed(json!({"alg": "EdDSA"})), Some(Algorithm::EdDSA));
    }

    #[test]
    fn other_keys_are_passed_over() {
        for key in [
            rsa(json!({"use": "enc"})),
            rsa(json!({"use": "other"})),
            rsa(json!({"key_ops": ["encrypt"]})),
            rsa(json!({"alg": "RS512"})),
            rsa(json!({"alg": "PS256"})),
            rsa(json!({"alg": "HS256"})),
            rsa(json!({"alg": "RSA-OAEP"})),
            rsa(json!({"alg": "something new"})),
            rsa(json!({"n": encoded(128)})),
            rsa(json!({"n": "not base64url!"})),
            ec(json!({"crv": "P-384", "x": encoded(48), "y": encoded(48)})),
            ec(json!({"x": encoded(31)})),
            ec(json!({"alg": "RS256"})),
            ed(json!({"crv": "Ed448", "x": encoded(57)})),
            ed(json!({"x": encoded(31)})),
            json!({"kty": "oct", "k": encoded(32), "alg": "HS256"}),
            json!({"kty": "oct", "k": encoded(32), "alg": "RS256"}),
            json!({"kty": "AKP", "alg": "ML-DSA-44", "pub": encoded(32)}),
            json!({"kty": "RSA"}),
            json!("RSA"),
            json!(null),
        ] {
            check(key.clone(), None);
            // And spoil nothing.
            assert_eq!(set(json!([key, ed(json!({}))])).unwrap().len(), 1);
        }
    }

    #[test]
    fn what_is_no_set_is_refused() {
        for text in ["", "{}", "[]", "null", r#"{"keys":{}}"#, r#"{"keys":[]}"#, "<html>"] {
            assert!(KeySet::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert_eq!(set(json!(vec![ed(json!({})); 100])).unwrap().len(), MAX_KEYS);
    }

    #[test]
    fn a_token_is_tried_with_the_key_that_it_names() {
        let keys = [rsa(json!({"kid": "r"})), ec(json!({"kid": "e"})), rsa(json!({"kid": "s"})), rsa(json!({}))];
        let keys = set(json!(keys)).unwrap();
        let count = |kid, algorithm| keys.for_token(kid, algorithm).count();
        assert_eq!(count(Some("r"), Algorithm::RS256), 1);
        assert_eq!(count(Some("e"), Algorithm::RS256), 0, "the name of a key of another kind");
        assert_eq!(count(Some("x"), Algorithm::RS256), 0);
        assert_eq!(count(None, Algorithm::RS256), 3);
        assert_eq!(count(None, Algorithm::HS256), 0);
        assert!(keys.knows("e") && !keys.knows("x") && !keys.knows(""));
    }
}
