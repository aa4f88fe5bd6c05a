//! What was put on its way and is not acknowledged yet.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use nearcast_schemas::refusal::Refusal;
use tokio::sync::oneshot;

/// Where Kafka put a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Partition of the locations topic.
    pub partition: i32,
    /// Offset in it; of a hello, the session.
    pub offset: i64,
    /// The broker's append time in ms since the epoch; on the embedded cluster, the time of creation.
    pub at: i64,
}

/// What became of a report that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the log and moves the user's position.
    Published(Appended),
    /// It is not in the log, because one close by and not long ago is.
    Thinned,
    /// It is in the log for the history alone: it came too late to be shown as now.
    Stored,
}

impl Outcome {
    /// As `ack` frames and metrics name it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Published(_) => "published",
            Self::Thinned => "thinned",
            Self::Stored => "stored",
        }
    }
}

pub(crate) type Settled = Result<Appended, Refusal>;

/// Resolves when Kafka has acknowledged, or refused, what was put on its way.
///
/// Dropping it changes nothing but that nobody is told. [`Refusal::Unknown`]: nobody knows whether the log has it.
#[must_use = "only what Kafka acknowledged is accepted"]
#[derive(Debug)]
pub struct Pending<T> {
    waiting: VecDeque<oneshot::Receiver<Settled>>,
    first: Option<Appended>,
    refused: Option<Refusal>,
    outcome: fn(Option<Appended>) -> Option<T>,
}

impl<T> Pending<T> {
    /// Resolved already, with what `outcome` makes of no record.
    pub(crate) fn ready(outcome: fn(Option<Appended>) -> Option<T>) -> Self {
        Self::all(VecDeque::new(), outcome)
    }

    /// Resolves with what `outcome` makes of the first record's place once all records are acknowledged; with the first
    /// refusal once all are settled.
    pub(crate) fn all(
        waiting: VecDeque<oneshot::Receiver<Settled>>,
        outcome: fn(Option<Appended>) -> Option<T>,
    ) -> Self {
        Self { waiting, first: None, refused: None, outcome }
    }
}

impl<T> Future for Pending<T> {
    type Output = Result<T, Refusal>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        while let Some(receiver) = self.waiting.front_mut() {
            let settled = match Pin::new(receiver).poll(cx) {
                Poll::Pending => return Poll::Pending,
                // The producer went away with the record in its queue.
                Poll::Ready(settled) => settled.unwrap_or(Err(Refusal::Unknown)),
            };
            self.waiting.pop_front();
            match settled {
                Ok(appended) => {
                    self.first.get_or_insert(appended);
                }
                Err(refusal) => {
                    self.refused.get_or_insert(refusal);
                }
            }
        }
        Poll::Ready(match self.refused {
            Some(refusal) => Err(refusal),
            None => (self.outcome)(self.first).ok_or(Refusal::Internal),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: i64) -> Appended {
        Appended { partition: 0, offset, at: 0 }
    }

    /// Settles records in the order of `order`, an index and what became of it.
    async fn check(order: &[(usize, Option<Settled>)], expect: Result<Option<Appended>, Refusal>) {
        let (senders, receivers): (Vec<_>, VecDeque<_>) = order.iter().map(|_| oneshot::channel()).unzip();
        let mut senders: Vec<_> = senders.into_iter().map(Some).collect();
        let pending = tokio::spawn(Pending::all(receivers, Some));
        for (index, settled) in order {
            tokio::task::yield_now().await;
            let sender = senders[*index].take().unwrap();
            if let Some(settled) = settled {
                sender.send(*settled).unwrap();
            }
        }
        assert_eq!(pending.await.unwrap(), expect);
    }

    #[tokio::test]
    async fn resolves_when_all_are_settled() {
        check(&[], Ok(None)).await;
        check(&[(0, Some(Ok(at(5))))], Ok(Some(at(5)))).await;
        check(&[(1, Some(Ok(at(6)))), (0, Some(Ok(at(5))))], Ok(Some(at(5)))).await;
        check(&[(0, Some(Ok(at(5)))), (1, Some(Err(Refusal::Busy)))], Err(Refusal::Busy)).await;
        check(&[(1, Some(Err(Refusal::Busy))), (0, Some(Ok(at(5))))], Err(Refusal::Busy)).await;
    }

    #[tokio::test]
    async fn a_record_that_nobody_settles_is_unknown() {
        check(&[(0, None)], Err(Refusal::Unknown)).await;
    }

    #[tokio::test]
    async fn ready_is_ready() {
        assert_eq!(Pending::ready(|_| Some(Outcome::Thinned)).await, Ok(Outcome::Thinned));
    }
}
