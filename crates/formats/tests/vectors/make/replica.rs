//! Values that are put to a replica, one after the other, and what it answers.
//!
//! What is expected stands here; a store of the crate `libp2p-smart-record` has to do it
//! (`tests/namespaces/vectors.rs`).

use serde_json::{Value, json};
use smart_record_core::RecordKey;
use smart_record_formats::iprs::{DatetimeRange, IprsRecord, SequenceNumber, TtlSinceReceipt};
use smart_record_testing::{
    at,
    envelope::{field, varint},
    forge::{NOW, Update, encode},
    iprs::twin,
    keys::{ecdsa, ed25519},
    presence::{self, Draft, record, records as several},
    signed::{Forgery, KEY as NOTE, payload},
};

use super::{
    case, iprs,
    records::{HOUR, KEY, alice, later, withdrawal},
    refused, rsa,
};
use crate::forms::hex;

const DAYS_2: u64 = 48 * HOUR;

/// What happens to a replica under one key. Times are milliseconds after [`NOW`].
struct Replica {
    key: RecordKey,
    steps: Vec<Value>,
}

impl Replica {
    fn of(key: impl Into<RecordKey>) -> Self {
        Self { key: key.into(), steps: Vec::new() }
    }

    fn put(mut self, after: u64, value: impl AsRef<[u8]>) -> Self {
        self.steps.push(json!({ "at": NOW + after, "put": hex(value) }));
        self
    }

    /// A PUT with a `Record.ttl`.
    fn put_for(self, seconds: u32, after: u64, value: impl AsRef<[u8]>) -> Self {
        let mut steps = self.put(after, value);
        steps.steps.last_mut().unwrap()["ttl"] = json!(seconds);
        steps
    }

    /// A PUT that is refused.
    fn no(self, after: u64, value: impl AsRef<[u8]>, fault: &str, reason: &str) -> Self {
        let mut steps = self.put(after, value);
        steps.steps.last_mut().unwrap()["refused"] = refused(fault, reason);
        steps
    }

    fn stale(self, after: u64, value: impl AsRef<[u8]>) -> Self {
        self.no(after, value, "stale", "stale")
    }

    /// A GET that is answered with this value.
    fn get(mut self, after: u64, value: impl AsRef<[u8]>) -> Self {
        self.steps.push(json!({ "at": NOW + after, "get": hex(value) }));
        self
    }

    /// A GET that is answered with this value and a `Record.ttl`.
    fn get_for(self, seconds: u64, after: u64, value: impl AsRef<[u8]>) -> Self {
        let mut steps = self.get(after, value);
        steps.steps.last_mut().unwrap()["ttl"] = json!(seconds);
        steps
    }

    /// A GET that is answered without a record.
    fn gone(mut self, after: u64) -> Self {
        self.steps.push(json!({ "at": NOW + after, "get": null }));
        self
    }

    fn case(self, name: &str, section: &str, about: &str) -> Value {
        let fields = [("key", json!(hex(self.key.as_bytes()))), ("steps", json!(self.steps))];
        case(name, section, about, fields)
    }
}

pub fn puts() -> Vec<Value> {
    [ends(), better(), receipts(), presences(), smart_records()].concat()
}

/// A signed record, which says when it ends or not.
fn note(sequence: u64, expires_at: Option<u64>) -> Vec<u8> {
    let end = expires_at.map_or_else(Vec::new, |at| varint(4, at));
    Forgery::by(&alice(), [payload(NOTE.as_bytes(), b"x", sequence), end].concat()).encode()
}

/// When a replica stops to send what it keeps. In the last second before an end that is not its own
/// it may send it or not (2.1), so no case asks then.
fn ends() -> Vec<Value> {
    let notes = || Replica::of(NOTE);
    let (plain, next) = (note(1, None), note(2, None));
    let short = note(1, Some(NOW + 10_000));
    let longest = note(1, Some(NOW + DAYS_2));
    let long = note(1, Some(NOW + DAYS_2 + 1));
    let public_key = ed25519(1).public().encode_protobuf();
    let path = [&b"/pk/"[..], &ed25519(1).public().to_peer_id().to_bytes()].concat();
    let of_range = |from: u64, until: u64| {
        let range = DatetimeRange::record("x", at(NOW + from), at(NOW + until));
        range.unwrap().sign(&iprs::key(), &ed25519(1)).unwrap()
    };
    let (range, later_range) = (of_range(0, 10_000), of_range(5_000, 20_000));
    vec![
        notes()
            .put_for(2, 0, &short)
            .get_for(9, 1_000, &short)
            .get_for(1, 9_999, &short)
            .gone(10_000)
            .case("own-end", "12.5", "The own end counts, and Record.ttl does not."),
        notes().put_for(2, 0, &longest).get(DAYS_2 - 1, &longest).gone(DAYS_2).case(
            "own-end-in-48-hours",
            "12.5",
            "The latest own end that counts alone.",
        ),
        notes().put(0, &long).get_for(2, DAYS_2 - 2_000, &long).gone(DAYS_2).case(
            "own-end-later",
            "12.5",
            "A later one: the record is kept for 48 hours.",
        ),
        notes().put_for(10, 0, &long).get_for(2, 8_000, &long).gone(12_000).case(
            "own-end-later-with-ttl",
            "12.5",
            "Or for Record.ttl, if that is less.",
        ),
        notes()
            .put(0, &plain)
            .get_for(DAYS_2 / 1_000, 0, &plain)
            .get(DAYS_2 - 2_000, &plain)
            .gone(DAYS_2)
            .case("no-end", "12.5", "A record without an end is kept for 48 hours."),
        notes().put_for(10, 0, &plain).get_for(2, 8_000, &plain).gone(12_000).case(
            "no-end-with-ttl",
            "12.5",
            "Or for Record.ttl, if that is less.",
        ),
        notes()
            .put_for(10, 0, &plain)
            .put_for(100, 5_000, &plain)
            .get_for(2, 103_000, &plain)
            .gone(107_000)
            .case("again-for-longer", "12.5", "Put again, the later end counts."),
        notes()
            .put_for(100, 0, &plain)
            .put_for(1, 5_000, &plain)
            .get_for(2, 98_000, &plain)
            .gone(102_000)
            .case("again-for-less", "12.5", "Nobody can shorten it."),
        notes()
            .put_for(100, 0, &plain)
            .put_for(10, 5_000, &next)
            .get_for(2, 13_000, &next)
            .gone(17_000)
            .case("better-for-less", "12.5", "A better record has an end of its own."),
        Replica::of(path)
            .put(0, &public_key)
            .get_for(2, DAYS_2 - 2_000, &public_key)
            .gone(DAYS_2)
            .put(DAYS_2, &public_key)
            .get(DAYS_2, &public_key)
            .case("public-key", "2", "A public key has no end of its own."),
        Replica::of(iprs::key())
            .put_for(2, 0, range.as_bytes())
            .get_for(9, 1_000, range.as_bytes())
            .get_for(1, 9_999, range.as_bytes())
            .gone(10_000)
            .no(10_000, range.as_bytes(), "expired", "expired")
            .case("range", "12.5", "The own end of a datetime-range is notAfter."),
        Replica::of(iprs::key())
            .put(5_000, later_range.as_bytes())
            .get_for(20, 0, later_range.as_bytes())
            .stale(5_000, range.as_bytes())
            .case(
                "range-clock-back",
                "12.4",
                "The clock was set back to a time before notBefore: what is kept is sent.",
            ),
    ]
}

/// What takes the place of what is kept.
fn better() -> Vec<Value> {
    let notes = || Replica::of(NOTE);
    let (one, two) = (note(1, None), note(2, Some(NOW + 10_000)));
    let of = |sequence: u64| note(sequence, None);
    let ahead = |millis: u64| of((NOW + millis) * 1_000);
    let [greater, lesser] = {
        let key = smart_record_testing::iprs::key_of(&ecdsa(), "motd");
        let record = SequenceNumber::record("x", 1).sign(&key, &ecdsa()).unwrap().encode();
        let mut both = [twin(&record), record.to_vec()];
        both.sort_by(|a, b| b.cmp(a));
        both
    };
    vec![
        notes().put(0, &two).stale(1, &one).get(1, &two).case(
            "worse",
            "12.5",
            "A worse record is stale.",
        ),
        notes().put(0, &two).stale(9_999, &one).put(10_000, &one).get(10_000, &one).case(
            "worse-after-end",
            "12.5",
            "From the end of what is kept on, any good record takes its place.",
        ),
        notes().put(0, &one).put(1, &one).get(1, &one).case(
            "same",
            "12.5",
            "The same record is never stale.",
        ),
        Replica::of(smart_record_testing::iprs::key_of(&ecdsa(), "motd"))
            .put(0, &greater)
            .put(1, &lesser)
            .get(1, &lesser)
            .put(2, &greater)
            .get(2, &lesser)
            .case("two-signatures", "12.5", "The lesser signature stays, and no PUT is refused."),
        notes().put(600_000, ahead(600_000)).stale(0, &one).get(0, ahead(600_000)).case(
            "ahead",
            "12.5",
            "A record that is ten minutes ahead stays, and is sent.",
        ),
        notes().put(600_001, ahead(600_001)).put(0, &one).get(0, &one).case(
            "far-ahead",
            "12.5",
            "One that is more ahead gives way to any other.",
        ),
    ]
}

/// Records with a time since receipt.
fn receipts() -> Vec<Value> {
    let (key, author) = (iprs::key(), ed25519(1));
    let ttl = |text: &str, version: u64| -> IprsRecord {
        let ttl = std::time::Duration::from_secs(10);
        let record = TtlSinceReceipt::record(text, ttl).unwrap().with_version(version);
        record.sign(&key, &author).unwrap()
    };
    let sequence = |version: u64| {
        let record = SequenceNumber::record("x", 1).with_version(version);
        record.sign(&key, &author).unwrap().encode()
    };
    let replica = || Replica::of(key.clone());
    let (record, better) = (ttl("x", 1), ttl("y", 2));
    let (record, better) = (record.as_bytes(), better.as_bytes());
    let over = |steps: Replica, after: u64| steps.no(after, record, "expired", "expired");
    vec![
        over(
            replica().put(0, record).put(5_000, record).get_for(2, 8_000, record).gone(10_000),
            10_000,
        )
        .case("receipt", "12.4", "Put again, it ends when it would have, and not later."),
        over(
            replica()
                .put_for(3, 0, record)
                .get_for(2, 1_000, record)
                .gone(5_000)
                .put(6_000, record)
                .get(8_000, record)
                .gone(10_000),
            10_000,
        )
        .case(
            "receipt-after-end",
            "12.4",
            "After its end there it comes back, for what is left.",
        ),
        over(over(replica().put(0, record), 10_000).stale(20_000, sequence(0)), DAYS_2 - 1)
            .put(DAYS_2, record)
            .get(DAYS_2 + 8_000, record)
            .gone(DAYS_2 + 10_000)
            .case(
                "receipt-forgotten",
                "12.4",
                "It is remembered for 48 hours. A worse one is stale.",
            ),
        replica().put_for(5, 0, record).put(2_000, record).get(3_000, record).gone(7_000).case(
            "receipt-again-for-longer",
            "12.5",
            "Put again, the old end counts.",
        ),
        replica()
            .put(0, record)
            .put_for(5, 20_000, sequence(2))
            .gone(27_000)
            .stale(30_000, record)
            .stale(30_000, sequence(1))
            .put(30_000, sequence(2))
            .get(30_000, sequence(2))
            .case(
                "receipt-and-better-after-end",
                "12.4",
                "A better one is remembered as long. What is worse is stale, and it comes back.",
            ),
        replica()
            .put(0, record)
            .put(20_000, sequence(2))
            .get(20_000, sequence(2))
            .stale(20_000, record)
            .case("receipt-and-better", "12.4", "A better record is taken after its end."),
        replica()
            .put(0, record)
            .put(5_000, better)
            .get_for(2, 13_000, better)
            .gone(15_000)
            .stale(15_000, record)
            .case("receipt-of-better", "12.4", "A better one has a receipt of its own."),
    ]
}

fn presences() -> Vec<Value> {
    let replica = || Replica::of(presence::key());
    let (one, two) = (Draft::at(1), Draft::at(2));
    let hour = presence::HOUR;
    let signatures = {
        let again = one.value_of(prost::Message::encode_to_vec(&one.signed_again(200)));
        let mut both = [one.encode(), prost::Message::encode_to_vec(&record([again]))];
        both.sort_by(|a, b| b.cmp(a));
        both
    };
    let eight: Vec<_> = (2..10).map(|n| Draft::at(n).made(1)).collect();
    let brief = Draft::at(2).living(5);
    let ahead = |millis: i64| Draft::at(1).made(millis).living(hour);
    vec![
        replica()
            .put(0, one.encode())
            .put(0, two.encode())
            .get(0, several(&[one.clone(), two.clone()]))
            .case("presence-joined", "13.3", "A replica joins what it is put."),
        replica()
            .put(5, one.clone().made(5).encode())
            .stale(5, one.encode())
            .get(5, one.clone().made(5).encode())
            .case("presence-older", "13.3", "Of one node the older value is stale."),
        replica().put(5, Draft::withdrawn(1).made(5).encode()).stale(5, one.encode()).case(
            "presence-withdrawn",
            "13.3",
            "So is what was withdrawn.",
        ),
        replica()
            .put(0, &signatures[0])
            .put(0, &signatures[1])
            .get(0, &signatures[1])
            .put(0, &signatures[0])
            .get(0, &signatures[1])
            .case(
                "presence-two-signatures",
                "13.3",
                "Of one message the lesser signature stays, and no PUT is refused.",
            ),
        replica()
            .put(5, several(&[one.clone().made(5), two.clone()]))
            .stale(5, several(&[one.clone(), two.clone()]))
            .put(5, two.encode())
            .case(
                "presence-known-in-part",
                "13.3",
                "A record that changes nothing is stale, unless all its messages are held.",
            ),
        replica()
            .put(0, one.clone().living(hour).encode())
            .put(10, several(&[one.clone().living(hour), brief.clone()]))
            .case(
                "presence-known-beside-expired",
                "13.3",
                "All that are retained: others may be over.",
            ),
        replica().put(1, several(&eight)).stale(1, one.encode()).get(1, several(&eight)).case(
            "presence-ninth",
            "13.4",
            "A ninth node that is older has no place.",
        ),
        replica()
            .put_for(1_000, 0, brief.encode())
            .get(4, brief.encode())
            .gone(5)
            .put(5, one.encode())
            .get(5, one.encode())
            .case("presence-over", "13.3", "If no value is retained, there is no answer."),
        replica()
            .put(600_000, ahead(600_000).encode())
            .put(0, two.encode())
            .get(0, several(&[ahead(600_000), two.clone()]))
            .case("presence-ahead", "13.3", "What is held already may be ahead. It is joined."),
        replica()
            .put(600_001, ahead(600_001).encode())
            .put(0, two.encode())
            .get(0, two.encode())
            .case("presence-far-ahead", "12.5", "What is more than ten minutes ahead gives way."),
    ]
}

fn smart_records() -> Vec<Value> {
    let (alice, replica) = (alice(), || Replica::of(KEY));
    let small = |n: u64| Update::saying(n as i64).after(n);
    let value = |updates: &[Update]| -> Vec<u8> {
        encode([alice.space_of(updates.iter().map(|update| alice.sign(update)).collect())])
    };
    let one = |update: &Update| value(std::slice::from_ref(update));
    let replace = small(5).replacing();
    let many: Vec<_> = (1..65).map(small).collect();
    let ahead = later("{}", 400_000, HOUR).replacing();
    let (brief, long) = (later(r#"{"a": 1}"#, 0, 5), later(r#"{"b": 2}"#, 0, HOUR));
    let kept = one(&small(1));
    let beside = [&kept[..], &field(2, &[1; 40]), &field(3, &[1, 2]), &field(9, b"x")].concat();
    vec![
        replica().put(0, one(&replace)).stale(0, one(&small(1))).get(0, one(&replace)).case(
            "replaced",
            "6.2",
            "What a replace hides that is held is stale.",
        ),
        replica().put(0, value(&many)).stale(0, one(&small(0))).get(0, value(&many)).case(
            "full",
            "6.3",
            "So is what has no room beside what is held.",
        ),
        replica().put(0, &kept).put(0, &kept).get(0, &kept).case(
            "known",
            "5.4",
            "What is held already succeeds.",
        ),
        replica()
            .put(0, value(&many[..3]))
            .put(0, value(&[&[small(0)], &many[1..4]].concat()))
            .get(0, value(&[&[small(0)], &many[..4]].concat()))
            .case("joined", "6.2", "A replica joins what it is put."),
        replica()
            .put(0, value(&[brief.clone(), long.clone()]))
            .get(
                4,
                encode([alice.space_of({
                    let mut both = [alice.sign(&brief), alice.sign(&long)];
                    both.sort_by_key(|signed| rsa::digest(&signed.update));
                    both.to_vec()
                })]),
            )
            .get(5, one(&long))
            .gone(HOUR)
            .case("given-out", "10.1", "What is not retained is not given out."),
        replica().put(100_000, one(&ahead)).stale(0, one(&small(1))).get(0, one(&ahead)).case(
            "ahead-and-held",
            "5.4",
            "An update that is ahead hides others, and is sent.",
        ),
        replica().put(0, beside).get(0, &kept).case(
            "answer-put",
            "10.1",
            "Coverage, asker and unknown fields are not kept.",
        ),
        replica()
            .put(0, one(&withdrawal(5, NOW + HOUR)))
            .stale(0, one(&small(1)))
            .get(0, one(&withdrawal(5, NOW + HOUR)))
            .case("withdrawn", "6.6", "A withdrawal hides what comes after it and is older."),
    ]
}
