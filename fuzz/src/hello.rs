//! The beginning of a session, and reports: from a frame to what goes into the log.

use nearcast_gateway::frames::{ClientMessage, Frame, Hello, Location, Locations, Resume, parse};
use nearcast_ingest::{AgeLimits, CLOCK_TOLERANCE_MS, Checked, RawFix, validate};
use nearcast_schemas::codec::Codec;
use nearcast_schemas::digest::ListDigest;
use nearcast_schemas::event::{LocationEvent, LocationKind, Mode, NO_SESSION};
use nearcast_schemas::ids::check_id;

const NOW: i64 = 1_760_000_000_000;
const LIMITS: AgeLimits = AgeLimits { max_age_ms: 60_000, max_late_ms: 30 * 86_400_000 };

/// First eight bytes, how far the server's clock is from a moment of 2025; the lowest bit of the first one also says
/// which format. Then a frame.
pub fn hello(data: &[u8]) {
    let Some((clock, frame)) = data.split_first_chunk::<8>() else { return };
    let now_ms = NOW.wrapping_add(i64::from_le_bytes(*clock));
    let frame = if clock[0] & 1 == 0 {
        let Ok(text) = std::str::from_utf8(frame) else { return };
        Frame::Text(text)
    } else {
        Frame::Binary(frame)
    };
    let Ok(incoming) = parse(frame) else { return };
    match incoming.message {
        ClientMessage::Hello(Hello { device, clock, position, resume, .. }) => {
            if let Some(raw) = position {
                check_report(&raw, &device, clock, now_ms);
            }
            if let Some(Resume { count, digest }) = resume
                && let Some(held) = ListDigest::claimed(count as usize, &digest)
            {
                assert_eq!(held.count(), count as usize);
                assert!(held.to_hex().eq_ignore_ascii_case(&digest));
            }
        }
        ClientMessage::Location(Location { device, clock, report, .. }) => {
            check_report(&report, device.as_deref().unwrap_or("phone"), clock, now_ms);
        }
        ClientMessage::Locations(Locations { device, clock, fixes, .. }) => {
            for raw in &fixes {
                check_report(raw, device.as_deref().unwrap_or("phone"), clock, now_ms);
            }
        }
        _ => {}
    }
}

/// What is accepted is in range, dated as its phone's clock says, and the same behind the log.
fn check_report(raw: &RawFix, device: &str, clock: Option<i64>, now_ms: i64) {
    let Ok(Checked { fix, position, late }) = validate(raw, device, clock, now_ms, &LIMITS) else { return };
    assert!(check_id(&fix.device).is_ok() && fix.device == device);
    assert!(fix.n >= 0 && fix.n == raw.n);
    assert!((-90.0..=90.0).contains(&fix.lat) && (-180.0..=180.0).contains(&fix.lon));
    assert!((position.lat_deg(), position.lon_deg()) == (fix.lat, fix.lon));
    let within = |measure: Option<f32>, least, most| measure.is_none_or(|measure| (least..=most).contains(&measure));
    assert!(within(fix.accuracy_m, 0.0, f32::MAX) && within(fix.speed_mps, 0.0, f32::MAX));
    assert!(within(fix.heading_deg, 0.0, 360.0) && within(fix.altitude_m, -12_000.0, 100_000.0));
    let clock = clock.unwrap_or(now_ms);
    assert!(fix.device_time == raw.time && raw.time > 0 && clock > 0);
    assert_eq!(late, clock - raw.time > LIMITS.max_age_ms);
    assert!(fix.fixed_at <= now_ms.saturating_add(CLOCK_TOLERANCE_MS));
    // Where no number is near its end: the corrected time is that of the server's clock, as far as the tolerance goes.
    if [now_ms, clock].into_iter().all(|ms| (0..i64::MAX / 4).contains(&ms)) {
        let exact = raw.time + (now_ms - clock);
        let dated = fix.fixed_at;
        assert!(dated <= exact + CLOCK_TOLERANCE_MS, "dated too late");
        assert!(dated >= exact.min(now_ms) - CLOCK_TOLERANCE_MS, "dated too early");
    }

    let event = LocationEvent {
        kind: LocationKind::Fix,
        session: NO_SESSION,
        route: None,
        list_version: 0,
        reset: false,
        mode: Mode::default(),
        fix: Some(fix),
        gateway_time: now_ms,
    };
    let (codec, mut record) = (Codec::default(), Vec::new());
    codec.encode_location(&event, &mut record);
    let read = codec.decode_location(&record).expect("what was encoded can be decoded");
    assert!(read.to_owned() == event, "the log holds what was accepted");
}
