//! Limits of sizes.

use super::*;

use prost::Message;

#[test]
fn identities_that_are_too_large() {
    // The limit counts the largest possible announcement of these two parties.
    let [_, _, _, rsa] = all_types();
    let value = Draft::of(&client(), &rsa).encode();
    let fits = |max| {
        let limits = PresenceLimits::default().with_announcement_bytes(max);
        PresenceValidator::new(limits).validate(&key(), &value, now())
    };
    let least = (0..2_816).find(|max| fits(*max).is_ok()).unwrap();
    assert!(least > Draft::of(&client(), &rsa).value().encode_to_vec().len());
    exceeded(&fits(least - 1).unwrap_err(), PresenceLimits::ANNOUNCEMENT_BYTES);
}

#[test]
fn what_an_announcement_counts_is_never_less_than_its_length() {
    for client in all_types() {
        for node in all_types().iter().chain([&node(9)]) {
            if client.public() == node.public() {
                continue;
            }
            let draft = Draft::of(&client, node).with(|m| {
                m.creation_date = i64::MAX - 2;
                m.expiration_date = i64::MAX - 1;
                m.retain_until = Some(i64::MAX);
            });
            let value = draft.value();
            let framed = Record { values: vec![value.clone()], ..Record::default() }.encoded_len();
            let fits = |max| {
                let limits = PresenceLimits::default().with_announcement_bytes(max);
                PresenceEntry::decode(&key_of(&client), value.value.clone(), &limits).is_ok()
            };
            assert!(fits(2_816));
            assert!(!fits(framed - 1), "{framed}");
        }
    }
}

#[test]
fn more_large_announcements_than_fit() {
    // Each announcement counts at its largest, so the limit applies before the record is full. From
    // here on bytes, not nodes, are the limit.
    let [_, _, _, rsa] = all_types();
    let large = Draft::of(&client(), &rsa);
    let limits = |record_bytes| {
        PresenceLimits::default().with_announcement_bytes(1_600).with_record_bytes(record_bytes)
    };
    let validate = |record_bytes, drafts: &[Draft]| {
        let validator = PresenceValidator::new(limits(record_bytes));
        validator.validate(&key(), &records(drafts), now())
    };
    let both = [large.clone().made(1), Draft::at(1)];
    let least = (0..8_192).find(|max| validate(*max, &both).is_ok()).unwrap();
    assert!(least > records(&both).len());
    // The second is kept while the first takes less than the room beside another of the largest
    // size.
    let weight = |max| {
        let limits = PresenceLimits::default().with_announcement_bytes(max);
        PresenceEntry::decode(&key_of(&client()), both[0].value().value, &limits).is_ok()
    };
    let weight = (0..1_600).find(|max| weight(*max)).unwrap();
    let head = key_of(&client()).as_str().len() + id(&client()).to_string().len() + 16;
    assert_eq!(least, weight + 1 + 1_600 + head);
    exceeded(&validate(least - 1, &both).unwrap_err(), Limit::VALUE_BYTES);
    validate(least - 1, &both[..1]).unwrap();
}
