//! Values of smart records that are joined or selected: the result in any order, and under which
//! limits.

use prost::Message;
use serde_json::Value;
use sha2::{Digest, Sha256};
use smart_record_core::{RecordKey, SpaceRules};
use smart_record_testing::{
    envelope::field,
    forge::{Author, MERGE, NOW, REPLACE, SignedUpdate, TTL, Update, encode},
    keys::other_signature,
};

use super::{
    choice,
    records::{Case, HOUR, KEY, alice, bob, later, says, withdrawal},
};

/// A value of one writer.
fn value<const N: usize>(author: &Author, updates: [&SignedUpdate; N]) -> Vec<u8> {
    encode([author.space(updates.map(Clone::clone))])
}

pub fn joins() -> Vec<Value> {
    let (alice, bob) = (alice(), bob());
    let new = |name: &str, section: &str, about: &str, values: &[Vec<u8>]| {
        Case::new(name, section, about, values)
    };
    let one = alice.sign(&later(r#"{"a": 1, "b": 1}"#, 0, TTL));
    let two = alice.sign(&later(r#"{"b": 2, "c": 2}"#, 1, TTL));
    let three = alice.sign(&later(r#"{"c": 3, "d": 3}"#, 2, TTL));
    let replace = alice.sign(&later(r#"{"b": 9}"#, 1, TTL).replacing());
    let short_replace = alice.sign(&withdrawal(1, NOW + 10));
    let withdrawn = alice.sign(&withdrawal(1, NOW + HOUR));
    let of_bob = bob.sign(&later(r#"{"a": "bob"}"#, 0, TTL));
    let merged = |kind, text: &str| Update { kind, ..later(text, 0, TTL) };
    let twins =
        [merged(MERGE, r#"{"a": 1}"#), merged(MERGE, r#"{"a": 2}"#), merged(MERGE, r#"{"a": 3}"#)];
    let twins = twins.map(|update| alice.sign(&update));
    let twin_replaces = [merged(REPLACE, r#"{"a": 1}"#), merged(REPLACE, r#"{"b": 2}"#)];
    let twin_replaces = twin_replaces.map(|update| alice.sign(&update));
    let merge_where = |is_above: bool| {
        let merge = |n| alice.sign(&merged(MERGE, &format!(r#"{{"n": {n}}}"#)));
        let hash = |update: &SignedUpdate| Sha256::digest(&update.update);
        let is_there = |m: &SignedUpdate| (hash(m) > hash(&twin_replaces[0])) == is_above;
        (0..).map(merge).find(is_there).unwrap()
    };
    let (above, below) = (merge_where(true), merge_where(false));
    let forged_replace = bob.sign(&later(r#"{"b": 9}"#, 1, TTL).replacing());
    let ecdsa = Author::ecdsa();
    let good = ecdsa.sign(&says(r#"{"k": 1}"#));
    let other = SignedUpdate { signature: other_signature(&good.signature), ..good.clone() };
    let bad = SignedUpdate { signature: vec![0], ..good.clone() };
    let many: Vec<_> = (0..5).map(|n| Author::ed25519(10 + n)).collect();
    let spaces: Vec<_> = many.iter().map(|author| author.says(&Update::saying(1))).collect();
    let large: Vec<_> = (0..6)
        .map(|n| alice.sign(&Update { seq: (NOW + n) * 1_000, ..Update::of_len(700 + n as usize) }))
        .collect();
    let short = alice.sign(&later(r#"{"a": 1, "gone": 1}"#, 0, TTL));
    let long = alice.sign(&later(r#"{"b": 1}"#, 1, 10 * TTL));
    let mut values = vec![
        new(
            "merges",
            "6.2",
            "Three updates, each alone.",
            &[value(&alice, [&one]), value(&alice, [&two]), value(&alice, [&three])],
        )
        .viewed(&[NOW + 2]),
        new(
            "overlapping",
            "6.2",
            "What is there already adds nothing.",
            &[
                value(&alice, [&one, &two]),
                value(&alice, [&two, &three]),
                value(&alice, [&one, &two, &three]),
            ],
        )
        .done(),
        new(
            "replace",
            "6.2",
            "A replace hides what is older, and not what is newer.",
            &[value(&alice, [&one]), value(&alice, [&replace]), value(&alice, [&three])],
        )
        .viewed(&[NOW + 2]),
        new(
            "replace-in-one",
            "6.2",
            "The same in one value; what is hidden is stale.",
            &[value(&alice, [&one, &replace, &three])],
        )
        .refused(&alice, "stale", "stale", 1)
        .done(),
        new(
            "two-replaces",
            "6.2",
            "The newer of two replaces.",
            &[
                value(&alice, [&replace]),
                value(&alice, [&alice.sign(&later(r#"{"z": 1}"#, 2, TTL).replacing())]),
                value(&alice, [&one]),
            ],
        )
        .viewed(&[NOW + 2]),
        new(
            "replace-expired",
            "6.2",
            "A replace that has expired still hides in what it was joined with.",
            &[value(&alice, [&one, &short_replace])],
        )
        .refused(&alice, "stale", "stale", 1)
        .viewed(&[NOW + 9, NOW + 10]),
        new(
            "replace-expired-on-arrival",
            "5.4",
            "The same when it has expired before it arrives: it hides nothing.",
            &[value(&alice, [&one, &short_replace])],
        )
        .at(NOW + 10)
        .refused(&alice, "expired", "expired", 1)
        .viewed(&[NOW + 10]),
        new(
            "bad-replace",
            "6.2",
            "A replace with a bad signature hides nothing.",
            &[value(&alice, [&one, &forged_replace])],
        )
        .refused(&alice, "invalid", "signature", 1)
        .done(),
        new(
            "same-seq-merge-above",
            "6.1",
            "A merge and a replace of one sequence, and the merge has the greater hash: it stays.",
            &[value(&alice, [&above]), value(&alice, [&twin_replaces[0]])],
        )
        .viewed(&[NOW]),
        new(
            "same-seq-merge-below",
            "6.1",
            "The merge has the lesser hash: the replace hides it.",
            &[value(&alice, [&below]), value(&alice, [&twin_replaces[0]])],
        )
        .viewed(&[NOW]),
        new(
            "withdrawn",
            "6.6",
            "A withdrawal hides what is older, whatever comes after it.",
            &[value(&alice, [&one]), value(&alice, [&withdrawn]), value(&alice, [&one])],
        )
        .viewed(&[NOW + 2]),
        new(
            "withdrawn-and-back",
            "6.6",
            "What is written after it stays.",
            &[value(&alice, [&withdrawn, &three]), value(&alice, [&one])],
        )
        .viewed(&[NOW + 2]),
        new(
            "same-seq",
            "6.1",
            "Of one sequence the greater hash is the newer.",
            &[value(&alice, [&twins[0]]), value(&alice, [&twins[1]]), value(&alice, [&twins[2]])],
        )
        .viewed(&[NOW]),
        new(
            "same-seq-replaces",
            "6.1",
            "Of two replaces of one sequence one stays.",
            &[value(&alice, [&twin_replaces[0]]), value(&alice, [&twin_replaces[1]])],
        )
        .viewed(&[NOW]),
        new(
            "two-signatures",
            "4.3",
            "Of two good signatures the lesser stays.",
            &[value(&ecdsa, [&good]), value(&ecdsa, [&other])],
        )
        .done(),
        new(
            "two-signatures-in-one",
            "4.3",
            "The same in one value.",
            &[value(&ecdsa, [&good, &other])],
        )
        .done(),
        new(
            "bad-second-signature",
            "4.3",
            "A lesser signature that is bad changes nothing.",
            &[value(&ecdsa, [&good]), value(&ecdsa, [&bad])],
        )
        .done(),
        new(
            "two-writers",
            "6.4",
            "Each has a space of its own.",
            &[value(&alice, [&one]), value(&bob, [&of_bob])],
        )
        .viewed(&[NOW]),
        new(
            "all-key-types",
            "6.4",
            "Writers in the order of their public keys.",
            &Author::all_types().map(|author| encode([author.says(&says(r#"{"k": 1}"#))])),
        )
        .viewed(&[NOW]),
        new(
            "expired-in-between",
            "6.5",
            "Read when the older one is over.",
            &[value(&alice, [&short, &long])],
        )
        .at(NOW + TTL)
        .refused(&alice, "expired", "expired", 1)
        .viewed(&[NOW + TTL]),
        new(
            "expired-is-not-seen",
            "6.5",
            "Forgetting it changes no view.",
            &[value(&alice, [&short, &long])],
        )
        .viewed(&[NOW + 1, NOW + TTL - 1, NOW + TTL]),
    ];
    values.push(
        new(
            "pieces-of-a-record",
            "10",
            "A record of five spaces in pieces that overlap.",
            &[
                encode(spaces[..3].to_vec()),
                encode(spaces[2..].to_vec()),
                encode([spaces[0].clone(), spaces[4].clone()]),
            ],
        )
        .done(),
    );
    values.push(
        new(
            "pieces-of-a-space",
            "10",
            "A space in pieces, the newest updates first.",
            &[
                encode([alice.space_of(large[4..].to_vec())]),
                encode([alice.space_of(large[2..4].to_vec())]),
                encode([alice.space_of(large[..2].to_vec())]),
            ],
        )
        .done(),
    );
    values
}

pub fn limits() -> Vec<Value> {
    let alice = alice();
    let new = |name: &str, section: &str, about: &str, values: &[Vec<u8>]| {
        Case::new(name, section, about, values)
    };
    let small = |n: u64| alice.sign(&Update::saying(n as i64).after(n));
    let sized = |n: u64, len: usize| alice.sign(&Update::of_len(len).after(n));
    let replace = |n: u64| alice.sign(&Update::saying(n as i64).after(n).replacing());
    let value = |updates: Vec<SignedUpdate>| encode([alice.space_of(updates)]);
    let each = |updates: Vec<SignedUpdate>| -> Vec<Vec<u8>> {
        updates.into_iter().map(|update| encode([alice.space([update])])).collect()
    };
    let many: Vec<_> =
        (0..8).map(|n| encode([Author::ed25519(20 + n).says(&Update::saying(1))])).collect();
    let six = encode((0..6).map(|n| Author::ed25519(20 + n).says(&Update::saying(1))));
    vec![
        new("updates-64", "6.3", "As many as stay.", &[value((0..64).map(small).collect())]).done(),
        new(
            "updates-65",
            "6.3",
            "The oldest goes.",
            &[value((0..33).map(small).collect()), value((33..65).map(small).collect())],
        )
        .done(),
        new(
            "updates-65-in-one",
            "6.3",
            "In one value the oldest is stale.",
            &[value((0..65).map(small).collect())],
        )
        .refused(&alice, "stale", "stale", 1)
        .done(),
        new(
            "updates-3",
            "6.3",
            "Each alone, where three stay.",
            &each((0..6).map(small).collect()),
        )
        .limit("updates_per_space", 3)
        .done(),
        new(
            "bytes-below",
            "6.3",
            "The newer three have 6,143 bytes, so the fourth stays.",
            &[value(vec![sized(0, 2_048), sized(1, 2_047), sized(2, 2_048), sized(3, 2_048)])],
        )
        .done(),
        new(
            "bytes-reached",
            "6.3",
            "The newer three have 6,144 bytes: the oldest goes, though it is small.",
            &[
                value(vec![small(0)]),
                value(vec![sized(1, 2_048), sized(2, 2_048), sized(3, 2_048)]),
            ],
        )
        .done(),
        new(
            "bytes-of-extensions",
            "6.3",
            "Extension fields count.",
            &[value(vec![
                small(0),
                alice.sign_bytes(
                    &KEY.into(),
                    [Update::of_len(1_536).after(1).encode_to_vec(), field(16, &[7; 508])].concat(),
                ),
                sized(2, 2_048),
                sized(3, 2_048),
            ])],
        )
        .refused(&alice, "stale", "stale", 1)
        .done(),
        new(
            "bad-does-not-count",
            "5.4",
            "A newer update with a bad signature takes no room.",
            &[value(vec![small(0), Author::ed25519(2).sign(&Update::saying(1).after(1))])],
        )
        .limit("updates_per_space", 1)
        .refused(&alice, "invalid", "signature", 1)
        .done(),
        new(
            "a-gap-does-not-close",
            "6.3",
            "After the first that does not stay none does, however small.",
            &[value(vec![small(0), sized(1, 400), sized(2, 100), sized(3, 100)])],
        )
        .limit("update_bytes", 400)
        .limit("space_bytes", 600)
        .refused(&alice, "stale", "stale", 2)
        .done(),
        new(
            "newest-always",
            "6.3",
            "The newest stays, also where there is room for none.",
            &each(vec![small(0), small(1)]),
        )
        .limit("update_bytes", 2_048)
        .limit("space_bytes", 2_048)
        .done(),
        new(
            "replace-stays",
            "6.3",
            "The newest replace stays besides.",
            &each(vec![small(0), replace(1), small(2), small(3), small(4), small(5)]),
        )
        .limit("updates_per_space", 2)
        .viewed(&[NOW]),
        new(
            "replace-comes-late",
            "6.3",
            "A replace stays, also if it comes when there is no room.",
            &[
                value(vec![small(2), small(3), small(4)]),
                value(vec![replace(1)]),
                value(vec![small(0)]),
            ],
        )
        .limit("updates_per_space", 3)
        .viewed(&[NOW]),
        new("spaces-3", "6.4", "Of eight spaces the three of the lowest rank.", &many)
            .limit("spaces_per_record", 3)
            .done(),
        {
            // The ranks decide which writers these are.
            let mut case = new("spaces-3-in-one", "6.4", "Of six spaces in one value.", &[six])
                .limit("spaces_per_record", 3);
            let mut authors: Vec<_> = (0..6).map(|n| Author::ed25519(20 + n)).collect();
            authors.sort_by_key(|author| author.writer().rank(&RecordKey::new(KEY)));
            for author in &authors[3..] {
                case = case.refused(author, "limit", "spaces", 1);
            }
            case.done()
        },
        new(
            "withdrawn-besides",
            "6.4",
            "Withdrawn spaces take no place of the others: two and three of eight stay.",
            &(0..8)
                .map(|n| Author::ed25519(20 + n))
                .enumerate()
                .map(|(n, author)| {
                    let update =
                        if n % 2 == 0 { withdrawal(0, NOW + TTL) } else { Update::saying(1) };
                    encode([author.says(&update)])
                })
                .collect::<Vec<_>>(),
        )
        .limit("spaces_per_record", 2)
        .limit("withdrawn_per_record", 3)
        .viewed(&[NOW]),
        new(
            "withdrawn-again",
            "6.4",
            "A space is not withdrawn if it has something else, if only an update without content.",
            &[
                encode([Author::ed25519(20).says(&Update::saying(1))]),
                encode([alice.space([
                    alice.sign(&withdrawal(0, NOW + TTL)),
                    alice.sign(&Update::of(Vec::new()).after(1)),
                ])]),
                encode([Author::ed25519(21).says(&Update::of(Vec::new()))]),
            ],
        )
        .limit("spaces_per_record", 3)
        .limit("withdrawn_per_record", 1)
        .done(),
        {
            let mut authors: Vec<_> = (0..3).map(|n| Author::ed25519(20 + n)).collect();
            authors.sort_by_key(|author| author.writer().rank(&RecordKey::new(KEY)));
            let last = &authors[2];
            new(
                "withdrawn-stays",
                "6.4",
                "A space that was withdrawn and has no place stays as its withdrawal.",
                &[
                    encode([authors[0].says(&Update::saying(1))]),
                    encode([last.space([
                        last.sign(&withdrawal(0, NOW + TTL)),
                        last.sign(&Update::saying(1).after(1)),
                    ])]),
                    encode([authors[1].says(&Update::saying(1))]),
                ],
            )
            .limit("spaces_per_record", 2)
            .viewed(&[NOW])
        },
        {
            let authors: Vec<_> = (0..3).map(|n| Author::ed25519(20 + n)).collect();
            let spaces = authors.iter().map(|author| author.says(&withdrawal(0, NOW + TTL)));
            let mut case = new(
                "withdrawn-1-in-one",
                "6.4",
                "Of three withdrawn spaces in one value the one of the lowest rank.",
                &[encode(spaces)],
            )
            .limit("withdrawn_per_record", 1);
            let mut ranked: Vec<_> = authors.iter().collect();
            ranked.sort_by_key(|author| author.writer().rank(&RecordKey::new(KEY)));
            for author in &ranked[1..] {
                case = case.refused(author, "limit", "withdrawn-spaces", 1);
            }
            case.done()
        },
        {
            let mut authors: Vec<_> = (0..4).map(|n| Author::ed25519(20 + n)).collect();
            authors.sort_by_key(|author| author.writer().rank(&RecordKey::new(KEY)));
            let spaces = authors.iter().map(|author| {
                author.space([
                    author.sign(&withdrawal(0, NOW + TTL)),
                    author.sign(&Update::saying(1).after(1)),
                ])
            });
            new(
                "withdrawn-stays-in-one",
                "6.4",
                "Of four spaces in one value that were withdrawn and written again: one stays, two stay as withdrawals.",
                &[encode(spaces)],
            )
            .limit("spaces_per_record", 1)
            .limit("withdrawn_per_record", 2)
            .refused(&authors[1], "limit", "spaces", 1)
            .refused(&authors[2], "limit", "spaces", 1)
            .refused(&authors[3], "limit", "spaces", 2)
            .viewed(&[NOW])
        },
    ]
    .into_iter()
    .chain(withdrawals())
    .collect()
}

/// Which spaces are withdrawn, where one that is not stays.
fn withdrawals() -> [Value; 6] {
    let mut authors: Vec<_> = (0..4).map(|n| Author::ed25519(20 + n)).collect();
    authors.sort_by_key(|author| author.writer().rank(&RecordKey::new(KEY)));
    let [first, second, third, _] = &authors[..] else { panic!() };
    let empty = Update::of(Vec::new());
    let seen = empty.clone().replacing();
    let again = Update::saying(1).after(1);
    let says = |author: &Author, updates: &[&Update]| {
        author.space_of(updates.iter().map(|update| author.sign(update)).collect())
    };
    let new = |name: &str, about: &str, updates: &[&Update]| {
        let spaces = [says(first, &[&again]), says(second, updates)];
        Case::new(name, "6.4", about, &[encode(spaces)]).limit("spaces_per_record", 1)
    };
    let genuine = says(third, &[&withdrawal(0, NOW + TTL)]);
    let stub = [says(first, &[&again]), says(second, &[&withdrawal(0, NOW + TTL), &again])];
    let of_each = [stub[0].clone(), stub[1].clone(), genuine.clone()].map(|space| encode([space]));
    let in_one = encode(stub.into_iter().chain([genuine]));
    let ranked = |name: &str, about: &str, values: &[Vec<u8>]| {
        Case::new(name, "6.4", about, values)
            .limit("spaces_per_record", 1)
            .limit("withdrawn_per_record", 1)
    };
    [
        new("empty-merge", "A merge with an empty document is no withdrawal.", &[&empty])
            .refused(second, "limit", "spaces", 1)
            .done(),
        Case::new(
            "empty-replace-seen",
            "6.4",
            "A withdrawal may be seen: its expires_at plays no part. It takes no place.",
            &[encode([says(first, &[&seen]), says(second, &[&again])])],
        )
        .limit("spaces_per_record", 1)
        .viewed(&[NOW]),
        new("empty-merge-and-more", "It stays for no space without a place.", &[&empty, &again])
            .refused(second, "limit", "spaces", 2)
            .done(),
        new(
            "empty-replace-seen-and-more",
            "A withdrawal that is seen stays for it.",
            &[&seen, &again],
        )
        .refused(second, "limit", "spaces", 1)
        .viewed(&[NOW]),
        ranked(
            "withdrawn-by-rank",
            "Of withdrawn spaces the lowest rank stays, also of one that was not withdrawn before.",
            &of_each,
        )
        .done(),
        ranked("withdrawn-by-rank-in-one", "The same in one value.", &[in_one])
            .refused(second, "limit", "spaces", 1)
            .refused(third, "limit", "withdrawn-spaces", 1)
            .done(),
    ]
}

/// The value that is selected by an implementation that does not join values.
pub fn choices() -> Vec<Value> {
    let (alice, bob) = (alice(), bob());
    let old = encode([alice.says(&Update::saying(1))]);
    let new = encode([bob.says(&Update::saying(2).after(1))]);
    let more = encode([alice.says(&Update::saying(1)), bob.says(&Update::saying(2).after(1))]);
    let tie = [Author::ed25519(3), Author::ed25519(4)]
        .map(|author| encode([author.says(&Update::saying(1))]));
    let at = |author: &Author, n: u64| author.sign(&Update::saying(n as i64).after(n));
    let newest = at(&bob, 9);
    let beside = |author: &Author, numbers: std::ops::Range<u64>| {
        let updates = numbers.map(|n| at(author, n)).collect();
        encode([bob.space([newest.clone()]), author.space_of(updates)])
    };
    let carol = Author::ed25519(3);
    // Three updates, of which two are older than the replace.
    let replaced = {
        let mut updates: Vec<_> = (0..2).map(|n| at(&bob, n)).collect();
        updates.push(bob.sign(&Update::saying(9).after(9).replacing()));
        bob.space_of(updates)
    };
    let replace = bob.space([replaced.updates[2].clone()]);
    // Five updates, of which the newest three take all the room.
    let truncated = {
        let large = |n| bob.sign(&Update::of_len(2_048).after(n));
        bob.space([at(&bob, 0), at(&bob, 1), large(7), large(8), large(9)])
    };
    let last = bob.space([truncated.updates[4].clone()]);
    let few = |count: u64| alice.space_of((0..count).map(|n| at(&alice, n)).collect());
    let bad = encode([alice.space([bob.sign(&Update::saying(1).after(9))])]);
    let expired =
        encode([alice.says(&Update { seq: 0, expires_at: 1, ..Update::saying(1) }.after(5))]);
    let choice = |name: &str, about: &str, values: &[&Vec<u8>]| {
        let values: Vec<&[u8]> = values.iter().map(|value| &value[..]).collect();
        let select = |key: &RecordKey, values: &[&[u8]]| SpaceRules::default().select(key, values);
        choice([name, "9", about], &RecordKey::new(KEY), &values, select)
    };
    vec![
        choice("newest", "The newest update decides.", &[&old, &new]),
        choice("more", "Of the same newest update, more updates.", &[&new, &more]),
        choice("tie", "Of updates of one sequence the greater hash.", &[&tie[0], &tie[1]]),
        choice(
            "updates-are-counted",
            "Not spaces: two older updates of one writer are more than one of another.",
            &[&beside(&alice, 0..2), &beside(&carol, 0..1)],
        ),
        choice(
            "replaced-do-not-count",
            "What a replace hides does not count.",
            &[&encode([replaced]), &encode([replace, few(1)])],
        ),
        choice(
            "truncated-do-not-count",
            "What truncation drops does not count.",
            &[&encode([truncated]), &encode([last, few(3)])],
        ),
        choice(
            "tie-of-records",
            "Of the same newest update and number of updates, the greater hash of the record.",
            &[&beside(&alice, 0..1), &beside(&alice, 1..2), &beside(&carol, 0..1)],
        ),
        choice("first", "Of the same, the first.", &[&old, &old]),
        choice("bad-is-left-out", "What is not good does not count.", &[&bad, &old]),
        choice("times-are-left-out", "What has expired is chosen all the same.", &[&expired]),
        choice("nothing-good", "There is no choice.", &[&bad, &Vec::new()]),
    ]
}
