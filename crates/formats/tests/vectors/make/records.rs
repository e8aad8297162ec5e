//! Values of smart records: accepted parts, refused parts, and the join.

use prost::Message;
use serde_json::{Value, json};
use smart_record_core::{Dict, Limits, Writer};
use smart_record_testing::{
    envelope::{field, varint},
    forge::{Author, NOW, REPLACE, SignedUpdate, Space, TTL, Update, encode},
};

use super::{
    case,
    documents::{document, int, just, opaque, text},
    refused, rsa,
};
use crate::{
    forms::{hex, view},
    judge::records::{join, limits_of},
};

pub const KEY: &str = "/sr/rooms/lobby";
pub const HOUR: u64 = 3_600_000;
const MAX_TTL: u64 = 48 * HOUR;
const SKEW: u64 = 300_000;

/// A case of values under a key.
pub struct Case(Value);

impl Case {
    /// Values that are read at [`NOW`].
    pub fn new(name: &str, section: &str, about: &str, values: &[Vec<u8>]) -> Self {
        let values: Vec<_> = values.iter().map(hex).collect();
        let fields = [("key", json!(hex(KEY))), ("now", json!(NOW)), ("values", json!(values))];
        Self(case(name, section, about, fields))
    }

    /// One value of one space.
    pub fn of(name: &str, section: &str, about: &str, space: Space) -> Self {
        Self::new(name, section, about, &[encode([space])])
    }

    pub fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.0[field] = value.into();
        self
    }

    pub fn under(self, key: &str) -> Self {
        self.with("key", hex(key))
    }

    pub fn at(self, now: u64) -> Self {
        self.with("now", now)
    }

    /// Sets a limit that is not the default.
    pub fn limit(mut self, name: &str, value: usize) -> Self {
        self.0["limits"][name] = json!(value);
        self
    }

    /// Adds a refusal of updates of one writer.
    pub fn refused(mut self, author: &Author, fault: &str, reason: &str, count: usize) -> Self {
        let mut refusal = refused(fault, reason);
        refusal["peer_id"] = json!(author.peer_id().to_string());
        refusal["count"] = json!(count);
        match &mut self.0["refused"] {
            Value::Array(all) => all.push(refusal),
            none => *none = json!([refusal]),
        }
        self
    }

    /// Adds a refusal of the whole value, or of parts with an unknown writer.
    pub fn refused_whole(self, fault: &str, reason: &str) -> Self {
        self.with("refused", json!([refused(fault, reason)]))
    }

    /// The case with the join of the values, and its views at these instants.
    pub fn viewed(mut self, times: &[u64]) -> Value {
        let record = join(&self.0, &[]);
        self.0["record"] = json!(record.as_ref().map(|record| hex(record.encode())));
        if !times.is_empty() {
            let record = record.expect("a record to be seen");
            let at = smart_record_testing::at;
            let views = times.iter().map(|now| view(*now, &record.view(at(*now))));
            self.0["views"] = views.collect();
        }
        self.0
    }

    pub fn done(self) -> Value {
        self.viewed(&[])
    }
}

pub fn alice() -> Author {
    Author::ed25519(1)
}

pub fn bob() -> Author {
    Author::ed25519(2)
}

/// A space of Alice with an update of these bytes.
fn raw(bytes: Vec<u8>) -> Space {
    let alice = alice();
    alice.space([alice.sign_bytes(&KEY.into(), bytes)])
}

/// A document from JSON.
fn json_document(text: &str) -> Vec<u8> {
    smart_record_core::codec::encode(&text.parse::<Dict>().unwrap())
}

pub fn says(text: &str) -> Update {
    Update::of(json_document(text))
}

/// An update issued this many milliseconds after [`NOW`], with a lifetime from then on.
pub fn later(text: &str, after: u64, ttl: u64) -> Update {
    let seq = (NOW + after) * 1_000;
    Update { seq, expires_at: NOW + after + ttl, ..says(text) }
}

pub fn withdrawal(after: u64, retain_until: u64) -> Update {
    let seq = (NOW + after) * 1_000;
    let kind = REPLACE;
    Update { seq, expires_at: 0, retain_until: Some(retain_until), kind, document: Vec::new() }
}

pub fn updates() -> Vec<Value> {
    let alice = alice();
    let mut cases: Vec<_> = Author::all_types()
        .iter()
        .zip(["ed25519", "secp256k1", "ecdsa", "rsa"])
        .map(|(author, name)| {
            let about = "One update of a writer with a key of this type.";
            Case::of(&format!("of-{name}"), "5.2", about, author.says(&says(r#"{"k": 1}"#)))
                .viewed(&[NOW])
        })
        .collect();
    cases.extend(forms());
    cases.extend(times());
    let moved = alice.space([alice.sign_under("/sr/rooms/attic", &Update::saying(1))]);
    let of_bob = alice.space([bob().sign(&Update::saying(1))]);
    let mut nobody = alice.says(&Update::saying(1));
    nobody.public_key = [&[0x08, 4, 0x12, 1][..], &[1]].concat();
    let mut damaged = alice.says(&Update::saying(1));
    damaged.public_key = vec![1, 2, 3];
    let mut long = alice.sign(&Update::saying(1));
    long.signature = vec![1; 1_025];
    let forgeries = (0..17).map(|n| bob().sign(&Update::saying(1).after(n))).collect();
    let few_forgeries = (1..16)
        .map(|n| bob().sign(&Update::saying(1).after(n)))
        .chain([alice.sign(&Update::saying(1))])
        .collect();
    let own = format!("/sr/{}/notes", alice.peer_id());
    let at = |author: &Author| author.space([author.sign_under(own.clone(), &Update::saying(1))]);
    let free = |author: &Author| author.says(&Update::saying(1));
    cases.extend([
        Case::of("moved", "5.2", "Signed for another key.", moved)
            .refused(&alice, "invalid", "signature", 1)
            .done(),
        Case::of("of-another", "5.2", "Signed by another writer than that of the space.", of_bob)
            .refused(&alice, "invalid", "signature", 1)
            .done(),
        Case::of("key-type", "3", "A public key of a type that there is not.", nobody)
            .refused_whole("unsupported", "key-type")
            .done(),
        Case::of("public-key", "3", "Not a public key.", damaged)
            .refused_whole("malformed", "public-key")
            .done(),
        Case::of("signature-bytes", "4.2", "A signature of 1,025 bytes.", alice.space([long]))
            .refused(&alice, "limit", "signature-bytes", 1)
            .done(),
        Case::new(
            "bad-signatures",
            "5.4",
            "17 bad signatures. The last is refused unread, or as the others.",
            &[encode([alice.space_of(forgeries)])],
        )
        .refused(&alice, "invalid", "signature", 16)
        .refused(&alice, "limit", "bad-signatures", 1)
        .done(),
        Case::new(
            "bad-signatures-15",
            "5.4",
            "15 bad signatures of newer updates. The good update is taken.",
            &[encode([alice.space_of(few_forgeries)])],
        )
        .refused(&alice, "invalid", "signature", 15)
        .done(),
        Case::of(
            "beside-bad",
            "5.4",
            "What is bad takes nothing good with it.",
            alice.space([bob().sign(&Update::saying(1)), alice.sign(&Update::saying(2))]),
        )
        .refused(&alice, "invalid", "signature", 1)
        .done(),
        Case::of("key-owner", "5.4", "The policy key owner, and the owner.", at(&alice))
            .under(&own)
            .with("policy", "key-owner")
            .done(),
        Case::of("not-owner", "5.4", "The same, and someone else.", at(&bob()))
            .under(&own)
            .with("policy", "key-owner")
            .refused(&bob(), "policy", "not-owner", 1)
            .done(),
        Case::of("not-owner-of-empty-id", "5.4", "A peer id of no public key.", free(&alice))
            .under("/sr/11/notes")
            .with("policy", "key-owner")
            .refused(&alice, "policy", "not-owner", 1)
            .done(),
        Case::of("no-owner", "5.4", "The same, and a key that is nobody's.", free(&alice))
            .with("policy", "key-owner")
            .refused(&alice, "policy", "no-owner", 1)
            .done(),
        Case::of(
            "no-owner-cid",
            "5.4",
            "The peer id as a CID, which names no owner.",
            free(&alice),
        )
        .under("/sr/bafzaajaiaejcbcui4poxicprsx6vfwznhs5f24wkm4e36hmucin7g5eiag2a6324")
        .with("policy", "key-owner")
        .refused(&alice, "policy", "no-owner", 1)
        .done(),
        {
            // As `alice.peer_id()`, with the first byte, 0, as a varint of ten bytes.
            let long =
                "/sr/24wda9qvbX8hkdxHgTkKgCnF599wgwzJEzrbwFfr95AUchPF2mBuR7BhLhGo97btP/notes";
            Case::of("no-owner-padded-id", "5.4", "A peer id in a longer form.", free(&alice))
                .under(long)
                .with("policy", "key-owner")
                .refused(&alice, "policy", "no-owner", 1)
                .done()
        },
        {
            let key = Writer::decode(rsa::of_len(42).into()).unwrap();
            Case::of(
                "not-owner-of-42-bytes",
                "5.4",
                "A peer id of 42 bytes of a key.",
                free(&alice),
            )
            .under(&format!("/sr/{}", key.peer_id()))
            .with("policy", "key-owner")
            .refused(&alice, "policy", "not-owner", 1)
            .done()
        },
        {
            // As the one before, of an RSA key of 43 bytes.
            let long = "/sr/1EzUxDkjF4Z9QxkP7QAunh19vqjLM5CGo41BokFhsMQpMkBi5NVc21ugRoAWU";
            let about = "43 bytes of a key, of which a peer id has the hash.";
            Case::of("no-owner-of-43-bytes", "5.4", about, free(&alice))
                .under(long)
                .with("policy", "key-owner")
                .refused(&alice, "policy", "no-owner", 1)
                .done()
        },
        {
            let key = format!("/sr/{}", "k".repeat(252));
            let space = alice.space([alice.sign_under(key.clone(), &Update::saying(1))]);
            Case::of("key-256", "2", "The longest key.", space).under(&key).done()
        },
        {
            let key = format!("/sr/{}", "k".repeat(253));
            let space = alice.space([alice.sign_under(key.clone(), &Update::saying(1))]);
            Case::of("key-257", "2", "One byte more.", space)
                .under(&key)
                .refused_whole("limit", "key-bytes")
                .done()
        },
    ]);
    cases.extend(keys());
    cases
}

/// Keys that are not those of smart records.
fn keys() -> impl Iterator<Item = Value> {
    let keys: [(&str, &str, &[u8]); 6] = [
        ("key-without-namespace", "A path alone.", b"rooms"),
        ("key-without-first-slash", "No slash before the namespace.", b"sr/rooms"),
        ("key-without-second-slash", "No slash after the namespace.", b"/sr"),
        ("key-of-empty-namespace", "Nothing between the slashes.", b"//rooms"),
        ("key-of-namespace-not-utf-8", "A namespace that is no text.", b"/\xff/rooms"),
        ("key-of-other-namespace", "A namespace that the node does not know.", b"/other/rooms"),
    ];
    keys.into_iter().map(|(name, about, key)| {
        let alice = alice();
        let space = alice.space([alice.sign_under(key, &Update::saying(1))]);
        Case::of(name, "2", about, space)
            .with("key", hex(key))
            .refused_whole("unsupported", "namespace")
            .done()
    })
}

/// Groups of field 9, each in the one before, with field 10 in the innermost.
fn groups(depth: usize) -> Vec<u8> {
    [vec![0x4b; depth], varint(10, 1), vec![0x4c; depth]].concat()
}

/// The bytes of an update.
fn forms() -> Vec<Value> {
    let alice = alice();
    let good = Update::saying(1).encode_to_vec();
    let (seq, rest) = good.split_at(varint(1, NOW * 1_000).len());
    let padded_seq = [&seq[..seq.len() - 1], &[seq[seq.len() - 1] | 0x80, 0x00], rest].concat();
    let spelled_out = Update { retain_until: Some(NOW + TTL), ..Update::saying(1) };
    let no = |name: &str, about: &str, bytes: Vec<u8>| {
        Case::of(name, "5.2", about, raw(bytes))
            .refused(&alice, "malformed", "not-canonical", 1)
            .done()
    };
    let of = |name: &str, about: &str, update: Update, fault: &str, reason: &str| {
        Case::of(name, "5.2", about, alice.says(&update)).refused(&alice, fault, reason, 1).done()
    };
    let retained = |retain_until| Update { retain_until: Some(retain_until), ..Update::saying(1) };
    let of_kind = |kind: u64| {
        let Update { seq, expires_at, document, .. } = Update::saying(1);
        [varint(1, seq), varint(2, expires_at), varint(4, kind), field(5, &document)].concat()
    };
    vec![
        no("other-order", "The sequence last.", [rest, seq].concat()),
        no("seq-twice", "The sequence twice.", [seq, &good].concat()),
        no("unknown-field", "Field 9.", [&good[..], &varint(9, 1)].concat()),
        no("kind-written", "The kind 0 is not written.", [&good[..], &varint(4, 0)].concat()),
        no("padded-seq", "The sequence in a byte too many.", padded_seq),
        no("kind-2-31", "A kind of 2^31, in five bytes.", of_kind(1 << 31)),
        no("kind-2-32-and-1", "Its lower 32 bits are 1.", of_kind((1 << 32) + 1)),
        no(
            "kind-of-ten-bytes",
            "A number of 64 bits whose lower 32 bits are 1.",
            of_kind(u64::MAX << 32 | 1),
        ),
        no("groups-99-inside", "Counting begins anew.", [&good[..], &groups(99)].concat()),
        Case::of(
            "groups-100-inside",
            "5.2",
            "A field in 100 groups.",
            raw([&good[..], &groups(100)].concat()),
        )
        .refused(&alice, "malformed", "protobuf", 1)
        .done(),
        no(
            "retain-until-equal",
            "It is not written when it is expires_at.",
            spelled_out.encode_to_vec(),
        ),
        no(
            "document-of-bad-form",
            "A document that is not canonical.",
            Update::of(just(&[0x10, 0x81, 0x00])).encode_to_vec(),
        ),
        Case::of("no-message", "5.2", "Not a message.", raw(vec![0x08]))
            .refused(&alice, "malformed", "protobuf", 1)
            .done(),
        of(
            "retain-until-earlier",
            "A millisecond before it expires.",
            retained(NOW + TTL - 1),
            "malformed",
            "retention",
        ),
        of(
            "kind-2",
            "A kind of update that there is not.",
            Update { kind: 2, ..Update::saying(1) },
            "unsupported",
            "update-kind",
        ),
        of(
            "kind-negative",
            "A kind in ten bytes.",
            Update { kind: -1, ..Update::saying(1) },
            "unsupported",
            "update-kind",
        ),
        Case::of("2048-bytes", "5.2", "The largest update.", alice.says(&Update::of_len(2_048)))
            .done(),
        of("2049-bytes", "One byte more.", Update::of_len(2_049), "limit", "update-bytes"),
        of(
            "document-depth",
            "A document of 17 nodes in depth.",
            Update::of(just(&(2..17).fold(int(1), |n, _| field(8, &field(1, &n))))),
            "limit",
            "document-depth",
        ),
        Case::of(
            "document-of-opaque",
            "7.4",
            "A node of an unknown kind is kept as it came.",
            alice.says(&Update::of(document(&[
                (&text("k"), &opaque(b"new")),
                (&opaque(b"key"), &int(1)),
            ]))),
        )
        .viewed(&[NOW]),
    ]
}

/// Clocks and lifetimes.
fn times() -> Vec<Value> {
    let alice = alice();
    let issued = |micros| Update { seq: micros, expires_at: NOW + TTL, ..Update::saying(1) };
    let ahead = |micros| Update { seq: micros, expires_at: NOW + SKEW + TTL, ..Update::saying(1) };
    let early = |micros| Update {
        seq: (1 + SKEW) * 1_000 + micros,
        expires_at: 2 * SKEW,
        ..Update::saying(1)
    };
    let lives = |ttl| Update { expires_at: NOW + ttl, ..Update::saying(1) };
    let of = |name: &str, section: &str, about: &str, update: Update| {
        Case::of(name, section, about, alice.says(&update))
    };
    let no = |case: Case, fault: &str, reason: &str| case.refused(&alice, fault, reason, 1).done();
    vec![
        of(
            "skew-300000",
            "5.4",
            "Five minutes ahead, to the last microsecond.",
            ahead((NOW + SKEW) * 1_000 + 999),
        )
        .done(),
        no(
            of("skew-300001", "5.4", "A millisecond more.", ahead((NOW + SKEW + 1) * 1_000)),
            "limit",
            "clock-skew",
        ),
        of(
            "skew-no-clock",
            "5.4",
            "The same where times are not judged.",
            ahead((NOW + SKEW + 1) * 1_000),
        )
        .with("now", Value::Null)
        .done(),
        of("ttl-48-hours", "5.2", "As long as there is.", lives(MAX_TTL)).done(),
        no(
            of("ttl-48-hours-and-1", "5.2", "A millisecond more.", lives(MAX_TTL + 1)),
            "limit",
            "ttl",
        ),
        no(
            of(
                "ttl-of-retain-until",
                "5.2",
                "What counts is retain_until.",
                Update { retain_until: Some(NOW + MAX_TTL + 1), ..Update::saying(1) },
            ),
            "limit",
            "ttl",
        ),
        of(
            "ttl-of-last-microsecond",
            "5.2",
            "48 hours from the millisecond in which it was issued: the time of seq is rounded down.",
            Update { seq: NOW * 1_000 + 999, ..lives(MAX_TTL) },
        )
        .done(),
        no(
            of(
                "ttl-of-last-microsecond-and-1",
                "5.2",
                "A millisecond more.",
                Update { seq: NOW * 1_000 + 999, ..lives(MAX_TTL + 1) },
            ),
            "limit",
            "ttl",
        ),
        no(
            of("ttl-no-clock", "5.2", "It needs no clock.", lives(MAX_TTL + 1))
                .with("now", Value::Null),
            "limit",
            "ttl",
        ),
        no(
            of(
                "retain-until-greatest",
                "5.2",
                "As late as there is.",
                Update { retain_until: Some(u64::MAX), ..Update::saying(1) },
            ),
            "limit",
            "ttl",
        ),
        of("seq-greatest", "5.2", "A difference that would be negative is 0.", issued(u64::MAX))
            .with("now", Value::Null)
            .done(),
        no(
            of("seq-greatest-ahead", "5.4", "The same, and it is ahead.", issued(u64::MAX)),
            "limit",
            "clock-skew",
        ),
        of("now-in-1970", "5.4", "A clock near the epoch; five minutes ahead.", early(999))
            .at(1)
            .done(),
        no(
            of("now-in-1970-ahead", "5.4", "A millisecond more.", early(1_000)).at(1),
            "limit",
            "clock-skew",
        ),
        of("seq-0-in-1970", "5.4", "Issued before now.", Update { seq: 0, ..early(0) })
            .at(1)
            .done(),
        no(
            of("ttl-of-seq-0", "5.2", "A sequence of 0 was issued in 1970.", issued(0)),
            "limit",
            "ttl",
        ),
        of("expires-next", "5.4", "A millisecond before it is over.", lives(TTL))
            .at(NOW + TTL - 1)
            .done(),
        no(
            of("expired", "5.4", "It is over when retain_until is now.", lives(TTL)).at(NOW + TTL),
            "expired",
            "expired",
        ),
        of(
            "expired-but-retained",
            "8.4",
            "Its document has expired; the update is kept.",
            Update { retain_until: Some(NOW + HOUR), ..lives(TTL) },
        )
        .at(NOW + TTL)
        .viewed(&[NOW, NOW + TTL - 1, NOW + TTL]),
        of(
            "withdrawal",
            "6.6",
            "A replace with an empty document that expired at the epoch.",
            withdrawal(0, NOW + HOUR),
        )
        .viewed(&[NOW]),
    ]
}

pub fn extensions() -> Vec<Value> {
    let alice = alice();
    let update = |rest: &[u8]| [&says(r#"{"k": 1}"#).encode_to_vec()[..], rest].concat();
    let good = |name: &str, about: &str, rest: &[u8]| {
        Case::of(name, "5.3", about, raw(update(rest))).viewed(&[NOW])
    };
    let no = |name: &str, about: &str, bytes: Vec<u8>| {
        Case::of(name, "5.3", about, raw(bytes))
            .refused(&alice, "malformed", "not-canonical", 1)
            .done()
    };
    let (a, b) = (field(16, b"a"), field(17, b"b"));
    let mut padded = a.clone();
    padded.splice(2..3, [0x81, 0x00]);
    let all: Vec<u8> = (16..32).flat_map(|n| field(n, &[n as u8])).collect();
    let full = field(16, &[7; 508]);
    let len = |len: usize, rest: &[u8]| [&Update::of_len(len).encode_to_vec()[..], rest].concat();
    let stripped = {
        let mut space = raw(update(&a));
        space.updates[0].update = update(&[]);
        space
    };
    // The position covers the extension fields: of two updates with the same sequence, the one with
    // the greater hash is the newer.
    let same_seq = {
        let updates = [&a[..], &b, &[]].map(|rest| alice.sign_bytes(&KEY.into(), update(rest)));
        alice.space(updates)
    };
    let withdrawn = [&withdrawal(0, NOW + HOUR).encode_to_vec()[..], &a].concat();
    vec![
        good("one", "Field 16.", &a),
        good("two", "Fields 16 and 17.", &[&a[..], &b].concat()),
        good("all", "Fields 16 to 31.", &all),
        good("empty", "Field 31 without bytes.", &field(31, b"")),
        good("512-bytes", "With tag and length 512 bytes.", &full),
        Case::of("of-withdrawal", "5.3", "A replace without a document.", raw(withdrawn))
            .viewed(&[NOW]),
        Case::of("513-bytes", "5.3", "One byte more.", raw(update(&field(16, &[7; 509]))))
            .refused(&alice, "limit", "extension-bytes", 1)
            .done(),
        Case::of(
            "513-bytes-of-two",
            "5.3",
            "The sum counts.",
            raw(update(&[field(16, &[7; 252]), field(17, &[7; 253])].concat())),
        )
        .refused(&alice, "limit", "extension-bytes", 1)
        .done(),
        Case::of(
            "2048-bytes",
            "5.3",
            "They are a part of the bytes of the update.",
            raw(len(2_048 - 512, &full)),
        )
        .done(),
        Case::of("2049-bytes", "5.3", "One byte more.", raw(len(2_049 - 512, &full)))
            .refused(&alice, "limit", "update-bytes", 1)
            .done(),
        no("descending", "Field 17 before field 16.", update(&[&b[..], &a].concat())),
        no("twice", "Field 16 twice.", update(&[&a[..], &a].concat())),
        no("field-15", "The number before the first.", update(&field(15, b"a"))),
        no("field-32", "The number after the last.", update(&field(32, b"a"))),
        no("field-6", "A number below.", update(&field(6, b"a"))),
        no("varint", "Another wire type.", update(&varint(16, 1))),
        no("fixed32", "Another wire type.", update(&[0x85, 0x01, 1, 2, 3, 4])),
        no("fixed64", "Another wire type.", update(&[0x81, 0x01, 1, 2, 3, 4, 5, 6, 7, 8])),
        no("group", "Another wire type.", update(&[0x83, 0x01, 0x84, 0x01])),
        no("padded-length", "A length that is not the shortest.", update(&padded)),
        no("before-known", "Before the fields that are known.", [a.clone(), update(&[])].concat()),
        Case::of("stripped", "5.3", "They are signed.", stripped)
            .refused(&alice, "invalid", "signature", 1)
            .done(),
        Case::of("same-seq", "6.1", "They are a part of the position.", same_seq).viewed(&[NOW]),
    ]
}

pub fn containers() -> Vec<Value> {
    let (alice, bob) = (alice(), bob());
    let (one, two) = (alice.sign(&Update::saying(1)), alice.sign(&Update::saying(2).after(1)));
    let good = alice.space([one.clone(), two.clone()]);
    let unknown = [
        field(9, b"later"),
        varint(10, 1 << 40),
        vec![0x5d, 1, 2, 3, 4],
        vec![0x61, 1, 2, 3, 4, 5, 6, 7, 8],
    ]
    .concat();
    let around = |bytes: &[u8]| [&unknown[..], bytes, &unknown].concat();
    let with_unknown = |space: &Space| {
        let updates = space.updates.iter().flat_map(|u| field(2, &around(&u.encode_to_vec())));
        let updates: Vec<u8> = updates.collect();
        field(1, &around(&[field(1, &space.public_key), updates].concat()))
    };
    let reordered = {
        let update =
            |u: &SignedUpdate| field(2, &[field(2, &u.signature), field(1, &u.update)].concat());
        field(1, &[update(&two), update(&one), field(1, &alice.public_key())].concat())
    };
    let padded = {
        let mut value = encode([good.clone()]);
        // The length of the space in three bytes, not two.
        value[2] |= 0x80;
        value.insert(3, 0);
        value
    };
    let new = |name: &str, about: &str, value: Vec<u8>| Case::new(name, "5.1", about, &[value]);
    let spaces = [alice.says(&Update::saying(1)), bob.says(&Update::saying(2))];
    let swapped = {
        let mut spaces = spaces.clone();
        spaces.sort_by(|a, b| b.public_key.cmp(&a.public_key));
        encode(spaces)
    };
    let key_twice = field(
        1,
        &[
            field(1, &bob.public_key()),
            field(1, &alice.public_key()),
            field(2, &one.encode_to_vec()),
        ]
        .concat(),
    );
    let with_update =
        |update: &[u8]| field(1, &[field(1, &alice.public_key()), field(2, update)].concat());
    let fields_twice = {
        let SignedUpdate { update, signature } = &one;
        [field(1, b"x"), field(2, b"x"), field(1, update), field(2, signature)].concat()
    };
    let of_no_bytes = alice.sign_bytes(&KEY.into(), Vec::new()).encode_to_vec();
    vec![
        new("update-fields-twice", "The last counts.", with_update(&fields_twice)).done(),
        new(
            "space-without-public-key",
            "It is empty, which is no public key.",
            field(1, &field(2, &one.encode_to_vec())),
        )
        .refused_whole("malformed", "public-key")
        .done(),
        new(
            "update-of-no-bytes",
            "A SignedUpdate without update: a merge of nothing that expired in 1970.",
            with_update(&of_no_bytes),
        )
        .refused(&alice, "expired", "expired", 1)
        .done(),
        new(
            "update-of-no-bytes-no-clock",
            "The same where times are not judged.",
            with_update(&of_no_bytes),
        )
        .with("now", Value::Null)
        .done(),
        new("update-of-nothing", "A SignedUpdate of no bytes.", with_update(&[]))
            .with("now", Value::Null)
            .refused(&alice, "invalid", "signature", 1)
            .done(),
        new(
            "unknown-fields",
            "Unknown fields of each wire type, in every message.",
            around(&with_unknown(&good)),
        )
        .viewed(&[NOW]),
        new("spaces-in-any-order", "Spaces are sent in the order of public keys.", swapped).done(),
        new("updates-in-any-order", "Updates too, and fields.", reordered).done(),
        new(
            "space-twice",
            "Two spaces of one writer are one.",
            encode([alice.space([one.clone()]), alice.space([two.clone()])]),
        )
        .done(),
        new(
            "update-twice",
            "An update that is there twice.",
            encode([alice.space([one.clone(), one.clone()])]),
        )
        .done(),
        new("padded-length", "A length that is not the shortest.", padded).done(),
        new("key-twice", "Of two public keys the last counts.", key_twice).done(),
        new(
            "space-without-updates",
            "It says nothing.",
            encode([bob.space([]), alice.space([one.clone()])]),
        )
        .done(),
        new("empty", "No bytes.", Vec::new()).refused_whole("malformed", "empty").done(),
        new("no-updates", "Only a space without updates.", encode([bob.space([])]))
            .refused_whole("malformed", "empty")
            .done(),
        new("only-unknown", "Only unknown fields.", unknown.clone())
            .refused_whole("malformed", "empty")
            .done(),
        new(
            "truncated",
            "The last byte is missing.",
            encode([good.clone()])[..encode([good.clone()]).len() - 1].to_vec(),
        )
        .refused_whole("malformed", "protobuf")
        .done(),
        new("wrong-wire-type", "Spaces as a number.", varint(1, 1))
            .refused_whole("malformed", "protobuf")
            .done(),
        new("trailing", "A byte after it.", [&encode([good])[..], &[0x80]].concat())
            .refused_whole("malformed", "protobuf")
            .done(),
    ]
    .into_iter()
    .chain(unknown_fields())
    .collect()
}

/// Good records with something after them: an unknown field, or no field at all.
fn unknown_fields() -> Vec<Value> {
    let alice = alice();
    let one = alice.sign(&Update::saying(1));
    let after = |rest: &[u8]| [&encode([alice.space([one.clone()])])[..], rest].concat();
    let new = |name: &str, about: &str, value: Vec<u8>| Case::new(name, "5.1", about, &[value]);
    let yes = |name: &str, about: &str, rest: &[u8]| new(name, about, after(rest)).done();
    let no_value = |name: &str, about: &str, value: Vec<u8>| {
        new(name, about, value).refused_whole("malformed", "protobuf").done()
    };
    let no = |name: &str, about: &str, rest: &[u8]| no_value(name, about, after(rest));
    let padded = |first: u8, last: u8| [&[first][..], &[0x80; 8], &[last]].concat();
    let empty_groups = |depth: usize| [vec![0x4b; depth], vec![0x4c; depth]].concat();
    let in_update = |rest: &[u8]| {
        let update = [&one.encode_to_vec()[..], rest].concat();
        field(1, &[field(1, &alice.public_key()), field(2, &update)].concat())
    };
    vec![
        yes("varint-64-bits", "The greatest number.", &varint(9, u64::MAX)),
        yes(
            "varint-padded",
            "The number 0 in ten bytes.",
            &[&[0x48][..], &padded(0x80, 0)].concat(),
        ),
        yes("tag-padded", "A tag in ten bytes.", &[&padded(0xc8, 0)[..], &[1]].concat()),
        no(
            "varint-65-bits",
            "A number of ten bytes whose last is 2.",
            &[&[0x48][..], &padded(0x80, 2)].concat(),
        ),
        no(
            "varint-of-eleven-bytes",
            "The number 0 in eleven bytes.",
            &[&[0x48, 0x80][..], &padded(0x80, 0)].concat(),
        ),
        no("wire-type-6", "A wire type that does not exist.", &[0x4e, 1]),
        no("wire-type-7", "A wire type that does not exist.", &[0x4f, 1]),
        no("field-zero", "A field with the number 0.", &[0x00, 1]),
        yes("field-greatest", "The greatest field number.", &varint((1 << 29) - 1, 1)),
        no("field-too-great", "The field number 2^29.", &[0x80, 0x80, 0x80, 0x80, 0x10, 1]),
        no(
            "field-too-great-by-9",
            "The field number 2^29 + 9: its lower 29 bits are 9.",
            &[0xc8, 0x80, 0x80, 0x80, 0x10, 1],
        ),
        no_value(
            "update-wrong-wire-type",
            "The updates of a space as a number.",
            after(&field(1, &[field(1, &alice.public_key()), varint(2, 1)].concat())),
        ),
        yes("group", "A group with a group and a number in it is one unknown field.", &groups(2)),
        yes("groups-99", "The number is in 99 groups.", &groups(99)),
        no("groups-100", "The number is in 100 groups.", &groups(100)),
        yes("groups-100-empty", "An empty group in 99 groups.", &empty_groups(100)),
        no("groups-101-empty", "An empty group in 100 groups.", &empty_groups(101)),
        new("groups-97-in-update", "In a space, an update and 97 groups.", in_update(&groups(97)))
            .done(),
        no_value(
            "groups-98-in-update",
            "In a space, an update and 98 groups.",
            in_update(&groups(98)),
        ),
        no("group-end-alone", "The end of a group that has not begun.", &[0x4c]),
        no("group-end-of-another", "A group that ends with another number.", &[0x4b, 0x54]),
        no("group-without-end", "A group that does not end.", &[0x4b]),
        no("group-as-spaces", "A known field as a group.", &[0x0b, 0x0c]),
    ]
}

/// Checks that the limits that a case may name exist.
#[test]
fn limits_have_the_names_of_their_settings() {
    let case = json!({"limits": {"updates_per_space": 1, "space_bytes": 2, "update_bytes": 3, "spaces_per_record": 4}});
    let limits = limits_of(&case);
    let expected = Limits::default()
        .with_updates_per_space(1)
        .with_space_bytes(2)
        .with_update_bytes(3)
        .with_spaces_per_record(4);
    assert_eq!(limits, expected);
}
