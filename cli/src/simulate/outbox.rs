//! The reports that a phone keeps until the server vouches for them.

use std::collections::VecDeque;

use super::frames::{Fix, Refused};
use super::ledger::Answer;

/// Late fixes in one message, as `welcome` says.
const FIXES: usize = 500;

/// One phone's reports on their way.
#[derive(Default)]
pub(crate) struct Outbox {
    /// Sent on this socket.
    waiting: VecDeque<Fix>,
    /// To be sent again as late fixes.
    overdue: Vec<Fix>,
    /// Sent again on this socket, under this id.
    resent: Option<(String, Vec<Fix>)>,
    messages: u64,
}

/// What a refusal decides.
pub(crate) enum Verdict {
    /// About one report.
    Report(i64, Answer),
    /// The late fixes that will never be accepted.
    Resent(Vec<Fix>),
}

impl Outbox {
    /// A report is handed to the socket.
    pub(crate) fn sent(&mut self, fix: Fix) {
        self.waiting.push_back(fix);
    }

    /// Report `n` was acknowledged. False when nobody waited for that.
    pub(crate) fn accepted(&mut self, n: i64) -> bool {
        self.take(n).is_some()
    }

    /// The socket is gone: what was not acknowledged is overdue.
    pub(crate) fn lost(&mut self) {
        if let Some((_, fixes)) = self.resent.take() {
            self.overdue.extend(fixes);
        }
        self.overdue.extend(self.waiting.drain(..));
        self.overdue.sort_by_key(|fix| fix.n);
    }

    /// Whether something is to be sent again, and nothing sent again awaits its answer.
    pub(crate) fn has_overdue(&self) -> bool {
        !self.overdue.is_empty() && self.resent.is_none()
    }

    /// The next late fixes to send, and the id to send them under.
    pub(crate) fn resend(&mut self) -> Option<(String, &[Fix])> {
        if !self.has_overdue() {
            return None;
        }
        self.messages += 1;
        let id = format!("late-{}", self.messages);
        let fixes = self.overdue.drain(..self.overdue.len().min(FIXES)).collect();
        let (id, fixes) = self.resent.insert((id, fixes));
        Some((id.clone(), fixes))
    }

    /// The late fixes under this id were answered.
    pub(crate) fn resent(&mut self, re: Option<&str>) -> Option<Vec<Fix>> {
        let asked = self.resent.as_ref().is_some_and(|(id, _)| Some(id.as_str()) == re);
        if asked { self.resent.take().map(|(_, fixes)| fixes) } else { None }
    }

    /// A message was refused.
    pub(crate) fn refused(&mut self, refused: &Refused) -> Option<Verdict> {
        let forever = refused.retry == "never";
        if let Some(fixes) = self.resent(refused.re.as_deref()) {
            if forever {
                return Some(Verdict::Resent(fixes));
            }
            self.overdue.extend(fixes);
            return None;
        }
        let fix = self.take(refused.n?)?;
        let answer = match refused.code.as_str() {
            _ if forever => return Some(Verdict::Report(fix.n, Answer::Refused)),
            // The log may hold it all the same.
            "unknown" => Answer::Unknown,
            _ => Answer::Declined,
        };
        self.overdue.push(fix);
        Some(Verdict::Report(fix.n, answer))
    }

    fn take(&mut self, n: i64) -> Option<Fix> {
        let place = self.waiting.iter().position(|fix| fix.n == n)?;
        self.waiting.remove(place)
    }
}

#[cfg(test)]
mod tests {
    use super::super::point::Point;
    use super::*;

    fn with(reports: i64) -> Outbox {
        let mut outbox = Outbox::default();
        (1..=reports).for_each(|n| outbox.sent(Fix::new(n, Point::of_degrees(0.0, 0.0), 0, 0.0)));
        outbox
    }

    fn numbers(fixes: &[Fix]) -> Vec<i64> {
        fixes.iter().map(|fix| fix.n).collect()
    }

    fn refused(n: Option<i64>, re: Option<&str>, code: &str, retry: &str) -> Refused {
        let (code, retry) = (code.to_owned(), retry.to_owned());
        Refused { code, retry, retry_after_ms: None, re: re.map(str::to_owned), n }
    }

    #[test]
    fn what_was_not_acknowledged_is_sent_again_after_the_loss() {
        let mut outbox = with(3);
        assert!(outbox.accepted(2) && !outbox.accepted(2) && !outbox.has_overdue());
        outbox.lost();
        let (id, fixes) = outbox.resend().unwrap();
        assert_eq!((id.as_str(), numbers(fixes)), ("late-1", vec![1, 3]));
        assert!(outbox.resend().is_none() && outbox.resent(Some("late-9")).is_none());
        // Lost again before the answer: again, under another id.
        outbox.lost();
        assert_eq!(outbox.resend().map(|(id, fixes)| (id, numbers(fixes))), Some(("late-2".to_owned(), vec![1, 3])));
        assert_eq!(outbox.resent(Some("late-2")).map(|f| numbers(&f)), Some(vec![1, 3]));
        assert!(!outbox.has_overdue());
    }

    #[test]
    fn a_night_goes_in_messages_of_five_hundred() {
        let mut outbox = with(501);
        outbox.lost();
        assert_eq!(outbox.resend().map(|(_, fixes)| fixes.len()), Some(500));
        assert_eq!(outbox.resent(Some("late-1")).map(|f| f.len()), Some(500));
        assert_eq!(outbox.resend().map(|(_, fixes)| numbers(fixes)), Some(vec![501]));
    }

    #[test]
    fn a_refusal_says_whether_to_send_again() {
        let mut outbox = with(4);
        for (n, code, retry, expect, overdue) in [
            (1, "position_out_of_range", "never", Answer::Refused, 0),
            (2, "busy", "after", Answer::Declined, 1),
            (3, "unknown", "after", Answer::Unknown, 2),
        ] {
            match outbox.refused(&refused(Some(n), None, code, retry)) {
                Some(Verdict::Report(of, answer)) => assert_eq!((of, answer), (n, expect)),
                _ => panic!("{code}"),
            }
            assert_eq!(outbox.overdue.len(), overdue);
        }
        assert!(outbox.refused(&refused(Some(9), None, "busy", "after")).is_none());
        assert!(outbox.refused(&refused(None, None, "unknown_type", "never")).is_none());
    }

    #[test]
    fn late_fixes_refused_as_a_whole() {
        let mut outbox = with(2);
        outbox.lost();
        outbox.resend();
        assert!(outbox.refused(&refused(None, Some("late-1"), "busy", "after")).is_none());
        assert!(outbox.has_overdue());
        outbox.resend();
        match outbox.refused(&refused(None, Some("late-2"), "malformed", "never")) {
            Some(Verdict::Resent(fixes)) => assert_eq!(numbers(&fixes), [1, 2]),
            _ => panic!("not refused"),
        }
        assert!(!outbox.has_overdue());
    }
}
