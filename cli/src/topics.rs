//! `nearcast topics`: what the deployment keeps in Kafka.

use anyhow::{Context, anyhow};
use nearcast_runtime::admin::Ensured;
use nearcast_runtime::health::{Component, Readiness};
use nearcast_runtime::kafka::Kafka;
use nearcast_schemas::topics::{TopicSpec, Topics};

use crate::failure::Failure;
use crate::output::line;
use crate::settings::Settings;

/// The topics that exist once a deployment; each gateway makes its own when it starts.
pub fn specs(settings: &Settings) -> Vec<TopicSpec> {
    let topics = Topics::new(&settings.deployment.prefix);
    vec![
        topics.locations_spec(settings.topics.locations_partitions),
        topics.visibility_spec(settings.topics.visibility_partitions),
        topics.dead_letters_spec(),
    ]
}

/// Makes what is missing, and returns what was found or done with each.
///
/// # Errors
/// When Kafka is absent or refuses.
pub async fn ensure(settings: &Settings, component: &Component) -> Result<Vec<(TopicSpec, Ensured)>, Failure> {
    let kafka = Kafka::new(settings.kafka.clone());
    kafka.wait_until_up(component).await?;
    let mut done = Vec::new();
    for spec in specs(settings) {
        let ensured = kafka.ensure_topic(&spec.name, spec.partitions, &spec.settings).await?;
        if let Ensured::Differs(differences) = &ensured {
            let differences: Vec<_> = differences.iter().map(ToString::to_string).collect();
            tracing::warn!(topic = spec.name, differences = differences.join(", "), "topic is not as configured");
        }
        done.push((spec, ensured));
    }
    Ok(done)
}

/// `nearcast topics create`: makes what is missing. What is there in another way is left alone and told.
///
/// # Errors
/// When Kafka is absent or refuses, or a topic differs.
pub async fn create(settings: &Settings) -> Result<(), Failure> {
    let mut differing = Vec::new();
    for (spec, ensured) in ensure(settings, &unseen()).await? {
        match ensured {
            Ensured::Created => line(format_args!("{}: made with {} partitions", spec.name, spec.partitions)),
            Ensured::Existed => line(format_args!("{}: was there", spec.name)),
            Ensured::Differs(differences) => {
                for difference in differences {
                    line(format_args!("{}: {difference}", spec.name));
                }
                differing.push(spec.name);
            }
        }
    }
    if differing.is_empty() {
        return Ok(());
    }
    Err(anyhow!("left alone, because not as configured: {}", differing.join(", ")).into())
}

/// Prints the deployment's topics, their partitions and how many records each holds.
///
/// # Errors
/// When Kafka is absent.
pub async fn list(settings: &Settings) -> Result<(), Failure> {
    let kafka = cluster(settings).await?;
    let found = kafka.topics(&format!("{}.", settings.deployment.prefix)).await?;
    line(format_args!("{:<40} {:>10} {:>14}", "topic", "partitions", "records"));
    for (topic, partitions) in found {
        let (records, _) = records(&kafka, &topic, partitions).await?;
        line(format_args!("{topic:<40} {partitions:>10} {records:>14}"));
    }
    Ok(())
}

/// Deletes the topics of gateways that are not among `keep`, that were written to once, and not for as long as a
/// gateway's topic keeps records. Without `delete` it only tells.
///
/// Workers write each second to the topic of every gateway with sessions. One that nobody ever wrote to may be that of a
/// gateway which has just started. A gateway without a session for so long ends when its topic is deleted, and makes it
/// again when it is started again.
///
/// # Errors
/// When Kafka is absent or refuses.
pub async fn gc(settings: &Settings, keep: &[String], delete: bool) -> Result<(), Failure> {
    let kafka = cluster(settings).await?;
    let topics = Topics::new(&settings.deployment.prefix);
    let prefix = topics.gateway("");
    let mut unused = 0;
    for (topic, partitions) in kafka.topics(&prefix).await? {
        let id = topic.strip_prefix(&prefix).unwrap_or_default();
        if keep.iter().any(|kept| kept == id) {
            line(format_args!("{topic}: kept"));
            continue;
        }
        let (held, taken) = records(&kafka, &topic, partitions).await?;
        if held > 0 {
            line(format_args!("{topic}: kept, because something was written to it in the last minutes"));
        } else if taken == 0 {
            line(format_args!("{topic}: kept, because nothing was ever written to it; its gateway may be new"));
        } else if delete {
            kafka.delete_topic(&topic).await.with_context(|| format!("delete {topic}"))?;
            line(format_args!("{topic}: deleted"));
        } else {
            unused += 1;
            line(format_args!("{topic}: unused"));
        }
    }
    if unused > 0 {
        line(format_args!("{unused} unused; `--delete` deletes them. Name in `--keep` the gateways that are up"));
    }
    Ok(())
}

/// How many records a topic holds, and how many it ever took.
async fn records(kafka: &Kafka, topic: &str, partitions: i32) -> Result<(i64, i64), Failure> {
    let (mut held, mut taken) = (0, 0);
    for partition in 0..partitions {
        let (low, high) = kafka.watermarks(topic, partition).await?;
        held += high - low;
        taken += high;
    }
    Ok((held, taken))
}

/// Kafka for a command, once it answers.
///
/// # Errors
/// When it does not within `kafka.startup_wait`.
pub async fn cluster(settings: &Settings) -> Result<Kafka, Failure> {
    let kafka = Kafka::new(settings.kafka.clone());
    kafka.wait_until_up(&unseen()).await?;
    Ok(kafka)
}

/// A command has no health endpoint; what it waits for, its error says.
fn unseen() -> Component {
    Readiness::default().component("kafka")
}
