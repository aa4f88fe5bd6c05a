//! The edge: phones behind the balancer keep their gateway, and keep their list when a gateway dies, drains or comes.
//!
//! `cargo test -p nearcast --test edge -- --long` plays it with more phones than `cargo test` does, and `-- --long storm` only
//! the last scene. Both start a cluster of their own by `infra/cluster/cluster.sh`, on ports and in a directory that no other has, and end with all of it stopped.
//! What each process logged is left in the target folder under `edge-logs/`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

mod client;
#[path = "../run/cluster.rs"]
mod cluster;
mod figures;
mod phone;
mod scenes;
mod world;

use std::process::ExitCode;
use std::time::Instant;

use cluster::Cluster;
use futures_util::FutureExt;
use scenes::Scenes;

/// The name of the run among the tests.
const TEST: &str = "users_keep_their_gateway_and_their_list";

/// How many take part.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Who reconnect again and again, and how often.
    pub regulars: usize,
    pub rounds: usize,
    /// Who hold lists while gateways die, drain and come.
    pub phones: usize,
    /// Who come at once.
    pub storm: usize,
}

/// Whose balancer speaks TLS to gateways too. A client that is told to go elsewhere comes back within two seconds; ten would
/// only be waited for.
const CLUSTER: cluster::Plan =
    cluster::Plan { name: "edge", base: 31_000, inner_tls: true, settings: "gateway.drain_spread_ms=2000" };

const LONG: Plan = Plan { regulars: 1_000, rounds: 10, phones: 300, storm: 5_000 };
const SHORT: Plan = Plan { regulars: 200, rounds: 10, phones: 120, storm: 1_000 };

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if has("--list") {
        println!("{TEST}: test");
        return ExitCode::SUCCESS;
    }
    let storm_alone = has("storm");
    let filters = |filter: &&String| !filter.starts_with('-') && *filter != "storm";
    if arguments.iter().filter(filters).any(|filter| !TEST.contains(filter.as_str())) {
        return ExitCode::SUCCESS;
    }
    let plan = if has("--long") { LONG } else { SHORT };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let passed = runtime.block_on(async {
        tokio::select! {
            passed = std::panic::AssertUnwindSafe(play(plan, storm_alone)).catch_unwind() => passed.is_ok(),
            // The cluster is stopped on the way out.
            _ = tokio::signal::ctrl_c() => false,
        }
    });
    drop(runtime);
    let (word, count) = if passed { ("ok", 1) } else { ("FAILED", 0) };
    println!("test {TEST} ... {word}");
    println!("test result: {word}. {count} passed; {} failed; 0 ignored", 1 - count);
    if passed { ExitCode::SUCCESS } else { ExitCode::from(101) }
}

async fn play(plan: Plan, storm_alone: bool) {
    let begun = Instant::now();
    let cluster = Cluster::start(CLUSTER).await;
    println!("the cluster is up after {:.0} s", begun.elapsed().as_secs_f64());
    let mut scenes = Scenes::new(&cluster, plan);
    if !storm_alone {
        scenes.everybody_has_one_gateway().await;
        scenes.phones_come().await;
        scenes.one_is_killed().await;
        scenes.one_is_put_aside().await;
        scenes.one_drains().await;
        scenes.one_is_added().await;
    }
    scenes.all_come_at_once().await;
    drop(scenes);
    cluster.stop().await;
    println!("all of it in {:.0} s", begun.elapsed().as_secs_f64());
}
