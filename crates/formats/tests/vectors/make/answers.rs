//! Answers to a GET, as messages of Kademlia, and what a reader takes from them.
//!
//! What is expected stands here; the code that reads answers has to do it
//! (`src/outbound/message.rs`).

use serde_json::{Value, json};
use smart_record_testing::{
    envelope::{field, varint},
    keys::ed25519,
};

use super::case;
use crate::forms::hex;

const KEY: &[u8] = b"/notes/a";
const OTHER: &[u8] = b"/notes/b";

/// What a reader takes from an answer.
enum Taken {
    /// The value of a record and its `Record.ttl`.
    Record(&'static [u8], Option<u32>),
    /// That there is no record.
    Nothing,
    /// The answer is refused.
    Refused,
}

/// An answer with these fields of a `Message` besides its type.
fn answer<const N: usize>(name: &str, about: &str, fields: [Vec<u8>; N], taken: &Taken) -> Value {
    let is_refused = matches!(taken, Taken::Refused);
    let (record, ttl) = match taken {
        Taken::Record(value, ttl) => (json!(hex(value)), json!(ttl)),
        Taken::Nothing | Taken::Refused => (Value::Null, Value::Null),
    };
    let message = [varint(1, 1), fields.concat()].concat();
    case(
        name,
        "2.1",
        about,
        [
            ("key", json!(hex(KEY))),
            ("message", json!(hex(message))),
            ("is_refused", json!(is_refused)),
            ("record", record),
            ("ttl", ttl),
        ],
    )
}

/// The same of an answer to a PUT, which acknowledges it or not.
fn to_put<const N: usize>(
    name: &str,
    about: &str,
    fields: [Vec<u8>; N],
    is_refused: bool,
) -> Value {
    let taken = if is_refused { Taken::Refused } else { Taken::Nothing };
    let mut case = answer(name, about, [], &taken);
    // The type 0, PUT_VALUE, is not written.
    case["message"] = json!(hex(fields.concat()));
    case["put"] = json!(hex(b"x"));
    case
}

/// The field of a `Message` with a `Record` of these fields.
fn record<const N: usize>(fields: [Vec<u8>; N]) -> Vec<u8> {
    field(3, &fields.concat())
}

pub fn answers() -> Vec<Value> {
    let (key, value) = (|| field(1, KEY), || field(2, b"x"));
    let plain = || record([key(), value()]);
    let found = Taken::Record(b"x", None);
    let peer_id = ed25519(1).public().to_peer_id().to_bytes();
    let peer = field(8, &[field(1, &peer_id), field(2, b"no address")].concat());
    let with_ttl = |ttl| record([key(), value(), varint(777, ttl)]);
    let mut cut = plain();
    cut.pop();
    vec![
        answer("record", "The key stands in the record alone.", [plain()], &found),
        answer("both-keys", "The same key twice.", [field(2, KEY), plain()], &found),
        answer("nothing", "Only the type.", [], &Taken::Nothing),
        answer(
            "nothing-but-peers",
            "Closer peers say nothing here.",
            [peer.clone()],
            &Taken::Nothing,
        ),
        answer("nothing-about-the-key", "There is no record.", [field(2, KEY)], &Taken::Nothing),
        answer("record-and-peers", "Both.", [plain(), peer], &found),
        answer(
            "other-message-key",
            "Message.key is another one, and Record.key is the right one.",
            [field(2, OTHER), plain()],
            &Taken::Refused,
        ),
        answer(
            "other-message-key-alone",
            "Message.key is another one, and there is no record.",
            [field(2, OTHER)],
            &Taken::Refused,
        ),
        answer(
            "other-record-key",
            "Record.key is another one.",
            [record([field(1, OTHER), value()])],
            &Taken::Refused,
        ),
        answer(
            "other-record-key-under-the-right-one",
            "Record.key is another one, and Message.key is the right one.",
            [field(2, KEY), record([field(1, OTHER), value()])],
            &Taken::Refused,
        ),
        answer(
            "no-record-key",
            "Record.key is absent, so it is not the key that was asked for.",
            [field(2, KEY), record([value()])],
            &Taken::Refused,
        ),
        answer("empty-message-key", "An empty field is absent.", [field(2, b""), plain()], &found),
        answer(
            "no-value",
            "Record.value is absent: the value has no bytes. Its namespace judges it.",
            [record([key()])],
            &Taken::Record(b"", None),
        ),
        answer("ttl", "A second.", [with_ttl(1)], &Taken::Record(b"x", Some(1))),
        answer("ttl-0", "0 is written: no end.", [with_ttl(0)], &found),
        answer(
            "ttl-longest",
            "The greatest number of seconds.",
            [with_ttl(u64::from(u32::MAX))],
            &Taken::Record(b"x", Some(u32::MAX)),
        ),
        answer(
            "publisher",
            "Record.publisher says nothing.",
            [record([key(), value(), field(666, &peer_id)])],
            &found,
        ),
        answer(
            "publisher-is-no-peer",
            "Nor does one that is no peer id.",
            [record([key(), value(), field(666, b"nobody")])],
            &found,
        ),
        answer(
            "further-fields",
            "Record.timeReceived and unknown fields.",
            [
                record([key(), value(), field(5, b"2023-11-14T22:13:20Z"), field(15, b"y")]),
                field(15, b"y"),
                varint(10, 1),
            ],
            &found,
        ),
        answer(
            "ttl-2-32",
            "Only the lower 32 bits of a uint32 count: 1 more than 2^32 is 1.",
            [with_ttl((1 << 32) + 1)],
            &Taken::Record(b"x", Some(1)),
        ),
        to_put("put", "The keys and the value as they were put.", [field(2, KEY), plain()], false),
        to_put("put-without-message-key", "Message.key is absent.", [plain()], false),
        to_put(
            "put-and-more",
            "With other fields of the record.",
            [field(2, KEY), record([key(), value(), field(666, &peer_id), varint(777, 9)])],
            false,
        ),
        to_put(
            "put-other-value",
            "Another value.",
            [field(2, KEY), record([key(), field(2, b"y")])],
            true,
        ),
        to_put("put-without-record", "No record.", [field(2, KEY)], true),
        to_put(
            "put-other-key",
            "Another key of the record.",
            [field(2, KEY), record([field(1, OTHER), value()])],
            true,
        ),
        to_put(
            "put-other-message-key",
            "Another key of the message.",
            [field(2, OTHER), plain()],
            true,
        ),
        {
            let mut case = answer("other-type", "A FIND_NODE with a record.", [], &Taken::Refused);
            case["message"] = json!(hex([varint(1, 4), field(2, KEY), plain()].concat()));
            case
        },
        answer("cut", "The last byte is missing.", [cut], &Taken::Refused),
    ]
}
