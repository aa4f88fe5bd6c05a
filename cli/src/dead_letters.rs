//! `nearcast dead-letters`: records that the history could not take, and trying them once more.

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use clap::Subcommand;
use nearcast_history_sink::cql::CqlHistory;
use nearcast_history_sink::dead_letters::{DeadLetters, Letter, LetterCause, Origin, Outcome};
use nearcast_runtime::cql;
use nearcast_schemas::codec::Codec;
use nearcast_schemas::topics::Topics;
use serde_json::json;

use crate::failure::Failure;
use crate::output::{line, moment};
use crate::settings::Settings;
use crate::topics::cluster;

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub enum DeadLettersCommand {
    /// Lists those that wait: which record of the log, when it came, whose, and why it could not be stored
    List {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Tries to store them once more, as of when the log got them; exits 1 where one stays
    Retry {
        /// These alone, as `list` names them; by default all that wait
        #[arg(value_name = "TOPIC[PARTITION]@OFFSET")]
        letters: Vec<Origin>,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
}

/// Does it.
///
/// # Errors
/// When Kafka or, to try again, the database does not answer, or a letter stays.
pub async fn run(command: DeadLettersCommand, settings: &Settings) -> Result<(), Failure> {
    let kafka = cluster(settings).await?;
    let (topics, codec) = (Topics::new(&settings.deployment.prefix), Arc::new(Codec::new(settings.schema_ids)));
    let letters = DeadLetters::new(kafka, topics, codec)?;
    match command {
        DeadLettersCommand::List { json } => list(&letters, json).await,
        DeadLettersCommand::Retry { letters: only, json } => {
            let session = cql::connect(&settings.cassandra).await?;
            let history = CqlHistory::new(session, settings.history_sink.keep_days).await;
            let history = history.context("the history cannot be written; is it there? (`nearcast migrate`)")?;
            retry(&letters, &history, &only.into_iter().collect(), json).await
        }
    }
}

async fn list(letters: &DeadLetters, as_json: bool) -> Result<(), Failure> {
    let mut waiting = 0;
    let strange = letters.list(|letter| {
        waiting += 1;
        if as_json {
            let Letter { poison: LetterCause { kind, cause }, .. } = letter;
            let (letter, user, at) = (letter.origin.to_string(), letter.user(), letter.appended_at);
            line(format_args!(
                "{}",
                json!({ "letter": letter, "user": user, "appended_at": at, "kind": kind, "cause": cause })
            ));
        } else {
            line(format_args!("{}", described(letter, &letter.poison)));
        }
    });
    let strange = strange.await?;
    if !as_json {
        line(format_args!("{waiting} waiting"));
        if strange > 0 {
            line(format_args!("{strange} records of the topic are no dead letters"));
        }
    }
    Ok(())
}

async fn retry(
    letters: &DeadLetters,
    history: &CqlHistory,
    only: &HashSet<Origin>,
    as_json: bool,
) -> Result<(), Failure> {
    let (mut settled, mut stay, mut missing) = (0, 0, only.clone());
    let before = letters.retry(
        history,
        |origin| only.is_empty() || only.contains(origin),
        |letter, outcome| {
            missing.remove(&letter.origin);
            let origin = &letter.origin;
            let (word, cause, told) = match outcome {
                Outcome::Stored => ("stored", None, format!("stored: {origin}")),
                Outcome::Nothing => ("nothing", None, format!("done:   {origin}, which asks the history for nothing")),
                Outcome::Stays(cause) => ("stays", Some(cause), format!("stays: {}", described(letter, cause))),
            };
            *(if cause.is_some() { &mut stay } else { &mut settled }) += 1;
            if as_json {
                let (kind, cause) = (cause.map(|cause| &cause.kind), cause.map(|cause| &cause.cause));
                let letter = origin.to_string();
                line(format_args!("{}", json!({ "letter": letter, "outcome": word, "kind": kind, "cause": cause })));
            } else {
                line(format_args!("{told}"));
            }
        },
    );
    for origin in before.await? {
        if missing.remove(&origin) && !as_json {
            line(format_args!("stored before: {origin}"));
        }
    }
    if !as_json {
        line(format_args!("{settled} settled, {stay} stay"));
    }
    let unknown: Vec<_> = missing.iter().map(ToString::to_string).collect();
    match (unknown.is_empty(), stay) {
        (false, _) => {
            Err(anyhow!("no such dead letters: {}; see `nearcast dead-letters list`", unknown.join(", ")).into())
        }
        (true, 0) => Ok(()),
        (true, _) => Err(anyhow!("{stay} stay dead letters").into()),
    }
}

/// A letter for people. Nothing of its value.
fn described(letter: &Letter, cause: &LetterCause) -> String {
    let user = letter.user().map(|user| format!(" of {user}")).unwrap_or_default();
    let at = letter.appended_at.map(|at| format!(", of {}", moment(at))).unwrap_or_default();
    format!("{}{user}{at}: {}: {}", letter.origin, cause.kind, cause.cause)
}
