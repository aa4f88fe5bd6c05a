//! The command line without any server.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod run;

use std::io::Write;

use nearcast_runtime::Secret;
use nearcast_runtime::auth::{AuthConfig, Verifier};
use run::{Running, bad, free, good, nearcast, said, until_body};

const SECRET: &str = "the development secret of nearcast, known to everybody";
const CLOSED: &str = "127.0.0.1:1";

#[test]
fn the_defaults_are_a_configuration() {
    let default = good(&["config", "default"]);
    assert!(default.contains("[deployment]") && default.contains("prefix = \"nearcast\""));
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(default.as_bytes()).unwrap();
    let path = file.path().to_str().unwrap();
    assert_eq!(good(&["config", "check", "--config", path]), "the configuration is good\n");
    assert_eq!(good(&["config", "check"]), "the configuration is good\n");
}

#[test]
fn every_variable_it_names_is_one() {
    let text = good(&["config", "env"]);
    let variables: Vec<_> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_once('=').unwrap())
        .map(|(name, value)| (name, value.trim_matches('\'')))
        .collect();
    assert!(variables.contains(&("NEARCAST_KAFKA__BOOTSTRAP", "127.0.0.1:29092")), "{text}");
    assert!(text.contains("# NEARCAST_KAFKA__OPTIONS__SASL_PASSWORD="), "{text}");
    let checked = said(nearcast(&["config", "show"]).envs(variables));
    assert_eq!((checked.code, checked.out), (0, good(&["config", "show"])), "{}", checked.err);
}

#[test]
fn later_layers_win_and_secrets_are_not_shown() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"[deployment]\nprefix = \"by_file\"\nfriend_ttl_s = 900\n[redis]\npassword = \"hunter1\"\n")
        .unwrap();
    let path = file.path().to_str().unwrap();
    let shown = said(
        nearcast(&["config", "show", "--set", "deployment.prefix=by_flag"])
            .env("NEARCAST_CONFIG", path)
            .env("NEARCAST_DEPLOYMENT__PREFIX", "by_env")
            .env("NEARCAST_DEPLOYMENT__MIN_MOVE_M", "25")
            .env("NEARCAST_KAFKA__OPTIONS__SASL_PASSWORD", "hunter2"),
    );
    assert_eq!(shown.code, 0, "{}", shown.err);
    for part in ["prefix = \"by_flag\"", "keyspace = \"by_flag\"", "friend_ttl_s = 900", "min_move_m = 25.0"] {
        assert!(shown.out.contains(part), "{part} in {}", shown.out);
    }
    for secret in ["hunter", SECRET, "known to everybody"] {
        assert!(!shown.out.contains(secret), "{secret} in {}", shown.out);
    }
}

#[test]
fn a_bad_configuration_exits_64_and_says_what_and_where() {
    let unknown = ["`gateway.lisen` is no setting", "the flag for gateway.lisen", "did you mean `listen`?"];
    bad(&["config", "check", "--set", "gateway.lisen=1"], 64, &unknown);
    bad(&["config", "check", "--config", "/nowhere.toml"], 64, &["cannot read the configuration file /nowhere.toml"]);
    let silence = ["deployment.max_silence_s", "a third of friend_ttl_s"];
    bad(&["config", "check", "--set", "deployment.max_silence_s=300"], 64, &silence);
    bad(
        &["config", "check", "--set", "auth.hs256_secret=short"],
        64,
        &["auth.hs256_secret must have at least 32 bytes"],
    );
    bad(&["config", "check", "--set", "telemetry.filter=info,["], 64, &["telemetry.filter"]);
    bad(&["config", "check", "--set", "redis.nodes="], 64, &["redis.nodes"]);
    bad(&["config", "check", "--set", "ingest.max_in_flight=0"], 64, &["ingest.max_in_flight must be at least 1"]);
    bad(&["config", "check", "--set", "gateway.id=a.b"], 64, &["gateway.id must be"]);
    bad(&["config", "check", "--set", "api.max_friends=5001"], 64, &["api.max_friends must be"]);
    bad(&["config", "check", "--set", "history_sink.keep_days=0"], 64, &["history_sink.keep_days must be"]);
    bad(&["config", "check", "--set", "topics.locations_partitions=0"], 64, &["topics.locations_partitions must be"]);
    // Services and commands read the same configuration.
    for command in ["gateway", "fanout", "history-sink", "api", "all", "migrate"] {
        bad(&[command, "--set", "deployment.prefix=No"], 64, &["deployment.prefix"]);
    }
}

#[test]
fn a_bad_command_line_exits_64() {
    bad(&["gatway"], 64, &["unrecognized subcommand", "gateway"]);
    bad(&[], 64, &["Usage"]);
    bad(&["config", "check", "--set", "x"], 64, &["section.field=value"]);
    bad(&["token", "--sub", "a b"], 64, &["--sub"]);
    assert!(good(&["--help"]).contains("history-sink"));
    assert!(good(&["--version"]).starts_with("nearcast "));
}

#[test]
fn a_token_is_signed_with_the_configured_key() {
    let auth =
        |secret: &str| AuthConfig { hs256_secret: Some(Secret::new(secret)), leeway_s: 0, ..AuthConfig::default() };
    let token = good(&["token", "--sub", "alice", "--ttl", "1h", "--scope", "report,watch"]);
    let claims = Verifier::new(&auth(SECRET)).unwrap().check(token.trim_end()).unwrap();
    assert_eq!((claims.sub.as_str(), claims.scope.len()), ("alice", 2));
    let other = "another secret of at least 32 bytes";
    let token = good(&["token", "--sub", "bob", "--set", &format!("auth.hs256_secret={other}")]);
    assert_eq!(Verifier::new(&auth(other)).unwrap().check(token.trim_end()).unwrap().sub, "bob");
}

#[test]
fn an_absent_kafka_is_named_and_exits_1() {
    let expect = [&format!("Kafka does not answer at {CLOSED}"), "`make up`", "kafka.bootstrap"];
    let bootstrap = format!("kafka.bootstrap={CLOSED}");
    let (one, two) = (format!("gateway.listen={}", free()), format!("gateway.admin_listen={}", free()));
    let three = format!("fanout.admin_listen={}", free());
    for command in [vec!["topics", "create"], vec!["topics", "list"], vec!["gateway"], vec!["fanout"], vec!["all"]] {
        let mut args = command;
        for set in [&bootstrap, "kafka.startup_wait=300ms", &one, &two, &three] {
            args.extend(["--set", set]);
        }
        bad(&args, 1, &expect.map(|part: &str| part));
    }
}

#[test]
fn an_absent_cassandra_is_named_and_exits_1() {
    let expect = [&format!("Cassandra does not answer at {CLOSED}"), "`make up`", "cassandra.nodes"];
    let nodes = format!("cassandra.nodes={CLOSED}");
    let (one, two) = (format!("api.listen={}", free()), format!("history_sink.admin_listen={}", free()));
    for command in ["migrate", "api", "history-sink"] {
        let mut args = vec![command];
        for set in [&nodes, "cassandra.startup_wait=300ms", &one, &two] {
            args.extend(["--set", set]);
        }
        bad(&args, 1, &expect.map(|part: &str| part));
    }
}

#[tokio::test]
async fn a_service_that_waits_for_cassandra_says_so_in_readyz() {
    let listen = free();
    let (api, nodes) = (format!("api.listen={listen}"), format!("cassandra.nodes={CLOSED}"));
    let service = Running::start(&["api", "--set", &api, "--set", &nodes]);
    let body = until_body(&format!("http://{listen}/readyz"), "waiting at most").await;
    assert!(body.contains("\"ready\":false") && body.contains(CLOSED) && body.contains("`make up`"), "{body}");
    assert_eq!(reqwest::get(format!("http://{listen}/healthz")).await.unwrap().status(), 200);
    let (code, log) = service.stop();
    assert_eq!(code, 0, "{log}");
}

#[tokio::test]
async fn all_runs_without_any_server() {
    let (ws, admin, api) = (free(), free(), free());
    let sets = [
        format!("gateway.listen={ws}"),
        format!("gateway.admin_listen={admin}"),
        format!("gateway.api_url=http://{api}"),
        format!("api.listen={api}"),
        format!("fanout.admin_listen={}", free()),
        format!("history_sink.admin_listen={}", free()),
        // Nobody may reach for a server.
        format!("kafka.bootstrap={CLOSED}"),
        format!("cassandra.nodes={CLOSED}"),
        format!("redis.nodes=redis://{CLOSED}"),
    ];
    let mut args = vec!["all", "--embedded"];
    for set in &sets {
        args.extend(["--set", set]);
    }
    let service = Running::start(&args);
    for address in [&admin, &api] {
        until_body(&format!("http://{address}/readyz"), "\"ready\":true").await;
    }
    let (code, log) = service.stop();
    assert_eq!(code, 0, "{log}");
    assert!(!log.contains("known to everybody"), "a secret was logged:\n{log}");
}
