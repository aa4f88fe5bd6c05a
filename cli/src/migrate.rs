//! `nearcast migrate`: the tables of every service, in one keyspace.

use nearcast_runtime::cql::{self, Applied, Migration};
use nearcast_runtime::health::{Component, Readiness};

use crate::failure::Failure;
use crate::output::line;
use crate::settings::Settings;

/// Whose tables, and how they come to be.
pub const COMPONENTS: [(&str, &[Migration]); 2] =
    [("api", nearcast_api::MIGRATIONS), ("history", nearcast_history_sink::cql::MIGRATIONS)];

/// Makes the keyspace and applies what was not applied yet; returns what was done for each component.
///
/// # Errors
/// When Cassandra is absent, or a migration fails or was changed after it was applied.
pub async fn apply(settings: &Settings, component: &Component) -> Result<Vec<(&'static str, Applied)>, Failure> {
    let config = &settings.cassandra;
    let session = cql::connect_as(config, component).await?;
    let mut done = Vec::new();
    for (name, migrations) in COMPONENTS {
        let applied = cql::migrate(&session, &config.keyspace, config.replication_factor, name, migrations).await?;
        done.push((name, applied));
    }
    Ok(done)
}

/// `nearcast migrate`.
///
/// # Errors
/// As [`apply`].
pub async fn run(settings: &Settings) -> Result<(), Failure> {
    // A command has no health endpoint; what it waits for, its error says.
    let component = Readiness::default().component("cassandra");
    for (name, applied) in apply(settings, &component).await? {
        if applied.now.is_empty() {
            line(format_args!("{name}: all {} applied before", applied.before));
        } else {
            let now: Vec<_> = applied.now.iter().map(ToString::to_string).collect();
            line(format_args!("{name}: applied {}", now.join(", ")));
        }
    }
    Ok(())
}
