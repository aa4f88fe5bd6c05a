//! Random histories: after every step, the views of the engine and of the phones are what the oracle computes from the
//! log, the band of the radius free.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod client;
mod oracle;
mod step;
mod world;

use proptest::prelude::*;

fn config() -> ProptestConfig {
    // A few hundred by default; PROPTEST_CASES asks for more.
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { ProptestConfig::default().cases } else { 400 };
    ProptestConfig { cases, max_shrink_iters: 4_000, ..ProptestConfig::default() }
}

fn run(middle: usize, steps: &[step::Step]) {
    let mut world = world::World::new(middle);
    for step in steps {
        world.run(step);
    }
    world.finish();
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn views_are_what_the_log_says(
        middle in 0..step::MIDDLES.len(),
        steps in prop::collection::vec(step::step(), 1..120),
    ) {
        run(middle, &steps);
    }
}
