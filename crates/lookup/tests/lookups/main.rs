//! Lookups among a thousand modelled peers, some of which are silent, slow, or dishonest.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on has failed"
)]

mod network;

use std::{collections::BTreeSet, time::Duration};

use libp2p_identity::PeerId;
use smart_record_lookup::{
    Lookup, LookupConfig, LookupKind, NetworkSize, Place, RequestId, Requests, Subnet,
};

use crate::network::{Kind, MS, Network, Node, Outcome, Random};

const SECOND: Duration = Duration::from_secs(1);

fn key(n: usize) -> Place {
    Place::of_key(format!("/sr/{n}").as_bytes())
}

/// Ids close to the target, sorted: the first twenty are closer than any peer in a network of a
/// thousand.
fn close_ids(random: &mut Random, target: Place) -> Vec<PeerId> {
    let mut ids: Vec<_> = (0..40_000).map(|_| random.peer()).collect();
    ids.sort_by_cached_key(|id| target.distance_of(id));
    ids
}

/// A node that knows the size of the network.
fn experienced(network: &Network) -> Node {
    let mut node = Node::default();
    for n in 1_000..1_010 {
        node.run(network, network.lookup(0, key(n), LookupKind::Value));
    }
    assert!(node.size.estimate().is_some());
    node
}

#[test]
fn the_closest_are_found_in_few_steps() {
    let network = Network::new(&mut Random::new(1), 1_000);
    for n in 0..20 {
        let outcome = Node::default().run(&network, network.lookup(n, key(n), LookupKind::Value));
        let expected: Vec<_> =
            network.honest(key(n)).into_iter().filter(|id| *id != network.peers[n].id).collect();
        assert_eq!(outcome.closest, expected[..20]);
        assert!(outcome.asked.len() <= 50, "{}", outcome.asked.len());
        assert!(outcome.most_under_way <= 10);
        assert!(outcome.settled <= 600 * MS, "{:?}", outcome.settled);
    }
}

/// Answers with no further peers, or with those given.
fn answer(
    lookup: &mut Lookup,
    requests: &mut Requests,
    asked: &[(RequestId, PeerId)],
    named: &[PeerId],
) {
    for (id, peer) in asked {
        assert!(requests.on_answer(*id, 10 * MS).is_some());
        let named = named.iter().map(|peer| (*peer, BTreeSet::new()));
        lookup.on_answer(peer, BTreeSet::new(), named);
    }
}

#[test]
fn what_a_majority_has_is_known_after_two_groups_of_six() {
    let network = Network::new(&mut Random::new(21), 20);
    let start: Vec<_> = network.peers.iter().map(|peer| peer.id).collect();
    let own = Random::new(22).peer();
    let lookup = |start: &[PeerId]| {
        let config = LookupConfig::default().with_parallelism(6);
        let start = start.iter().map(|peer| (*peer, BTreeSet::new()));
        Lookup::new(key(0), LookupKind::Value, own, config, start)
    };
    let size = NetworkSize::default();
    let ask = |lookup: &mut Lookup, requests: &mut Requests| {
        std::iter::from_fn(|| lookup.next(requests, &size, Duration::ZERO)).collect::<Vec<_>>()
    };

    let (mut known, mut requests) = (lookup(&start), Requests::default());
    let first = ask(&mut known, &mut requests);
    assert_eq!(first.len(), 6);
    assert!(known.expects_answers(6, &size) && !known.expects_answers(7, &size));
    answer(&mut known, &mut requests, &first, &start);
    let mut closest = start.clone();
    closest.sort_by_key(|peer| key(0).distance_of(peer));
    assert_eq!(known.closest_known(&size), closest, "whether or not they were asked");
    assert!(known.has_answers(6, &size) && !known.has_answers(7, &size));
    let second = ask(&mut known, &mut requests);
    assert!(known.expects_answers(12, &size) && !known.has_answers(6, &size), "six are waited for");
    answer(&mut known, &mut requests, &second, &[]);
    assert!(known.has_answers(12, &size));
    assert!(!known.is_settled(&requests, &size, Duration::ZERO), "eight were not asked");

    // A peer that only one other has named may be closer than all, or not exist.
    let (mut unsure, mut requests) = (lookup(&start[..12]), Requests::default());
    let first = ask(&mut unsure, &mut requests);
    // Even if that one names it twice.
    let twice = [&start[12..], &start[12..]].concat();
    answer(&mut unsure, &mut requests, &first[..1], &twice);
    answer(&mut unsure, &mut requests, &first[1..], &[]);
    assert!(!unsure.has_answers(1, &size));
    let (mut sure, mut requests) = (lookup(&start[..12]), Requests::default());
    let first = ask(&mut sure, &mut requests);
    answer(&mut sure, &mut requests, &first, &start);
    assert!(sure.has_answers(6, &size));
}

#[test]
fn who_has_answered_keeps_its_place_whoever_is_named_in_its_subnet() {
    let mut random = Random::new(23);
    let ids = close_ids(&mut random, key(0));
    let (named, closest) = (&ids[..10], &ids[10..30]);
    let config = LookupConfig::default().with_parallelism(20);
    let start = closest.iter().map(|peer| (*peer, BTreeSet::new()));
    let mut lookup = Lookup::new(key(0), LookupKind::Value, random.peer(), config, start);
    let (mut requests, size) = (Requests::default(), NetworkSize::default());
    let asked = std::iter::from_fn(|| lookup.next(&mut requests, &size, Duration::ZERO));
    let asked: Vec<_> = asked.collect();
    assert_eq!(asked.len(), 20);
    for (n, (id, peer)) in asked.iter().enumerate() {
        assert!(requests.on_answer(*id, 10 * MS).is_some());
        // Two are of one subnet. The last one names others of it, which are closer.
        let subnets = if n < 2 { BTreeSet::from([subnet(1)]) } else { BTreeSet::new() };
        let named = named.iter().filter(|_| n == 19);
        let named = named.map(|peer| (*peer, BTreeSet::from([subnet(1)])));
        lookup.on_answer(peer, subnets, named);
    }
    assert_eq!(lookup.closest_known(&size), closest);
}

#[test]
fn concurrent_lookups_share_the_limit_of_a_node_and_find_the_closest() {
    let mut random = Random::new(12);
    let mut network = Network::new(&mut random, 500);
    network.turn(&mut random, 20, || Kind::Silent);
    let mut node = Node::default();
    let lookups = (0..40).map(|n| network.lookup(0, key(n), LookupKind::Value));
    let outcomes = node.run_all(&network, lookups);
    for (n, outcome) in outcomes.iter().enumerate() {
        let own = network.peers[0].id;
        let closest = network.closest(key(n)).into_iter().filter(|id| *id != own).take(20);
        for peer in closest.filter(|peer| network.is_honest(peer)) {
            assert!(outcome.closest.contains(&peer), "lookup {n}");
        }
        assert!(outcome.has_quorum && outcome.most_under_way <= 64);
        assert!(outcome.over <= 20 * SECOND, "{:?}", outcome.over);
    }
    assert_eq!(outcomes[0].most_under_way, 64, "the node was full");
}

#[test]
fn a_lookup_is_the_same_each_time() {
    let run = || {
        let mut random = Random::new(2);
        let mut network = Network::new(&mut random, 300);
        network.turn(&mut random, 30, || Kind::Silent);
        let mut node = Node::default();
        (0..10)
            .map(|n| node.run(&network, network.lookup(n, key(n), LookupKind::Value)))
            .collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}

#[test]
fn among_the_silent_the_slow_the_gone_and_garbage_the_closest_are_found() {
    let mut random = Random::new(3);
    let mut network = Network::new(&mut random, 1_000);
    for kind in [
        Kind::Silent,
        Kind::Gone,
        Kind::Garbage,
        Kind::Client,
        Kind::Honest(700 * MS),
        Kind::Honest(1_500 * MS),
    ] {
        network.turn(&mut random, 8, || kind.clone());
    }
    let mut node = Node::default();
    for n in 0..40 {
        let outcome = node.run(&network, network.lookup(n, key(n), LookupKind::Value));
        let own = network.peers[n].id;
        // An answer names the twenty closest peers that the peer knows, alive or not.
        let closest = network.closest(key(n)).into_iter().filter(|id| *id != own).take(20);
        for peer in closest.filter(|peer| network.is_honest(peer)) {
            assert!(outcome.closest.contains(&peer), "lookup {n}");
        }
        assert!(outcome.asked.len() <= 80, "{}", outcome.asked.len());
        assert!(outcome.over <= 10 * SECOND, "{:?}", outcome.over);
    }
}

#[test]
fn with_a_third_silent_a_node_that_has_met_them_does_not_wait_for_them() {
    let mut random = Random::new(4);
    let mut network = Network::new(&mut random, 21);
    network.peers[1..8].iter_mut().for_each(|peer| peer.kind = Kind::Silent);
    let mut node = Node::default();
    let first = node.run(&network, network.lookup(0, key(0), LookupKind::Value));
    assert!(first.settled <= 700 * MS, "{:?}", first.settled);
    for n in 1..20 {
        let outcome = node.run(&network, network.lookup(0, key(n), LookupKind::Value));
        assert_eq!((outcome.closest.len(), outcome.silent.len()), (13, 7));
        assert!(outcome.has_quorum);
        assert!(outcome.settled <= 300 * MS, "{:?}", outcome.settled);
        // They are asked last, because they may be back.
        let mut asked = outcome.asked.iter().map(|(_, peer)| network.is_honest(peer));
        assert!(asked.by_ref().take(13).all(|is_honest| is_honest));
        assert_eq!(asked.count(), 7);
    }
}

#[test]
fn who_was_silent_and_is_back_is_found_again() {
    let mut random = Random::new(5);
    let mut network = Network::new(&mut random, 21);
    let silent = network.peers[1].id;
    *network.kind_mut(&silent) = Kind::Silent;
    let mut node = Node::default();
    let lookup = |network: &Network| network.lookup(0, key(0), LookupKind::Value);
    let outcome = node.run(&network, lookup(&network));
    assert!(!outcome.closest.contains(&silent));
    *network.kind_mut(&silent) = Kind::Honest(10 * MS);
    let outcome = node.run(&network, lookup(&network));
    assert!(outcome.closest.contains(&silent));
    assert!(!node.requests.history().is_silent(&silent, node.now));
}

#[test]
fn liars_who_name_what_leads_nowhere_cost_a_few_requests() {
    let mut random = Random::new(6);
    let mut network = Network::new(&mut random, 1_000);
    let target = key(0);
    // Each liar names twenty invented peers, closer to the target than any real one.
    let fakes = close_ids(&mut random, target);
    let mut fakes = fakes.chunks(20);
    network.turn(&mut random, 8, || Kind::Liar(fakes.next().unwrap().to_vec()));
    for n in 0..20 {
        let outcome = Node::default().run(&network, network.lookup(n, target, LookupKind::Value));
        let own = network.peers[n].id;
        let expected = network.honest(target).into_iter().filter(|id| *id != own).take(18);
        for peer in expected {
            assert!(outcome.closest.contains(&peer), "lookup {n}");
        }
        assert!(outcome.asked.len() <= 128);
        assert!(outcome.settled <= 3 * SECOND, "{:?}", outcome.settled);
    }
}

#[test]
fn a_crowd_closer_than_is_plausible_is_told_and_hides_nobody() {
    let mut random = Random::new(7);
    let mut network = Network::new(&mut random, 1_000);
    let mut node = experienced(&network);
    let target = key(0);
    let honest: Vec<_> = network
        .honest(target)
        .into_iter()
        .filter(|id| *id != network.peers[0].id)
        .take(20)
        .collect();
    // Twenty sybils around the key name one another; their neighbours know them.
    let sybils = close_ids(&mut random, target)[..20].to_vec();
    for sybil in &sybils {
        network.add(*sybil, Kind::Liar(sybils.clone()));
    }
    for peer in &honest[..5] {
        *network.kind_mut(peer) = Kind::Liar(sybils.clone());
    }
    let outcome = node.run(&network, network.lookup(0, target, LookupKind::Value));
    let told = outcome.implausible.iter().filter(|peer| sybils.contains(peer)).count();
    assert!(told >= 15 && outcome.implausible.len() <= 25, "{told}");
    for peer in &honest[5..] {
        assert!(outcome.closest.contains(peer), "the honest are found behind the crowd");
    }
    assert!(outcome.asked.len() <= 100, "{}", outcome.asked.len());
}

fn subnet(n: u8) -> Subnet {
    Subnet::new([198, 51, n, 0].into(), 24, 48)
}

#[test]
fn a_thousand_sybils_of_one_subnet_take_two_of_twenty_places() {
    for wanted in [LookupKind::Value, LookupKind::Closest] {
        let mut random = Random::new(21);
        let mut network = Network::new(&mut random, 300);
        let target = key(0);
        let mut sybils = close_ids(&mut random, target);
        sybils.truncate(1_000);
        // All that are close to the key know them, and they name one another.
        let honest = network.honest(target);
        let kind = Kind::Liar(sybils[..20].to_vec());
        network.add_subnet(&sybils, &kind, subnet(1), &honest[..40]);
        // Who knows only sybils finds only sybils.
        let elsewhere = (0..300).filter(|n| !honest[..40].contains(&network.peers[*n].id));
        for n in elsewhere.take(10) {
            let outcome = Node::default().run(&network, network.lookup(n, target, wanted));
            for closest in [&outcome.closest, &outcome.known] {
                let taken = closest.iter().filter(|peer| sybils.contains(peer)).count();
                assert_eq!((closest.len(), taken), (20, 2));
            }
            println!(
                "1,000 ids of one subnet, {wanted:?}: two of 20 places, {} requests",
                outcome.asked.len()
            );
            assert!(outcome.asked.len() <= 80, "{}", outcome.asked.len());
        }
    }
}

/// Looks up a key from this peer, and checks that the lookup finds the closest peers.
fn finds_the_closest(network: &Network, n: usize) -> Outcome {
    let lookup = network.lookup(n, key(n), LookupKind::Value);
    let outcome = Node::default().run(network, lookup);
    let own = network.peers[n].id;
    let expected: Vec<_> =
        network.honest(key(n)).into_iter().filter(|id| *id != own).take(20).collect();
    assert_eq!((&outcome.closest, &outcome.known), (&expected, &expected));
    outcome
}

#[test]
fn a_network_within_one_subnet_works_as_any_other() {
    let mut network = Network::new(&mut Random::new(22), 300);
    network.peers.iter_mut().for_each(|peer| peer.subnet = Some(subnet(7)));
    for n in 0..20 {
        let outcome = finds_the_closest(&network, n);
        assert!(outcome.has_quorum);
        assert!(outcome.asked.len() <= 50, "{}", outcome.asked.len());
        assert!(outcome.settled <= 900 * MS, "{:?}", outcome.settled);
    }
}

#[test]
fn a_network_within_one_subnet_of_each_kind_works_as_any_other() {
    let mut network = Network::new(&mut Random::new(22), 300);
    for (n, peer) in network.peers.iter_mut().enumerate() {
        // Each has an IPv4 and an IPv6 address, and is connected with at one of them.
        peer.subnet = Some(subnet(7 + n as u8 % 2));
        peer.claimed = [7, 8].map(subnet).into();
    }
    for n in 0..20 {
        let outcome = finds_the_closest(&network, n);
        assert!(outcome.asked.len() <= 50, "{}", outcome.asked.len());
    }
}

#[test]
fn sybils_that_invent_addresses_beside_their_own_take_two_of_twenty_places() {
    for wanted in [LookupKind::Value, LookupKind::Closest] {
        let mut random = Random::new(21);
        let mut network = Network::new(&mut random, 300);
        let target = key(0);
        let mut sybils = close_ids(&mut random, target);
        sybils.truncate(1_000);
        let honest = network.honest(target);
        let kind = Kind::Liar(sybils[..20].to_vec());
        network.add_subnet(&sybils, &kind, subnet(1), &honest[..40]);
        let elsewhere = (0..300).filter(|n| !honest[..40].contains(&network.peers[*n].id));
        let elsewhere: Vec<_> = elsewhere.take(10).collect();
        let found = |network: &Network| -> Vec<_> {
            let run = |n: &usize| Node::default().run(network, network.lookup(*n, target, wanted));
            elsewhere.iter().map(run).collect()
        };
        let truthful = found(&network);
        for (n, sybil) in network.peers[300..].iter_mut().enumerate() {
            let [.., high, low] = n.to_be_bytes();
            sybil.claimed = [Subnet::new([1, 1, high, low].into(), 32, 48)].into();
        }
        for outcome in &truthful {
            let taken = outcome.closest.iter().filter(|peer| sybils.contains(peer)).count();
            assert_eq!((outcome.closest.len(), taken), (20, 2));
        }
        assert_eq!(found(&network), truthful, "lies change nothing");
    }
}

#[test]
fn who_knows_the_size_of_the_network_finds_the_closest_with_fewer_requests() {
    let network = Network::new(&mut Random::new(8), 1_000);
    let mut node = experienced(&network);
    let (mut early, mut full, mut missed) = (0, 0, 0);
    for n in 0..40 {
        let outcome = node.run(&network, network.lookup(n, key(n), LookupKind::Closest));
        early += outcome.asked.len();
        full += Node::default()
            .run(&network, network.lookup(n, key(n), LookupKind::Closest))
            .asked
            .len();
        let own = network.peers[n].id;
        let truth = network.honest(key(n)).into_iter().filter(|id| *id != own).take(20);
        missed += truth.filter(|peer| !outcome.closest.contains(peer)).count();
        assert_eq!(outcome.closest.len(), 20);
    }
    assert!(early * 2 < full, "{early} instead of {full}");
    assert!(missed < 40 * 2, "{missed} of {}", 40 * 20);
}

#[test]
fn the_estimate_follows_a_growing_and_a_shrinking_network() {
    for seed in 0..3 {
        let [small, large] = [25, 300].map(|size| Network::new(&mut Random::new(100 + seed), size));
        for (before, after) in [(&small, &large), (&large, &small)] {
            let mut node = Node::default();
            for n in 0..64 {
                node.run(before, before.lookup(0, key(n), LookupKind::Value));
            }
            for n in 64..128 {
                node.run(after, after.lookup(0, key(n), LookupKind::Value));
            }
            let (estimate, peers) = (node.size.estimate().unwrap(), after.peers.len() as f64);
            assert!((0.6..1.6).contains(&(estimate / peers)), "{estimate} of {peers}");
            let outcome = node.run(after, after.lookup(0, key(128), LookupKind::Value));
            assert_eq!((outcome.closest.len(), outcome.implausible.len()), (20, 0));
            assert!(outcome.asked.len() <= 50, "{}", outcome.asked.len());
        }
    }
}

#[test]
fn one_liar_ends_no_lookup_early() {
    let mut random = Random::new(9);
    let mut network = Network::new(&mut random, 1_000);
    let mut node = experienced(&network);
    let target = key(0);
    // At the expected distances, so that none is implausible.
    let mut fakes: Vec<_> = (0..1_000).map(|_| random.peer()).collect();
    fakes.sort_by_cached_key(|id| target.distance_of(id));
    fakes.truncate(20);
    let lookup = network.lookup(0, target, LookupKind::Closest);
    let first = node.run(&network, lookup).asked[0].1;
    let twice = fakes[..10].iter().flat_map(|fake| [*fake, *fake]).collect();
    for named in [fakes.clone(), twice] {
        *network.kind_mut(&first) = Kind::Liar(named);
        let outcome = node.run(&network, network.lookup(0, target, LookupKind::Closest));
        assert!(fakes.iter().all(|fake| !outcome.closest.contains(fake)));
    }
}

#[test]
fn a_node_that_knows_nobody_and_a_node_alone_come_to_an_end() {
    let network = Network::new(&mut Random::new(10), 1);
    let outcome = Node::default().run(&network, network.lookup(0, key(0), LookupKind::Value));
    assert_eq!((outcome.closest.len(), outcome.over), (0, Duration::ZERO));
}

#[test]
fn when_nobody_answers_a_lookup_ends_after_patience_and_grace() {
    let mut random = Random::new(11);
    let mut network = Network::new(&mut random, 30);
    network.turn(&mut random, 100, || Kind::Silent);
    let outcome = Node::default().run(&network, network.lookup(0, key(0), LookupKind::Value));
    assert_eq!(outcome.closest, []);
    assert_eq!((outcome.silent.len(), outcome.has_quorum), (20, false));
    // Six at a time, one second each, plus the grace of the last.
    assert!(outcome.over <= 6 * SECOND, "{:?}", outcome.over);
}
