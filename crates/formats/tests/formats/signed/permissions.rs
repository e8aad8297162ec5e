//! Permissions of writers.

use super::*;

#[test]
fn a_key_that_belongs_to_another() {
    let rules = SignedRecordValidator::new(SignedRecordLimits::default(), KeyOwner);
    let key = RecordKey::new(format!("/notes/{}/a", alice().peer_id()));
    let by = |author: &Author| Forgery::by(author, payload(key.as_bytes(), b"x", 1)).encode();
    assert!(rules.validate(&key, &by(&alice()), at(NOW)).is_ok());
    let reason = rules.validate(&key, &by(&mallory()), at(NOW)).unwrap_err();
    assert_eq!(reason.fault(), Fault::RefusedByPolicy);
}

#[test]
fn an_unregistered_namespace() {
    let registry = registry(SignedRecordValidator::default());
    for key in ["/other/a", "notes", "/notes"] {
        let key = RecordKey::new(key);
        let value = Forgery::by(&alice(), payload(key.as_bytes(), b"x", 1)).encode();
        let reason = registry.validate(&key, &value, at(NOW)).unwrap_err();
        assert_eq!(reason.fault(), Fault::Unsupported);
    }
}

#[test]
fn one_namespace_s_permission_is_not_another_s() {
    let limits = SignedRecordLimits::default;
    let list: AllowList = [mallory().peer_id()].into_iter().collect();
    let registry = Registry::empty()
        .with("notes", SignedRecordValidator::new(limits(), KeyOwner))
        .and_then(|r| r.with("staff", SignedRecordValidator::new(limits(), list)))
        .unwrap();
    let by = |author: &Author, key: &str| {
        let value = Forgery::by(author, payload(key.as_bytes(), b"x", 1)).encode();
        registry.validate(&key.into(), &value, at(NOW)).map_err(|error| error.fault())
    };
    assert!(by(&mallory(), "/staff/a").is_ok());
    assert_eq!(by(&alice(), "/staff/a"), Err(Fault::RefusedByPolicy));
    assert_eq!(by(&mallory(), "/notes/a"), Err(Fault::RefusedByPolicy));
}
