//! Values that clients give, and the one way to refuse them: by name, with what it must be, without repeating it.

use std::borrow::Cow;
use std::num::IntErrorKind;
use std::ops::RangeInclusive;

use nearcast_schemas::refusal::Refusal;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::failure::Failure;

/// The first and the last ms of the years that RFC 3339 can write, 0000 to 9999.
const TIMES: RangeInclusive<i64> = -62_167_219_200_000..=253_402_300_799_999;

/// Refuses a value by a sentence, which names the parameter and does not repeat the value.
pub(super) fn invalid(sentence: impl Into<Cow<'static, str>>) -> Failure {
    Failure::because(Refusal::ParameterInvalid, sentence)
}

/// Refuses a number that is not in its range.
fn out_of(name: &str, range: &RangeInclusive<i64>, problem: &str) -> Failure {
    invalid(format!("`{name}` must be a whole number from {} to {}; {problem}.", range.start(), range.end()))
}

/// Checks a number that is a number already.
pub(super) fn in_range(name: &str, number: i64, range: RangeInclusive<i64>) -> Result<u32, Failure> {
    if number < *range.start() {
        return Err(out_of(name, &range, "it is less"));
    }
    match u32::try_from(number) {
        Ok(small) if range.contains(&number) => Ok(small),
        _ => Err(out_of(name, &range, "it is more")),
    }
}

/// Reads a number of a query.
fn number(name: &str, text: &str, range: RangeInclusive<i64>) -> Result<u32, Failure> {
    match text.parse() {
        Ok(number) => in_range(name, number, range),
        Err(error) => {
            let error: std::num::ParseIntError = error;
            Err(out_of(
                name,
                &range,
                match error.kind() {
                    IntErrorKind::Empty => "it is empty",
                    IntErrorKind::PosOverflow => "it is more",
                    IntErrorKind::NegOverflow => "it is less",
                    _ => "it is something else",
                },
            ))
        }
    }
}

/// Reads `limit` of a page, which is 1 to `most`.
pub(super) fn limit(given: Option<&str>, otherwise: u32, most: u32) -> Result<usize, Failure> {
    let limit = given.map_or(Ok(otherwise), |text| number("limit", text, 1..=i64::from(most)))?;
    Ok(limit as usize)
}

/// A time in ms since the epoch, from a number of them or from RFC 3339.
pub(super) fn moment(name: &str, text: &str) -> Result<i64, Failure> {
    let refused = |problem: &str| {
        let must = "must be in ms since the epoch or in RFC 3339, of the years 0000 to 9999";
        invalid(format!("`{name}` {must}; {problem}."))
    };
    let ms = match text.parse::<i64>() {
        Ok(ms) => ms,
        Err(error) if matches!(error.kind(), IntErrorKind::PosOverflow | IntErrorKind::NegOverflow) => {
            return Err(refused("it is beyond them"));
        }
        Err(_) => {
            // A `+` that was not escaped arrives as a space.
            let time = OffsetDateTime::parse(&text.replace(' ', "+"), &Rfc3339)
                .map_err(|_| refused("it is neither; a date alone is not enough, and the offset has to be there"))?;
            // Years of four digits are far within an i64.
            (time.unix_timestamp_nanos() / 1_000_000) as i64
        }
    };
    if TIMES.contains(&ms) { Ok(ms) } else { Err(refused("it is beyond them")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Option<i64>) {
        assert_eq!(moment("from", text).ok(), expect, "{text}");
    }

    #[test]
    fn times_in_both_forms() {
        check("1700000000000", Some(1_700_000_000_000));
        check("-1", Some(-1));
        check("2023-11-14T22:13:20Z", Some(1_700_000_000_000));
        check("2023-11-14T22:13:20.250Z", Some(1_700_000_000_250));
        check("2023-11-15T00:13:20+02:00", Some(1_700_000_000_000));
        check("2023-11-15T00:13:20 02:00", Some(1_700_000_000_000));
        check("0000-01-01T00:00:00Z", Some(*TIMES.start()));
        check("9999-12-31T23:59:59.999Z", Some(*TIMES.end()));
        for bad in ["", "now", "2023-11-14", "1e3", "99999999999999999999", "-9223372036854775808", "253402300800000"] {
            check(bad, None);
        }
    }

    #[test]
    fn a_number_is_refused_by_name_range_and_cause() {
        let check = |text: &str, cause: &str| {
            let message = limit(Some(text), 20, 100).unwrap_err().message();
            assert_eq!(message, format!("`limit` must be a whole number from 1 to 100; it is {cause}."), "{text}");
        };
        check("", "empty");
        check("0", "less");
        check("-1", "less");
        check("-99999999999999999999", "less");
        check("101", "more");
        check("4294967297", "more");
        check("99999999999999999999", "more");
        for text in ["x", "1.5", "1e1", " 5", "-", "5;"] {
            check(text, "something else");
        }
        assert_eq!(limit(None, 20, 100).unwrap(), 20);
        assert_eq!(limit(Some("100"), 20, 100).unwrap(), 100);
    }
}
