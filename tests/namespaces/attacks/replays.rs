//! Valid updates at the wrong time, in the wrong order, or in too great a number.

use libp2p_smart_record::{Fault, ValidationError, store::StoreEvent};

use super::*;

/// All permutations of a few items.
pub(crate) fn orders<T: Clone>(things: &[T]) -> Vec<Vec<T>> {
    if things.is_empty() {
        return vec![Vec::new()];
    }
    (0..things.len())
        .flat_map(|first| {
            let mut rest = things.to_vec();
            let head = rest.remove(first);
            orders(&rest).into_iter().map(move |mut tail| {
                tail.insert(0, head.clone());
                tail
            })
        })
        .collect()
}

/// Checks that these spaces give one state, whatever the order and grouping of their arrival.
/// Returns the state.
pub(crate) fn converges(spaces: &[Space]) -> Vec<u8> {
    let mut states = Vec::new();
    for order in orders(spaces) {
        let mut one_by_one = Replica::new();
        for space in &order {
            one_by_one.hears([space.clone()]);
        }
        let mut at_once = Replica::new();
        at_once.hears(order.clone());
        // A second time, which must not matter.
        at_once.hears(order.iter().rev().cloned());
        let values: Vec<_> = order.iter().map(|space| encode([space.clone()])).collect();
        let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
        states.extend([
            one_by_one.stored().unwrap(),
            at_once.stored().unwrap(),
            consolidate(&values).unwrap(),
            consolidate(&[&encode(order)]).unwrap(),
        ]);
    }
    let state = states.pop().unwrap();
    for other in states {
        assert_eq!(other, state);
    }
    state
}

#[test]
fn a_replay_after_a_replace_brings_nothing_back() {
    let old = alice().says(&Update::saying(1));
    let new = alice().says(&Update::saying(3).after(1).replacing());
    let (bob, neighbour) = neighbour();

    let mut replica = Replica::new();
    replica.hears([old.clone()]);
    replica.hears([new.clone()]);
    let before = replica.stored();
    let events = replica.hears([old.clone(), neighbour.clone()]);
    assert_eq!(reasons(&events), [ValidationError::Stale]);
    let counters = replica.store.counters();
    assert_eq!(counters.refused.get(&Fault::Stale), Some(&1));
    // The neighbour that was sent with it is stored, and Alice's space is unchanged.
    assert_ne!(replica.stored(), before);
    let view = replica.view();
    assert!(view.get(&bob.peer_id()).is_some());
    let document = &view.get(&alice().peer_id()).unwrap().document;
    assert_eq!(document.to_string(), r#"{"k": 3}"#);

    assert_eq!(converges(&[old, new.clone()]), encode([new]));
}

#[test]
fn a_replay_after_a_withdrawal_brings_nothing_back() {
    let old = alice().says(&Update::saying(1));
    let gone = alice().says(
        &Update { expires_at: 0, retain_until: Some(NOW + TTL), ..Update::of(Vec::new()) }
            .after(1)
            .replacing(),
    );
    let state = converges(&[old.clone(), gone.clone()]);
    assert!(read(&state).view(at(NOW)).is_empty());

    // The withdrawal is kept for as long as the hidden updates could be replayed.
    let mut replica = Replica::new();
    replica.hears([old.clone()]);
    replica.hears([gone]);
    for now in [NOW, NOW + TTL - 1, NOW + TTL, NOW + TTL + 1] {
        replica.clock.set(at(now));
        let events = replica.hears([old.clone()]);
        let refused = reasons(&events);
        assert_eq!(refused.len(), 1);
        assert!(matches!(refused[0].fault(), Fault::Stale | Fault::Expired));
        assert!(replica.view().is_empty());
    }
}

#[test]
fn an_old_replace_removes_nothing_newer() {
    let replace = alice().says(&Update::of(Vec::new()).replacing());
    let newer = alice().says(&Update::saying(3).after(1));
    let view = read(&converges(&[newer, replace])).view(at(NOW));
    let document = &view.get(&alice().peer_id()).unwrap().document;
    assert_eq!(document.to_string(), r#"{"k": 3}"#);
}

#[test]
fn a_replay_is_recognised_and_changes_nothing() {
    let (_, neighbour) = neighbour();
    let spaces = [alice().says(&Update::saying(1)), neighbour];
    let mut replica = Replica::new();
    replica.hears(spaces.clone());
    let (before, usage) = (replica.stored(), replica.store.usage());
    for _ in 0..10 {
        assert_eq!(replica.hears(spaces.clone()), []);
    }
    assert_eq!(replica.stored(), before);
    assert_eq!(replica.store.usage(), usage);
    assert_eq!(replica.store.counters().known, 20);
    assert_eq!(replica.store.counters().admitted, 2);
}

#[test]
fn two_documents_at_one_seq_converge() {
    let spaces: Vec<_> = (0..4).map(|n| alice().says(&Update::saying(n))).collect();
    let state = converges(&spaces);
    // Both are kept, and all readers agree on which one counts.
    let record = read(&state);
    assert_eq!(record.space(&alice().writer()).unwrap().updates().len(), 4);
    let view = record.view(at(NOW));
    let newest = record.space(&alice().writer()).unwrap().updates().last().unwrap().document();
    let seen = &view.get(&alice().peer_id()).unwrap().document;
    assert_eq!(seen.to_string(), newest.to_string());
}

#[test]
fn a_merge_and_a_replace_at_one_seq_converge() {
    let spaces = [
        alice().says(&Update::saying(1)),
        alice().says(&Update::saying(2).replacing()),
        alice().says(&Update::saying(3).replacing()),
        alice().says(&Update::saying(4)),
    ];
    let state = converges(&spaces);
    let record = read(&state);
    let replaces = record
        .space(&alice().writer())
        .unwrap()
        .updates()
        .filter(|update| update.kind() == libp2p_smart_record::UpdateKind::Replace)
        .count();
    assert_eq!(replaces, 1);
}

#[test]
fn repeated_spaces_and_updates_are_harmless() {
    let update = alice().sign(&Update::saying(1));
    let (_, neighbour) = neighbour();
    let padded = [
        neighbour.clone(),
        alice().space([update.clone(), update.clone()]),
        alice().space([]),
        neighbour.clone(),
        alice().space([update.clone()]),
    ];
    let mut plain = vec![alice().space([update]), neighbour];
    plain.sort_by(|a, b| a.public_key.cmp(&b.public_key));
    let plain = encode(plain);

    assert_eq!(validate(padded.clone()).unwrap(), at(NOW + TTL));
    assert_eq!(consolidate(&[&encode(padded.clone())]).unwrap(), plain);
    let mut replica = Replica::new();
    let events = replica.hears(padded);
    assert_eq!(reasons(&events), []);
    assert!(matches!(&events[..], [StoreEvent::Stored { writers, .. }] if writers.len() == 2));
    assert_eq!(replica.stored().unwrap(), plain);
    assert_eq!(replica.store.counters().admitted, 2);
}

#[test]
fn a_padded_container_changes_nothing() {
    let plain = encode([alice().says(&Update::saying(1))]);
    // An unknown field after it, and the length of the space in a padded form.
    let unknown = [&plain[..], &field(99, b"padding")].concat();
    let rest = &plain[3..];
    assert_eq!(plain[..3], [0x0a, rest.len() as u8 & 0x7f | 0x80, 1]);
    let long = [&[0x0a, rest.len() as u8 & 0x7f | 0x80, 0x81, 0x00], rest].concat();
    for padded in [unknown, long] {
        assert_ne!(padded, plain);
        assert_eq!(consolidate(&[&padded]).unwrap(), plain);
        let mut replica = Replica::new();
        replica.put(&key(), padded);
        assert_eq!(replica.refusals(), []);
        assert_eq!(replica.stored().unwrap(), plain);
    }
}
