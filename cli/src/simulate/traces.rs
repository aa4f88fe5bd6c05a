//! Real recordings: GPX tracks, and CSV with the columns `user,time,lat,lon`.

use std::io::Read;
use std::path::Path;

use nearcast_geo::Position;
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A shorter recording is none, seconds.
const SHORTEST_S: f64 = 1.0;

/// One recorded way.
pub(crate) struct Trace {
    /// The file's name, and in CSV the user's.
    pub(crate) name: String,
    /// Seconds since the first fix, and where. Ascending, at least two.
    fixes: Vec<(f64, Position)>,
}

/// Why a recording cannot be played. Names the place in the file and no coordinate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TraceError {
    /// The extension is neither.
    #[error("{0}: a trace is a .gpx or a .csv file")]
    Kind(String),
    /// Not GPX.
    #[error("{0}: not GPX: {1}")]
    Gpx(String, Box<gpx::errors::GpxError>),
    /// Not CSV of this shape.
    #[error("{0}: line {1}: {2}")]
    Csv(String, u64, String),
    /// Nothing to play.
    #[error("{0}: no track with times over at least a second")]
    Empty(String),
}

impl Trace {
    /// Reads a recording by the extension of its file's name.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub(crate) fn read(path: &Path, from: impl Read) -> Result<Vec<Self>, TraceError> {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some(extension) if extension.eq_ignore_ascii_case("gpx") => Self::from_gpx(&name, from),
            Some(extension) if extension.eq_ignore_ascii_case("csv") => Self::from_csv(&name, from),
            _ => Err(TraceError::Kind(name)),
        }
    }

    /// The tracks of a GPX file; a track's segments are one way. Points without a time are left out.
    pub(crate) fn from_gpx(name: &str, from: impl Read) -> Result<Vec<Self>, TraceError> {
        let gpx = gpx::read(from).map_err(|error| TraceError::Gpx(name.to_owned(), Box::new(error)))?;
        let tracks = gpx.tracks.iter().filter_map(|track| {
            let points = track.segments.iter().flat_map(|segment| &segment.points);
            let fixes = points.filter_map(|point| {
                let time = OffsetDateTime::from(point.time?);
                // GPX writes x before y: longitude, latitude.
                Some((time, Position::new(point.point().y(), point.point().x()).ok()?))
            });
            Self::of(name.to_owned(), fixes.collect())
        });
        non_empty(name, tracks.collect())
    }

    /// A way for each user of a CSV file. Times are RFC 3339 or ms since the epoch.
    pub(crate) fn from_csv(name: &str, from: impl Read) -> Result<Vec<Self>, TraceError> {
        #[derive(Deserialize)]
        struct Row {
            user: String,
            time: String,
            lat: f64,
            lon: f64,
        }
        let mut users: Vec<(String, Vec<(OffsetDateTime, Position)>)> = Vec::new();
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(from);
        for (row, number) in reader.deserialize::<Row>().zip(2..) {
            let wrong = |what: String| TraceError::Csv(name.to_owned(), number, what);
            let row = row.map_err(|error| wrong(shape(&error)))?;
            let time =
                instant(&row.time).ok_or_else(|| wrong("time is neither RFC 3339 nor ms since the epoch".into()))?;
            let position = Position::new(row.lat, row.lon).map_err(|error| wrong(error.to_string()))?;
            match users.iter_mut().find(|(user, _)| *user == row.user) {
                Some((_, fixes)) => fixes.push((time, position)),
                None => users.push((row.user, vec![(time, position)])),
            }
        }
        let traces = users.into_iter().filter_map(|(user, fixes)| Self::of(format!("{name}:{user}"), fixes));
        non_empty(name, traces.collect())
    }

    fn of(name: String, mut fixes: Vec<(OffsetDateTime, Position)>) -> Option<Self> {
        fixes.sort_by_key(|fix| fix.0);
        fixes.dedup_by_key(|fix| fix.0);
        let first = fixes.first()?.0;
        let fixes: Vec<_> = fixes.into_iter().map(|(time, place)| ((time - first).as_seconds_f64(), place)).collect();
        // A recorder without a clock gives all its fixes one time: nothing to play.
        (fixes.last()?.0 >= SHORTEST_S).then_some(Self { name, fixes })
    }

    /// How long the recording is, seconds.
    pub(crate) fn lasts_s(&self) -> f64 {
        self.fixes.last().map_or(0.0, |fix| fix.0)
    }

    /// How many fixes it has.
    pub(crate) fn len(&self) -> usize {
        self.fixes.len()
    }

    /// Where it was that many seconds after its first fix: on the line between two fixes, at its ends before and after.
    pub(crate) fn at(&self, seconds: f64) -> Position {
        let next = self.fixes.partition_point(|fix| fix.0 <= seconds);
        let Some(&(from_s, from)) = self.fixes.get(next.saturating_sub(1)) else { return self.fixes[0].1 };
        let Some(&(to_s, to)) = self.fixes.get(next).filter(|_| next > 0) else { return from };
        let share = (seconds - from_s) / (to_s - from_s);
        let lat = from.lat_deg() + (to.lat_deg() - from.lat_deg()) * share;
        // The shorter way round.
        let turn = (to.lon_deg() - from.lon_deg() + 540.0).rem_euclid(360.0) - 180.0;
        let lon = (from.lon_deg() + turn * share + 540.0).rem_euclid(360.0) - 180.0;
        Position::new(lat, lon).unwrap_or(from)
    }
}

fn non_empty(name: &str, traces: Vec<Trace>) -> Result<Vec<Trace>, TraceError> {
    if traces.is_empty() { Err(TraceError::Empty(name.to_owned())) } else { Ok(traces) }
}

fn instant(text: &str) -> Option<OffsetDateTime> {
    match text.parse::<i64>() {
        Ok(ms) => OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).ok(),
        Err(_) => OffsetDateTime::parse(text, &Rfc3339).ok(),
    }
}

/// What is wrong with a row, without its content: coordinates stay out of messages.
fn shape(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => format!("{len} fields, not {expected_len}"),
        csv::ErrorKind::Deserialize { err, .. } => {
            let column = err.field().and_then(|field| ["first", "second", "third", "fourth"].get(field as usize));
            format!(
                "not `user,time,lat,lon` with numbers{}",
                column.map_or(String::new(), |c| format!(" ({c} column)"))
            )
        }
        _ => "not CSV with the columns user,time,lat,lon".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GPX: &str = r#"<?xml version="1.0"?>
<gpx version="1.1" creator="t" xmlns="http://www.topografix.com/GPX/1/1"><trk><trkseg>
<trkpt lat="46.0" lon="14.0"><ele>1</ele><time>2020-01-01T10:00:00Z</time></trkpt>
<trkpt lat="46.1" lon="14.0"><time>2020-01-01T10:01:40Z</time></trkpt></trkseg><trkseg>
<trkpt lat="46.1" lon="14.1"></trkpt>
<trkpt lat="46.1" lon="14.2"><time>2020-01-01T12:03:20+02:00</time></trkpt>
</trkseg></trk></gpx>"#;

    fn near(position: Position, lat: f64, lon: f64) {
        assert!((position.lat_deg() - lat).abs() < 1e-9 && (position.lon_deg() - lon).abs() < 1e-9);
    }

    #[test]
    fn a_gpx_track_is_one_way_by_its_times() {
        let traces = Trace::from_gpx("a.gpx", GPX.as_bytes()).unwrap();
        assert_eq!((traces.len(), traces[0].len(), traces[0].lasts_s()), (1, 3, 200.0));
        for (seconds, lat, lon) in
            [(-5.0, 46.0, 14.0), (0.0, 46.0, 14.0), (50.0, 46.05, 14.0), (150.0, 46.1, 14.1), (999.0, 46.1, 14.2)]
        {
            near(traces[0].at(seconds), lat, lon);
        }
    }

    #[test]
    fn a_csv_file_has_a_way_for_each_user() {
        let csv = "user,time,lat,lon\na, 2020-01-01T00:00:10Z, 1.0, 179.5\nb,1577836800000,5,5\n\
                   a,1577836800000,0.0,-179.5\nb,1577836860000,6,6\n";
        let traces = Trace::from_csv("w.csv", csv.as_bytes()).unwrap();
        let names: Vec<&str> = traces.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names, ["w.csv:a", "w.csv:b"]);
        assert_eq!(traces[0].lasts_s(), 10.0);
        // Across the antimeridian, not round the earth.
        near(traces[0].at(2.5), 0.25, -179.75);
        near(traces[0].at(7.5), 0.75, 179.75);
    }

    #[test]
    fn what_cannot_be_played_is_said_without_coordinates() {
        for (csv, expect) in [
            ("user,time,lat,lon\na,now,1,1\n", "w.csv: line 2: time is neither RFC 3339 nor ms since the epoch"),
            ("user,time,lat,lon\na,1,91.5,1\n", "w.csv: line 2: latitude is not a number from -90 to 90 degrees"),
            ("user,time,lat,lon\na,1,x,1\n", "w.csv: line 2: not `user,time,lat,lon` with numbers (third column)"),
            ("user,time,lat,lon\na,1,1\n", "w.csv: line 2: 3 fields, not 4"),
            ("user,time,lat,lon\na,1,1,1\n", "w.csv: no track with times over at least a second"),
        ] {
            assert_eq!(Trace::from_csv("w.csv", csv.as_bytes()).err().map(|e| e.to_string()).as_deref(), Some(expect));
        }
        assert!(matches!(Trace::from_gpx("a.gpx", "<html/>".as_bytes()), Err(TraceError::Gpx(..))));
        let still = GPX.replace("10:01:40Z", "10:00:00.5Z").replace("12:03:20+02:00", "10:00:00.7Z");
        assert!(matches!(Trace::from_gpx("a.gpx", still.as_bytes()), Err(TraceError::Empty(_))));
        let untimed = GPX.replace("<time>", "<name>").replace("</time>", "</name>");
        assert!(matches!(Trace::from_gpx("a.gpx", untimed.as_bytes()), Err(TraceError::Empty(_))));
        assert!(
            matches!(Trace::read(Path::new("/a/x.kml"), "".as_bytes()), Err(TraceError::Kind(name)) if name == "x.kml")
        );
    }
}
