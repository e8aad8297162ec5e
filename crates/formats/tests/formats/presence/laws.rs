//! The laws: the state of a replica does not depend on the order in which announcements arrive.

use super::*;

use std::sync::OnceLock;

use proptest::{collection::vec, prelude::*, sample::Index, test_runner::FileFailurePersistence};
use prost::Message;

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource(
            "proptest-regressions",
        ))),
        ..ProptestConfig::default()
    }
}

/// The range of the times.
const SPAN: i64 = 40;

fn our_key() -> PresenceKey {
    PresenceKey::of(id(&ed25519(200)))
}

fn key() -> RecordKey {
    our_key().as_record_key().clone()
}

/// Announcements and withdrawals at nodes with keys of all types, made at few different times, some
/// twice with different signatures.
fn pool() -> &'static [PresenceEntry] {
    static POOL: OnceLock<Vec<PresenceEntry>> = OnceLock::new();
    POOL.get_or_init(|| {
        let nodes: Vec<_> = all_types().into_iter().chain((2..6).map(node)).collect();
        let mut pool = Vec::new();
        for (n, node) in nodes.iter().enumerate() {
            for i in 0..8_i64 {
                let (n, ttl) = (n as i64, 1 + (i * 7) % SPAN);
                let mut draft = Draft::of(&ed25519(200), node).made((n + i * 3) % SPAN).living(ttl);
                if i % 3 == 1 {
                    draft = draft.with(|m| m.retain_until = Some(m.expiration_date + 1 + i));
                } else if i % 3 == 2 {
                    let withdrawn = Draft::withdrawn(1);
                    draft = draft.with(|m| {
                        m.kind = withdrawn.message.kind;
                        m.handshake_key.clear();
                        m.presence_key.clear();
                    });
                    draft = draft.signed_by(withdrawn.by_client, None);
                }
                for signed in [draft.signed(), draft.signed_again(200)] {
                    let bytes = signed.encode_to_vec();
                    pool.push(PresenceEntry::decode(&our_key(), bytes, &limits(8, 0)).unwrap());
                }
            }
        }
        pool
    })
}

/// Limits with room for this many nodes, and for this many bytes less than the default.
fn limits(nodes: usize, less: usize) -> PresenceLimits {
    PresenceLimits::default()
        .with_nodes_per_client(nodes)
        .with_announcement_bytes(1_536)
        .with_record_bytes(8_192 - less)
}

fn any_limits() -> impl Strategy<Value = PresenceLimits> {
    (1..10_usize, 0..6_000_usize).prop_map(|(nodes, less)| limits(nodes, less))
}

/// A record of some entries of the pool, as a replica might have it.
fn record_of(picks: &[Index], limits: &PresenceLimits) -> PresenceRecord {
    let mut record = PresenceRecord::new(our_key());
    for pick in picks {
        record.insert(pick.get(pool()).clone()).unwrap();
    }
    record.truncate(limits);
    record
}

fn picks() -> impl Strategy<Value = Vec<Index>> {
    vec(any::<Index>(), 1..8)
}

fn refs(values: &[Vec<u8>]) -> Vec<&[u8]> {
    values.iter().map(Vec::as_slice).collect()
}

fn join(rules: &PresenceValidator, values: &[Vec<u8>]) -> Vec<u8> {
    rules.consolidate(&key(), &refs(values)).unwrap()
}

fn positions(value: &[u8]) -> Vec<(libp2p_identity::PeerId, Timestamp)> {
    PresenceRecord::decode(&our_key(), value.to_vec(), &limits(10, 0))
        .unwrap()
        .entries()
        .map(|entry| (entry.node(), entry.created_at()))
        .collect()
}

proptest! {
    #![proptest_config(config(48))]

    #[test]
    fn consolidating_is_a_semilattice(
        sets in vec(picks(), 3),
        limits in any_limits(),
    ) {
        let rules = PresenceValidator::new(limits.clone());
        let values: Vec<_> = sets.iter().map(|set| record_of(set, &limits).encode()).collect();
        let [a, b, c] = &values[..] else { unreachable!() };
        let (a, b, c) = (a.clone(), b.clone(), c.clone());
        // Idempotent, for a record within the limits.
        prop_assert_eq!(&join(&rules, std::slice::from_ref(&a)), &a);
        prop_assert_eq!(&join(&rules, &[a.clone(), a.clone()]), &a);
        // Commutative.
        let ab = join(&rules, &[a.clone(), b.clone()]);
        prop_assert_eq!(&join(&rules, &[b.clone(), a.clone()]), &ab);
        // Associative, also in one join of all.
        let bc = join(&rules, &[b.clone(), c.clone()]);
        let all = join(&rules, &[a.clone(), b.clone(), c.clone()]);
        prop_assert_eq!(&join(&rules, &[ab.clone(), c.clone()]), &all);
        prop_assert_eq!(&join(&rules, &[a.clone(), bc]), &all);
        // Absorbing.
        prop_assert_eq!(&join(&rules, &[ab.clone(), a.clone()]), &ab);
        prop_assert_eq!(&join(&rules, &[all.clone(), ab.clone(), b]), &all);
        // The result is valid and within the limits.
        prop_assert!(all.len() <= limits.record_bytes());
        let decoded = PresenceRecord::decode(&our_key(), all, &limits).unwrap();
        prop_assert!(decoded.entries().len() <= limits.nodes_per_client());
        // The result is the join of the records.
        let mut joined = PresenceRecord::new(our_key());
        for set in sets.iter().rev() {
            joined.join(record_of(set, &limits)).unwrap();
        }
        joined.truncate(&limits);
        prop_assert_eq!(decoded, joined);
    }

    #[test]
    fn truncating_before_or_after_a_join_is_the_same(
        (a, b) in (picks(), picks()),
        limits in any_limits(),
    ) {
        let whole = self::limits(10, 0).with_record_bytes(1 << 20);
        let mut before = record_of(&a, &limits);
        before.join(record_of(&b, &limits)).unwrap();
        before.truncate(&limits);
        let mut after = record_of(&a, &whole);
        after.join(record_of(&b, &whole)).unwrap();
        after.truncate(&limits);
        prop_assert_eq!(before, after);
    }

    #[test]
    fn selecting_does_not_depend_on_the_order(
        sets in vec(picks(), 1..5),
        shuffle in any::<u64>(),
        junk in vec(any::<u8>(), 0..20),
    ) {
        let limits = limits(8, 0);
        let rules = PresenceValidator::new(limits.clone());
        let mut values: Vec<_> = sets.iter().map(|set| record_of(set, &limits).encode()).collect();
        values.push(junk);
        let best = rules.select(&key(), &refs(&values)).unwrap();
        let selected = values[best].clone();
        prop_assert_eq!(values.iter().position(|v| *v == selected), Some(best));
        let by = (shuffle % values.len() as u64) as usize;
        values.rotate_left(by);
        if shuffle % 2 == 0 {
            values.reverse();
        }
        let best = rules.select(&key(), &refs(&values)).unwrap();
        prop_assert_eq!(&values[best], &selected);
        // A third record does not change it: the order is transitive.
        for value in &values[..values.len() - 1] {
            let pair = [selected.clone(), value.clone()];
            if let Ok(best) = rules.select(&key(), &refs(&pair)) {
                prop_assert_eq!(&pair[best], &selected);
            }
        }
    }

    #[test]
    fn encoding_and_decoding_gives_the_same(set in picks(), limits in any_limits()) {
        let record = record_of(&set, &limits);
        let bytes = record.encode();
        let decoded = PresenceRecord::decode(&our_key(), bytes.clone(), &limits).unwrap();
        prop_assert_eq!(&decoded, &record);
        prop_assert_eq!(decoded.encode(), bytes);
    }

    #[test]
    fn collecting_changes_no_later_view(
        set in picks(),
        (a, b) in (0..3 * SPAN, 0..3 * SPAN),
    ) {
        let record = record_of(&set, &limits(8, 0));
        let (then, now) = (at(NOW + a.min(b)), at(NOW + a.max(b)));
        let mut collected = record.clone();
        collected.collect(then);
        prop_assert!(collected.view(now).eq(record.view(now)));
        // A reader at that time sees the view of a replica.
        let rules = PresenceValidator::new(limits(8, 0));
        if let Ok(read) = rules.read(&key(), &record.encode(), now) {
            prop_assert!(read.view(now).eq(record.view(now)));
        }
    }

    #[test]
    fn a_collected_value_reads_the_same(
        set in picks(),
        (a, b) in (0..3 * SPAN, 0..3 * SPAN),
    ) {
        let rules = PresenceValidator::new(limits(8, 0));
        let (then, now) = (at(NOW + a.min(b)), at(NOW + a.max(b)));
        let whole = record_of(&set, rules.limits());
        let value = whole.encode();
        let collected = rules.collect(&key(), &value, then);
        // Some values are removed, and some are left.
        let left = whole.entries().filter(|entry| entry.retain_until() > then).count();
        prop_assert_eq!(collected.is_some(), 0 < left && left < whole.entries().len());
        let rest = collected.unwrap_or_else(|| value.clone());
        prop_assert_eq!(rules.collect(&key(), &rest, then), None);
        let read = |value: &[u8]| rules.read(&key(), value, now).ok();
        prop_assert_eq!(read(&rest), read(&value));
        let validate = |value: &[u8]| rules.validate(&key(), value, now).ok();
        prop_assert_eq!(validate(&rest), validate(&value));
    }

    #[test]
    fn what_is_contained_adds_nothing(
        (a, b) in (picks(), picks()),
    ) {
        let limits = limits(8, 0);
        let rules = PresenceValidator::new(limits.clone());
        let (a, b) = (record_of(&a, &limits).encode(), record_of(&b, &limits).encode());
        let all = join(&rules, &[a.clone(), b.clone()]);
        prop_assert!(rules.contains(&key(), &a, &a));
        let stale = positions(&a).iter().any(|position| !positions(&all).contains(position));
        prop_assert_eq!(rules.contains(&key(), &all, &a), !stale);
        if rules.contains(&key(), &a, &b) {
            prop_assert_eq!(positions(&all), positions(&a));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(
        set in picks(),
        changes in vec((any::<Index>(), any::<u8>()), 1..4),
        cut in any::<Index>(),
    ) {
        let rules = PresenceValidator::new(limits(8, 0));
        let mut bytes = record_of(&set, rules.limits()).encode();
        let good = bytes.clone();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let cut = cut.index(bytes.len());
        for value in [&bytes[..], &bytes[..cut], &bytes[cut..]] {
            // A changed byte is never accepted. A record that is cut off between two values may be.
            if rules.validate(&key(), value, at(NOW)).is_ok() {
                prop_assert!(good.starts_with(value) && rules.contains(&key(), &good, value));
            }
            let _ = rules.read(&key(), value, at(NOW + SPAN));
            let joined = rules.consolidate(&key(), &[value, &good]).unwrap();
            prop_assert_eq!(joined, good.clone());
            let _ = rules.contains(&key(), &good, value);
        }
    }
}
