//! Where one simulated phone is: a walker of the town, or a recording that is played.

use std::sync::Arc;

use super::movement::Walker;
use super::point::Point;
use super::traces::Trace;

/// A phone's way, by seconds since the run began.
pub(crate) struct Mover {
    starts_s: f64,
    way: Way,
}

enum Way {
    Walk { walker: Box<Walker>, walked_s: f64 },
    Play { trace: Arc<Trace>, speed: f64, reported: Option<Point> },
}

impl Mover {
    /// Walks from when the phone is switched on.
    pub(crate) fn walk(walker: Walker, starts_s: f64) -> Self {
        Self { starts_s, way: Way::Walk { walker: Box::new(walker), walked_s: 0.0 } }
    }

    /// Plays a recording, that many times faster than it was recorded, from when the phone is switched on; then stays.
    pub(crate) fn play(trace: Arc<Trace>, speed: f64, starts_s: f64) -> Self {
        Self { starts_s, way: Way::Play { trace, speed, reported: None } }
    }

    /// When the phone is switched on.
    pub(crate) fn starts_s(&self) -> f64 {
        self.starts_s
    }

    /// When a recording has been played; a walker never arrives.
    pub(crate) fn ends_s(&self) -> Option<f64> {
        match &self.way {
            Way::Walk { .. } => None,
            Way::Play { trace, speed, .. } => Some(self.starts_s + trace.lasts_s() / speed),
        }
    }

    /// What the phone measures then: where it is, and metres a second where that is known. Time goes forward only.
    /// Never twice in a row the same point, so that a position in a frame names its report.
    pub(crate) fn measure(&mut self, at_s: f64) -> (Point, f64) {
        let since_s = (at_s - self.starts_s).max(0.0);
        match &mut self.way {
            Way::Walk { walker, walked_s } => {
                walker.advance(since_s - *walked_s);
                *walked_s = walked_s.max(since_s);
                (walker.measure(), walker.speed_mps())
            }
            Way::Play { trace, speed, reported } => {
                let point = Point::of(trace.at(since_s * *speed)).unlike(*reported);
                *reported = Some(point);
                (point, 0.0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_is_played_from_its_start_at_its_speed() {
        let csv = "user,time,lat,lon\na,0,0,0\na,100000,1,0\n";
        let trace = Arc::new(Trace::from_csv("a", csv.as_bytes()).unwrap().remove(0));
        let mut mover = Mover::play(trace, 10.0, 5.0);
        assert_eq!((mover.starts_s(), mover.ends_s()), (5.0, Some(15.0)));
        let lats: Vec<f64> = [0.0, 5.0, 10.0, 15.0, 60.0].map(|s| mover.measure(s).0.lat()).to_vec();
        for (lat, expect) in lats.iter().zip([0.0, 0.0, 0.5, 1.0, 1.0]) {
            assert!((lat - expect).abs() < 2e-7);
        }
        assert!(lats[0] != lats[1], "a phone that stands still is still told apart");
    }
}
