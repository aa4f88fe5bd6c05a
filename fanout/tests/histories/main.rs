//! Random histories: after every step, the views of the engine and of the phones are what the oracle computes from the
//! log, the band of the radius free.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

mod client;
mod copy;
mod named;
mod oracle;
mod step;
mod world;

use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};

/// A few hundred in every run; `make nightly` asks for more by `PROPTEST_CASES`, and `PROPTEST_RNG_SEED` repeats a run.
fn config() -> ProptestConfig {
    let asked = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { asked.cases } else { 400 };
    let rng_seed = match asked.rng_seed {
        RngSeed::Random => RngSeed::Fixed(rand::random()),
        fixed @ RngSeed::Fixed(_) => fixed,
    };
    ProptestConfig { cases, rng_seed, max_shrink_iters: 4_000, failure_persistence: None, ..asked }
}

fn run(middle: usize, steps: &[step::Step]) {
    let mut world = world::World::new(middle);
    for step in steps {
        world.run(step);
    }
    world.finish();
}

#[test]
fn views_are_what_the_log_says() {
    let config = config();
    if let RngSeed::Fixed(seed) = config.rng_seed {
        println!("{} histories, PROPTEST_RNG_SEED={seed}", config.cases);
    }
    let histories = (0..step::MIDDLES.len(), prop::collection::vec(step::step(), 1..120));
    let result = TestRunner::new(config).run(&histories, |(middle, steps)| {
        run(middle, &steps);
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}
