//! The pipeline's rates, from two readings of this process's metrics.

/// Counters of the stages since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Reading {
    reports: f64,
    published: f64,
    thinned: f64,
    pair_checks: f64,
    deliveries: f64,
    frames: f64,
}

impl Reading {
    /// Reads Prometheus' text format.
    pub(super) fn of(text: &str) -> Self {
        let mut reading = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let Ok(value) = value.parse::<f64>() else { continue };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            match name {
                "nearcast_ingest_reports_total" => {
                    reading.reports += value;
                    if labels.contains(r#"outcome="published""#) {
                        reading.published += value;
                    } else if labels.contains(r#"outcome="thinned""#) {
                        reading.thinned += value;
                    }
                }
                "nearcast_fanout_pair_checks_total" => reading.pair_checks += value,
                "nearcast_gateway_updates_queued_total" => reading.deliveries += value,
                "nearcast_gateway_frames_total" => reading.frames += value,
                _ => {}
            }
        }
        reading
    }

    /// What happened a second between an earlier reading and this one.
    pub(super) fn rates(&self, earlier: &Self, seconds: f64) -> String {
        let rate = |of: fn(&Self) -> f64| (of(self) - of(earlier)).max(0.0) / seconds.max(1e-3);
        format!(
            "reports/s {:.0} = {:.0} published + {:.0} thinned; pair checks/s {:.0}; deliveries/s {:.0}; frames/s {:.0}",
            rate(|r| r.reports),
            rate(|r| r.published),
            rate(|r| r.thinned),
            rate(|r| r.pair_checks),
            rate(|r| r.deliveries),
            rate(|r| r.frames)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_recorder_renders() {
        let text = "# TYPE nearcast_ingest_reports_total counter\n\
                    nearcast_ingest_reports_total{outcome=\"published\"} 30\n\
                    nearcast_ingest_reports_total{outcome=\"thinned\"} 10\n\n\
                    nearcast_fanout_pair_checks_total 1000\n\
                    nearcast_gateway_frames_total{type=\"nearby\"} 40\nnearcast_gateway_frames_total{type=\"ack\"} 20\n";
        let reading = Reading::of(text);
        assert_eq!(
            reading.rates(&Reading::default(), 2.0),
            "reports/s 20 = 15 published + 5 thinned; pair checks/s 500; deliveries/s 0; frames/s 30"
        );
        assert!(reading.rates(&reading, 1.0).starts_with("reports/s 0 ="));
    }
}
