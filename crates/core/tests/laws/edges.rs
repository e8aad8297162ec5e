//! The edges of the rules by examples: the instant, the size and the position at which a rule
//! begins. Histories at random meet these seldom.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};
use smart_record_core::{
    Arcs, AskerTag, BadSignature, Coverage, EvictionOrder, Incoming, InsertOutcome, LimitExceeded,
    Position, RecordError, Refusals, RingArc, SignatureMemory, SpaceView, Stamps,
    check_signature_len, check_signature_work,
};

use super::*;

const MINUTE: u64 = 60_000;

type Signed = SignedUpdate;

/// An update of the first writer: `seq` in microseconds after [`T0`], the others in milliseconds.
fn update(seq: u64, expires_at: u64, retain_until: u64, kind: UpdateKind, text: &str) -> Signed {
    let document = match text {
        "" => Dict::new(),
        text => Dict::from([("k", text)]),
    };
    let (replace, retained) = (kind == UpdateKind::Replace, retain_until - expires_at);
    let extensions = Extensions::new();
    sign_raw(1, &Raw { seq, expires_at, retained, replace, document, extensions, work: 0 }).1
}

fn merge(seq: u64, text: &str) -> Signed {
    update(seq, MINUTE, MINUTE, UpdateKind::Merge, text)
}

fn replace(seq: u64, text: &str) -> Signed {
    update(seq, MINUTE, MINUTE, UpdateKind::Replace, text)
}

fn writer() -> Writer {
    Writer::from(&keypair(1).public())
}

fn space(updates: &[&Signed]) -> Space {
    updates.iter().map(|update| Clone::clone(*update)).collect()
}

fn record(updates: &[&Signed]) -> SmartRecord {
    let mut record = SmartRecord::new(key());
    record.join_space(writer(), space(updates));
    record
}

/// What is refused of an update that arrives at `now`, if it is.
fn refusal(update: &Signed, now: Timestamp) -> Option<ValidationError> {
    SpaceRules::default().read(&key(), &record(&[update]).encode(), now).err()
}

fn limit_of(error: Option<ValidationError>) -> Option<Limit> {
    match error {
        Some(ValidationError::LimitExceeded(exceeded)) => Some(exceeded.limit),
        None => None,
        Some(error) => panic!("{error}"),
    }
}

#[test]
fn an_update_may_be_ahead_of_the_clock_by_the_skew_and_not_by_a_millisecond_more() {
    let skew = Limits::default().max_clock_skew().as_millis() as u64;
    let update = merge(0, "a");
    assert_eq!(limit_of(refusal(&update, Timestamp::from_millis(T0 - skew))), None);
    let early = refusal(&update, Timestamp::from_millis(T0 - skew - 1));
    assert_eq!(limit_of(early), Some(Limit::CLOCK_SKEW));
    assert_eq!(limit_of(refusal(&update, at(1))), None);
}

#[test]
fn an_update_is_admitted_before_its_retention_ends() {
    let update = update(0, 500, 1_000, UpdateKind::Merge, "a");
    assert_eq!(refusal(&update, at(999)), None);
    for late in [at(1_000), at(1_001)] {
        let error = refusal(&update, late);
        assert_eq!(error, Some(ValidationError::Expired { expired_at: at(1_000) }));
    }
}

#[test]
fn an_update_lives_for_the_longest_lifetime_and_not_for_a_millisecond_more() {
    let limits = Limits::default().with_max_ttl(Duration::from_secs(1));
    let decoded = |retain_until, limits: &Limits| {
        let value = record(&[&update(0, 500, retain_until, UpdateKind::Merge, "a")]).encode();
        SmartRecord::decode(&key(), value, limits)
    };
    assert!(decoded(999, &limits).is_ok() && decoded(1_000, &limits).is_ok());
    for late in [1_001, 1_002] {
        let Err(RecordError::Update { error: UpdateError::Limit(exceeded), .. }) =
            decoded(late, &limits)
        else {
            panic!("it lives too long");
        };
        assert_eq!((exceeded.limit, exceeded.got, exceeded.max), (Limit::TTL, Some(late), 1_000));
    }
}

#[test]
fn an_update_says_how_long_it_is_retained_only_if_that_is_longer() {
    let encoded = |retain_until| {
        let update = update(0, 500, retain_until, UpdateKind::Merge, "a");
        assert_eq!((update.expires_at(), update.retain_until()), (at(500), at(retain_until)));
        assert_eq!((update.seq(), update.kind()), (update.position().seq, UpdateKind::Merge));
        assert_eq!(update.seq().issued_at(), at(0));
        update.as_bytes().len()
    };
    // Field 3 with a tag and a varint of six bytes.
    assert_eq!(encoded(501), encoded(500) + 7);
}

#[test]
fn a_withdrawal_is_a_replace_with_an_empty_document() {
    for (update, withdraws) in [
        (replace(0, ""), true),
        (replace(0, "a"), false),
        (merge(0, ""), false),
        (merge(0, "a"), false),
    ] {
        assert_eq!(update.is_withdrawal(), withdraws);
        assert_eq!(space(&[&update]).is_withdrawn(), withdraws);
        let withdrawal = withdraws.then(|| space(&[&update]));
        assert_eq!(space(&[&update]).withdrawal(), withdrawal);
        // Something was written since.
        let later = space(&[&update, &merge(1, "b")]);
        assert!(!later.is_withdrawn());
        assert_eq!(later.withdrawal(), withdrawal);
    }
    assert!(!Space::new().is_withdrawn() && Space::new().withdrawal().is_none());
}

#[test]
fn an_update_joins_where_no_newer_replace_hides_it() {
    let (old, wall, new) = (merge(1, "old"), replace(2, "wall"), merge(3, "new"));
    let mut space = Space::new();
    assert!(space.is_empty() && space.newest().is_none() && space.newest_replace().is_none());
    assert_eq!(space.insert(new.clone()), InsertOutcome::New);
    assert_eq!(space.insert(old.clone()), InsertOutcome::New);
    assert_eq!(space.newest_replace(), None);
    assert_eq!(space.insert(wall.clone()), InsertOutcome::New);
    // It has removed what it hides, is known when it comes again, and hides nothing newer.
    assert_eq!(space.insert(wall.clone()), InsertOutcome::Known);
    assert_eq!(space.insert(new.clone()), InsertOutcome::Known);
    assert_eq!(space.insert(old.clone()), InsertOutcome::Replaced);
    assert_eq!(space.updates().collect::<Vec<_>>(), [&wall, &new]);
    assert!(!space.is_empty());
    assert_eq!(space.newest(), Some(new.position()));
    assert_eq!(space.newest_replace(), Some(wall.position()));
    assert_eq!(space.get(wall.position()), Some(&wall));
    assert_eq!(space.get(old.position()), None);
    // Of one `seq` the greater hash is newer.
    let pair = [merge(5, "a"), merge(5, "b")];
    let newest = pair.iter().map(SignedUpdate::position).max();
    assert_eq!(self::space(&[&pair[0], &pair[1]]).newest(), newest);
    assert_eq!(newest.map(|newest| newest.seq), Some(pair[0].seq()));
}

#[test]
fn the_oldest_updates_beyond_a_limit_go_and_a_replace_stays() {
    let updates: Vec<_> = (1..=4).map(|seq| merge(seq, "text")).collect();
    let [a, b, c, d] = &updates[..] else { panic!("four") };
    let bytes = a.as_bytes().len();
    assert!(updates.iter().all(|update| update.as_bytes().len() == bytes));
    let cut = |updates: &[&Signed], limits: &Limits| {
        let mut space = space(updates);
        let dropped = space.truncate(limits);
        (dropped, space.updates().cloned().collect::<Vec<_>>())
    };
    let kept = |updates: &[&Signed]| updates.iter().map(|u| Clone::clone(*u)).collect::<Vec<_>>();
    let count = |max| Limits::default().with_updates_per_space(max);
    assert_eq!(cut(&[a, b, c, d], &count(4)), (0, kept(&[a, b, c, d])));
    assert_eq!(cut(&[a, b, c, d], &count(3)), (1, kept(&[b, c, d])));
    assert_eq!(cut(&[a, b, c, d], &count(1)), (3, kept(&[d])));
    // The room that the newer ones leave: an update stays while they take less.
    let room = |room| Limits::default().with_update_bytes(1_000).with_space_bytes(1_000 + room);
    assert_eq!(cut(&[a, b, c, d], &room(2 * bytes)), (2, kept(&[c, d])));
    assert_eq!(cut(&[a, b, c, d], &room(2 * bytes + 1)), (1, kept(&[b, c, d])));
    assert_eq!(cut(&[a, b, c, d], &room(bytes)), (3, kept(&[d])));
    // The newest stays in any case, and so does the newest replace, which takes no room.
    assert_eq!(cut(&[a, b, c, d], &room(0)), (3, kept(&[d])));
    let wall = &replace(0, "");
    assert_eq!(cut(&[wall, a, b, c], &count(2)), (1, kept(&[wall, b, c])));
    assert_eq!(cut(&[wall, a, b, c], &count(3)), (0, kept(&[wall, a, b, c])));
    assert_eq!(cut(&[wall], &count(0)), (0, kept(&[wall])));
    assert_eq!(cut(&[a, b], &count(0)), (2, kept(&[])));

    // Room for an update that is not there yet, at its position.
    let has_room = |updates: &[&Signed], kind, position: Position, limits: &Limits| {
        space(updates).has_room_for(kind, position, limits)
    };
    let (merges, replaces) = (UpdateKind::Merge, UpdateKind::Replace);
    for (limits, fits) in [(count(3), true), (count(2), false)] {
        assert_eq!(has_room(&[b, c], merges, a.position(), &limits), fits);
        assert!(has_room(&[a, b], merges, c.position(), &limits));
        assert!(has_room(&[b, c], replaces, a.position(), &limits));
    }
    for (limits, fits) in [(room(2 * bytes + 1), true), (room(2 * bytes), false)] {
        assert_eq!(has_room(&[b, c], merges, a.position(), &limits), fits);
    }
    // What is at the position is not counted as newer.
    assert!(has_room(&[a, b], merges, a.position(), &count(2)));
    // A replace hides what is older than it, and not itself.
    let (first, second) = (&replace(1, "first"), &replace(2, "second"));
    for kind in [merges, replaces] {
        assert!(!has_room(&[second], kind, first.position(), &count(9)));
        assert!(has_room(&[second], kind, second.position(), &count(9)));
        assert!(has_room(&[first], kind, second.position(), &count(9)));
    }
}

#[test]
fn an_update_is_collected_at_the_end_of_its_retention() {
    let (short, long) = (
        update(1, 500, 1_000, UpdateKind::Merge, "short"),
        update(2, 500, 2_000, UpdateKind::Merge, "long"),
    );
    let whole = space(&[&short, &long]);
    assert_eq!(whole.first_collectable_at(), Some(at(1_000)));
    assert_eq!(whole.retain_until(), Some(at(2_000)));
    assert_eq!(record(&[&short, &long]).retain_until(), Some(at(2_000)));
    let empty = Space::new();
    assert_eq!((empty.first_collectable_at(), empty.retain_until()), (None, None));
    assert_eq!(SmartRecord::new(key()).retain_until(), None);
    for (now, left) in [
        (0, vec![&short, &long]),
        (999, vec![&short, &long]),
        (1_000, vec![&long]),
        (1_001, vec![&long]),
        (2_000, vec![]),
    ] {
        let (mut space, mut record) = (whole.clone(), record(&[&short, &long]));
        assert_eq!(space.collect(at(now)), 2 - left.len());
        assert_eq!(space.updates().collect::<Vec<_>>(), left);
        assert_eq!(record.collect(at(now)), 2 - left.len());
        // A space that is left empty is gone.
        assert_eq!(record.spaces().len(), usize::from(!left.is_empty()));
        assert_eq!(record.space(&writer()).cloned().unwrap_or_default(), space);
        let mut alone = self::record(&[&short, &long]);
        assert_eq!(alone.collect_space(&Writer::from(&keypair(2).public()), at(now)), 0);
        assert_eq!(alone.collect_space(&writer(), at(now)), 2 - left.len());
        assert_eq!(alone, record);
    }
}

#[test]
fn what_may_be_collected_has_no_part_in_a_view() {
    let old = update(1, 3_000, 3_000, UpdateKind::Merge, "old");
    let new = update(2, 500, 1_000, UpdateKind::Merge, "new");
    let space = space(&[&old, &new]);
    let seen = |now| space.view(at(now)).map(|view| (view.document.to_string(), view.seq));
    let text = |text| format!(r#"{{"k": "{text}"}}"#);
    assert_eq!(seen(499), Some((text("new"), new.seq())));
    // It has expired, and still hides what it has overwritten.
    for now in [500, 999] {
        assert_eq!(seen(now), Some(("{}".to_owned(), new.seq())));
    }
    for now in [1_000, 2_999] {
        assert_eq!(seen(now), Some((text("old"), old.seq())));
    }
    assert_eq!(seen(3_000), None);
    assert_eq!(space.view(at(0)).map(|view| view.expires_at), Some(at(3_000)));
    // Expired, but retained: there is nothing to see.
    let gone = self::space(&[&update(1, 500, 1_000, UpdateKind::Merge, "a")]);
    assert!(gone.view(at(499)).is_some() && gone.view(at(500)).is_none());
    assert_eq!(Space::new().view(at(0)), None);
}

#[test]
fn what_is_forgotten_is_before_a_position_or_after_an_instant() {
    let [a, b, c] = &[merge(1_000, "a"), merge(2_000, "b"), merge(3_000, "c")];
    for (position, left) in [
        (a.position(), vec![a, b, c]),
        (b.position(), vec![b, c]),
        (c.position(), vec![c]),
        (merge(4_000, "d").position(), vec![]),
    ] {
        let mut record = record(&[a, b, c]);
        assert_eq!(record.forget_before(&writer(), position), 3 - left.len());
        assert_eq!(record, self::record(&left), "a space that is left empty is gone");
        assert_eq!(record.spaces().len(), usize::from(!left.is_empty()));
    }
    let other = Writer::from(&keypair(2).public());
    assert_eq!(record(&[a]).forget_before(&other, c.position()), 0);
    for (latest, left) in [(0, vec![]), (1, vec![a]), (2, vec![a, b]), (3, vec![a, b, c])] {
        let mut record = record(&[a, b, c]);
        record.forget_after(at(latest));
        assert_eq!(record, self::record(&left));
        assert_eq!(record.spaces().len(), usize::from(!left.is_empty()));
    }
    let mut space = space(&[a, b, c]);
    assert_eq!(space.retain(|position| position != b.position()), 1);
    assert_eq!(space.updates().collect::<Vec<_>>(), [a, c]);
}

/// A record with a space of each of these writers, the withdrawn ones of the second kind.
fn crowd(open: &[u8], withdrawn: &[u8]) -> SmartRecord {
    let mut record = SmartRecord::new(key());
    for (seeds, text) in [(open, "a"), (withdrawn, "")] {
        for seed in seeds {
            let document = if text.is_empty() { Dict::new() } else { Dict::from([("k", text)]) };
            // As a signer withdraws: it expires at once and is retained.
            let (expires_at, retained) = if text.is_empty() { (0, MINUTE) } else { (MINUTE, 0) };
            let raw = Raw {
                seq: 1,
                expires_at,
                retained,
                replace: text.is_empty(),
                document,
                extensions: Extensions::new(),
                work: 0,
            };
            let (writer, update) = sign_raw(*seed, &raw);
            record.insert(writer, update).unwrap();
        }
    }
    record
}

#[test]
fn of_too_many_spaces_those_of_the_highest_rank_go_each_kind_for_itself() {
    let limits = Limits::default().with_spaces_per_record(2).with_withdrawn_per_record(2);
    let ranked = |seeds: std::ops::Range<u8>| {
        let mut writers: Vec<_> = seeds.map(|seed| Writer::from(&keypair(seed).public())).collect();
        writers.sort_by_key(|writer| writer.rank(&key()));
        writers
    };
    let whole = crowd(&[1, 2, 3, 4], &[5, 6, 7, 8]);
    let (open, withdrawn) = (ranked(1..5), ranked(5..9));
    let mut record = whole.clone();
    let gone: BTreeSet<_> = record
        .truncate(&limits)
        .into_iter()
        .map(|(writer, space)| {
            assert_eq!(whole.space(&writer), Some(&space), "as it was");
            writer
        })
        .collect();
    assert_eq!(gone, open[2..].iter().chain(&withdrawn[2..]).cloned().collect());
    let left: BTreeSet<_> = record.spaces().map(|(writer, _)| writer.clone()).collect();
    assert_eq!(left, open[..2].iter().chain(&withdrawn[..2]).cloned().collect());
    // As many as there may be: none goes.
    for record in [crowd(&[1, 2], &[5, 6]), crowd(&[1], &[5])] {
        let mut cut = record.clone();
        assert!(cut.truncate(&limits).is_empty());
        assert_eq!(cut, record);
    }
    // A space that begins with a withdrawal leaves that behind, others leave nothing.
    let mut record = SmartRecord::new(key());
    record.join_space(writer(), space(&[&replace(1, ""), &merge(2, "a")]));
    let none = Limits::default().with_spaces_per_record(0);
    assert_eq!(record.truncate(&none), [(writer(), space(&[&replace(1, ""), &merge(2, "a")]))]);
    assert_eq!(record.space(&writer()), Some(&space(&[&replace(1, "")])));
    let mut record = self::record(&[&replace(1, "a"), &merge(2, "a")]);
    assert_eq!(record.truncate(&none).len(), 1);
    assert_eq!(record.spaces().len(), 0);
}

#[test]
fn a_space_is_cut_alone_and_found_by_its_key() {
    let mut record = crowd(&[2], &[3]);
    let updates: Vec<_> = (1..=3).map(|seq| merge(seq, "a")).collect();
    record.join_space(writer(), updates.iter().cloned().collect());
    record.join_space(Writer::from(&keypair(4).public()), Space::new());
    assert_eq!(record.spaces().len(), 3, "an empty space is none");
    let limits = Limits::default().with_updates_per_space(1);
    record.truncate_space(&Writer::from(&keypair(2).public()), &limits);
    assert_eq!(record.space(&writer()).map(|space| space.updates().len()), Some(3));
    record.truncate_space(&writer(), &limits);
    let left = space(&[&updates[2]]);
    assert_eq!(record.space(&writer()), Some(&left));
    let known = writer();
    assert_eq!(record.space_of_key(writer().as_bytes()), Some((&known, &left)));
    assert_eq!(record.space_of_key(b"no key"), None);
    assert_eq!(record.space(&Writer::from(&keypair(9).public())), None);
    let listed: Vec<_> = record.spaces().map(|(w, s)| (w.clone(), s.clone())).collect();
    assert_eq!(record.clone().into_spaces().collect::<Vec<_>>(), listed);
    assert_eq!(record.key(), &key());
    // Records of different keys are not joined.
    let other = SmartRecord::new("/sr/other".into());
    assert!(record.clone().join(other).is_err());
    assert!(record.clone().join(SmartRecord::new(key())).is_ok());
    // Chunks: all of it, and nothing else.
    let chunks: Vec<_> = record.chunks(1).collect();
    assert_eq!(chunks.len(), 3);
    let encoded: Vec<_> = record.spaces().map(|(writer, space)| space.encode(writer)).collect();
    assert!(chunks.iter().zip(&encoded).all(|(chunk, space)| chunk.ends_with(space)));
    for (writer, space) in record.spaces() {
        assert_eq!(Space::decode_trusted(space.encode(writer)).as_ref(), Ok(space));
    }
}

#[test]
fn updates_are_equal_if_bytes_and_signature_are() {
    let (one, other) = (merge(1, "a"), merge(2, "b"));
    let made_of = |update: &Signed, signature: &[u8]| {
        let mut bytes = Vec::new();
        let mut signed = Vec::new();
        prost::encoding::bytes::encode(1, &update.as_bytes().to_vec(), &mut signed);
        prost::encoding::bytes::encode(2, &signature.to_vec(), &mut signed);
        prost::encoding::bytes::encode(2, &signed, &mut bytes);
        Space::decode_trusted(bytes).unwrap().updates().next().unwrap().clone()
    };
    assert_eq!(made_of(&one, one.signature()), one);
    for different in [made_of(&one, &[9; 64]), made_of(&other, one.signature()), other.clone()] {
        assert_ne!(one, different);
    }
    // An update with the signature of another is not a known one: it is verified, and refused.
    let rules = SpaceRules::default();
    let merged = |update: &Signed, stored: &[&Signed]| {
        let value = record(&[update]).encode();
        let mut refusals = Refusals::default();
        let mut opened = rules.open(&key(), value.into(), &mut refusals).unwrap();
        let incoming = Incoming::Unverified(opened.remove(0).1);
        let stored = space(stored);
        let merged = rules.merge(&key(), &writer(), stored, incoming, Some(at(0)), &mut refusals);
        (merged.admitted, merged.known, refusals.into_entries().count())
    };
    assert_eq!(merged(&one, &[&one]), (0, 1, 0));
    assert_eq!(merged(&one, &[]), (1, 0, 0));
    assert_eq!(merged(&other, &[&one]), (1, 0, 0));
    assert_eq!(merged(&made_of(&other, one.signature()), &[&one]), (0, 0, 1));
    // With another signature it is verified only if that is less than the known one.
    let (greater, forged) = (made_of(&one, &[0xff; 64]), made_of(&one, &[0; 64]));
    assert_eq!(merged(&greater, &[&one]), (0, 1, 0));
    assert_eq!(merged(&forged, &[&one]), (0, 0, 1));
    let mut record = SmartRecord::new(key());
    assert_eq!(record.insert(writer(), forged.clone()), Err(BadSignature));
    // What is known byte for byte is not verified again: a reader trusts what it has.
    let known = self::record(&[&forged]);
    let (read, refusals) = rules.read_knowing(&known, known.encode().into(), at(0)).unwrap();
    assert_eq!((&read, refusals.first()), (&known, None));
    assert!(rules.read_knowing(&record, known.encode().into(), at(0)).is_err());
}

#[test]
fn a_view_has_the_writers_with_live_content_and_finds_their_nodes() {
    let record = crowd(&[2, 3], &[4]);
    let view = record.view(at(0));
    let writers: Vec<_> = record
        .spaces()
        .filter(|(_, space)| !space.is_withdrawn())
        .map(|(w, _)| w.clone())
        .collect();
    assert_eq!((view.len(), view.is_empty()), (2, false));
    assert_eq!(view.iter().map(|(writer, _)| writer.clone()).collect::<Vec<_>>(), writers);
    assert_eq!((&view).into_iter().count(), 2);
    let mut left = view.iter();
    assert_eq!((left.size_hint(), left.nth(1).is_some()), ((2, Some(2)), true));
    assert_eq!((left.size_hint(), left.next()), ((0, Some(0)), None));
    for writer in &writers {
        let space = view.get(&writer.peer_id()).unwrap();
        assert_eq!(Some(space), record.space(writer).unwrap().view(at(0)).as_ref());
        assert_eq!(space.document.to_string(), r#"{"k": "a"}"#);
    }
    assert_eq!(view.get(&keypair(4).public().to_peer_id()), None);
    let found = |path: &str| -> Vec<(Writer, String)> {
        let path = path.parse().unwrap();
        view.select(&path).map(|(writer, node)| (writer.clone(), node.to_string())).collect()
    };
    let expected: Vec<_> = writers.iter().map(|w| (w.clone(), r#""a""#.to_owned())).collect();
    assert_eq!(found("k"), expected);
    assert!(found("other").is_empty());
    let none = record.view(at(MINUTE));
    assert_eq!((none.len(), none.is_empty(), none.iter().count()), (0, true, 0));
    let other = crowd(&[5], &[]).view(at(0));
    assert_eq!((other.len(), other.is_empty()), (1, false));
}

/// Its hash, made by another program, begins with 13 zero bits: 0004cd97…
const STAMP: [u8; 9] = [12, 0, 0, 0, 0, 0, 0, 0x17, 0x62];

#[test]
fn a_stamp_is_checked_as_it_was_when_it_was_made() {
    let rank = [7; 32];
    let stamp = Stamp::decode(&STAMP).unwrap();
    assert_eq!((stamp.bits(), stamp.encode()), (12, STAMP.to_vec()));
    // Day 19,675: from 2023-11-14 until 2023-11-15, in UTC.
    let (first, last) = (1_699_920_000_000_000, 1_700_006_399_999_999);
    let work = |micros, bits| {
        let stamp = Stamp::decode(&[&[bits][..], &STAMP[1..]].concat()).unwrap();
        stamp.work(&rank, Seq::from_micros(micros))
    };
    assert_eq!([first, last, first - 1, last + 1].map(|micros| work(micros, 12)), [12, 12, 0, 0]);
    assert_eq!([0, 1, 13, 14].map(|bits| work(first, bits)), [0, 1, 13, 0]);
    // The search tries nonces from zero on, and each once.
    let mut search = StampSearch::new(rank, Seq::from_micros(last), 12);
    assert_eq!((search.tried(), search.expected()), (0, 4_096));
    assert_eq!(search.step(5_986), None);
    assert_eq!((search.step(1), search.tried()), (Some(stamp), 5_987));
    let order = EvictionOrder::new(12, rank);
    assert_eq!((order.work(), order.rank()), (12, &rank));
    assert_eq!(format!("{order:?}"), "12 bits, 07070707");
}

#[test]
fn the_work_of_an_update_is_that_of_its_stamp_alone() {
    let rank = writer().rank(&key());
    let signed = |work, extensions: Extensions| {
        let (seq, expires_at) = (7, MINUTE);
        let document = Dict::from([("k", 1)]);
        let raw = Raw { seq, expires_at, retained: 0, replace: false, document, extensions, work };
        sign_raw(1, &raw).1
    };
    let stamped = signed(4, Extensions::new());
    let nonce = stamped.extensions().iter().next().unwrap().1.to_vec();
    let field = |number, field: Vec<u8>| Extensions::new().with(number, field).unwrap();
    let works = [
        signed(0, Extensions::new()),
        stamped,
        signed(0, field(Stamp::FIELD + 1, nonce.clone())),
        signed(0, field(Stamp::FIELD, nonce[1..].to_vec())),
        signed(0, field(Stamp::FIELD, nonce.clone()).with(Stamp::FIELD + 1, vec![1]).unwrap()),
    ];
    assert_eq!(works.each_ref().map(|update| update.work(&rank)), [0, 4, 0, 0, 4]);
    let most = |updates: &[&Signed]| space(updates).work(&rank);
    assert_eq!(most(&[]), 0);
    assert_eq!(most(&[&works[0]]), 0);
    assert_eq!(most(&[&works[0], &works[1], &works[2]]), 4);
    assert_eq!(space(&[&works[1]]).eviction_order(rank, 4), EvictionOrder::new(4, rank));
    for (min_bits, counts) in [(0, 4), (4, 4), (5, 0)] {
        let order = EvictionOrder::new(counts, rank);
        assert_eq!(space(&[&works[0], &works[1]]).eviction_order(rank, min_bits), order);
    }
    // A policy that demands work sees the same.
    for (min, admitted) in [(0, true), (4, true), (5, false)] {
        let policy = smart_record_core::MinWork::new(min, Open);
        let rules = SpaceRules::new(Limits::default(), policy);
        assert_eq!(rules.read(&key(), &record(&[&works[1]]).encode(), at(0)).is_ok(), admitted);
        let bare = rules.read(&key(), &record(&[&works[0]]).encode(), at(0));
        assert_eq!(bare.is_ok(), min == 0);
    }
}

#[test]
fn the_stamp_that_was_set_before_the_last_counts_too() {
    let (rank, day) = ([7; 32], 86_400_000_000);
    let [today, tomorrow] = [day, 2 * day].map(Seq::from_micros);
    let found = |seq, bits| StampSearch::new(rank, seq, bits).step(1 << 16).unwrap();
    let (few, more, next) = (found(today, 8), found(today, 10), found(tomorrow, 9));
    let mut stamps = Stamps::new();
    for (set, good_today, good_tomorrow) in [
        (None, None, None),
        (Some(few), Some(few), None),
        // Again, which is no other one.
        (Some(few), Some(few), None),
        (Some(next), Some(few), Some(next)),
        (Some(next), Some(few), Some(next)),
        (Some(more), Some(more), Some(next)),
        (Some(few), Some(more), None),
        (None, None, None),
        (Some(next), None, Some(next)),
    ] {
        stamps.set(set);
        for (seq, good) in [(today, good_today), (tomorrow, good_tomorrow)] {
            assert_eq!(stamps.best(&rank, seq), good);
            assert_eq!(stamps.work(&rank, seq), good.map_or(0, Stamp::bits));
        }
    }
}

#[test]
fn the_tag_of_an_asker_is_two_bytes_of_its_hash() {
    let asker = keypair(1).public().to_peer_id();
    let hash = Sha256::digest(asker.to_bytes());
    let tag = AskerTag::of(&asker);
    assert_eq!(tag.to_bytes()[..], hash[..2]);
    let mut answer = b"\x7a\x00".to_vec();
    tag.append_to(&mut answer);
    assert_eq!(answer, [b"\x7a\x00\x1a\x02", &hash[..2]].concat());
    assert_eq!(AskerTag::of_answer(&answer), Some(tag));
}

#[test]
fn clocks_are_microseconds_that_grow() {
    let now = Timestamp::from_millis(5);
    assert_eq!(Seq::next(None, now), Seq::from_micros(5_000));
    for (last, next) in [(4_998, 5_000), (4_999, 5_000), (5_000, 5_001), (9_000, 9_001)] {
        assert_eq!(Seq::next(Some(Seq::from_micros(last)), now).as_micros(), next);
    }
    assert_eq!(Seq::last_at(now).as_micros(), 5_999);
    assert_eq!(
        (Seq::last_at(now).issued_at(), Seq::from_micros(6_000).issued_at().as_millis()),
        (now, 6)
    );
    assert_eq!(Seq::from_micros(42).to_string(), "42");
    let position = Position { seq: Seq::from_micros(42), hash: [0xab; 32] };
    assert_eq!(format!("{position:?}"), "42/abababab");
}

#[test]
fn a_limit_allows_as_much_as_it_says() {
    let limits = Limits::default().with_key_bytes(3);
    assert_eq!(limits.check_key(&RecordKey::new("abc")), Ok(()));
    let error = limits.check_key(&RecordKey::new("abcd")).unwrap_err();
    assert_eq!((error.limit, error.got, error.max), (Limit::KEY_BYTES, Some(4), 3));
    assert_eq!(Limit::KEY_BYTES.to_string(), "the key (bytes)");
    for (got, fits) in [(0, true), (6, true), (7, true), (8, false), (9, false)] {
        assert_eq!(Limit::UPDATE_BYTES.check(got, 7).is_ok(), fits);
    }
    let most = smart_record_core::MAX_SIGNATURE_BYTES;
    assert!(check_signature_len(&vec![0; most]).is_ok());
    assert!(check_signature_len(&vec![0; most + 1]).is_err());
    let zero = |nanos| smart_record_core::ZeroLifetime::check(Duration::from_nanos(nanos)).is_err();
    assert_eq!([0, 999_999, 1_000_000].map(zero), [true, true, false]);
}

#[test]
fn the_rest_of_a_value_is_unread_once_the_allowed_work_is_done() {
    let value = record(&[&merge(1, "a"), &merge(2, "b"), &merge(3, "c")]).encode();
    let known = SmartRecord::new(key());
    let read = |allowed| {
        let memory = SignatureMemory::new(1_024);
        let read = || {
            assert_eq!(check_signature_work(), Ok(()));
            let rules = SpaceRules::default();
            let (read, refusals) = rules.read_knowing(&known, value.clone().into(), at(0)).unwrap();
            let updates = read.space(&writer()).unwrap().updates().len();
            let refused: Vec<_> = refusals.into_entries().map(|it| (it.count, it.reason)).collect();
            (updates, refused, check_signature_work())
        };
        let (read, _) = memory.during(allowed, read);
        (read, memory.counts().verified)
    };
    assert_eq!(read(Duration::MAX), ((3, vec![], Ok(())), 3));
    let micros = Duration::from_micros(1);
    let error = LimitExceeded { limit: Limit::SIGNATURE_WORK, got: None, max: 1 };
    let refused = vec![(2, ValidationError::LimitExceeded(error.clone()))];
    assert_eq!(read(micros), ((1, refused, Err(error)), 1));
}

#[test]
fn what_was_verified_together_is_not_verified_again() {
    let updates: Vec<_> = (1..=6).map(|n| merge(n, "a")).collect();
    let all = record(&updates.iter().collect::<Vec<_>>());
    let (rules, nothing, mut refusals) = (SpaceRules::default(), Space::new(), Refusals::default());
    let mut opened = rules.open(&key(), all.encode().into(), &mut refusals).unwrap();
    let together = opened.iter_mut().map(|(writer, updates)| (&*writer, &nothing, updates));
    rules.verify_together(&key(), together.collect(), Some(at(0)));
    let (writer, updates) = opened.remove(0);
    let memory = SignatureMemory::new(1_024);
    let (merged, _) = memory.during(Duration::ZERO, || {
        writer.verify_bytes(b"", b"").unwrap_err();
        assert!(check_signature_work().is_err(), "nothing more is verified");
        let updates = Incoming::Unverified(updates);
        rules.merge(&key(), &writer, Space::new(), updates, Some(at(0)), &mut refusals)
    });
    assert_eq!((merged.admitted, refusals.first()), (6, None));
    assert_eq!(memory.counts().verified, 1);
}

#[test]
fn the_digest_of_a_space_is_that_of_its_rank_and_retained_positions() {
    let rank = writer().rank(&key());
    let (short, long) =
        (merge(1, "short"), update(2, MINUTE, 2 * MINUTE, UpdateKind::Merge, "long"));
    let digest = |updates: &[&Signed]| -> [u8; 32] {
        let mut hash = Sha256::new().chain_update(rank);
        for update in updates {
            hash.update(update.seq().as_micros().to_be_bytes());
            hash.update(Sha256::digest(update.as_bytes()));
        }
        hash.finalize().into()
    };
    let space = space(&[&short, &long]);
    let whole = |now| record(&[&short, &long]).digest(at(now));
    let of_all = |digests: &[[u8; 32]]| -> [u8; 32] { Sha256::digest(digests.concat()).into() };
    for (now, retained) in [
        (0, vec![&short, &long]),
        (MINUTE - 1, vec![&short, &long]),
        (MINUTE, vec![&long]),
        (2 * MINUTE - 1, vec![&long]),
    ] {
        assert_eq!(space.digest(&rank, at(now)), Some(digest(&retained)));
        assert_eq!(whole(now), of_all(&[digest(&retained)]));
    }
    assert_eq!(space.digest(&rank, at(2 * MINUTE)), None);
    assert_eq!(whole(2 * MINUTE), of_all(&[]));
    // Of several spaces in ascending order of rank, whatever the order of the writers.
    let crowd = crowd(&[1, 2, 3, 4, 5], &[6]);
    let mut digests: Vec<_> = crowd
        .spaces()
        .map(|(writer, space)| (writer.rank(&key()), space))
        .map(|(rank, space)| (rank, space.digest(&rank, at(0)).unwrap()))
        .collect();
    digests.sort();
    let digests: Vec<_> = digests.into_iter().map(|(_, digest)| digest).collect();
    assert_eq!(crowd.digest(at(0)), of_all(&digests));
    assert_eq!(SmartRecord::digest_of(digests.iter().copied()), of_all(&digests));
}

#[test]
fn arcs_touch_at_the_next_place_and_end_at_their_last() {
    const END: u64 = u64::MAX;
    let arcs = |arcs: &[(u64, u64)]| {
        let mut all = Arcs::new();
        all.add(arcs.iter().map(|(first, last)| RingArc { first: *first, last: *last }));
        all
    };
    let places = |all: &Arcs, max: u64| (0..max).filter(|n| all.has(*n)).collect::<Vec<_>>();
    assert_eq!(arcs(&[(2, 3), (4, 5)]), arcs(&[(2, 5)]));
    assert_ne!(arcs(&[(2, 3), (5, 6)]), arcs(&[(2, 6)]));
    assert_eq!(places(&arcs(&[(2, 3), (5, 6), (6, 6)]), 9), [2, 3, 5, 6]);
    assert_eq!(places(&arcs(&[(4, 4)]), 9), [4], "one place");
    assert_eq!(arcs(&[(4, 4)]).rest(), 1.0);
    let last = arcs(&[(END, END)]);
    assert!(last.has(END) && !last.has(0) && !last.has(END - 1));
    // Half of the ring, a quarter, all but a quarter.
    let part = |n: u64| arcs(&[(1, n << 62)]);
    assert_eq!([part(1), part(2), part(3)].map(|arcs| arcs.share()), [0.25, 0.5, 0.75]);
    assert_eq!([part(1), part(2), part(3)].map(|arcs| arcs.rest()), [0.75, 0.5, 0.25]);
    assert_eq!((Arcs::ring().share(), Arcs::ring().rest()), (1.0, 0.0));
    assert!(Arcs::ring().is_ring() && !part(2).is_ring() && !Arcs::new().is_ring());
    assert_eq!((Arcs::new().share(), Arcs::new().rest()), (0.0, 1.0));
    // What is in both, in two of three, in all.
    let sets = [arcs(&[(0, 5)]), arcs(&[(3, 8)]), arcs(&[(5, 6), (8, 8)])];
    assert_eq!(sets[0].and(&sets[1]), arcs(&[(3, 5)]));
    assert_eq!(sets[0].and(&arcs(&[(6, 9)])), Arcs::new());
    let shared = |n| places(&Arcs::shared(&sets, n), 20);
    assert_eq!(shared(1), (0..=8).collect::<Vec<_>>());
    assert_eq!(shared(2), [3, 4, 5, 6, 8]);
    assert_eq!(shared(3), [5]);
    assert!(shared(4).is_empty());
    assert!(Arcs::shared(&sets, 0).is_ring());
    assert!(Arcs::shared([&Arcs::ring(), &Arcs::ring()], 2).is_ring());
    assert_eq!(RingArc::place(&std::array::from_fn(|i| i as u8 + 1)), 0x0102_0304_0506_0708);
}

#[test]
fn a_coverage_has_the_bytes_that_it_always_had() {
    let coverage = Coverage::new([RingArc { first: 1, last: 2 }], 3, [4; 32]);
    let mut answer = b"\x7a\x00".to_vec();
    coverage.append_to(&mut answer);
    let mut expected = b"\x7a\x00\x12\x36\x0a\x10".to_vec();
    expected.extend([0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2]);
    expected.extend(b"\x10\x03\x1a\x20");
    expected.extend([4; 32]);
    assert_eq!(answer, expected);
    assert_eq!(coverage.arcs(), [RingArc { first: 1, last: 2 }]);
    assert_eq!(Coverage::of_answer(&answer), Some(coverage));
    // Eight arcs and the largest number of spaces: 3 + (2 + 1 + 8 × 16) + 6 + (2 + 32) bytes.
    assert_eq!(Coverage::MAX_BYTES, 174);
    let most = Coverage::new([RingArc::RING; 9], u32::MAX, [4; 32]);
    let mut answer = Vec::new();
    most.append_to(&mut answer);
    assert_eq!((answer.len(), most.arcs().len()), (Coverage::MAX_BYTES, Coverage::MAX_ARCS));
    assert_eq!(Coverage::of_answer(&answer), Some(most));
    // One more arc than there may be.
    let mut coverage = vec![0x0a, 0x90, 0x01];
    coverage.extend([0; 9 * 16]);
    coverage.extend(b"\x10\x03\x1a\x20");
    coverage.extend([4; 32]);
    let mut answer = Vec::new();
    prost::encoding::bytes::encode(2, &coverage, &mut answer);
    assert_eq!(Coverage::of_answer(&answer), None);
}

#[test]
fn a_view_says_whether_what_is_set_is_news() {
    let record = crowd(&[2, 3], &[]);
    let [(one, shown), (other, _)] = &record.spaces().collect::<Vec<_>>()[..] else {
        panic!("two writers")
    };
    let shown = shown.view(at(0));
    let mut view = View::default();
    let later = shown.clone().map(|view| SpaceView { expires_at: at(2 * MINUTE), ..view });
    for (writer, space, is_news, len) in [
        (one, None, false, 0),
        (one, shown.clone(), true, 1),
        (one, shown.clone(), false, 1),
        (other, shown.clone(), true, 2),
        (one, later, true, 2),
        (one, shown.clone(), true, 2),
        (one, None, true, 1),
        (one, None, false, 1),
    ] {
        assert_eq!(view.set(writer, space.clone()), is_news);
        assert_eq!((view.len(), view.get(&writer.peer_id()).cloned()), (len, space));
    }
}
