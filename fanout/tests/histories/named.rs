//! Histories that have a name: what was promised in words, and counter-examples that were found once.

use nearcast_schemas::event::Sharing;

use crate::step::{EntryRule, Place, Step, TTL_MS, Which};
use crate::world::{World, name};

const ALICE: usize = 0;
const BOB: usize = 1;

fn at(east_m: f64) -> Place {
    Place { east_m, north_m: 0.0 }
}

fn hello(user: usize, gateway: usize, east_m: f64) -> Step {
    Step::Hello { user, watching: false, place: Some(at(east_m)), gateway, ahead: false }
}

fn fix(user: usize, which: Which, east_m: f64) -> Step {
    Step::Fix { user, which, place: at(east_m), old_mode: false }
}

fn mode(user: usize, sharing: Sharing) -> Step {
    Step::Mode { user, sharing, until_in: 0, discoverable: false }
}

/// Alice has Bob on her list and sees him.
fn alice_sees_bob() -> World {
    let mut world = World::new(1);
    let entries = vec![EntryRule { friend: BOB, coarse: false, radius_m: 0, expires_in: 0 }];
    for step in [Step::List { viewer: ALICE, radius_m: 8_000, entries }, hello(ALICE, 0, 0.0), hello(BOB, 1, 100.0)] {
        world.run(&step);
    }
    assert!(sees(&world));
    world
}

fn sees(world: &World) -> bool {
    world.sees(&name(ALICE), &name(BOB))
}

#[test]
fn who_pauses_and_goes_on_reporting_is_not_seen_by_workers_that_start_later() {
    let mut world = alice_sees_bob();
    world.run(&mode(BOB, Sharing::Hidden));
    assert!(!sees(&world));
    // For two times to live nothing is left in the log of the pause itself but what the reports carry.
    for minute in 0..2 * TTL_MS / 60_000 {
        world.run(&Step::Pass { ms: 60_000 });
        world.run(&fix(ALICE, Which::Latest, minute as f64));
        world.run(&fix(BOB, Which::Latest, 100.0 + minute as f64));
        assert!(!sees(&world));
    }
    for worker in 0..2 {
        world.run(&Step::Restart { worker, copy: false });
        assert!(!sees(&world), "a worker that begins anew");
    }
    world.run(&mode(BOB, Sharing::Exact));
    assert!(!sees(&world), "what was reported in the pause stays unseen when it is over");
    world.run(&fix(BOB, Which::Latest, 200.0));
    assert!(sees(&world));
    world.finish();
}

/// Both workers copy all they know within this step and the next.
fn copy(world: &mut World) {
    for worker in 0..2 {
        world.run(&Step::Copy { worker, slots: 100 });
    }
    world.run(&Step::Pass { ms: 1_000 });
}

#[test]
fn a_copy_brings_nothing_back_that_was_taken_away() {
    let end = Step::Mode { user: BOB, sharing: Sharing::Coarse, until_in: 30_000, discoverable: true };
    let begin = Step::Mode { user: BOB, sharing: Sharing::Hidden, until_in: 60_000, discoverable: true };
    let taken_away = [
        vec![mode(BOB, Sharing::Hidden)],
        vec![Step::Erase { user: BOB }],
        vec![Step::List { viewer: ALICE, radius_m: 8_000, entries: Vec::new() }],
        vec![end, mode(BOB, Sharing::Hidden), Step::Pass { ms: 60_000 }],
        vec![begin, fix(BOB, Which::Latest, 150.0), Step::Pass { ms: 120_000 }],
        vec![
            Step::Leave { user: BOB, which: Which::Latest },
            Step::Pass { ms: TTL_MS / 2 },
            fix(ALICE, Which::Latest, 1.0),
        ],
    ];
    for steps in &taken_away {
        for is_copied in [false, true] {
            let mut world = alice_sees_bob();
            if !is_copied {
                copy(&mut world);
            }
            steps.iter().for_each(|step| world.run(step));
            if is_copied {
                copy(&mut world);
            }
            // Of the last one: the copy is younger than the time to live, and the position is not.
            world.run(&Step::Pass { ms: TTL_MS / 2 - 1_000 });
            for worker in 0..2 {
                world.run(&Step::Restart { worker, copy: true });
                assert!(!sees(&world), "{steps:?}, copied after it: {is_copied}");
            }
            world.finish();
        }
    }
}

#[test]
fn a_worker_that_sleeps_between_assignment_and_claim_silences_nobody() {
    let mut world = alice_sees_bob();
    for (partition, worker) in (0..3).flat_map(|partition| [(partition, 1), (partition, 0), (partition, 1)]) {
        world.run(&Step::Takeover { partition, worker, late: true });
        world.run(&fix(BOB, Which::Latest, 20_000.0));
        assert!(!sees(&world), "its new owner says so, and the old one is not heard");
        world.run(&fix(BOB, Which::Latest, 100.0));
        assert!(sees(&world));
    }
    world.finish();
}

#[test]
fn a_gateway_that_wakes_up_with_old_frames_moves_nobody() {
    let mut world = alice_sees_bob();
    world.run(&hello(BOB, 0, 100.0));
    world.run(&fix(BOB, Which::Old, 20_000.0));
    assert!(sees(&world), "a record of a superseded session moves nothing");
    world.run(&hello(ALICE, 1, 0.0));
    world.run(&Step::Presence { user: ALICE, which: Which::Old, reset: true });
    world.run(&fix(BOB, Which::Latest, 20_000.0));
    world.finish();
}

#[test]
fn batches_that_come_twice_and_in_the_wrong_order_are_repaired() {
    let mut world = alice_sees_bob();
    for (east_m, expect) in [(20_000.0, false), (100.0, true), (20_000.0, false), (200.0, true)] {
        world.run(&Step::Mangle { gateway: 0 });
        world.run(&fix(BOB, Which::Latest, east_m));
        assert_eq!(sees(&world), expect);
    }
    world.finish();
}
