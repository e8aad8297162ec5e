//! The expiry of a record, to the nanosecond.
//!
//! **Invariants.** An [`Eol`] is in the years 0 to 9999 of UTC, so it always has a text form.
//!
//! **Spec.** [Validity](https://specs.ipfs.tech/ipns/ipns-record/#validity-bytes): RFC 3339 with
//! nanoseconds.

use std::{fmt, str::FromStr, time::Duration};

use time::{OffsetDateTime, UtcDateTime, format_description::well_known::Rfc3339};

use smart_record_core::Timestamp;

/// An instant to the nanosecond.
///
/// It is written as Go does, in UTC and with as many decimals as it needs. It is read with any
/// offset from UTC and any number of decimals, of which those beyond the ninth are dropped.
///
/// ```
/// use smart_record_formats::ipns::Eol;
///
/// let eol: Eol = "2026-11-21T09:00:00.120000000+01:00".parse()?;
/// assert_eq!(eol.to_string(), "2026-11-21T08:00:00.12Z");
/// # Ok::<(), smart_record_formats::ipns::EolError>(())
/// ```
#[derive(Clone, Copy, Debug, Hash, PartialOrd, PartialEq, Eq, Ord)]
pub struct Eol(UtcDateTime);

/// Not a date as in RFC 3339, or one that is not in the years 0 to 9999.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a date: {text:?}")]
pub struct EolError {
    /// The beginning of the text.
    pub text: String,
}

/// Maximum length of a date: all that RFC 3339 allows, and some more decimals.
const MAX_TEXT_BYTES: usize = 64;
const NANOS_PER_MILLI: i128 = 1_000_000;
const NANOS_PER_SECOND: i128 = 1_000_000_000;

impl Eol {
    /// Reads a date as a record contains it.
    ///
    /// # Errors
    /// [`EolError`] if it is not one.
    pub fn parse(text: &[u8]) -> Result<Self, EolError> {
        Self::try_parse(text).ok_or_else(|| EolError {
            text: text.iter().take(MAX_TEXT_BYTES).map(|byte| char::from(*byte)).collect(),
        })
    }

    fn try_parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= MAX_TEXT_BYTES)?;
        // The library also takes other separators of date and time, a small `z`, and leap seconds.
        // Go, and so kubo, takes none of these.
        let is_leap_second = text.get(17..19) == Some("60");
        if text.get(10..11) != Some("T") || text.ends_with('z') || is_leap_second {
            return None;
        }
        let time = OffsetDateTime::parse(text, &Rfc3339).ok()?.checked_to_utc()?;
        (0..=9_999).contains(&time.year()).then_some(Self(time))
    }

    /// Nanoseconds since the Unix epoch; negative before it.
    pub const fn unix_nanos(self) -> i128 {
        self.0.unix_timestamp_nanos()
    }

    /// The time from `now` until this instant; zero if it has passed.
    pub fn saturating_since(self, now: Timestamp) -> Duration {
        let now = i128::from(now.as_millis()).saturating_mul(NANOS_PER_MILLI);
        let left = self.unix_nanos().saturating_sub(now).max(0);
        // Both fit: 10,000 years are less than 2^64 seconds.
        let secs = u64::try_from(left.div_euclid(NANOS_PER_SECOND)).unwrap_or_default();
        let nanos = u32::try_from(left.rem_euclid(NANOS_PER_SECOND)).unwrap_or_default();
        Duration::new(secs, nanos)
    }

    /// The first whole millisecond at or after this instant.
    pub fn expires_at(self) -> Timestamp {
        let millis = self.unix_nanos().div_euclid(NANOS_PER_MILLI);
        let has_rest = self.unix_nanos().rem_euclid(NANOS_PER_MILLI) > 0;
        let millis = millis.saturating_add(i128::from(has_rest)).max(0);
        Timestamp::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
    }
}

impl FromStr for Eol {
    type Err = EolError;

    fn from_str(text: &str) -> Result<Self, EolError> {
        Self::parse(text.as_bytes())
    }
}

impl From<Timestamp> for Eol {
    /// Converts the instant. One after the year 9999 becomes the end of that year.
    fn from(at: Timestamp) -> Self {
        let nanos = i128::from(at.as_millis()).saturating_mul(NANOS_PER_MILLI);
        let last = UtcDateTime::MAX;
        Self(UtcDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(last).min(last))
    }
}

impl fmt::Display for Eol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The format covers all years of an `Eol`, so this cannot fail.
        f.write_str(&self.0.format(&Rfc3339).map_err(|_| fmt::Error)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_to_the_nanosecond_and_written_as_go_does() {
        for (text, nanos, written) in [
            ("1970-01-01T00:00:00.000000001Z", 1, "1970-01-01T00:00:00.000000001Z"),
            ("1970-01-01T00:00:00.000000000Z", 0, "1970-01-01T00:00:00Z"),
            ("1970-01-01T00:00:01.5Z", 1_500_000_000, "1970-01-01T00:00:01.5Z"),
            ("1970-01-01T00:00:00.0000000019Z", 1, "1970-01-01T00:00:00.000000001Z"),
            ("1970-01-01T02:00:00+02:00", 0, "1970-01-01T00:00:00Z"),
            ("1969-12-31T23:59:59.999999999Z", -1, "1969-12-31T23:59:59.999999999Z"),
            (
                "9999-12-31T23:59:59.999999999Z",
                253_402_300_799_999_999_999,
                "9999-12-31T23:59:59.999999999Z",
            ),
            ("0000-01-01T00:00:00Z", -62_167_219_200_000_000_000, "0000-01-01T00:00:00Z"),
            ("2024-02-29T00:00:00Z", 1_709_164_800_000_000_000, "2024-02-29T00:00:00Z"),
        ] {
            let eol: Eol = text.parse().unwrap();
            assert_eq!(eol.unix_nanos(), nanos, "{text}");
            assert_eq!(eol.to_string(), written);
            assert_eq!(written.parse(), Ok(eol));
        }
    }

    #[test]
    fn what_is_not_a_date_is_refused() {
        for text in [
            "",
            "2026",
            "2026-11-21",
            "2026-11-21T08:00:00",
            "2026-11-21 08:00:00Z",
            "2026-11-21T08:00Z",
            "2026-11-21T08:00:00.Z",
            "2026-11-21T08:00:00,5Z",
            "2026-11-21T08:00:00Z ",
            " 2026-11-21T08:00:00Z",
            "2026-11-21T08:00:00ZZ",
            "2026-11-21T08:00:00+0100",
            "2026-13-21T08:00:00Z",
            "2026-02-29T08:00:00Z",
            "2026-11-21T24:00:00Z",
            "2026-11-21T08:60:00Z",
            "12026-11-21T08:00:00Z",
            "+2026-11-21T08:00:00Z",
            "-026-11-21T08:00:00Z",
            "0000-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
            "２026-11-21T08:00:00Z",
            "1795248000",
        ] {
            assert!(text.parse::<Eol>().is_err(), "{text}");
        }
        assert!(Eol::parse(b"2026-11-21T08:00:00\xffZ").is_err());
        let decimals = |n: usize| format!("2026-11-21T08:00:00.{}Z", "0".repeat(n));
        assert!(decimals(MAX_TEXT_BYTES - 21).parse::<Eol>().is_ok());
        assert!(decimals(MAX_TEXT_BYTES - 20).parse::<Eol>().is_err());
    }

    #[test]
    fn case_19_a_leap_second_and_other_forms_that_go_does_not_take_are_refused() {
        for text in [
            "2030-06-30T23:59:60Z",
            "2030-06-30T23:59:60.5Z",
            "2030-07-01T01:59:60+02:00",
            "2016-12-31T23:59:60Z",
            "2030-06-30T23:59:61Z",
            "2030-06-30T23:59:59z",
            "2030-06-30t23:59:59Z",
            "2030-06-30\u{e9}23:59:59Z",
        ] {
            assert!(text.parse::<Eol>().is_err(), "{text}");
        }
        assert!("2030-06-30T23:59:59Z".parse::<Eol>().is_ok());
    }

    /// Decisions of `docs/interop.md`: Go takes these, RFC 3339 has no such form.
    #[test]
    fn what_go_takes_beyond_rfc_3339_is_refused() {
        for text in [
            "2030-06-30T3:59:59Z",
            "2030-06-30T23:59:59,5Z",
            "2030-06-30T23:59:59+24:00",
            "2030-06-30T23:59:59+23:60",
        ] {
            assert!(text.parse::<Eol>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_time_that_is_left() {
        let eol: Eol = "1970-01-01T00:00:00.002000001Z".parse().unwrap();
        let left = |millis| eol.saturating_since(Timestamp::from_millis(millis)).as_nanos();
        assert_eq!([left(0), left(2), left(3), left(u64::MAX)], [2_000_001, 1, 0, 0]);
        let last: Eol = "9999-12-31T23:59:59.999999999Z".parse().unwrap();
        let left = last.saturating_since(Timestamp::EPOCH).as_nanos();
        assert_eq!(i128::try_from(left), Ok(last.unix_nanos()));
    }

    #[test]
    fn the_first_millisecond_after_it() {
        for (text, millis) in [
            ("1970-01-01T00:00:00.001Z", 1),
            ("1970-01-01T00:00:00.001000001Z", 2),
            ("1970-01-01T00:00:00.000999999Z", 1),
            ("1970-01-01T00:00:00Z", 0),
            ("1969-12-31T23:59:59.999999999Z", 0),
            ("0001-01-01T00:00:00Z", 0),
            ("9999-12-31T23:59:59.999999999Z", 253_402_300_800_000),
        ] {
            let eol: Eol = text.parse().unwrap();
            assert_eq!(eol.expires_at(), Timestamp::from_millis(millis), "{text}");
        }
    }

    #[test]
    fn every_timestamp_has_one() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_795_249_544_597, "2026-11-21T08:25:44.597Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
            (253_402_300_800_000, "9999-12-31T23:59:59.999999999Z"),
            (u64::MAX, "9999-12-31T23:59:59.999999999Z"),
        ] {
            assert_eq!(Eol::from(Timestamp::from_millis(millis)).to_string(), text);
        }
    }
}
