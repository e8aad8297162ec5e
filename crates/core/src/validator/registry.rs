//! Which validator answers for which namespace.
//!
//! **Invariants.** A key is answered for by one validator, or refused.
//!
//! **Spec.** Namespaces as in
//! [go-libp2p-record](https://github.com/libp2p/go-libp2p-record/blob/master/validator.go), `NamespacedValidator`.

use std::{collections::BTreeMap, fmt};

use super::{SmartRecordValidator, ValidationError, Validator, Validity};
use crate::{
    key::{NamespaceError, RecordKey, check_namespace},
    time::Timestamp,
};

/// Maps namespaces to validators, and is a [`Validator`] for all of them.
///
/// A key of an unknown namespace, or of none, is refused, unless there is a fallback.
///
/// ```
/// use smart_record_core::{AcceptAny, Registry, SmartRecordValidator};
///
/// // `/sr/…` as always, `/rooms/…` by the same rules, and anything else goes.
/// let registry = Registry::default()
///     .with("rooms", SmartRecordValidator::default())?
///     .with_fallback(AcceptAny::default());
/// # let _ = registry;
/// # Ok::<(), smart_record_core::NamespaceError>(())
/// ```
pub struct Registry {
    namespaces: BTreeMap<String, Box<dyn Validator>>,
    fallback: Option<Box<dyn Validator>>,
}

impl Default for Registry {
    /// Smart records under `/sr/…`, open to all writers, with the default limits; nothing else.
    fn default() -> Self {
        Self::empty().and(Self::SMART_RECORDS, SmartRecordValidator::default())
    }
}

impl Registry {
    /// The namespace of smart records.
    pub const SMART_RECORDS: &'static str = "sr";

    /// [`Registry::with`] for a namespace that is known to be one.
    #[must_use]
    pub fn and(mut self, namespace: &str, validator: impl Validator + 'static) -> Self {
        self.namespaces.insert(namespace.to_owned(), Box::new(validator));
        self
    }

    /// A registry that refuses every key.
    pub const fn empty() -> Self {
        Self { namespaces: BTreeMap::new(), fallback: None }
    }

    /// Lets `validator` answer for `/namespace/…`, in the place of the one that did.
    ///
    /// # Errors
    /// [`NamespaceError`] if `namespace` is not one.
    pub fn with(
        self,
        namespace: &str,
        validator: impl Validator + 'static,
    ) -> Result<Self, NamespaceError> {
        check_namespace(namespace)?;
        Ok(self.and(namespace, validator))
    }

    /// Lets `validator` answer for all keys of other namespaces, and of none.
    #[must_use]
    pub fn with_fallback(mut self, validator: impl Validator + 'static) -> Self {
        self.fallback = Some(Box::new(validator));
        self
    }

    fn find(&self, key: &RecordKey) -> Result<&dyn Validator, ValidationError> {
        let registered = key.namespace().and_then(|name| self.namespaces.get(name));
        registered.or(self.fallback.as_ref()).map(|validator| &**validator).ok_or_else(|| {
            ValidationError::Unsupported(match key.namespace() {
                Some(name) => format!("no validator for the namespace {name:?}"),
                None => "a key without a namespace".to_owned(),
            })
        })
    }
}

impl Validator for Registry {
    fn validate(
        &self,
        key: &RecordKey,
        value: &[u8],
        now: Timestamp,
    ) -> Result<Validity, ValidationError> {
        self.find(key)?.validate(key, value, now)
    }

    fn revalidate(
        &self,
        key: &RecordKey,
        value: &[u8],
        now: Timestamp,
    ) -> Result<(), ValidationError> {
        self.find(key)?.revalidate(key, value, now)
    }

    fn select(&self, key: &RecordKey, values: &[&[u8]]) -> Result<usize, ValidationError> {
        self.find(key)?.select(key, values)
    }

    fn consolidate(&self, key: &RecordKey, values: &[&[u8]]) -> Result<Vec<u8>, ValidationError> {
        self.find(key)?.consolidate(key, values)
    }

    fn contains(&self, key: &RecordKey, whole: &[u8], part: &[u8]) -> bool {
        self.find(key).is_ok_and(|validator| validator.contains(key, whole, part))
    }

    fn collect(&self, key: &RecordKey, value: &[u8], now: Timestamp) -> Option<Vec<u8>> {
        self.find(key).ok()?.collect(key, value, now)
    }

    fn smart_record(&self, key: &RecordKey) -> Option<&SmartRecordValidator> {
        self.find(key).ok()?.smart_record(key)
    }

    fn signed_record(&self, key: &RecordKey) -> Option<&dyn std::any::Any> {
        self.find(key).ok()?.signed_record(key)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("namespaces", &self.namespaces.keys())
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
    fn what_is_asked_of_a_registry_is_asked_of_its_validator() {
        /// Of which every answer can be told from the default.
        struct Other;

        impl Validator for Other {
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

            fn consolidate(&self, _: &RecordKey, _: &[&[u8]]) -> Result<Vec<u8>, ValidationError> {
                Ok(b"all".to_vec())
            }

            fn contains(&self, _: &RecordKey, _: &[u8], _: &[u8]) -> bool {
                true
            }

            fn collect(&self, _: &RecordKey, _: &[u8], _: Timestamp) -> Option<Vec<u8>> {
                Some(b"rest".to_vec())
            }
        }

        let registry = Registry::empty().with("other", std::sync::Arc::new(Other)).unwrap();
        let key = RecordKey::new("/other/x");
        assert!(registry.validate(&key, b"x", Timestamp::EPOCH).is_ok());
        assert_eq!(registry.select(&key, &[b"x"]), Ok(7));
        assert_eq!(registry.consolidate(&key, &[b"x"]), Ok(b"all".to_vec()));
        assert!(registry.contains(&key, b"x", b"y"));
        assert_eq!(registry.collect(&key, b"x", Timestamp::EPOCH), Some(b"rest".to_vec()));
        assert!(!registry.contains(&"/else/x".into(), b"x", b"x"));
        assert_eq!(registry.collect(&"/else/x".into(), b"x", Timestamp::EPOCH), None);
    }
}
