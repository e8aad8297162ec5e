//! How much is missing from a reading.

use std::fmt;

use libp2p_smart_record::query::Reading;

/// The share that is missing from a reading that is not complete, from 0 to 1; see
/// [`Reading::missing`].
#[derive(Clone, Copy, Debug)]
pub struct Missing(pub f64);

impl Missing {
    /// What is missing from a reading; `None` if it is complete.
    pub fn of(reading: &Reading) -> Option<Self> {
        (!reading.is_complete()).then(|| Self(reading.missing()))
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            share if share > 0.0 => {
                write!(f, "not complete: {} was not shown by enough peers", percent(share))
            }
            _ => f.write_str(
                "not complete: too few of the closest peers have answered, or the record is full \
                 and may have a slot for a space that it had none for when it was shown",
            ),
        }
    }
}

/// A share as a percentage that is 0 or 100 only if the share is 0 or 1.
pub fn percent(share: f64) -> String {
    match 100.0 * share {
        percent if percent > 0.0 && percent < 1.0 => "less than 1 %".to_owned(),
        percent if percent > 99.0 && percent < 100.0 => "more than 99 %".to_owned(),
        percent => format!("{percent:.0} %"),
    }
}
