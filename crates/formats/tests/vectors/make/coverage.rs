//! Coverage of answers.

use serde_json::{Value, json};
use smart_record_core::{AskerTag, Coverage, RecordKey, RingArc, SmartRecord, SpaceRules};
use smart_record_testing::{
    at,
    envelope::{field, varint},
    forge::{Author, NOW, encode},
};

use super::{
    case,
    records::{HOUR, KEY, alice, bob, later, says, withdrawal},
};
use crate::forms::hex;

/// What is good in an answer.
pub fn read(value: &[u8]) -> SmartRecord {
    SpaceRules::default().read(&RecordKey::new(KEY), value, at(NOW)).unwrap()
}

/// A case of an answer.
fn answer(name: &str, about: &str, value: Vec<u8>) -> Value {
    let fields = [("key", json!(hex(KEY))), ("now", json!(NOW)), ("value", json!(hex(&value)))];
    let mut case = case(name, "10.1", about, fields);
    case["coverage"] = shown(Coverage::of_answer(&value));
    case["asker"] = json!(asker(&value));
    case["digest"] = json!(hex(read(&value).digest(at(NOW))));
    case
}

/// For whom an answer is.
pub fn asker(value: &[u8]) -> Option<String> {
    AskerTag::of_answer(value).map(|asker| hex(asker.to_bytes()))
}

pub fn shown(coverage: Option<Coverage>) -> Value {
    let arcs = |coverage: &Coverage| -> Vec<_> {
        coverage.arcs().iter().map(|arc| json!([arc.first, arc.last])).collect()
    };
    coverage.map_or(Value::Null, |coverage| {
        json!({
            "arcs": arcs(&coverage),
            "spaces": coverage.spaces,
            "digest": hex(coverage.digest),
        })
    })
}

pub fn coverage() -> Vec<Value> {
    let all = [
        alice().says(&says(r#"{"k": 1}"#)),
        bob().space([
            bob().sign(&later(r#"{"k": 2}"#, 1, HOUR)),
            bob().sign(&later(r#"{"k": 3}"#, 2, HOUR)),
        ]),
        Author::ecdsa().says(&withdrawal(3, NOW + HOUR)),
    ];
    let record = encode(all.clone());
    let digest = read(&record).digest(at(NOW));
    let with = |arcs: &[(u64, u64)]| {
        let arcs = arcs.iter().map(|(first, last)| RingArc { first: *first, last: *last });
        let mut value = record.clone();
        Coverage::new(arcs, 3, digest).append_to(&mut value);
        value
    };
    let raw = |coverage: &[u8]| [&record[..], &field(2, coverage)].concat();
    let fields = |arcs: usize, digest: usize| {
        let arcs = if arcs > 0 { field(1, &vec![1; arcs]) } else { Vec::new() };
        let digest = if digest > 0 { field(3, &vec![2; digest]) } else { Vec::new() };
        [arcs, varint(2, 3), digest].concat()
    };
    let end = u64::MAX;
    let eight: Vec<_> = (0..8).map(|n| (n << 60, (n << 60) + 5)).collect();
    let expired = [all[0].clone(), bob().says(&later(r#"{"k": 2}"#, 0, 1))];
    let whole = with(&[(0, end)]);
    vec![
        answer("whole", "Three spaces, and the whole ring.", whole.clone()),
        answer("none", "A record without coverage.", record.clone()),
        answer("no-arcs", "Nothing is shown whole.", with(&[])),
        answer(
            "over-the-end",
            "An arc over the end of the ring, and one place.",
            with(&[(end - 1, 4), (9, 9)]),
        ),
        answer(
            "ring-from-a-place",
            "The ring, from a place to the one before it.",
            with(&[(9, 8)]),
        ),
        answer("eight-arcs", "As many arcs as there may be.", with(&eight)),
        answer("nine-arcs", "One arc more: counts as no coverage.", raw(&fields(9 * 16, 32))),
        answer("arc-of-17-bytes", "An arc and a byte.", raw(&fields(17, 32))),
        answer("digest-of-31-bytes", "A digest that is too short.", raw(&fields(16, 31))),
        answer("no-digest", "A coverage without a digest.", raw(&fields(16, 0))),
        answer(
            "default-written",
            "Arcs of no bytes are left out.",
            raw(&[&[0x0a, 0][..], &fields(0, 32)].concat()),
        ),
        answer(
            "unknown-field",
            "A field that there is not.",
            raw(&[fields(16, 32), varint(4, 1)].concat()),
        ),
        answer("too-long", "A coverage of more than 171 bytes.", raw(&field(9, &[0; 200]))),
        answer(
            "spaces-2-32-less-1",
            "As many spaces as there may be.",
            raw(&[varint(2, u64::from(u32::MAX)), field(3, &[2; 32])].concat()),
        ),
        answer(
            "spaces-2-32",
            "One more is no uint32.",
            raw(&[varint(2, 1 << 32), field(3, &[2; 32])].concat()),
        ),
        answer("no-message", "Bytes that are no message.", raw(&[0xff])),
        answer(
            "twice",
            "The last one counts.",
            [whole.clone(), field(2, &fields(16, 32))].concat(),
        ),
        answer(
            "bad-last",
            "The last one counts, and it is none.",
            [whole.clone(), field(2, &[0xff])].concat(),
        ),
        answer(
            "in-front",
            "In front of the spaces.",
            [field(2, &fields(16, 32)), record.clone()].concat(),
        ),
        answer(
            "unknown-in-front",
            "An unknown field of the wire type 2 in front of the spaces: the search goes on.",
            [&field(9, b"?")[..], &whole].concat(),
        ),
        answer(
            "unknown-between",
            "One between the coverage and the asker.",
            [&whole[..], &field(4, b"?"), &field(3, &[1, 2])].concat(),
        ),
        answer(
            "unknown-behind",
            "One behind both.",
            [&whole[..], &field(3, &[1, 2]), &field(4, b"?")].concat(),
        ),
        answer(
            "behind-a-varint",
            "A field of another wire type is in front of it.",
            [record.clone(), varint(9, 1), field(2, &fields(16, 32))].concat(),
        ),
        answer(
            "behind-a-fixed32",
            "The same of a field of four bytes.",
            [&record[..], &[0x4d, 1, 2, 3, 4], &field(2, &fields(16, 32))].concat(),
        ),
        answer(
            "behind-a-fixed64",
            "The same of a field of eight bytes.",
            [&record[..], &[0x49, 1, 2, 3, 4, 5, 6, 7, 8], &field(2, &fields(16, 32))].concat(),
        ),
        answer(
            "behind-a-group",
            "The same of a group.",
            [&record[..], &[0x4b, 0x4c], &field(2, &fields(16, 32))].concat(),
        ),
        answer(
            "behind-itself-as-a-number",
            "The same of a field 2 that is a number.",
            [record.clone(), varint(2, 1), field(2, &fields(16, 32))].concat(),
        ),
        answer(
            "asker-bad-last",
            "The last one counts, and it is none.",
            [whole.clone(), field(3, &[1, 2]), field(3, &[1; 3])].concat(),
        ),
        {
            let (peer, mut value) = (bob().writer().peer_id(), whole.clone());
            AskerTag::of(&peer).append_to(&mut value);
            let mut case = answer("asker", "It says for whom it is.", value);
            case["peer_id_bytes"] = json!(hex(peer.to_bytes()));
            case
        },
        answer(
            "asker-twice",
            "The last one counts.",
            [whole.clone(), field(3, &[1, 2]), field(3, &[3, 4])].concat(),
        ),
        answer(
            "asker-behind-another-type",
            "A field of another wire type is in front of it.",
            [whole.clone(), varint(9, 1), field(3, &[1, 2])].concat(),
        ),
        answer("asker-of-3-bytes", "It counts as none.", [&whole[..], &field(3, &[1; 3])].concat()),
        answer("expired", "What has expired is no part of the digest.", encode(expired)),
    ]
}
