//! What instants and wall-clock times have in common.

/// Adds to a wrapper of a `Duration`, since the start of its clock, the methods and operators that
/// add and subtract durations.
macro_rules! arithmetic {
    ($Time:ident, $what:literal) => {
        impl $Time {
            /// That much later, if it can be represented.
            #[must_use]
            pub fn checked_add(&self, duration: Duration) -> Option<Self> {
                // Not as far as a duration reaches: the times of the machine do not either.
                let later = self.0.checked_add(duration);
                later.filter(|at| i64::try_from(at.as_secs()).is_ok()).map(Self)
            }

            /// That much earlier, if it can be represented.
            #[must_use]
            pub fn checked_sub(&self, duration: Duration) -> Option<Self> {
                self.0.checked_sub(duration).map(Self)
            }
        }

        impl Add<Duration> for $Time {
            type Output = Self;

            fn add(self, duration: Duration) -> Self {
                self.checked_add(duration).expect(concat!("overflow when adding to ", $what))
            }
        }

        impl AddAssign<Duration> for $Time {
            fn add_assign(&mut self, duration: Duration) {
                *self = *self + duration;
            }
        }

        impl Sub<Duration> for $Time {
            type Output = Self;

            fn sub(self, duration: Duration) -> Self {
                self.checked_sub(duration).expect(concat!("overflow when subtracting from ", $what))
            }
        }

        impl SubAssign<Duration> for $Time {
            fn sub_assign(&mut self, duration: Duration) {
                *self = *self - duration;
            }
        }
    };
}

pub(crate) use arithmetic;
