//! The registry: maps namespaces to validators.
//!
//! **Invariants.** A key belongs to one namespace or is refused. Only the registered type decides
//! whether the keys of a namespace hold spaces or values. [`SpaceRules`] and [`Registry`] are not
//! [`Validator`]s, and their `validate` returns another type, so a validator that only forwards to
//! them does not compile. A validator that converts their results is a validator of values. The
//! namespace of smart records holds no values, neither by registration nor by the fallback.
//!
//! **Spec.** Namespaces as in
//! [go-libp2p-record](https://github.com/libp2p/go-libp2p-record/blob/master/validator.go),
//! `NamespacedValidator`.

use std::{collections::BTreeMap, fmt, sync::Arc};

use super::{OrderKey, SpaceRules, ValidationError, Validator, Validity};
use crate::{
    key::{NamespaceError, RecordKey, check_namespace},
    record::SmartRecord,
    time::Timestamp,
};

/// What the keys of a namespace hold. Exhaustive: a store knows these two forms.
#[derive(Clone)]
pub enum Namespace {
    /// Smart records: a space for each writer, joined by these rules.
    Spaces(SpaceRules),
    /// One value under each key, validated and selected by this validator.
    Value(Arc<dyn Validator>),
}

impl From<SpaceRules> for Namespace {
    fn from(rules: SpaceRules) -> Self {
        Self::Spaces(rules)
    }
}

impl<V: Validator + 'static> From<V> for Namespace {
    fn from(validator: V) -> Self {
        Self::Value(Arc::new(validator))
    }
}

impl<V: Validator + 'static> From<Arc<V>> for Namespace {
    /// Shares one validator between several registries.
    fn from(validator: Arc<V>) -> Self {
        Self::Value(validator)
    }
}

/// Omits the validator, which need not implement `Debug`.
impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spaces(rules) => f.debug_tuple("Spaces").field(rules).finish(),
            Self::Value(_) => f.debug_tuple("Value").finish_non_exhaustive(),
        }
    }
}

/// A type that can be registered for a namespace.
pub trait NamespaceItem: Clone {
    /// Whether the keys of the namespace hold spaces, which [`Registry::SMART_RECORDS`] requires.
    /// By default they hold values.
    fn keeps_spaces(&self) -> bool {
        false
    }
}

impl NamespaceItem for Namespace {
    fn keeps_spaces(&self) -> bool {
        matches!(self, Self::Spaces(_))
    }
}

/// A map from namespaces to registered items, with an optional fallback for all other keys. A clone
/// is cheap.
///
/// A [`Registry`] is a map to [`Namespace`]s.
#[derive(Clone)]
pub struct Namespaces<T> {
    by_name: Arc<BTreeMap<String, T>>,
    fallback: Option<T>,
}

/// A map from namespaces to [`SpaceRules`] or a [`Validator`].
///
/// A key with an unknown namespace or without one is refused, unless there is a fallback.
///
/// ```
/// use smart_record_core::{AcceptAny, Registry, SpaceRules};
///
/// // `/sr/…` as always, `/rooms/…` by the same rules, and anything else goes.
/// let registry = Registry::default()
///     .with("rooms", SpaceRules::default())?
///     .with_fallback(AcceptAny::default());
/// # let _ = registry;
/// # Ok::<(), smart_record_core::NamespaceError>(())
/// ```
///
/// A registry is not a [`Validator`], so it cannot be registered in another registry. This
/// compiles:
///
/// ```
/// use smart_record_core::{AcceptAny, Registry};
///
/// let registry = Registry::empty().with_fallback(AcceptAny::default());
/// ```
///
/// ```compile_fail,E0277
/// use smart_record_core::{AcceptAny, Registry};
///
/// let registry = Registry::empty().with_fallback(Registry::default());
/// ```
///
/// A validator that only forwards to a registry does not compile:
///
/// ```compile_fail,E0308
/// use smart_record_core::{RecordKey, Registry, Timestamp, ValidationError, Validator, Validity};
///
/// struct Logged(Registry);
///
/// impl Validator for Logged {
///     fn validate(
///         &self,
///         key: &RecordKey,
///         value: &[u8],
///         now: Timestamp,
///     ) -> Result<Validity, ValidationError> {
///         println!("{key}");
///         self.0.validate(key, value, now)
///     }
///
///     fn select(&self, key: &RecordKey, values: &[&[u8]]) -> Result<usize, ValidationError> {
///         self.0.select(key, values)
///     }
///
///     fn wrapped(&self) -> Option<&dyn Validator> {
///         None
///     }
/// }
/// ```
///
/// One that converts the result compiles. It is then a validator of values, and the registry does
/// not call it for the keys of smart records:
///
/// ```
/// # use smart_record_core::{Validated};
/// use smart_record_core::{RecordKey, Registry, Timestamp, ValidationError, Validator, Validity};
///
/// struct Logged(Registry);
///
/// impl Validator for Logged {
///     fn validate(
///         &self,
///         key: &RecordKey,
///         value: &[u8],
///         now: Timestamp,
///     ) -> Result<Validity, ValidationError> {
///         println!("{key}");
///         self.0.validate(key, value, now).map(|_| Validity::forever())
///     }
///
///     fn select(&self, key: &RecordKey, values: &[&[u8]]) -> Result<usize, ValidationError> {
///         self.0.select(key, values)
///     }
///
///     fn wrapped(&self) -> Option<&dyn Validator> {
///         None
///     }
/// }
///
/// let registry = Registry::empty().with_fallback(Logged(Registry::default()));
/// assert!(registry.resolve(&RecordKey::new("/sr/lobby")).is_err());
/// assert!(registry.with("sr", Logged(Registry::default())).is_err());
/// ```
pub type Registry = Namespaces<Namespace>;

/// A valid value, in the form of its namespace. Exhaustive, as [`Namespace`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Validated {
    /// The decoded smart record.
    Record(SmartRecord),
    /// What a store needs to know about the value.
    Value(Validity),
}

impl<T: NamespaceItem> Namespaces<T> {
    /// A registry without namespaces, which refuses every key.
    pub fn empty() -> Self {
        Self { by_name: Arc::default(), fallback: None }
    }

    /// Registers an item for the keys `/namespace/…` and replaces the previous one. The names
    /// `sr`, `iprs`, `presence`, `pk` and `ipns`, each also followed by digits, are reserved for
    /// the namespaces of `docs/wire.md`.
    ///
    /// # Errors
    /// [`NamespaceError`] if `namespace` is invalid, or is that of smart records and the item does
    /// not hold spaces.
    pub fn with(
        mut self,
        namespace: &str,
        registered: impl Into<T>,
    ) -> Result<Self, NamespaceError> {
        check_namespace(namespace)?;
        let registered = registered.into();
        if namespace == Registry::SMART_RECORDS && !registered.keeps_spaces() {
            return Err(NamespaceError::SmartRecords(Registry::SMART_RECORDS));
        }
        Arc::make_mut(&mut self.by_name).insert(namespace.to_owned(), registered);
        Ok(self)
    }

    /// Registers an item for all keys with another namespace or without one. It is not used for
    /// smart records unless it holds spaces.
    #[must_use]
    pub fn with_fallback(mut self, registered: impl Into<T>) -> Self {
        self.fallback = Some(registered.into());
        self
    }

    /// The item registered for a key.
    ///
    /// # Errors
    /// [`ValidationError::Unsupported`] if there is none.
    pub fn resolve(&self, key: &RecordKey) -> Result<&T, ValidationError> {
        let name = key.namespace();
        let of_name = name.and_then(|name| self.by_name.get(name));
        let is_free =
            |registered: &&T| name != Some(Registry::SMART_RECORDS) || registered.keeps_spaces();
        of_name.or(self.fallback.as_ref().filter(is_free)).ok_or_else(|| {
            ValidationError::Unsupported(match name {
                Some(name) => format!("nothing is registered for the namespace {name:?}"),
                None => format!("{key} has no namespace: keys have the form /namespace/path"),
            })
        })
    }
}

impl Default for Registry {
    /// A registry with smart records under `/sr/…` only, open to all writers, with the default
    /// limits.
    fn default() -> Self {
        let sr = (Self::SMART_RECORDS.to_owned(), SpaceRules::default().into());
        Self { by_name: Arc::new(BTreeMap::from([sr])), fallback: None }
    }
}

impl Registry {
    /// The namespace of smart records.
    pub const SMART_RECORDS: &'static str = "sr";

    /// Checks that `key` can have a value: its namespace is registered, and
    /// [`SpaceRules::check_key`] or [`Validator::check_key`] accepts it.
    ///
    /// # Errors
    /// [`ValidationError`], with a text that states the required form.
    pub fn check_key(&self, key: &RecordKey) -> Result<(), ValidationError> {
        match self.resolve(key)? {
            Namespace::Spaces(rules) => rules.check_key(key),
            Namespace::Value(validator) => validator.check_key(key),
        }
    }

    /// Checks that `value` is valid for `key` at `now`, as a whole. See [`SpaceRules::validate`]
    /// and [`Validator::validate`].
    ///
    /// # Errors
    /// [`ValidationError`], which says who is at fault.
    pub fn validate(
        &self,
        key: &RecordKey,
        value: &[u8],
        now: Timestamp,
    ) -> Result<Validated, ValidationError> {
        match self.resolve(key)? {
            Namespace::Spaces(rules) => rules.validate(key, value, now).map(Validated::Record),
            Namespace::Value(validator) => {
                validator.validate(key, value, now).map(Validated::Value)
            }
        }
    }

    /// The index of the best value; of equally good values, the first.
    ///
    /// # Errors
    /// As [`SpaceRules::select`] and [`Validator::select`].
    pub fn select(&self, key: &RecordKey, values: &[&[u8]]) -> Result<usize, ValidationError> {
        match self.resolve(key)? {
            Namespace::Spaces(rules) => rules.select(key, values),
            Namespace::Value(validator) => validator.select(key, values),
        }
    }

    /// One value with the content of all given values.
    ///
    /// # Errors
    /// As [`SpaceRules::consolidate`] and [`Validator::consolidate`].
    pub fn consolidate(
        &self,
        key: &RecordKey,
        values: &[&[u8]],
    ) -> Result<Vec<u8>, ValidationError> {
        match self.resolve(key)? {
            Namespace::Spaces(rules) => rules.consolidate(key, values),
            Namespace::Value(validator) => validator.consolidate(key, values),
        }
    }
}

impl Registry {
    /// The order key of a valid value; see [`Validator::order_key`]. Smart records have none.
    pub fn order_key(&self, key: &RecordKey, value: &[u8]) -> Option<OrderKey> {
        match self.resolve(key).ok()? {
            Namespace::Spaces(_) => None,
            Namespace::Value(validator) => validator.order_key(key, value),
        }
    }
}

/// Shows the namespaces. The registered items need not implement `Debug`.
impl<T> fmt::Debug for Namespaces<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Namespaces")
            .field("by_name", &self.by_name.keys())
            .field("fallback", &self.fallback.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validator::AcceptAny;

    #[test]
    fn a_key_goes_to_its_namespace_or_the_fallback_or_nowhere() {
        let now = Timestamp::EPOCH;
        let strict = Registry::empty().with("a", AcceptAny::up_to(1)).unwrap();
        let key = |key: &str| RecordKey::new(key);
        assert!(strict.validate(&key("/a/x"), b"1", now).is_ok());
        assert!(matches!(
            strict.validate(&key("/a/x"), b"12", now),
            Err(ValidationError::LimitExceeded(_))
        ));
        for unknown in ["/b/x", "a", "", "/a"] {
            assert!(matches!(
                strict.validate(&key(unknown), b"1", now),
                Err(ValidationError::Unsupported(_))
            ));
        }
        let lenient = strict.with_fallback(AcceptAny::up_to(2));
        for unknown in ["/b/x", "a", "", "/a"] {
            assert!(lenient.validate(&key(unknown), b"12", now).is_ok());
        }
        assert!(lenient.validate(&key("/a/x"), b"12", now).is_err());
        assert_eq!(
            Registry::empty().with("a/b", AcceptAny::default()).err(),
            Some(NamespaceError::HasSlash("a/b".into()))
        );
    }

    #[test]
    fn case_25_only_what_keeps_spaces_answers_for_smart_records() {
        let (key, anything) = (RecordKey::new("/sr/x"), AcceptAny::default);
        let refused = Registry::default().with("sr", anything());
        assert_eq!(refused.err(), Some(NamespaceError::SmartRecords("sr")));
        let registry = Registry::empty().with_fallback(anything());
        assert!(matches!(registry.resolve(&key), Err(ValidationError::Unsupported(_))));
        assert!(registry.resolve(&"/srx/x".into()).is_ok());
        for spaces in [
            Registry::default().with_fallback(anything()),
            Registry::empty().with_fallback(SpaceRules::default()),
            Registry::empty().with("sr", SpaceRules::default()).unwrap(),
        ] {
            assert!(matches!(spaces.resolve(&key), Ok(Namespace::Spaces(_))));
        }
    }

    #[test]
    fn case_9_a_key_that_nothing_can_stand_under_is_told_without_a_value() {
        let owned = SpaceRules::new(crate::record::Limits::default(), crate::record::KeyOwner);
        let registry = Registry::default().with("own", owned).unwrap();
        let check = |key: &str| registry.check_key(&key.into()).map_err(|error| error.to_string());
        // A path may be empty, or begin with a slash.
        for key in ["/sr/a", "/sr/", "/sr//x"] {
            assert_eq!(check(key), Ok(()));
        }
        for (key, form) in [
            ("sr/a", "/namespace/path"),
            ("/unheard/of", "\"unheard\""),
            ("/own/a", "/namespace/<peer id>/…"),
        ] {
            let told = check(key).unwrap_err();
            assert!(told.contains(form), "{told}");
        }
        assert!(check(&format!("/sr/{}", "x".repeat(300))).is_err(), "too long");
        assert_eq!(registry.with_fallback(AcceptAny::default()).check_key(&"sr/a".into()), Ok(()));
    }

    /// A validator whose every result differs from the default.
    struct Other;

    impl Validator for Other {
        fn check_key(&self, _: &RecordKey) -> Result<(), ValidationError> {
            Err(ValidationError::Stale)
        }

        fn validate(
            &self,
            _: &RecordKey,
            _: &[u8],
            _: Timestamp,
        ) -> Result<Validity, ValidationError> {
            Ok(Validity::forever())
        }

        fn select(&self, _: &RecordKey, _: &[&[u8]]) -> Result<usize, ValidationError> {
            Ok(7)
        }

        fn wrapped(&self) -> Option<&dyn Validator> {
            None
        }

        fn consolidate(&self, _: &RecordKey, _: &[&[u8]]) -> Result<Vec<u8>, ValidationError> {
            Ok(b"all".to_vec())
        }

        fn revalidate(&self, _: &RecordKey, _: &[u8], _: Timestamp) -> Result<(), ValidationError> {
            Err(ValidationError::NoValue)
        }

        fn order_key(&self, _: &RecordKey, _: &[u8]) -> Option<OrderKey> {
            OrderKey::new(b"place").ok()
        }

        fn contains(&self, _: &RecordKey, _: &[u8], _: &[u8]) -> bool {
            true
        }

        fn collect(&self, _: &RecordKey, _: &[u8], _: Timestamp) -> Option<Vec<u8>> {
            Some(b"rest".to_vec())
        }
    }

    /// Defines nothing but what is required.
    struct Wrapper;

    impl Validator for Wrapper {
        fn validate(
            &self,
            _: &RecordKey,
            _: &[u8],
            _: Timestamp,
        ) -> Result<Validity, ValidationError> {
            Ok(Validity::forever())
        }

        fn select(&self, _: &RecordKey, _: &[&[u8]]) -> Result<usize, ValidationError> {
            Ok(7)
        }

        fn wrapped(&self) -> Option<&dyn Validator> {
            Some(&Other)
        }
    }

    #[test]
    fn what_is_asked_of_a_registry_is_asked_of_its_validator() {
        is_asked(Other);
    }

    #[test]
    fn case_25_a_wrapper_has_the_hooks_of_what_it_wraps() {
        is_asked(Wrapper);
    }

    fn is_asked(validator: impl Validator + 'static) {
        let registry = Registry::empty().with("other", std::sync::Arc::new(validator)).unwrap();
        let key = RecordKey::new("/other/x");
        assert_eq!(registry.check_key(&key), Err(ValidationError::Stale));
        assert!(registry.validate(&key, b"x", Timestamp::EPOCH).is_ok());
        assert_eq!(registry.select(&key, &[b"x"]), Ok(7));
        assert_eq!(registry.consolidate(&key, &[b"x"]), Ok(b"all".to_vec()));
        let Ok(Namespace::Value(other)) = registry.resolve(&key) else {
            panic!("a value");
        };
        assert!(other.contains(&key, b"x", b"y"));
        let now = Timestamp::EPOCH;
        assert_eq!(other.revalidate(&key, b"x", now), Err(ValidationError::NoValue));
        assert_eq!(other.order_key(&key, b"x"), OrderKey::new(b"place").ok());
        assert_eq!(other.collect(&key, b"x", Timestamp::EPOCH), Some(b"rest".to_vec()));
        assert!(matches!(
            registry.resolve(&"/else/x".into()),
            Err(ValidationError::Unsupported(_))
        ));
    }
}
