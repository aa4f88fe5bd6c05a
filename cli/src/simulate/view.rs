//! The list that one phone holds, as docs/protocol.md says to keep it.

use std::collections::HashSet;

use super::frames::{Digest, Nearby, Upsert};

/// What a frame did to the list, in order.
pub(crate) enum Step {
    /// Everybody left.
    Cleared,
    /// Somebody is shown, newly or anew.
    Put(Upsert),
    /// Somebody left, for this reason.
    Gone {
        /// Who.
        id: String,
        /// The documented reason.
        reason: String,
    },
}

/// The list.
#[derive(Default)]
pub(crate) struct View {
    held: HashSet<String>,
    /// The sum of [`hash`] over the ids held.
    digest: u64,
    /// The part of a reset that comes next, and how many there are.
    awaited: Option<(u32, u32)>,
    provisional: bool,
}

impl View {
    /// Applies a frame: a reset's first part empties the list, then removals, then upserts. Returns the steps.
    pub(crate) fn apply(&mut self, frame: Nearby) -> Vec<Step> {
        let mut steps = Vec::with_capacity(frame.upserts.len() + frame.removals.len() + 1);
        if let Some(reset) = frame.reset {
            if reset.part == 1 {
                self.held.clear();
                self.digest = 0;
                steps.push(Step::Cleared);
            }
            self.provisional = reset.provisional;
            self.awaited = (reset.part < reset.parts).then_some((reset.part + 1, reset.parts));
        }
        for removal in frame.removals {
            if self.held.remove(&removal.id) {
                self.digest = self.digest.wrapping_sub(hash(&removal.id));
            }
            steps.push(Step::Gone { id: removal.id, reason: removal.reason });
        }
        for upsert in frame.upserts {
            if self.held.insert(upsert.id.clone()) {
                self.digest = self.digest.wrapping_add(hash(&upsert.id));
            }
            steps.push(Step::Put(upsert));
        }
        steps
    }

    /// Whether parts of a reset are on their way.
    pub(crate) fn awaits_parts(&self) -> bool {
        self.awaited.is_some()
    }

    /// Whether the list is what the server says it is at this point of the stream. A list that is about to be replaced
    /// is not compared.
    pub(crate) fn agrees(&self, with: &Digest) -> bool {
        self.provisional
            || self.awaits_parts()
            || (self.held.len() == with.count && format!("{:016x}", self.digest) == with.digest)
    }
}

/// FNV-1a with 64 bits, then the finaliser of MurmurHash3. Of its own, as every client's is.
fn hash(id: &str) -> u64 {
    let fnv =
        id.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let once = (fnv ^ (fnv >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let twice = (once ^ (once >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    twice ^ (twice >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(view: &mut View, json: &str) -> String {
        let steps = view.apply(serde_json::from_str(json).unwrap());
        let shown = steps.into_iter().map(|step| match step {
            Step::Cleared => "clear".to_owned(),
            Step::Put(upsert) => format!("+{}", upsert.id),
            Step::Gone { id, reason } => format!("-{id}:{reason}"),
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    fn upsert(id: &str) -> String {
        format!(r#"{{"id":"{id}","display_name":"N{id}","lat":1,"lon":2,"distance_m":null,"at":5}}"#)
    }

    fn digest(count: usize, digest: &str) -> Digest {
        Digest { count, digest: digest.to_owned() }
    }

    #[test]
    fn a_reset_empties_then_removals_then_upserts() {
        let mut view = View::default();
        let frame = |reset: &str| {
            format!(r#"{{{reset}"removals":[{{"id":"a","reason":"silent"}}],"upserts":[{}]}}"#, upsert("a"))
        };
        assert_eq!(apply(&mut view, &frame("")), "-a:silent +a");
        assert_eq!(apply(&mut view, &frame(r#""reset":{"part":1,"parts":1},"#)), "clear -a:silent +a");
    }

    #[test]
    fn the_digest_is_that_of_the_documents() {
        let mut view = View::default();
        assert!(view.agrees(&digest(0, "0000000000000000")));
        apply(&mut view, &format!(r#"{{"upserts":[{}]}}"#, upsert("bob")));
        // The sample of docs/protocol.md.
        assert!(view.agrees(&digest(1, "f6493629e5654ae0")));
        assert!(!view.agrees(&digest(2, "f6493629e5654ae0")));
        assert!(!view.agrees(&digest(1, "f6493629e5654ae1")));
        apply(&mut view, &format!(r#"{{"upserts":[{}]}}"#, upsert("bob")));
        apply(&mut view, r#"{"removals":[{"id":"eve","reason":"silent"},{"id":"bob","reason":"silent"}]}"#);
        assert!(view.agrees(&digest(0, "0000000000000000")));
    }

    #[test]
    fn a_list_about_to_be_replaced_is_not_compared() {
        let mut view = View::default();
        apply(&mut view, r#"{"reset":{"part":1,"parts":1,"provisional":true},"upserts":[]}"#);
        assert!(view.agrees(&digest(7, "x")) && !view.awaits_parts());
        apply(&mut view, &format!(r#"{{"reset":{{"part":1,"parts":2}},"upserts":[{}]}}"#, upsert("a")));
        assert!(view.agrees(&digest(7, "x")) && view.awaits_parts());
        apply(&mut view, r#"{"reset":{"part":2,"parts":2},"upserts":[]}"#);
        assert!(!view.agrees(&digest(7, "x")) && !view.awaits_parts());
    }
}
