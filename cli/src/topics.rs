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
        let records = records(&kafka, &topic, partitions).await?;
        line(format_args!("{topic:<40} {partitions:>10} {records:>14}"));
    }
    Ok(())
}

/// Deletes the topics of gateways that are not among `keep` and to which nothing was written for as long as a gateway's
/// topic keeps records. Without `delete` it only tells.
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
        } else if records(&kafka, &topic, partitions).await? > 0 {
            line(format_args!("{topic}: kept, because something was written to it in the last minutes"));
        } else if delete {
            kafka.delete_topic(&topic).await.with_context(|| format!("delete {topic}"))?;
            line(format_args!("{topic}: deleted"));
        } else {
            unused += 1;
            line(format_args!("{topic}: unused"));
        }
    }
    if unused > 0 {
        line(format_args!("{unused} unused; `--delete` deletes them"));
    }
    Ok(())
}

async fn records(kafka: &Kafka, topic: &str, partitions: i32) -> Result<i64, Failure> {
    let mut records = 0;
    for partition in 0..partitions {
        let (low, high) = kafka.watermarks(topic, partition).await?;
        records += high - low;
    }
    Ok(records)
}

async fn cluster(settings: &Settings) -> Result<Kafka, Failure> {
    let kafka = Kafka::new(settings.kafka.clone());
    kafka.wait_until_up(&unseen()).await?;
    Ok(kafka)
}

/// A command has no health endpoint; what it waits for, its error says.
fn unseen() -> Component {
    Readiness::default().component("kafka")
}
