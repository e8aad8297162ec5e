//! Macro for configuration types: a getter and a chainable setter for each private field.

/// Defines a getter and a chainable setter for each setting of a type.
///
/// A setting is a field whose type is `Copy`. The getter gets the given documentation; that of the
/// setter refers to it.
///
/// ```
/// use std::time::Duration;
///
/// /// How a room is kept.
/// #[derive(Debug, Default)]
/// pub struct RoomConfig {
///     seats: usize,
///     ttl: Duration,
/// }
///
/// smart_record_core::settings! { RoomConfig:
///     /// How many may sit. Defaults to none.
///     seats, with_seats: usize;
///     /// How long it stays open.
///     ttl, with_ttl: Duration;
/// }
///
/// assert_eq!(RoomConfig::default().with_seats(3).seats(), 3);
/// ```
#[macro_export]
macro_rules! settings {
    ($type:ident: $($(#[$doc:meta])* $name:ident, $with:ident: $value:ty;)*) => {
        impl $type {
            $(
                $(#[$doc])*
                pub const fn $name(&self) -> $value {
                    self.$name
                }

                #[doc = concat!("Sets [`", stringify!($name), "`](Self::", stringify!($name), ").")]
                #[must_use]
                pub const fn $with(mut self, value: $value) -> Self {
                    self.$name = value;
                    self
                }
            )*
        }
    };
}
