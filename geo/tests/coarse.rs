//! What an observer of a coarse position can and can't learn.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use geographiclib_rs::{DirectGeodesic, Geodesic};
use nearcast_geo::{Cell, CoarsePosition, CoarseTrack, Coarsener, Position, Resolution, straight_line_m};
use proptest::prelude::*;

const PERIOD_MS: u32 = 300_000;
const START_MS: i64 = 1_750_000_000_000;

/// Cells are measured on a sphere and ways here on the ellipsoid: they differ by up to 0.6 %.
const SPHERE: f64 = 1.01;

/// A way: azimuth in degrees, length in metres or as a share of something.
type Way = (f64, f64);

fn away(from: Position, (azimuth_deg, distance_m): Way) -> Position {
    let (lat, lon): (f64, f64) = Geodesic::wgs84().direct(from.lat_deg(), from.lon_deg(), azimuth_deg, distance_m);
    Position::new(lat, lon).unwrap()
}

/// Rules of some resolution, and a margin that is a share of its edge.
fn rules() -> impl Strategy<Value = (Coarsener, Resolution, f64)> {
    (5..=8_u8, 0.02..0.5_f64).prop_map(|(resolution, share)| {
        let resolution = Resolution::try_from(resolution).unwrap();
        let margin_m = share * resolution.edge_length_m();
        (Coarsener::new(resolution, margin_m, PERIOD_MS).unwrap(), resolution, margin_m)
    })
}

/// Places all over the globe, thickly about poles, antimeridian and the twelve pentagons.
fn place() -> impl Strategy<Value = Position> {
    let pentagons: Vec<_> =
        Resolution::Seven.pentagons().map(|pentagon| Cell::try_from(u64::from(pentagon)).unwrap().center()).collect();
    prop_oneof![
        3 => ((-1.0..=1.0_f64), -180.0..=180.0_f64).prop_map(|(s, lon)| (s.asin().to_degrees(), lon)),
        1 => (89.9..=90.0_f64, -180.0..=180.0_f64),
        1 => (-90.0..=-89.9_f64, -180.0..=180.0_f64),
        1 => (-85.0..=85.0_f64, prop::sample::select(vec![-180.0, 179.99, 180.0])),
        2 => prop::sample::select(pentagons).prop_map(|p| (p.lat_deg(), p.lon_deg())),
    ]
    .prop_map(|(lat, lon)| Position::new(lat, lon).unwrap())
}

fn azimuth() -> impl Strategy<Value = f64> {
    -180.0..180.0_f64
}

/// Whether a cell has a point on a circle about a place.
fn meets_circle(cell: Cell, place: Position, radius_m: f64) -> bool {
    (0..360).any(|azimuth| Cell::of(away(place, (f64::from(azimuth), radius_m)), cell.resolution()) == cell)
}

/// A point of the edge where somebody walking from a place leaves its cell, to 1 cm.
fn edge_on_the_way(from: Position, azimuth_deg: f64, resolution: Resolution) -> Position {
    let home = Cell::of(from, resolution);
    let (mut inside_m, mut outside_m) = (0.0, 4.0 * resolution.edge_length_m());
    while outside_m - inside_m > 0.01 {
        let middle_m = (inside_m + outside_m) / 2.0;
        if Cell::of(away(from, (azimuth_deg, middle_m)), resolution) == home {
            inside_m = middle_m;
        } else {
            outside_m = middle_m;
        }
    }
    away(from, (azimuth_deg, outside_m))
}

fn start(rules: &Coarsener, place: Position) -> CoarseTrack {
    CoarseTrack::start(rules, 42, place, START_MS)
}

/// Evaluates a position at the `n`th instant after the start.
fn evaluate(track: &mut CoarseTrack, rules: &Coarsener, place: Position, n: usize) -> Cell {
    let now_ms = START_MS + i64::try_from(n).unwrap() * i64::from(PERIOD_MS);
    track.observe(rules, place, now_ms).unwrap().cell
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whoever stays within a margin's width sees one cell, though they cross edges all the time.
    #[test]
    fn no_flapping_on_an_edge(
        (rules, resolution, margin_m) in rules(),
        home in place(),
        heading in azimuth(),
        ways in prop::collection::vec((azimuth(), 0.0..1.0_f64), 60),
    ) {
        let edge = edge_on_the_way(home, heading, resolution);
        let places: Vec<_> = ways
            .iter()
            .map(|(azimuth, share)| away(edge, (*azimuth, share * margin_m / 2.0 / SPHERE)))
            .collect();
        let first = Cell::of(places[0], resolution);
        prop_assert!(places.iter().any(|place| Cell::of(*place, resolution) != first));

        let mut track = start(&rules, places[0]);
        for (n, place) in places.iter().enumerate().skip(1) {
            prop_assert_eq!(evaluate(&mut track, &rules, *place, n), first);
        }
    }

    /// A walk along an edge, swaying over it by less than the margin, never returns to a cell.
    #[test]
    fn a_walk_along_an_edge_makes_no_detours(
        (rules, resolution, margin_m) in rules(),
        home in place(),
        sways in prop::collection::vec(-0.45..0.45_f64, 100),
    ) {
        // Edges are met by a ray that turns about the middle of a cell: so this follows one cell's
        // edge all around, at 3.6° a step.
        let middle = Cell::of(home, resolution).center();
        let mut shown = Vec::new();
        let mut track = None;
        for (n, sway) in sways.iter().enumerate() {
            let azimuth = f64::from(u32::try_from(n).unwrap()) * 3.6;
            let edge = edge_on_the_way(middle, azimuth, resolution);
            let place = away(edge, (azimuth, sway * margin_m));
            let track = track.get_or_insert_with(|| start(&rules, place));
            let cell = if n == 0 { track.shown().cell } else { evaluate(track, &rules, place, n) };
            if shown.last() != Some(&cell) {
                shown.push(cell);
            }
        }
        // Once around, a hexagon has six neighbours, and the first may come again at the end.
        prop_assert!(shown.len() <= 7, "{} changes", shown.len());
    }

    /// On any walk the shown cell has the position within the margin, a cell is left only beyond it,
    /// and a change costs a way of a margin, or of two when it undoes the last.
    #[test]
    fn any_walk_keeps_to_the_margin(
        (rules, resolution, margin_m) in rules(),
        home in place(),
        ways in prop::collection::vec((azimuth(), -3.0..1.0_f64), 12),
    ) {
        let mut here = home;
        let mut track = start(&rules, here);
        let (mut before, mut changed_at) = (None, here);
        for (n, (azimuth, exponent)) in ways.iter().enumerate() {
            here = away(here, (*azimuth, resolution.edge_length_m() * 10.0_f64.powf(*exponent)));
            let shown = track.shown().cell;
            let cell = evaluate(&mut track, &rules, here, n + 1);
            if cell == shown {
                let in_it = Cell::of(here, resolution) == shown;
                prop_assert!(in_it || meets_circle(shown, here, margin_m * 1.05));
                continue;
            }
            prop_assert_eq!(cell, Cell::of(here, resolution));
            for share in [0.3, 0.6, 0.9, 0.98] {
                prop_assert!(!meets_circle(shown, here, margin_m * share));
            }
            let margins = if before == Some(cell) { 2.0 } else { 1.0 };
            prop_assert!(straight_line_m(changed_at, here) * SPHERE >= margins * margin_m);
            (before, changed_at) = (Some(shown), here);
        }
    }

    /// Two users with one schedule and the same cells show the same, to the millisecond, wherever in
    /// the cells they are, whenever they report, and whatever they report between two instants.
    #[test]
    fn nothing_finer_than_the_cells_shows(
        (rules, resolution, margin_m) in rules(),
        home in place(),
        headings in prop::collection::vec(azimuth(), 20),
        users in prop::array::uniform2(prop::collection::vec(
            ((azimuth(), 0.0..0.3_f64), 1..i64::from(PERIOD_MS), (azimuth(), 0.0..1e7_f64)),
            20,
        )),
    ) {
        let edge_m = resolution.edge_length_m();
        let mut cells = vec![Cell::of(home, resolution).center()];
        for heading in &headings[1..] {
            let next = away(*cells.last().unwrap(), (*heading, 2.0 * edge_m + margin_m));
            cells.push(Cell::of(next, resolution).center());
        }
        let shows = users.map(|reports| show(&rules, &cells, &reports, edge_m));
        prop_assert_eq!(&shows[0], &shows[1]);
        prop_assert_eq!(shows[0].len(), cells.len());
        for (shown, center) in shows[0].iter().zip(&cells) {
            prop_assert_eq!(shown.cell, Cell::of(*center, resolution));
        }
    }

    /// Whenever reports come, evaluations are dated on the user's grid, grow, and are not late.
    #[test]
    fn times_are_the_schedules_own(
        seed in any::<u64>(),
        period_ms in 1..=u32::MAX,
        gaps in prop::collection::vec(prop_oneof![1..60_000_i64, 1..1_000_000_000_i64], 100),
    ) {
        let rules = Coarsener::new(Resolution::Seven, 100.0, period_ms).unwrap();
        let here = Position::new(48.0, 11.0).unwrap();
        let period = i64::from(period_ms);
        let mut now_ms = START_MS;
        let mut track = CoarseTrack::start(&rules, seed, here, now_ms);
        let mut last_ms = track.shown().at_ms;
        let phase = last_ms.rem_euclid(period);
        prop_assert!((0..period).contains(&(now_ms - last_ms)));
        for gap in gaps {
            now_ms += gap;
            let shown = track.observe(&rules, here, now_ms);
            prop_assert_eq!(shown.is_some(), now_ms - last_ms >= period);
            if let Some(CoarsePosition { at_ms, .. }) = shown {
                prop_assert_eq!(at_ms.rem_euclid(period), phase);
                prop_assert!(at_ms > last_ms && (0..period).contains(&(now_ms - at_ms)));
                last_ms = at_ms;
            }
            // Starting anew, as after a restart, finds the same grid.
            let anew = CoarseTrack::start(&rules, seed, here, now_ms);
            prop_assert_eq!(anew.shown().at_ms.rem_euclid(period), phase);
        }
    }
}

/// All that an observer gets of a user who is in one cell after the other, a period each: somewhere
/// within 0.3 edges of its middle at the first report, and anywhere at a second one.
fn show(rules: &Coarsener, cells: &[Position], reports: &[(Way, i64, Way)], edge_m: f64) -> Vec<CoarsePosition> {
    let mut shown: Vec<CoarsePosition> = Vec::new();
    let mut track: Option<CoarseTrack> = None;
    let mut instant_ms = START_MS;
    for (center, ((azimuth, share), delay_ms, elsewhere)) in cells.iter().zip(reports) {
        let place = away(*center, (*azimuth, share * edge_m));
        let now_ms = instant_ms + delay_ms - 1;
        match &mut track {
            None => {
                let started = CoarseTrack::start(rules, 42, place, START_MS);
                instant_ms = started.shown().at_ms;
                shown.push(started.shown());
                track = Some(started);
            }
            Some(track) => {
                shown.extend(track.observe(rules, place, now_ms));
                shown.extend(track.observe(rules, away(*center, *elsewhere), now_ms + 1));
            }
        }
        instant_ms += i64::from(PERIOD_MS);
    }
    shown
}
