//! `nearcast token`: a token for trying things out, signed with the configured key.

use std::time::Duration;

use nearcast_runtime::auth::Signer;
use nearcast_schemas::ids::check_id;

use crate::failure::Failure;
use crate::settings::Settings;

/// Signs a token.
///
/// # Errors
/// When the configuration has no key to sign with, or `sub` is no user id.
pub fn sign(settings: &Settings, sub: &str, ttl: Duration, scopes: &[String]) -> Result<String, Failure> {
    check_id(sub).map_err(|_| {
        Failure::configuration(anyhow::anyhow!("--sub must have 1 to 64 bytes without control characters and spaces"))
    })?;
    let signer = Signer::new(&settings.auth).map_err(Failure::configuration)?;
    Ok(signer.sign(sub, ttl, scopes)?)
}
