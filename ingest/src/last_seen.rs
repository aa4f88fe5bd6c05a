//! From an acknowledged report to the cache.

use std::sync::Arc;

use nearcast_geo::{Coarsener, Position};
use nearcast_schemas::delivery::FriendPosition;
use nearcast_schemas::event::{Fix, Mode, Sharing};
use nearcast_schemas::rule::sharing_at;

use crate::cache::{Cache, LastSeen};
use crate::coarse::Coarse;

/// Writes last positions. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    pub cache: Arc<dyn Cache>,
    pub coarsener: Coarsener,
}

/// What a report says once it is in the log.
#[derive(Clone)]
pub(crate) struct Reported {
    position: Position,
    accuracy_m: Option<f32>,
    speed_mps: Option<f32>,
    heading_deg: Option<f32>,
    mode: Mode,
}

impl Reported {
    pub fn new(fix: &Fix, position: Position, mode: Mode) -> Self {
        let Fix { accuracy_m, speed_mps, heading_deg, .. } = *fix;
        Self { position, accuracy_m, speed_mps, heading_deg, mode }
    }

    pub fn position(&self) -> Position {
        self.position
    }
}

impl Recorder {
    /// A report of this session was appended at `at`.
    pub fn record(
        &self,
        user: &str,
        seed: u64,
        coarse: &mut Option<Coarse>,
        reported: &Reported,
        session: i64,
        at: i64,
    ) {
        let Reported { position, accuracy_m, speed_mps, heading_deg, mode } = *reported;
        let sharing = sharing_at(&mode, at);
        match coarse {
            // No cell follows from what may never be shown.
            _ if sharing == Sharing::Hidden => *coarse = None,
            Some(coarse) => coarse.observe(&self.coarsener, position, at),
            None => *coarse = Some(Coarse::start(&self.coarsener, seed, position, at)),
        }
        let seen = LastSeen {
            position: FriendPosition {
                lat: position.lat_deg(),
                lon: position.lon_deg(),
                at,
                coarse: false,
                accuracy_m,
                speed_mps,
                heading_deg,
            },
            coarse: coarse.map(Coarse::shown),
            reported: sharing,
            mode,
            session,
        };
        self.cache.put_position(user, seen);
    }
}
