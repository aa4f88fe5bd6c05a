//! Schema migrations: each component has a numbered list; what was applied is remembered beside the tables.

use std::time::Duration;

use scylla::client::session::Session;
use scylla::errors::{DbError, ExecutionError, RequestAttemptError};
use scylla::value::{CqlValue, Row};
use tokio::time::Instant;

use crate::cql::{CqlError, check_keyspace, keyspace_exists, use_keyspace};

/// One step: its number (from 1, growing), its name, and its statements, each ended by `;` at the end of a line. A
/// statement names tables without the keyspace and does no harm when repeated (`IF NOT EXISTS`), because a crash may
/// fall between it and the note that it was applied.
pub type Migration = (u32, &'static str, &'static str);

/// What [`migrate`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The numbers that were applied now; empty when all had been.
    pub now: Vec<u32>,
    /// How many had been applied before.
    pub before: usize,
}

/// A holder that died lets go after this.
const LOCK_TTL_S: i32 = 60;
/// How long to wait for another holder: a dead one's time and some.
const LOCK_WAIT: Duration = Duration::from_secs(120);
const LOCK_PAUSE: Duration = Duration::from_millis(100);
const LOCK: &str = "schema";

/// Makes the keyspace where it is missing and applies the migrations that were not yet. Two at once wait for each other;
/// again does nothing. Afterwards statements of the session name tables without the keyspace.
///
/// # Errors
/// A statement that failed, a migration that was changed after it was applied, or a lock that does not come free.
pub async fn migrate(
    session: &Session,
    keyspace: &str,
    replication_factor: u16,
    component: &str,
    migrations: &[Migration],
) -> Result<Applied, CqlError> {
    check_keyspace(keyspace)?;
    if !keyspace_exists(session, keyspace).await? {
        let create = format!(
            "CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = \
             {{'class': 'NetworkTopologyStrategy', 'replication_factor': {replication_factor}}}"
        );
        run(session, "create the keyspace", &create).await?;
    }
    use_keyspace(session, keyspace).await?;
    for table in [
        "CREATE TABLE IF NOT EXISTS schema_lock (name text PRIMARY KEY, owner text)",
        "CREATE TABLE IF NOT EXISTS schema_migrations (component text, version int, name text, cql text, \
         applied_at timestamp, PRIMARY KEY (component, version))",
    ] {
        run(session, "create the migrations' own tables", table).await?;
    }
    let lock = Lock::take(session, keyspace).await?;
    let result = apply(session, keyspace, component, migrations, &lock).await;
    lock.release(session).await?;
    result
}

/// Whether every migration was applied. A newer schema than this program knows is right: a new version migrates while
/// the old one serves.
///
/// # Errors
/// [`CqlError::NotMigrated`] says to run `nearcast migrate`.
pub async fn check(
    session: &Session,
    keyspace: &str,
    component: &str,
    migrations: &[Migration],
) -> Result<(), CqlError> {
    check_keyspace(keyspace)?;
    let applied = if table_exists(session, keyspace).await? {
        use_keyspace(session, keyspace).await?;
        applied(session, component).await?
    } else {
        Vec::new()
    };
    for (version, name, cql) in migrations {
        match applied.iter().find(|(number, _)| number == version) {
            Some((_, text)) if text == cql => {}
            Some(_) => return Err(changed(keyspace, component, *version)),
            None => {
                return Err(CqlError::NotMigrated {
                    keyspace: keyspace.to_owned(),
                    component: component.to_owned(),
                    version: *version,
                    name: (*name).to_owned(),
                });
            }
        }
    }
    Ok(())
}

async fn apply(
    session: &Session,
    keyspace: &str,
    component: &str,
    migrations: &[Migration],
    lock: &Lock,
) -> Result<Applied, CqlError> {
    let known = applied(session, component).await?;
    let mut now = Vec::new();
    for (version, name, cql) in migrations {
        match known.iter().find(|(number, _)| number == version) {
            Some((_, text)) if text == cql => continue,
            Some(_) => return Err(changed(keyspace, component, *version)),
            None => {}
        }
        for statement in statements(cql) {
            lock.renew(session).await?;
            run(session, &format!("migration {version} ({name}) of {component}"), statement).await?;
        }
        let note = "INSERT INTO schema_migrations (component, version, name, cql, applied_at) \
                    VALUES (?, ?, ?, ?, toTimestamp(now()))";
        let number = i32::try_from(*version).unwrap_or(i32::MAX);
        session
            .query_unpaged(note, (component, number, *name, *cql))
            .await
            .map_err(|error| CqlError::statement(format!("note migration {version} of {component}"), error))?;
        tracing::info!(keyspace, component, version, name, "migration applied");
        now.push(*version);
    }
    Ok(Applied { now, before: known.len() })
}

fn statements(cql: &str) -> impl Iterator<Item = &str> {
    cql.split_inclusive(";\n")
        .map(|statement| statement.trim().trim_end_matches(';').trim_end())
        .filter(|statement| !statement.is_empty())
}

fn changed(keyspace: &str, component: &str, version: u32) -> CqlError {
    CqlError::Changed { keyspace: keyspace.to_owned(), component: component.to_owned(), version }
}

/// Numbers and texts of what was applied.
async fn applied(session: &Session, component: &str) -> Result<Vec<(u32, String)>, CqlError> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| CqlError::statement("read the migrations", error);
    let result = session
        .query_unpaged("SELECT version, cql FROM schema_migrations WHERE component = ?", (component,))
        .await
        .map_err(|error| failed(error.into()))?
        .into_rows_result()
        .map_err(|error| failed(error.into()))?;
    let mut rows = Vec::new();
    for row in result.rows::<(i32, String)>().map_err(|error| failed(error.into()))? {
        let (version, cql) = row.map_err(|error| failed(error.into()))?;
        rows.push((version.unsigned_abs(), cql));
    }
    Ok(rows)
}

async fn table_exists(session: &Session, keyspace: &str) -> Result<bool, CqlError> {
    let failed =
        |error: Box<dyn std::error::Error + Send + Sync>| CqlError::statement("look for the migrations", error);
    let query = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ? AND table_name = ?";
    let found = session
        .query_unpaged(query, (keyspace, "schema_migrations"))
        .await
        .map_err(|error| failed(error.into()))?
        .into_rows_result()
        .map_err(|error| failed(error.into()))?;
    Ok(found.rows_num() > 0)
}

async fn run(session: &Session, what: &str, statement: &str) -> Result<(), CqlError> {
    session.query_unpaged(statement, &[]).await.map(drop).map_err(|error| CqlError::statement(what, error))
}

/// A row by lightweight transaction, with a TTL.
struct Lock {
    owner: String,
}

impl Lock {
    async fn take(session: &Session, keyspace: &str) -> Result<Self, CqlError> {
        let begun = Instant::now();
        let owner = format!("{}-{:p}-{}", std::process::id(), session, crate::clock::now_ms());
        let lock = Self { owner };
        let take = format!("INSERT INTO schema_lock (name, owner) VALUES (?, ?) IF NOT EXISTS USING TTL {LOCK_TTL_S}");
        while !transact(session, &lock.owner, &take, (LOCK, lock.owner.as_str())).await? {
            if begun.elapsed() > LOCK_WAIT {
                return Err(CqlError::Locked { keyspace: keyspace.to_owned(), waited: begun.elapsed() });
            }
            tokio::time::sleep(LOCK_PAUSE).await;
        }
        Ok(lock)
    }

    async fn renew(&self, session: &Session) -> Result<(), CqlError> {
        let renew = format!("UPDATE schema_lock USING TTL {LOCK_TTL_S} SET owner = ? WHERE name = ? IF owner = ?");
        let owner = self.owner.as_str();
        if transact(session, owner, &renew, (owner, LOCK, owner)).await? {
            return Ok(());
        }
        Err(CqlError::statement("renew the lock", format!("it was lost after {LOCK_TTL_S} s; run it again")))
    }

    async fn release(&self, session: &Session) -> Result<(), CqlError> {
        let release = "DELETE FROM schema_lock WHERE name = ? IF owner = ?";
        transact(session, &self.owner, release, (LOCK, self.owner.as_str())).await.map(drop)
    }
}

/// How often a transaction is said whose outcome nobody knows: replicas that are slow for a moment time it out.
const TRIES: u32 = 5;

/// Runs a lightweight transaction on the lock and returns whether it is now `owner`'s: applied, or applied by an earlier
/// attempt whose answer was lost on the way.
async fn transact(
    session: &Session,
    owner: &str,
    statement: &str,
    values: impl scylla::serialize::row::SerializeRow,
) -> Result<bool, CqlError> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| CqlError::statement("take the lock", error);
    let mut tries = 1;
    let answer = loop {
        match session.query_unpaged(statement, &values).await {
            // Whether it was applied is not known; said again, the answer tells.
            Err(ExecutionError::LastAttemptError(RequestAttemptError::DbError(DbError::WriteTimeout { .. }, _)))
                if tries < TRIES =>
            {
                tries += 1;
            }
            answer => break answer,
        }
    };
    let rows =
        answer.map_err(|error| failed(error.into()))?.into_rows_result().map_err(|error| failed(error.into()))?;
    let columns = rows.column_specs().iter().map(|column| column.name().to_owned()).collect::<Vec<_>>();
    let row = rows.first_row::<Row>().map_err(|error| failed(error.into()))?;
    let value = |name: &str| {
        let at = columns.iter().position(|column| column == name)?;
        row.columns.get(at)?.as_ref()
    };
    let applied = value("[applied]").and_then(CqlValue::as_boolean) == Some(true);
    Ok(applied || value("owner").and_then(CqlValue::as_text).is_some_and(|holder| holder == owner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_end_at_the_end_of_a_line() {
        let cql =
            "CREATE TABLE a (x int PRIMARY KEY)\n  WITH comment = 'one; two';\n\nCREATE TABLE b (x int PRIMARY KEY);\n";
        let found: Vec<_> = statements(cql).collect();
        assert_eq!(
            found,
            ["CREATE TABLE a (x int PRIMARY KEY)\n  WITH comment = 'one; two'", "CREATE TABLE b (x int PRIMARY KEY)",]
        );
        assert_eq!(statements("SELECT 1").collect::<Vec<_>>(), ["SELECT 1"]);
    }
}
