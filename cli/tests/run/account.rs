//! What `nearcast audit` says of everything that phones of a test reported.

use std::path::Path;

use serde_json::Value;

use super::{Stack, nearcast, said, strs};

/// The account of the last hour, which must close: each report that was acknowledged as being in the log is there, those
/// of a session in order, and the history is the log. Returns it.
pub fn account(stack: &Stack, ledger: &Path) -> Value {
    let ledger = ledger.to_str().unwrap();
    let args = stack.args(&["audit", "--from", "1h", "--to", "now", "--json", "--ledger", ledger]);
    let said = said(&mut nearcast(&strs(&args)));
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    let account: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&account["ledger"]["outside"], &account["dead_lettered"]), (&0.into(), &0.into()), "{account}");
    account
}

/// Reports that were acknowledged as being in the log.
pub fn accepted(account: &Value) -> u64 {
    ["published", "stored"].iter().map(|field| account["ledger"][field].as_u64().unwrap()).sum()
}
