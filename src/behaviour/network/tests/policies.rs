//! Policies, deadlines and limits of operations, and who leaves the routing table.

use futures::StreamExt;
use libp2p_core::ConnectedPoint;
use libp2p_swarm::{
    ConnectionId, FromSwarm,
    behaviour::{ConnectionClosed, ConnectionEstablished},
};

use super::*;
use crate::{client::Watch, query::WritePolicy};

fn is_get_of_b(request: &Request) -> bool {
    matches!(request, Request::GetValue { key } if key[..] == b"/sr/b"[..])
}

fn is_other_get(request: &Request) -> bool {
    is_get(request) && !is_get_of_b(request)
}

impl Node {
    fn publish(&mut self) -> Call<crate::client::Publication> {
        let client = self.client.clone();
        self.begin(async move { client.publish("/sr/a", text("x"), 600 * S).await })
    }

    fn watch(&mut self) -> Watch {
        let client = self.client.clone();
        let watch = async move { client.watch("/sr/a").await };
        let watch = watch.boxed_local().now_or_never().unwrap().unwrap();
        self.poll();
        watch
    }
}

#[test]
fn who_connects_again_while_its_connections_are_closed_is_disconnected_again() {
    let (mut node, peer) = (Node::new(1), PeerId::random());
    let endpoint = ConnectedPoint::Listener {
        local_addr: "/ip4/192.0.2.1/tcp/1".parse().unwrap(),
        send_back_addr: "/ip4/198.51.100.1/tcp/1".parse().unwrap(),
    };
    let id = ConnectionId::new_unchecked;
    let connects = |node: &mut Node, connection| {
        let event = FromSwarm::ConnectionEstablished(ConnectionEstablished {
            peer_id: peer,
            connection_id: id(connection),
            endpoint: &endpoint,
            failed_addresses: &[],
            other_established: connection - 1,
        });
        node.behaviour.on_swarm_event(event);
    };
    let closings = |node: &mut Node, connection| {
        let env = &mut node.behaviour.env;
        let source = env.remotes.source(peer, id(connection));
        let now = env.net.now();
        env.budget.charge(&source, 1_000 * S, now);
        node.behaviour.charge(peer, &source);
        node.behaviour.closing.len()
    };
    connects(&mut node, 1);
    assert_eq!([closings(&mut node, 1), closings(&mut node, 1)], [1, 1], "closed once");
    // A handshake that was under way ends after that.
    connects(&mut node, 2);
    node.behaviour.on_swarm_event(FromSwarm::ConnectionClosed(ConnectionClosed {
        peer_id: peer,
        connection_id: id(1),
        endpoint: &endpoint,
        cause: None,
        remaining_established: 1,
    }));
    assert_eq!(closings(&mut node, 2), 2);
}

#[test]
fn a_write_with_too_few_acknowledgements_ends_at_its_deadline_and_says_how_many() {
    let config = BehaviourConfig::default().with_write_deadline(500 * MS);
    let mut node = Node::with_config(3, config);
    let mut publish = node.publish();
    while node.answer(is_get) {}
    let taken = node.end(is_put, Ok(Response::default())).unwrap();
    node.pass(400 * MS);
    assert!((&mut publish).now_or_never().is_none());
    node.pass(200 * MS);
    let publication = (&mut publish).now_or_never().unwrap().unwrap();
    assert_eq!(publication.peers, [taken]);
    assert_eq!(publication.progress().acknowledged().collect::<Vec<_>>(), [taken]);
    assert_eq!(node.asked(is_put), 2, "it goes on");
}

#[test]
fn a_write_in_the_background_counts_towards_the_maximum_of_operations() {
    let config = BehaviourConfig::default().with_max_operations(1);
    let config = config.with_write_policy(WritePolicy::Acknowledgements(1));
    let mut node = Node::with_config(3, config);
    let mut publish = node.publish();
    while node.answer(is_get) {}
    assert!(node.answer(is_put));
    assert!((&mut publish).now_or_never().unwrap().is_ok());
    let _get = node.get_key("/sr/b", 60 * S);
    assert_eq!((node.asked(is_put), node.asked(is_get_of_b)), (2, 0));
    while node.answer(is_put) {}
    assert_eq!(node.asked(is_get_of_b), 0, "two peers are still to be asked back");
    for _ in 0..2 {
        node.pass(S);
        while node.answer(is_other_get) {}
    }
    assert_eq!(node.asked(is_get_of_b), 3);
}

#[test]
fn a_read_in_the_background_counts_towards_the_maximum_of_operations() {
    let config = BehaviourConfig::default().with_max_operations(1);
    let mut node = Node::with_config(13, config);
    let mut first = node.get_key("/sr/a", 60 * S);
    for _ in 0..12 {
        assert!(node.answer(is_get));
    }
    assert!((&mut first).now_or_never().unwrap().is_ok());
    let _second = node.get_key("/sr/b", 60 * S);
    assert_eq!((node.asked(is_other_get), node.asked(is_get_of_b)), (1, 0));
    assert!(node.answer(is_other_get));
    assert_eq!(node.asked(is_get_of_b), 10);
}

#[test]
fn who_answers_nothing_for_half_a_minute_leaves_the_routing_table() {
    let mut node = Node::new(2);
    let [silent, other] = node.servers[..] else { panic!() };
    for n in 0..10 {
        let _get = node.get(n, 60 * S);
        assert!(node.end_of(other, is_get, Ok(Response::default())));
        // A request is late, and then over.
        node.pass(3 * S);
        node.pass(3 * S);
        let evicted = node.behaviour.counters().evicted;
        assert!(if n < 4 { evicted == 0 } else { evicted <= 1 }, "{evicted} after {n}");
    }
    assert_eq!(node.behaviour.counters().evicted, 1);
    assert!(node.addresses(&silent).is_none() && node.addresses(&other).is_some());
}

#[test]
fn a_lookup_of_a_watched_key_ends_at_the_deadline_of_watches() {
    let config = BehaviourConfig::default().with_watch_deadline(500 * MS);
    let mut node = Node::with_config(3, config);
    let mut watch = node.watch();
    node.pass(400 * MS);
    assert_eq!(node.asked(is_get), 3);
    node.pass(200 * MS);
    assert_eq!(node.asked(is_get), 0, "nobody is waited for");
    assert!(watch.next().now_or_never().is_none(), "nobody has said that there is nothing");
}

#[test]
fn a_lookup_of_a_watched_key_ends_by_the_policy_of_watches() {
    for (policy, left) in [(ReadPolicy::Replies(1), 0), (ReadPolicy::Settled, 2)] {
        let config = BehaviourConfig::default().with_watch_policy(policy);
        let mut node = Node::with_config(3, config);
        let mut watch = node.watch();
        assert!(node.end(is_get, shows(&written("x"))).is_some());
        assert_eq!(node.asked(is_get), left, "{policy:?}");
        assert_eq!(watch.next().now_or_never().unwrap().unwrap().view().len(), 1);
    }
    // Who is silent is not waited for, unless the policy is to.
    for policy in [ReadPolicy::Settled, ReadPolicy::All] {
        let config = BehaviourConfig::default().with_watch_policy(policy);
        let mut node = Node::with_config(3, config);
        let mut watch = node.watch();
        assert!(node.answer(is_get) && node.answer(is_get));
        assert!(watch.next().now_or_never().is_none());
        node.pass(S);
        assert_eq!(node.asked(is_get), 1, "it is late");
        let is_told = watch.next().now_or_never().is_some();
        assert_eq!(is_told, policy == ReadPolicy::Settled);
        node.pass(3 * S);
        assert_eq!(node.asked(is_get), 0);
    }
}
