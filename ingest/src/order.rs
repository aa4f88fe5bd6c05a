//! Which report of a device is the newest.

/// The newest report of a session that was taken as now. A session has one device; another one takes its place.
#[derive(Clone, Debug, Default)]
pub struct Newest(Option<(String, i64)>);

impl Newest {
    /// Whether this device has sent a report with a higher number: then this one comes too late to be shown as now.
    /// The same number again is a report sent again, and not late.
    pub fn is_after(&self, device: &str, n: i64) -> bool {
        self.0.as_ref().is_some_and(|(newest, last)| newest == device && n < *last)
    }

    /// This report was taken as now.
    pub fn took(&mut self, device: &str, n: i64) {
        match &mut self.0 {
            Some((newest, last)) if newest == device => *last = n.max(*last),
            other => *other = Some((device.to_owned(), n)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_numbers_of_the_same_device_are_late() {
        let mut newest = Newest::default();
        assert!(!newest.is_after("a", 5));
        newest.took("a", 5);
        assert!(newest.is_after("a", 4));
        assert!(!newest.is_after("a", 5), "sent again");
        assert!(!newest.is_after("a", 6));
        assert!(!newest.is_after("b", 1), "numbers belong to a device");
        newest.took("a", 3);
        assert!(newest.is_after("a", 4), "numbers never go down");
    }
}
