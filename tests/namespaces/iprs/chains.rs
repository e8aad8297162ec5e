//! Ancestry: forks, false claims, missing records.

use libp2p_smart_record::{
    Fault, ValidationError, Validator,
    iprs::{Ancestry, Ipld, IprsRecord},
};

use super::*;

fn first(value: &str) -> IprsRecord {
    sign(Ancestry::first(value))
}

fn child(value: &str, parent: &IprsRecord) -> IprsRecord {
    sign(Ancestry::child(value, parent).unwrap())
}

#[test]
fn an_ancestor_of_what_is_stored_is_stale() {
    let mut line = vec![first("0")];
    for n in 1..20 {
        line.push(child(&n.to_string(), line.last().unwrap()));
    }
    let (mut store, _) = open_store(validator());
    store.write(&key(), line[19].as_bytes()).unwrap();
    for ancestor in &line[..19] {
        assert_eq!(store.write(&key(), ancestor.as_bytes()), Err(ValidationError::Stale.into()));
    }
}

#[test]
fn the_order_needs_no_ancestors() {
    // A record is valid and ranked although its parent is unknown.
    let three = child("3", &child("2", &child("1", &first("0"))));
    accepted(three.as_bytes());
    let other = child("1", &first("other"));
    assert_eq!(validator().select(&key(), &[other.as_bytes(), three.as_bytes()]), Ok(1));
    assert_eq!(validator().select(&key(), &[three.as_bytes(), other.as_bytes()]), Ok(0));
}

#[test]
fn a_height_without_a_parent_is_malformed_and_so_is_the_reverse() {
    let root = first("0");
    let parent = ("parent", Ipld::Link(root.cid()));
    let height = |n: i128| ("height", Ipld::Integer(n));
    for validity in [
        map([height(1)]),
        map([height(u64::MAX.into())]),
        map([height(0), parent.clone()]),
        map([parent.clone()]),
        map([height(-1), parent]),
        map([height(1), ("parent", Ipld::Null)]),
    ] {
        refused(&with_validity(&root, validity), Fault::Malformed);
    }
}

#[test]
fn a_parent_that_cannot_be_a_record_is_malformed() {
    let root = first("0");
    // The same hash, but of raw bytes.
    let raw = libp2p_smart_record::Cid::new_v1(0x55, *root.cid().hash());
    for (parent, good) in [(root.cid(), true), (raw, false)] {
        let validity = map([("height", Ipld::Integer(1)), ("parent", Ipld::Link(parent))]);
        let value = with_validity(&root, validity);
        if good {
            accepted(&value);
        } else {
            refused(&value, Fault::Malformed);
        }
    }
}
