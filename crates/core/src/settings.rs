//! Configuration types: private fields, a getter and a chainable setter for each.

/// Writes the getter and the setter of each setting, with the documentation of the first.
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

pub use settings;
