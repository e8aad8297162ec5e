//! Content checks of the user.

use super::*;

#[test]
fn content_that_the_user_refuses() {
    let rules = || {
        SignedRecordValidator::default().with_check(|record| match record.value() {
            b"evil" => Err(Malformed::other("evil").into()),
            _ => Ok(()),
        })
    };
    let bad = Forgery::saying(&alice()).encode();
    refused_by(rules(), bad, Fault::Malformed, Seen::ByValidateOnly);
    accepted_by(rules(), record_of(&alice(), "good", 6).encode().to_vec());
}
