//! Ancestry: forks, false claims, missing records.

use super::*;

fn first(value: &str) -> IprsRecord {
    sign(Ancestry::first(value))
}

fn child(value: &str, parent: &IprsRecord) -> IprsRecord {
    sign(Ancestry::child(value, parent).unwrap())
}

fn chain<'a>(records: impl IntoIterator<Item = &'a IprsRecord>) -> Chain {
    let mut chain = Chain::new(key());
    for record in records {
        chain.insert(record.clone()).unwrap();
    }
    chain
}

/// A record that claims any position.
fn claiming(height: u64, parent: &IprsRecord) -> IprsRecord {
    let validity =
        map([("height", Ipld::Integer(height.into())), ("parent", Ipld::Link(parent.cid()))]);
    validator().decode(&key(), &with_validity(parent, validity)).unwrap()
}

fn wins(best: &IprsRecord, other: &IprsRecord) {
    for (values, index) in
        [([best.as_bytes(), other.as_bytes()], 0), ([other.as_bytes(), best.as_bytes()], 1)]
    {
        assert_eq!(validator().select(&key(), &values), Ok(index));
    }
}

#[test]
fn a_descendant_beats_its_ancestors() {
    let mut line = vec![first("0")];
    for n in 1..20 {
        line.push(child(&n.to_string(), line.last().unwrap()));
    }
    for (i, ancestor) in line.iter().enumerate() {
        for descendant in &line[i + 1..] {
            wins(descendant, ancestor);
        }
    }
    let chain = chain(&line);
    assert_eq!(chain.head(), line.last());
    assert_eq!(chain.tips(), [&line[19]]);
    assert!(chain.forks().is_empty() && chain.missing().is_empty() && chain.lies().is_empty());
    let ancestors = line[..19].iter().rev().map(IprsRecord::cid).collect();
    assert_eq!(chain.lineage(line[19].cid()), Some(Lineage { ancestors, missing: None }));
}

#[test]
fn a_child_keeps_the_version_of_its_parent() {
    let parent = sign(Ancestry::first("0").with_version(3));
    let child = child("1", &parent);
    assert_eq!(child.version(), 3);
    wins(&child, &parent);
}

#[test]
fn a_fork_is_decided_the_same_way_everywhere_and_reported() {
    let root = first("root");
    let (a, b) = (child("a", &root), child("b", &root));
    let (best, other) = if a.cid() > b.cid() { (&a, &b) } else { (&b, &a) };
    wins(best, other);
    let longer = child("c", other);
    // The longer branch wins, whatever its root.
    wins(&longer, best);

    let forked = chain([&longer, &a, &root, &b]);
    let children = vec![best.cid(), other.cid()];
    assert_eq!(forked.forks(), [Fork { parent: Some(root.cid()), children: children.clone() }]);
    let fork = Relation::Fork { parent: Some(root.cid()) };
    assert_eq!(forked.relation(best.cid(), longer.cid()), fork);
    assert_eq!(forked.relation(longer.cid(), best.cid()), fork);
    assert_eq!(forked.tips(), [&longer, best]);
    assert_eq!(forked.head(), Some(&longer));

    // Their links prove the fork, although the root itself is missing.
    let rootless = chain([&a, &b]);
    assert_eq!(rootless.forks(), [Fork { parent: Some(root.cid()), children }]);
    assert_eq!(rootless.relation(a.cid(), b.cid()), fork);
}

#[test]
fn two_beginnings_are_a_fork() {
    let (a, b) = (first("a"), first("b"));
    let c = child("c", &a);
    let chain = chain([&a, &b, &c]);
    let fork = &chain.forks()[0];
    assert_eq!((fork.parent, fork.children.len()), (None, 2));
    assert_eq!(chain.relation(c.cid(), b.cid()), Relation::Fork { parent: None });
}

#[test]
fn a_missing_ancestor_is_named_and_nothing_is_guessed() {
    let root = first("0");
    let one = child("1", &root);
    let two = child("2", &one);
    let three = child("3", &two);
    let gap = chain([&root, &three]);
    let missing = [two.cid()].into();
    assert_eq!(gap.missing(), missing);
    assert_eq!(
        gap.lineage(three.cid()),
        Some(Lineage { ancestors: vec![], missing: Some(two.cid()) })
    );
    let unknown = Relation::Unknown { missing };
    assert_eq!(gap.relation(three.cid(), root.cid()), unknown);
    assert_eq!(gap.relation(root.cid(), three.cid()), unknown);
    // The links give an answer even for a record that is missing.
    assert_eq!(gap.relation(three.cid(), two.cid()), Relation::Descendant);
    assert_eq!(gap.relation(two.cid(), three.cid()), Relation::Ancestor);
    assert_eq!(gap.lineage(two.cid()), None);
    // There is no answer for an unknown record.
    let missing = [one.cid(), two.cid()].into();
    assert_eq!(gap.relation(one.cid(), three.cid()), Relation::Unknown { missing });

    // After one more record the next one is missing. The last one gives the answer.
    let mut full = gap;
    full.insert(two.clone()).unwrap();
    let missing = [one.cid()].into();
    assert_eq!(full.relation(three.cid(), root.cid()), Relation::Unknown { missing });
    full.insert(one).unwrap();
    assert_eq!(full.relation(three.cid(), root.cid()), Relation::Descendant);
    assert_eq!(full.relation(root.cid(), three.cid()), Relation::Ancestor);
    assert_eq!(full.relation(root.cid(), root.cid()), Relation::Same);
}

#[test]
fn a_lying_height_wins_the_order_and_is_found_out() {
    let root = first("0");
    let honest = child("1", &root);
    for claimed in [2, 1_000, u64::MAX] {
        let liar = claiming(claimed, &root);
        // The order alone cannot detect this.
        wins(&liar, &honest);
        let lie = FalseClaim::Height { record: liar.cid(), claimed, expected: Some(1) };
        assert_eq!(chain([&liar, &root, &honest]).lies(), [lie]);
        // The chain's answers rest on links, not on heights.
        let chain = chain([&liar, &root, &honest]);
        let fork = Relation::Fork { parent: Some(root.cid()) };
        assert_eq!(chain.relation(liar.cid(), honest.cid()), fork);
    }
    // Without the parent there is no answer.
    let liar = claiming(1_000, &root);
    assert_eq!(chain([&liar]).lies(), []);
    assert_eq!(chain([&liar]).missing(), [root.cid()].into());
    // Too low a height loses to its own ancestor.
    let two = child("2", &honest);
    let low = claiming(1, &two);
    wins(&two, &low);
    let lie = FalseClaim::Height { record: low.cid(), claimed: 1, expected: Some(3) };
    assert_eq!(chain([&two, &low]).lies(), [lie]);
}

#[test]
fn nothing_follows_on_the_greatest_height() {
    let last = claiming(u64::MAX, &first("0"));
    assert!(Ancestry::child("more", &last).is_err());
    let liar = claiming(1, &last);
    let lie = FalseClaim::Height { record: liar.cid(), claimed: 1, expected: None };
    assert!(chain([&last, &liar]).lies().contains(&lie));
}

#[test]
fn a_lower_version_than_the_parent_s_is_a_lie() {
    let parent = sign(Ancestry::first("0").with_version(3));
    let child = sign(Ancestry::child("1", &parent).unwrap().with_version(2));
    let lie = FalseClaim::Version { record: child.cid(), claimed: 2, at_least: 3 };
    assert_eq!(chain([&parent, &child]).lies(), [lie]);
    wins(&parent, &child);
    // A higher version is allowed.
    let child = sign(Ancestry::child("1", &parent).unwrap().with_version(4));
    assert_eq!(chain([&parent, &child]).lies(), []);
}

#[test]
fn a_chain_takes_only_its_own_records() {
    let mut chain = Chain::new(key());
    let elsewhere = Ancestry::first("x").sign(&key_of(&alice(), "y"), &alice()).unwrap();
    assert!(matches!(chain.insert(elsewhere), Err(ChainError::OtherKey { .. })));
    let other = sign(SequenceNumber::record("x", 1));
    assert!(matches!(chain.insert(other.clone()), Err(ChainError::Record(_))));
    assert!(Ancestry::child("x", &other).is_err());
    assert_eq!(chain.records().len(), 0);
    assert_eq!(chain.head(), None);
}

#[test]
fn the_answers_of_a_lookup_tell_of_a_fork() {
    let root = first("root");
    let (a, b) = (child("a", &root), child("b", &root));
    let other = sign(SequenceNumber::record("x", 1));
    let values = [b.as_bytes(), b"junk", a.as_bytes(), other.as_bytes(), a.as_bytes()];
    let chain = validator().chain(&key(), &values);
    assert_eq!(chain.records().len(), 2);
    assert_eq!(chain.forks().len(), 1);
}
