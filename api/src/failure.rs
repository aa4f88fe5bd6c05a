//! Why a call was not done.

use std::borrow::Cow;

use nearcast_history_sink::history::HistoryError;
use nearcast_ingest::CacheError;
use nearcast_schemas::refusal::Refusal;

use crate::kafka::PublishError;
use crate::store::StoreError;

/// Why a call was not done. Its text is for the log; clients are told [`Failure::refusal`] and [`Failure::message`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The caller may not, or asked for what cannot be.
    #[error("{0}")]
    Refused(Refusal),
    /// The same, and more than the code's own sentence can say.
    #[error("{0}: {1}")]
    RefusedBecause(Refusal, Cow<'static, str>),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Publish(#[from] PublishError),
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The time for a request is over.
    #[error("not done within {0:?}")]
    TimeOver(std::time::Duration),
    /// A task ended without an answer.
    #[error("a task failed: {0}")]
    Task(#[from] tokio::task::JoinError),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Failure {
    /// A refusal with a sentence of its own, which names no value that the caller sent.
    pub fn because(refusal: Refusal, sentence: impl Into<Cow<'static, str>>) -> Self {
        Self::RefusedBecause(refusal, sentence.into())
    }

    /// What the caller is told.
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::Refused(refusal) | Self::RefusedBecause(refusal, _) => *refusal,
            Self::Store(StoreError::Broken(_)) | Self::History(HistoryError::Refused(_)) | Self::Task(_) => {
                Refusal::Internal
            }
            Self::Store(StoreError::Unavailable(_))
            | Self::History(HistoryError::Unavailable(_))
            | Self::Cache(_)
            | Self::TimeOver(_) => Refusal::Unavailable,
            Self::Publish(PublishError::Busy) => Refusal::Busy,
            Self::Publish(PublishError::NoTopic | PublishError::Unknown(_)) => Refusal::Unknown,
        }
    }

    /// The sentence for people.
    pub fn message(&self) -> Cow<'static, str> {
        match self {
            Self::RefusedBecause(_, sentence) => sentence.clone(),
            other => Cow::Borrowed(other.refusal().row().sentence),
        }
    }

    /// Whether it is this side's fault.
    pub fn is_ours(&self) -> bool {
        !matches!(self, Self::Refused(_) | Self::RefusedBecause(..))
    }
}
