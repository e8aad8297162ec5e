//! Stamps, and what they decide.

use prost::Message;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use smart_record_core::{RecordKey, Seq, Stamp, StampSearch};
use smart_record_testing::{
    envelope::field,
    forge::{Author, NOW, SignedUpdate, TTL, Update, encode},
};

use super::{
    case,
    records::{Case, KEY, withdrawal},
};
use crate::forms::hex;

const DAY: u64 = 86_400_000_000;
/// The first microsecond of the day of [`NOW`].
const MORNING: u64 = NOW * 1_000 / DAY * DAY;

/// The extension field of a stamp.
fn stamp(key: &str, author: &Author, seq: u64, bits: u8) -> Vec<u8> {
    let rank = author.writer().rank(&RecordKey::new(key));
    let stamp = StampSearch::new(rank, Seq::from_micros(seq), bits).step(1 << 24);
    stamp.expect("a stamp").encode()
}

fn sign(author: &Author, update: &Update, extensions: &[u8]) -> SignedUpdate {
    author.sign_bytes(&KEY.into(), [&update.encode_to_vec()[..], extensions].concat())
}

/// A field of 8 bits with a nonce of any length, which is hashed as those of eight bytes are.
fn with_nonce(author: &Author, seq: u64, len: usize) -> Vec<u8> {
    let rank = author.writer().rank(&RecordKey::new(KEY));
    let day = ((seq / DAY) as u32).to_be_bytes();
    let nonce = |n: u64| [&n.to_le_bytes()[..], &[0; 8]].concat()[..len].to_vec();
    let hash = |nonce: &[u8]| Sha256::digest([&b"smart-stamp"[..], &rank, &day, nonce].concat());
    let nonce = (0..).map(nonce).find(|nonce| hash(nonce)[0] == 0);
    [&[8], &nonce.unwrap()[..]].concat()
}

/// An update with a stamp of its day.
fn stamped(author: &Author, update: &Update, bits: u8) -> SignedUpdate {
    sign(author, update, &field(Stamp::FIELD, &stamp(KEY, author, update.seq, bits)))
}

pub fn stamps() -> Vec<Value> {
    let [alice, secp256k1, ecdsa, rsa] = Author::all_types();
    let other = "/sr/rooms/attic";
    let now = NOW * 1_000;
    let good = stamp(KEY, &alice, now, 12);
    let claiming = |bits: u8| [&[bits], &good[1..]].concat();
    let of = |name: &str, about: &str, key: &str, author: &Author, seq: u64, field: &[u8]| {
        let rank = author.writer().rank(&RecordKey::new(key));
        let work = Stamp::decode(field).map_or(0, |stamp| stamp.work(&rank, Seq::from_micros(seq)));
        case(
            name,
            "5.5",
            about,
            [
                ("key", json!(hex(key))),
                ("public_key", json!(hex(author.public_key()))),
                ("seq", json!(seq)),
                ("stamp", json!(hex(field))),
                ("work", json!(work)),
            ],
        )
    };
    let types = [(&secp256k1, "secp256k1"), (&ecdsa, "ecdsa"), (&rsa, "rsa")];
    let mut cases = vec![
        of("good", "A stamp of 12 bits.", KEY, &alice, now, &good),
        of("morning", "The first microsecond of its day.", KEY, &alice, MORNING, &good),
        of("night", "The last one.", KEY, &alice, MORNING + DAY - 1, &good),
        of("day-before", "One day too early.", KEY, &alice, MORNING - 1, &good),
        of("day-after", "One day too late.", KEY, &alice, MORNING + DAY, &good),
        of("less", "It claims less than it has.", KEY, &alice, now, &claiming(9)),
        of("more", "It claims more than it has.", KEY, &alice, now, &claiming(60)),
        of("nothing", "It claims nothing.", KEY, &alice, now, &claiming(0)),
        of("short", "A field of eight bytes.", KEY, &alice, now, &good[..8]),
        of("long", "A field of ten bytes.", KEY, &alice, now, &[&good[..], &[0]].concat()),
        of("empty", "A field of no bytes.", KEY, &alice, now, &[]),
        of(
            "long-and-good",
            "A field of ten bytes that is good if its nonce has nine.",
            KEY,
            &alice,
            now,
            &with_nonce(&alice, now, 9),
        ),
        of(
            "short-and-good",
            "A field of eight bytes that is good if its nonce has seven.",
            KEY,
            &alice,
            now,
            &with_nonce(&alice, now, 7),
        ),
        of("other-key", "Of another key.", other, &alice, now, &good),
        of("other-writer", "Of another writer.", KEY, &Author::ed25519(2), now, &good),
        of("first-day", "The day 0.", KEY, &alice, 5, &stamp(KEY, &alice, 5, 6)),
        of("last-day", "The last day.", KEY, &alice, u64::MAX, &stamp(KEY, &alice, u64::MAX, 6)),
    ];
    cases.extend(types.map(|(author, name)| {
        let field = stamp(KEY, author, now, 10);
        of(&format!("of-{name}"), "A key of this type.", KEY, author, now, &field)
    }));
    cases
}

/// The least bits that count in the cases that need many stamps.
const MIN_BITS: usize = 4;

/// Of full records.
pub fn limits() -> Vec<Value> {
    let mut authors: Vec<_> = (0..6).map(|n| Author::ed25519(20 + n)).collect();
    authors.sort_by_key(|author| author.writer().rank(&RecordKey::new(KEY)));
    let [a, b, c, d, e, f] = &authors[..] else { panic!() };
    let says = Update::saying(1);
    let value =
        |author: &Author, updates: &[SignedUpdate]| encode([author.space_of(updates.to_vec())]);
    let plain = |author: &Author| value(author, &[author.sign(&says)]);
    let worked = |author: &Author, bits| value(author, &[stamped(author, &says, bits)]);
    let claiming = |author: &Author| {
        sign(author, &says, &field(Stamp::FIELD, &[&[200][..], &[0; 8]].concat()))
    };
    let all: Vec<_> = [(a, 0), (b, 0), (c, 0), (d, 4), (e, 6), (f, 6)]
        .into_iter()
        .map(|(author, bits)| {
            let update = if bits == 0 { author.sign(&says) } else { stamped(author, &says, bits) };
            author.space([update])
        })
        .collect();
    let forged = |author: &Author| {
        let withdrawal = author.sign(&withdrawal(1, NOW + TTL));
        SignedUpdate { signature: vec![1; 64], ..withdrawal }
    };
    let withdrawn_before = |author: &Author| {
        let again = Update::saying(2).after(1);
        [author.sign(&withdrawal(0, NOW + TTL)), author.sign(&again)]
    };
    vec![
        Case::new(
            "work-first",
            "6.4",
            "Of six spaces the two of the most work, then the one of less, whatever their ranks.",
            &[plain(a), plain(b), plain(c), worked(d, 4), worked(e, 6), worked(f, 6)],
        )
        .limit("spaces_per_record", 3)
        .limit("min_stamp_bits", MIN_BITS)
        .done(),
        Case::new(
            "work-then-rank",
            "6.4",
            "Of the same work the lowest rank.",
            &[worked(a, 6), worked(f, 6), plain(b), plain(c), worked(d, 4)],
        )
        .limit("spaces_per_record", 1)
        .limit("min_stamp_bits", MIN_BITS)
        .done(),
        Case::new("work-in-one", "6.4", "Of six spaces in one value.", &[encode(all)])
            .limit("spaces_per_record", 4)
            .limit("min_stamp_bits", MIN_BITS)
            .refused(b, "limit", "spaces", 1)
            .refused(c, "limit", "spaces", 1)
            .done(),
        Case::new(
            "work-not-proved",
            "6.4",
            "A stamp that claims too much is none.",
            &[plain(a), plain(b), value(c, &[claiming(c)])],
        )
        .limit("spaces_per_record", 2)
        .limit("min_stamp_bits", MIN_BITS)
        .done(),
        Case::new(
            "work-of-any-update",
            "6.4",
            "The most work of an update counts, not that of the newest.",
            &[
                plain(a),
                worked(b, 4),
                value(f, &[stamped(f, &says, 6), stamped(f, &Update::saying(2).after(1), 2)]),
            ],
        )
        .limit("spaces_per_record", 1)
        .limit("min_stamp_bits", MIN_BITS)
        .done(),
        Case::new(
            "work-is-no-sum",
            "5.5",
            "Two updates of 4 bits are less work than one of 5.",
            &[
                value(a, &[stamped(a, &says, 4), stamped(a, &Update::saying(2).after(1), 4)]),
                worked(f, 5),
            ],
        )
        .limit("spaces_per_record", 1)
        .limit("min_stamp_bits", MIN_BITS)
        .done(),
        Case::new(
            "work-dropped",
            "6.3",
            "What a full space has dropped has no work.",
            &[
                plain(a),
                worked(b, 4),
                value(
                    f,
                    &[
                        stamped(f, &says, 6),
                        f.sign(&Update::saying(2).after(1)),
                        f.sign(&Update::saying(3).after(2)),
                    ],
                ),
            ],
        )
        .limit("spaces_per_record", 2)
        .limit("updates_per_space", 2)
        .limit("min_stamp_bits", MIN_BITS)
        .done(),
        Case::new(
            "work-too-little",
            "6.4",
            "Of less work than counts the lowest rank stays, with the space that has as much.",
            &[plain(a), worked(b, 3), worked(e, 1), worked(f, 4)],
        )
        .limit("spaces_per_record", 2)
        .limit("min_stamp_bits", MIN_BITS)
        .done(),
        Case::new(
            "work-of-19-bits",
            "6.4",
            "Stamps of 19 bits count, and those of 18 do not.",
            &[plain(a), worked(e, 18), worked(f, 19)],
        )
        .limit("spaces_per_record", 2)
        .done(),
        Case::new(
            "withdrawal-forged-in-one",
            "6.4",
            "A space that would be withdrawn if all of it were good takes a place, and has none.",
            &[encode([
                a.space([a.sign(&says)]),
                b.space([b.sign(&says)]),
                f.space([f.sign(&says), forged(f)]),
            ])],
        )
        .limit("spaces_per_record", 2)
        .refused(f, "limit", "spaces", 1)
        .refused(f, "invalid", "signature", 1)
        .done(),
        Case::new(
            "work-or-withdrawn",
            "6.4",
            "A space that gives way to those with work stays as its withdrawal.",
            &[value(a, &withdrawn_before(a)), worked(b, 4), worked(f, 4)],
        )
        .limit("spaces_per_record", 2)
        .limit("min_stamp_bits", MIN_BITS)
        .done(),
        Case::new(
            "work-or-withdrawn-in-one",
            "6.4",
            "The same in one value.",
            &[encode([
                a.space_of(withdrawn_before(a).to_vec()),
                b.space([stamped(b, &says, 4)]),
                f.space([stamped(f, &says, 4)]),
            ])],
        )
        .limit("spaces_per_record", 2)
        .limit("min_stamp_bits", MIN_BITS)
        .refused(a, "limit", "spaces", 1)
        .done(),
        Case::new(
            "work-replaced",
            "6.4",
            "What a replace hides has no work.",
            &[
                plain(a),
                worked(b, 4),
                value(f, &[stamped(f, &says, 6), f.sign(&Update::saying(2).after(1).replacing())]),
            ],
        )
        .limit("spaces_per_record", 2)
        .limit("min_stamp_bits", MIN_BITS)
        .done(),
        Case::new(
            "work-of-withdrawn",
            "6.4",
            "Of withdrawn spaces the rank alone counts.",
            &[
                value(a, &[a.sign(&withdrawal(0, NOW + TTL))]),
                value(b, &[stamped(b, &withdrawal(0, NOW + TTL), 6)]),
            ],
        )
        .limit("withdrawn_per_record", 1)
        .limit("min_stamp_bits", MIN_BITS)
        .done(),
    ]
}

/// A minimum of work.
pub fn minima() -> Vec<Value> {
    let alice = Author::ed25519(1);
    let of = |name: &str, about: &str, updates: Vec<SignedUpdate>| {
        Case::of(name, "5.4", about, alice.space_of(updates))
            .with("policy", "least-work")
            .with("least_work", 6)
    };
    let next = Update::saying(2).after(1);
    vec![
        of("least-work", "A stamp of as many bits.", vec![stamped(&alice, &next, 6)]).done(),
        of(
            "too-little-work",
            "Of one bit less, and none, beside a good one.",
            vec![
                stamped(&alice, &Update::saying(1), 5),
                stamped(&alice, &next, 7),
                alice.sign(&Update::saying(3).after(2)),
            ],
        )
        .refused(&alice, "policy", "too-little-work", 2)
        .done(),
    ]
}
