//! `Debug` for types with fields that do not implement it or are too large to print.

/// Implements `Debug` for a type: prints its name and the given values.
///
/// ```
/// struct Room {
///     name: String,
///     guests: Vec<String>,
///     on_enter: Box<dyn Fn()>,
/// }
///
/// smart_record_core::impl_debug! { Room: |room| name: room.name, guests: room.guests.len() }
///
/// let room = Room { name: "hall".to_owned(), guests: Vec::new(), on_enter: Box::new(|| {}) };
/// assert_eq!(format!("{room:?}"), r#"Room { name: "hall", guests: 0, .. }"#);
/// # (room.on_enter)();
/// ```
#[macro_export]
macro_rules! impl_debug {
    ($type:ident: |$this:ident| $($name:ident: $value:expr),+) => {
        impl ::core::fmt::Debug for $type {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                let $this = self;
                f.debug_struct(stringify!($type))
                    $(.field(stringify!($name), &$value))+
                    .finish_non_exhaustive()
            }
        }
    };
}
