//! Who there is, who is whose friend, and where everybody begins.
//!
//! Friends are drawn uniformly over all users and mutually, by seeded permutations that are computed and not stored: a
//! table of all friendships would be larger than what is measured. Users live in a few cities whatever their number, so
//! that a pair drawn at random is in range often enough.

use std::f64::consts::TAU;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// Everything random follows from it.
pub const SEED: u64 = 20_261_123;

const CITIES: [(f64, f64); 5] = [(52.52, 13.40), (35.68, 139.69), (-23.55, -46.63), (6.45, 3.39), (40.71, -74.0)];

/// Where users live.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Land {
    /// Cities, at most five; as many users live around each.
    pub cities: usize,
    /// Spread of a city in each direction, standard deviation in metres.
    pub spread_m: f64,
}

/// Two people of a city are within 8 km of each other in 63 % of all pairs, which makes 12.6 % of the pairs of all users.
const LAND: Land = Land { cities: CITIES.len(), spread_m: 4_000.0 };

const METRES_PER_DEGREE: f64 = 111_320.0;

/// How many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Users online: those who report and whose views are kept.
    pub users: u32,
    /// Friends on each list.
    pub listed: u32,
    /// Of those, how many are online on average.
    pub online: u32,
}

/// A world of a size.
pub struct World {
    pub size: Size,
    /// Users whom a list may name, numbered from 0; those below `size.users` are online.
    pub registered: u32,
    land: Land,
    friends: Vec<Permutation>,
    order: Permutation,
}

impl World {
    pub fn new(size: Size) -> Self {
        Self::on(LAND, size)
    }

    /// A world whose users live elsewhere.
    pub fn on(land: Land, size: Size) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(SEED);
        let registered = u32::try_from(u64::from(size.users) * u64::from(size.listed) / u64::from(size.online))
            .expect("numbers of users fit 32 bits");
        Self {
            size,
            registered,
            land,
            // Each makes two friends of everybody: whom it takes the user to, and who is taken to the user.
            friends: (0..size.listed / 2).map(|_| Permutation::new(registered, &mut rng)).collect(),
            order: Permutation::new(size.users, &mut rng),
        }
    }

    /// Puts a user's friends into `into`, in order of their numbers. Very few users have a friend or two less than the
    /// others, because they were drawn twice.
    pub fn friends(&self, user: u32, into: &mut Vec<u32>) {
        into.clear();
        for permutation in &self.friends {
            into.push(permutation.forward(user));
            into.push(permutation.backward(user));
        }
        into.sort_unstable();
        into.dedup();
        into.retain(|&friend| friend != user);
    }

    pub fn is_online(&self, user: u32) -> bool {
        user < self.size.users
    }

    /// Who sends the report of this number: everybody once before anybody again.
    pub fn reporter(&self, report: u64) -> u32 {
        // Below the number of users.
        self.order.forward((report % u64::from(self.size.users)) as u32)
    }

    /// Where the users who are online begin: latitude and longitude in degrees.
    pub fn homes(&self) -> Vec<(f64, f64)> {
        let mut rng = ChaCha8Rng::seed_from_u64(SEED ^ 1);
        let home = |_| {
            let (lat, lon) = CITIES[rng.random_range(0..self.land.cities)];
            // Box and Muller: two normal numbers from two uniform ones.
            let away_m = self.land.spread_m * (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
            moved((lat, lon), away_m, TAU * rng.random::<f64>())
        };
        (0..self.size.users).map(home).collect()
    }
}

/// A place so many metres from another, on the flat; right enough to walk by.
pub fn moved((lat, lon): (f64, f64), metres: f64, direction: f64) -> (f64, f64) {
    let degrees = metres / METRES_PER_DEGREE;
    (lat + degrees * direction.cos(), lon + degrees * direction.sin() / lat.to_radians().cos())
}

/// The id of a user.
pub fn write_id(user: u32, into: &mut String) {
    into.clear();
    into.push('u');
    push_digits(user, into);
}

/// What friends call a user.
pub fn write_display_name(user: u32, into: &mut String) {
    into.clear();
    into.push_str("Alex ");
    push_digits(user, into);
}

/// Nine digits. Formatting by the library would take longer than everything else of the set-up.
fn push_digits(number: u32, into: &mut String) {
    let mut divisor = 100_000_000;
    while divisor > 0 {
        into.push(char::from(b'0' + (number / divisor % 10) as u8));
        divisor /= 10;
    }
}

/// A number in which every bit depends on every bit of both arguments (the end of SplitMix64).
pub fn scramble(key: u64, value: u64) -> u64 {
    let mut mixed = value.wrapping_add(key).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// A permutation of the numbers below `below`: a Feistel network of four rounds, applied until the result is among them.
struct Permutation {
    below: u32,
    half_bits: u32,
    keys: [u64; 4],
}

impl Permutation {
    fn new(below: u32, rng: &mut ChaCha8Rng) -> Self {
        let bits = u32::BITS - below.saturating_sub(1).leading_zeros();
        Self { below, half_bits: bits.div_ceil(2).max(1), keys: rng.random() }
    }

    fn forward(&self, number: u32) -> u32 {
        let mut number = u64::from(number);
        loop {
            let (mut left, mut right) = self.halves(number);
            for key in self.keys {
                (left, right) = (right, left ^ self.round(key, right));
            }
            number = left << self.half_bits | right;
            if number < u64::from(self.below) {
                return number as u32;
            }
        }
    }

    fn backward(&self, number: u32) -> u32 {
        let mut number = u64::from(number);
        loop {
            let (mut left, mut right) = self.halves(number);
            for key in self.keys.into_iter().rev() {
                (left, right) = (right ^ self.round(key, left), left);
            }
            number = left << self.half_bits | right;
            if number < u64::from(self.below) {
                return number as u32;
            }
        }
    }

    fn halves(&self, number: u64) -> (u64, u64) {
        (number >> self.half_bits, number & self.mask())
    }

    fn round(&self, key: u64, half: u64) -> u64 {
        scramble(key, half) & self.mask()
    }

    fn mask(&self) -> u64 {
        (1 << self.half_bits) - 1
    }
}
