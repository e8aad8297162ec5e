//! Permissions of writers.

use super::*;

#[test]
fn an_author_who_is_not_on_the_list() {
    let list: AllowList = [alice().peer_id()].into_iter().collect();
    let rules = || SignedRecordValidator::new(SignedRecordLimits::default(), list.clone());
    refused_by(
        rules(),
        Forgery::saying(&mallory()).encode(),
        Fault::RefusedByPolicy,
        Seen::BySelect,
    );
    accepted_by(rules(), Forgery::saying(&alice()).encode());
}

#[test]
fn the_policy_is_asked_before_the_signature() {
    let list: AllowList = [alice().peer_id()].into_iter().collect();
    let rules = SignedRecordValidator::new(SignedRecordLimits::default(), list);
    let unsigned = Forgery { signature: vec![0; 64], ..Forgery::saying(&mallory()) };
    refused_by(rules, unsigned.encode(), Fault::RefusedByPolicy, Seen::BySelect);
}
