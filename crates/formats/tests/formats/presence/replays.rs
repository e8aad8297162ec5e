//! Replays.

use super::*;

use prost::Message;

#[test]
fn a_replay_under_another_path() {
    for path in [format!("/presence/{}/chat", id(&client())), format!("/here/{}/", id(&client()))] {
        let other = PresenceKey::parse(&RecordKey::new(path)).unwrap();
        let mut record = record([Draft::at(1).value()]);
        record.key = other.to_string();
        let separator = if other.as_str().ends_with('/') { "" } else { "/" };
        record.values[0].id2 = format!("{other}{separator}{}", id(&node(1)));
        let value = record.encode_to_vec();
        let error = validator().validate(other.as_record_key(), &value, now()).unwrap_err();
        assert_eq!(error.fault(), Fault::Invalid);
        says(&error, "the signature is not that of the client");
        assert!(validator().read(other.as_record_key(), &value, now()).is_err());
    }
}

#[test]
fn a_resurrection_beside_a_live_announcement() {
    // The withdrawal and the announcement that it hid have expired. A live neighbour does not
    // revive the announcement.
    let old = Draft::at(1).living(TTL);
    let value = records(&[old, Draft::at(2).living(HOUR)]);
    let later = at(NOW + TTL);
    validator().validate(&key(), &value, later).unwrap();
    let read = validator().read(&key(), &value, later).unwrap();
    let seen: Vec<_> = read.view(later).map(Announcement::node).collect();
    assert_eq!(seen, [id(&node(2))]);
    assert_eq!(read.entries().len(), 1);
}
