//! Tokens: any text, and any header and claims under any signature.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{EncodePrivateKey, EncodePublicKey};
use futures_util::FutureExt;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use nearcast_runtime::auth::{AuthConfig, AuthError, Claims, Verifier, is_in_query};
use nearcast_runtime::{Secret, clock};
use nearcast_schemas::ids::check_id;
use serde_json::{Map, Value};

/// Ends the header. No JSON has this byte.
const END: u8 = 0xc1;
const SECRET: &str = "0123456789abcdef0123456789abcdef";
const AUDIENCE: &str = "nearcast";
const ISSUER: &str = "https://issuer.example";
const LEEWAY_S: i64 = 5;
const MAX_LIFE_S: i64 = 2_592_000;
/// Times in claims that are smaller count from now: a corpus does not expire.
const RELATIVE: i64 = 1_000_000_000;

static OURS: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::from_bytes(&[1; 32]));
static THEIRS: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::from_bytes(&[2; 32]));

fn public_pem() -> String {
    OURS.verifying_key().to_public_key_pem(LineEnding::LF).expect("a key is written as PEM")
}

/// One that wants no issuer, and one that does.
static VERIFIERS: LazyLock<[(Verifier, bool); 2]> = LazyLock::new(|| {
    [false, true].map(|wants_issuer| {
        let config = AuthConfig {
            hs256_secret: Some(Secret::new(SECRET)),
            ed25519_public_key: Some(public_pem()),
            audience: AUDIENCE.to_owned(),
            issuer: wants_issuer.then(|| ISSUER.to_owned()),
            leeway_s: LEEWAY_S as u64,
            max_life_s: MAX_LIFE_S as u32,
            ..AuthConfig::default()
        };
        (Verifier::new(&config).expect("the keys are good"), wants_issuer)
    })
});

/// First a byte that names the key: `s` the shared secret, `o` another secret, `p` the public key taken for a secret, `e`
/// the private key, `f` another one, `n` no signature; `r` for a text that is no token of ours. Then the header, a
/// byte 0xc1, and the claims.
pub fn tokens(data: &[u8]) {
    let Some((key, rest)) = data.split_first() else { return };
    if *key == b'r' {
        let text = String::from_utf8_lossy(rest);
        let _ = is_in_query(Some(&text));
        for (verifier, _) in &*VERIFIERS {
            assert!(verifier.check(&text).is_err(), "nobody signed it");
            let header = verifier.verify_header(Some(&text)).now_or_never();
            assert!(header.is_some_and(|checked| checked.is_err()), "nobody signed it, and nobody is asked");
        }
        return;
    }
    let at = rest.iter().position(|byte| *byte == END).unwrap_or(rest.len());
    let (header, claims) = (&rest[..at], rest.get(at + 1..).unwrap_or_default());
    let began_s = clock::now_ms() / 1_000;
    let claims = dated(claims, began_s);
    let Some(token) = token(*key, header, &claims) else { return };
    for (verifier, wants_issuer) in &*VERIFIERS {
        let checked = verifier.check(&token);
        let by_header = verifier.verify_header(Some(&format!("Bearer {token}"))).now_or_never();
        assert!(by_header.is_some_and(|by_header| agree(&checked, &by_header)), "the same by the header");
        if let Ok(accepted) = checked {
            let ended_s = clock::now_ms() / 1_000;
            check_accepted(*key, header, &claims, &accepted, *wants_issuer, began_s, ended_s);
        }
    }
}

/// The clock goes on between two looks, so that only the verdict counts.
fn agree(one: &Result<Claims, AuthError>, other: &Result<Claims, AuthError>) -> bool {
    one.is_ok() == other.is_ok()
}

/// The claims with their small times counted from now.
fn dated(claims: &[u8], now_s: i64) -> Vec<u8> {
    let Ok(mut claims_object) = serde_json::from_slice::<Map<String, Value>>(claims) else { return claims.to_vec() };
    let mut changed = false;
    for name in ["exp", "nbf", "iat"] {
        if let Some(value) = claims_object.get_mut(name)
            && let Some(seconds) = value.as_i64()
            && (-RELATIVE..RELATIVE).contains(&seconds)
        {
            *value = (now_s + seconds).into();
            changed = true;
        }
    }
    if changed { Value::Object(claims_object).to_string().into_bytes() } else { claims.to_vec() }
}

/// None where there is no such key.
fn token(key: u8, header: &[u8], claims: &[u8]) -> Option<String> {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = sign(key, signed.as_bytes())?;
    Some(format!("{signed}.{signature}"))
}

fn sign(key: u8, message: &[u8]) -> Option<String> {
    let private = |key: &SigningKey| {
        let document = key.to_pkcs8_der().expect("a key is written as PKCS#8");
        EncodingKey::from_ed_der(document.as_bytes())
    };
    let (key, algorithm) = match key {
        b's' => (EncodingKey::from_secret(SECRET.as_bytes()), Algorithm::HS256),
        b'o' => (EncodingKey::from_secret(b"another secret, and as long as it"), Algorithm::HS256),
        b'p' => (EncodingKey::from_secret(public_pem().as_bytes()), Algorithm::HS256),
        b'e' => (private(&OURS), Algorithm::EdDSA),
        b'f' => (private(&THEIRS), Algorithm::EdDSA),
        b'n' => return Some(String::new()),
        _ => return None,
    };
    Some(crypto::sign(message, &key, algorithm).expect("these keys sign"))
}

fn check_accepted(
    key: u8,
    header: &[u8],
    claims: &[u8],
    accepted: &Claims,
    wants_issuer: bool,
    began_s: i64,
    ended_s: i64,
) {
    let header: Value = serde_json::from_slice(header).expect("an accepted header is JSON");
    let algorithm = header["alg"].as_str().unwrap_or_default();
    assert!((key, algorithm) == (b's', "HS256") || (key, algorithm) == (b'e', "EdDSA"), "signed by a key that counts");

    let claims: Value = serde_json::from_slice(claims).expect("accepted claims are JSON");
    assert!(!accepted.sub.is_empty() && claims["sub"] == accepted.sub.as_str());
    let _ = check_id(&accepted.sub);
    assert!(is_or_has(&claims["aud"], AUDIENCE), "it is for somebody else");
    assert!(!wants_issuer || is_or_has(&claims["iss"], ISSUER), "it is from somebody else");

    let seconds = |name: &str| claims.get(name).filter(|value| !value.is_null()).map(|value| whole(name, value));
    let exp = seconds("exp").expect("an accepted token ends");
    assert_eq!(accepted.exp, exp);
    assert_eq!(accepted.until_ms, exp.saturating_add(LEEWAY_S).saturating_mul(1_000));
    assert!(exp.saturating_add(LEEWAY_S) >= began_s, "it has expired");
    assert!(seconds("nbf").is_none_or(|nbf| nbf <= ended_s + LEEWAY_S), "its time has not come");
    let iat = seconds("iat");
    assert_eq!(accepted.iat, iat);
    assert!(iat.is_none_or(|iat| iat <= ended_s + LEEWAY_S), "it is from the future");
    assert!(exp.saturating_sub(iat.unwrap_or(ended_s)) <= MAX_LIFE_S + LEEWAY_S, "it is valid for too long");
}

fn is_or_has(value: &Value, word: &str) -> bool {
    value == word || value.as_array().is_some_and(|items| items.iter().any(|item| item == word))
}

fn whole(name: &str, value: &Value) -> i64 {
    let number = value.as_i64().or_else(|| value.as_f64().map(|number| number.floor() as i64));
    number.unwrap_or_else(|| panic!("{name} of an accepted token is a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else the target would look at refusals alone.
    #[test]
    fn a_good_token_is_accepted() {
        let claims = dated(br#"{"sub":"alice","aud":"nearcast","iat":0,"exp":60}"#, clock::now_ms() / 1_000);
        for (key, header, expect) in [
            (b's', r#"{"alg":"HS256"}"#, Ok(())),
            (b'e', r#"{"alg":"EdDSA"}"#, Ok(())),
            (b'o', r#"{"alg":"HS256"}"#, Err(AuthError::Signature)),
            (b'p', r#"{"alg":"HS256"}"#, Err(AuthError::Signature)),
            (b'f', r#"{"alg":"EdDSA"}"#, Err(AuthError::Signature)),
        ] {
            let token = token(key, header.as_bytes(), &claims).unwrap();
            assert_eq!(VERIFIERS[0].0.check(&token).map(|_| ()), expect, "{}", char::from(key));
        }
    }
}
