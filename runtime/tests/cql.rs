//! Cassandra as it is.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod real;

use std::sync::Arc;

use nearcast_runtime::cql::{self, CqlError, Migration};
use scylla::client::session::Session;

const ONE: Migration = (1, "people", "CREATE TABLE IF NOT EXISTS people (id text PRIMARY KEY);\n");
const TWO: Migration = (
    2,
    "places",
    "CREATE TABLE IF NOT EXISTS places (id text PRIMARY KEY);\nCREATE TABLE IF NOT EXISTS visits (id text PRIMARY KEY);\n",
);

async fn session(keyspace: &str) -> Arc<Session> {
    match cql::connect(&real::cql_config(keyspace)).await {
        Ok(session) => session,
        Err(error) => panic!("{error}: run `make up`"),
    }
}

async fn drop_keyspace(session: &Session, keyspace: &str) {
    session.query_unpaged(format!("DROP KEYSPACE {keyspace}"), &[]).await.unwrap();
}

#[tokio::test]
async fn migrations_are_applied_once_and_checked() {
    let keyspace = real::name();
    let first = session(&keyspace).await;
    let error = cql::check(&first, &keyspace, "api", &[ONE]).await.unwrap_err();
    assert!(error.to_string().contains("run `nearcast migrate`"), "{error}");

    assert_eq!(cql::migrate(&first, &keyspace, 1, "api", &[ONE]).await.unwrap().now, [1]);
    let again = cql::migrate(&first, &keyspace, 1, "api", &[ONE]).await.unwrap();
    assert_eq!((again.now, again.before), (vec![], 1));
    first.query_unpaged("INSERT INTO people (id) VALUES ('alice')", &[]).await.unwrap();

    // Another process, which finds the keyspace when it connects.
    let second = session(&keyspace).await;
    second.query_unpaged("INSERT INTO people (id) VALUES ('bob')", &[]).await.unwrap();
    assert!(matches!(
        cql::check(&second, &keyspace, "api", &[ONE, TWO]).await,
        Err(CqlError::NotMigrated { version: 2, .. })
    ));
    assert_eq!(cql::migrate(&second, &keyspace, 1, "api", &[ONE, TWO]).await.unwrap().now, [2]);
    cql::check(&second, &keyspace, "api", &[ONE, TWO]).await.unwrap();
    cql::check(&second, &keyspace, "api", &[ONE]).await.unwrap();
    second.query_unpaged("INSERT INTO visits (id) VALUES ('alice')", &[]).await.unwrap();

    // Numbers are a component's own.
    assert!(cql::check(&second, &keyspace, "history", &[ONE]).await.is_err());

    let changed: Migration = (1, "people", "CREATE TABLE people (id int PRIMARY KEY);\n");
    for result in [
        cql::migrate(&second, &keyspace, 1, "api", &[changed]).await.map(drop),
        cql::check(&second, &keyspace, "api", &[changed]).await,
    ] {
        assert!(matches!(result, Err(CqlError::Changed { version: 1, .. })), "{result:?}");
    }
    drop_keyspace(&second, &keyspace).await;
}

#[tokio::test]
async fn two_at_once_apply_each_migration_once() {
    let keyspace = real::name();
    let (one, two) = (session(&keyspace).await, session(&keyspace).await);
    let all = [ONE, TWO];
    let (first, second) =
        tokio::join!(cql::migrate(&one, &keyspace, 1, "api", &all), cql::migrate(&two, &keyspace, 1, "api", &all));
    let (first, second) = (first.unwrap(), second.unwrap());
    let mut counts = [first.now.len(), second.now.len()];
    counts.sort_unstable();
    assert_eq!(counts, [0, 2], "{first:?} {second:?}");
    drop_keyspace(&one, &keyspace).await;
}

#[tokio::test]
async fn a_statement_that_fails_is_named_and_lets_go_of_the_lock() {
    let keyspace = real::name();
    let session = session(&keyspace).await;
    let bad: Migration = (2, "typo", "CREATE TABEL x (id text PRIMARY KEY);\n");
    let error = cql::migrate(&session, &keyspace, 1, "api", &[ONE, bad]).await.unwrap_err();
    assert!(error.to_string().contains("migration 2 (typo) of api"), "{error}");
    assert_eq!(cql::migrate(&session, &keyspace, 1, "api", &[ONE, TWO]).await.unwrap().now, [2]);
    drop_keyspace(&session, &keyspace).await;
}
