//! Lifetimes as people type them: how long, or until when.
//!
//! **Invariants.** Whatever commands print as a lifetime or as an expiry can be typed.

use std::time::Duration;

use libp2p_smart_record::{Clock, SystemClock, Timestamp, ZeroLifetime, ipns::Eol};

use crate::failure::Failure;

/// A lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    For(Duration),
    Until(Eol),
}

/// Parses a duration (`90s`, `2h 30m`, or a number of seconds) or a date as in RFC 3339.
pub fn parse(text: &str) -> Result<Lifetime, String> {
    if let Ok(until) = text.parse() {
        return Ok(Lifetime::Until(until));
    }
    let duration = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => humantime::parse_duration(text).map_err(|error| error.to_string())?,
    };
    ZeroLifetime::check(duration).map_err(|error| error.to_string())?;
    Ok(Lifetime::For(duration))
}

impl Lifetime {
    /// The time that is left.
    pub fn left(self) -> Result<Duration, Failure> {
        match self {
            Self::For(duration) => Ok(duration),
            Self::Until(until) => {
                let left = until.saturating_since(SystemClock.now());
                ZeroLifetime::check(left).map(|()| left).map_err(|_| Failure::Arguments {
                    message: format!("{until} has passed"),
                    hint: "give a duration such as 2h, or a date in the future",
                })
            }
        }
    }

    /// The end of a lifetime that begins at `now`.
    pub fn end(self, now: Timestamp) -> Eol {
        match self {
            Self::For(duration) => now.saturating_add(duration).into(),
            Self::Until(until) => until,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::content::left;

    #[test]
    fn what_is_printed_as_a_lifetime_can_be_typed() {
        let hour = Lifetime::For(Duration::from_secs(3_600));
        for text in ["1h", "60m", "3600s", "59m 60s", "0.5h 30m", "3600"] {
            assert_eq!(parse(text), Ok(hour), "{text}");
        }
        let now = Timestamp::from_millis(1_700_000_000_000);
        for secs in [1, 59, 61, 3_599, 90_061, 40 * 86_400] {
            let duration = Duration::from_secs(secs);
            let printed = left(now.saturating_add(duration), now);
            assert_eq!(parse(&printed), Ok(Lifetime::For(duration)), "{printed}");
            let (expires_at, eol) = (now.saturating_add(duration), hour.end(now));
            assert_eq!(parse(&expires_at.to_string()).unwrap().end(now), expires_at.into());
            assert_eq!(parse(&eol.to_string()), Ok(Lifetime::Until(eol)));
        }
        for text in ["", "soon", "0", "0s", "9us", "-1", "2030-06-30"] {
            assert!(parse(text).is_err(), "{text}");
        }
        let past = parse("2001-01-01T00:00:00Z").unwrap().left().unwrap_err();
        assert!(past.to_string().contains("has passed"), "{past}");
    }
}
