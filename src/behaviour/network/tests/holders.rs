//! What is known of the holders of a record, and what they are sent.

use super::*;

impl Node {
    /// Ends the oldest matching request to this peer. Returns whether there is one.
    pub(super) fn end_of(
        &mut self,
        peer: PeerId,
        is_one: impl Fn(&Request) -> bool,
        result: Result<Response, Failure>,
    ) -> bool {
        let outbound = &mut self.behaviour.env.net.outbound;
        let mut pending = outbound.pending().into_iter();
        let found = pending.find(|(_, it, request)| *it == peer && is_one(request));
        if let Some((id, ..)) = &found {
            outbound.end(*id, result);
            self.poll();
        }
        found.is_some()
    }
}

#[test]
fn peers_are_repaired_though_the_last_one_asked_stays_silent() {
    for is_killed in [false, true] {
        let mut node = Node::new(13);
        let mut get = node.get_key("/sr/a", 60 * S);
        assert!(node.end(is_get, shows(&written("x"))).is_some());
        for _ in 0..11 {
            assert!((&mut get).now_or_never().is_none());
            assert!(node.answer(is_get));
        }
        assert_eq!((&mut get).now_or_never().unwrap().unwrap().view().len(), 1);
        assert_eq!((node.asked(is_get), node.asked(is_put)), (1, 0), "the last one");
        if is_killed {
            node.end(is_get, Err(Failure::Unreachable));
        } else {
            // It is late, and then over.
            node.pass(3 * S);
            node.pass(3 * S);
        }
        assert_eq!((node.asked(is_get), node.asked(is_put)), (0, 11));
    }
}

/// A record of some 11 KB, of fifteen writers.
fn board() -> SmartRecord {
    let mut board = SmartRecord::new("/sr/a".into());
    for _ in 0..15 {
        board.join(written(&"x".repeat(600))).unwrap();
    }
    board
}

/// A node whose servers, all of one subnet, may all be recipients.
fn of_one_subnet(servers: usize) -> Node {
    Node::with_config(servers, BehaviourConfig::default().with_subnet_share(servers))
}

/// The record that is being sent to a peer.
fn sent_to(node: &Node, peer: &PeerId) -> Option<SmartRecord> {
    let pending = node.behaviour.env.net.outbound.pending();
    let sent = pending.into_iter().filter(|(_, it, _)| it == peer);
    let sent = sent.filter_map(|(_, _, request)| match request {
        Request::PutValue { record, .. } => Some(record.value),
        _ => None,
    });
    let mut sent =
        sent.map(|value| SmartRecord::decode(&"/sr/a".into(), value, &Limits::default()).unwrap());
    sent.next()
}

#[test]
fn a_holder_that_keeps_the_last_put_loses_nothing_though_it_answers_late() {
    let of_late = board();
    for has_something in [true, false] {
        let mut node = of_one_subnet(3);
        let [one, other, late] = node.servers[..] else { panic!() };
        let boards = [board(), board()];
        let own = node.behaviour.env.writer.clone();
        // A first write, which reads its own space, and one that reads again.
        for text in ["first", "second"] {
            let (client, document) = (node.client.clone(), self::text(text));
            let mut publish =
                node.begin(async move { client.publish("/sr/a", document, 600 * S).await });
            for (peer, board) in [one, other].into_iter().zip(&boards) {
                assert!(node.end_of(peer, is_get, shows(board)));
            }
            assert_eq!(node.asked(is_put), 0);
            node.pass(3 * S);
            for (peer, board) in [one, other].iter().zip(&boards) {
                let sent = sent_to(&node, peer).unwrap();
                assert_eq!(sent.spaces().len(), board.spaces().len() + 1);
                assert!(sent.space(&own).is_some());
            }
            assert_eq!(sent_to(&node, &late), None, "what it has is unknown");
            while node.answer(is_put) {}
            assert!((&mut publish).now_or_never().unwrap().is_ok());
            let shown = if has_something { shows(&of_late) } else { Ok(Response::default()) };
            assert!(node.end_of(late, is_get, shown));
            let sent = sent_to(&node, &late).unwrap();
            let had = if has_something { of_late.spaces().len() } else { 0 };
            assert_eq!(sent.spaces().len(), had + 1);
            assert!(sent.space(&own).is_some());
            assert_eq!(node.asked(is_put), 1);
            // The replicas are read again before the next write.
            for _ in 0..3 {
                while node.answer(|_| true) {}
                node.pass(31 * S);
            }
        }
    }
}

#[test]
fn a_value_is_sent_to_a_late_peer_once_it_has_answered() {
    let mut node = of_one_subnet(3);
    let [one, other, late] = node.servers[..] else { panic!() };
    let client = node.client.clone();
    let mut put = node.begin(async move { client.put("/any/value", "x").await });
    for peer in [one, other] {
        assert!(node.end_of(peer, is_get, Ok(Response::default())));
    }
    node.pass(3 * S);
    for peer in [one, other] {
        assert!(node.end_of(peer, is_put, Ok(Response::default())));
    }
    assert!((&mut put).now_or_never().unwrap().is_ok());
    assert_eq!(node.asked(is_put), 0, "it may have something better");
    assert!(node.end_of(late, is_get, Ok(Response::default())));
    assert!(node.end_of(late, is_put, Ok(Response::default())));
}

#[test]
fn a_first_write_to_a_key_just_read_costs_no_lookup() {
    for is_complete in [true, false] {
        let mut node = Node::new(3);
        // What is asked for less certainly than a write does is read again.
        let options = ReadOptions::default();
        let options = if is_complete { options } else { options.with_complete_at(1) };
        let client = node.client.clone();
        let mut get = node.begin(async move { client.get_with("/sr/a", options).await });
        let there = written("x");
        assert!(node.end(is_get, shows(&there)).is_some());
        while node.answer(is_get) {}
        assert!((&mut get).now_or_never().unwrap().unwrap().is_complete());
        // The repairs.
        while node.answer(is_put) {}
        let (client, document) = (node.client.clone(), text("y"));
        let mut publish =
            node.begin(async move { client.publish("/sr/a", document, 60 * S).await });
        if !is_complete {
            assert!(node.end(is_get, shows(&there)).is_some());
            while node.answer(is_get) {}
        }
        let sent = sent_to(&node, &node.servers[0]).unwrap();
        assert_eq!(sent.spaces().len(), there.spaces().len() + 1, "with what was found");
        let own = sent.space(&node.behaviour.env.writer).unwrap();
        let ends = own.updates().map(|update| update.retain_until()).max().unwrap();
        assert!(ends < SystemClock.now().saturating_add(3_600 * S), "nothing earlier is hidden");
        while node.answer(is_put) {}
        assert!((&mut publish).now_or_never().unwrap().is_ok());
        let lookups = if is_complete { 1 } else { 2 };
        assert_eq!(node.behaviour.counters().lookups, lookups);
    }
}

#[test]
fn who_answers_by_itself_is_written_to_before_the_read_ends() {
    let mut node = Node::new(3);
    let (local, servers) = (node.behaviour.env.local, node.servers.clone());
    let (plain, joining) = servers.split_first().unwrap();
    let answer_gets = |node: &mut Node, of_plain: &SmartRecord, record: &SmartRecord| {
        assert!(node.end_of(*plain, is_get, shows(of_plain)));
        joining.iter().for_each(|peer| assert!(node.end_of(*peer, is_get, says(record, &local))));
    };
    let known = |node: &Node| -> Vec<_> {
        let joins = |peer: &&PeerId| node.behaviour.env.holders.joins(peer);
        servers.iter().filter(joins).copied().collect()
    };
    let publish = |node: &mut Node| {
        let client = node.client.clone();
        node.begin(async move { client.publish("/sr/a", text("y"), 600 * S).await })
    };
    let _publish = publish(&mut node);
    servers.iter().for_each(|peer| assert!(node.end_of(*peer, is_get, shows(&written("x")))));
    let sent = sent_to(&node, plain).unwrap();
    while node.answer(is_put) {}
    node.pass(200 * MS);
    assert_eq!(node.asked(is_get), 2, "the checks");
    for peer in &servers {
        let answer = if peer == plain { shows(&sent) } else { says(&sent, &local) };
        node.end_of(*peer, is_get, answer);
    }
    let checked = known(&node);
    assert!(!checked.is_empty() && !checked.contains(plain));
    node.pass(61 * S);
    let _get = node.get_key("/sr/a", 10 * S);
    answer_gets(&mut node, &sent, &sent);
    assert_eq!(known(&node), joining);
    // Who joins and is behind joins all the same.
    node.pass(61 * S);
    let mut more = sent.clone();
    more.join(written("z")).unwrap();
    let _get = node.get_key("/sr/a", 10 * S);
    answer_gets(&mut node, &more, &sent);
    assert_eq!(known(&node), joining);
    while node.answer(is_put) {}
    // A minute later it is not known what they have.
    node.pass(61 * S);
    let _publish = publish(&mut node);
    assert_eq!((node.asked(is_get), node.asked(is_put)), (3, 2));
    assert_eq!(sent_to(&node, plain), None);
    answer_gets(&mut node, &more, &more);
    assert!(sent_to(&node, plain).is_some());
}

#[test]
fn who_keeps_the_answer_for_another_reader_is_not_taken_for_one_that_joins() {
    let mut node = Node::new(3);
    let (local, servers) = (node.behaviour.env.local, node.servers.clone());
    let (plain, joining) = servers.split_first().unwrap();
    let joins = |node: &Node| node.behaviour.env.holders.joins(plain);
    let client = node.client.clone();
    let _publish = node.begin(async move { client.publish("/sr/a", text("y"), 600 * S).await });
    while node.answer(is_get) {}
    let sent = sent_to(&node, plain).unwrap();
    while node.answer(is_put) {}
    node.pass(200 * MS);
    // A reader of another implementation has put there what it was answered, with all that this
    // node has written, before the checks and the next read.
    let is_other = |it: &PeerId| AskerTag::of(it) != AskerTag::of(&local);
    let of_reader = std::iter::repeat_with(PeerId::random).find(is_other).unwrap();
    for is_first in [true, false] {
        let get = (!is_first).then(|| node.get_key("/sr/a", 10 * S));
        node.end_of(*plain, is_get, says(&sent, &of_reader));
        for peer in joining {
            node.end_of(*peer, is_get, says(&sent, &local));
        }
        assert!(!joins(&node));
        assert_eq!(
            get.map(|it| it.now_or_never().unwrap().unwrap().coverage(plain)),
            (!is_first).then_some(None)
        );
        node.pass(61 * S);
    }
    // Nor does it stay one that was taken for one.
    node.behaviour.env.holders.on_shown(*plain, true);
    let _get = node.get_key("/sr/a", 10 * S);
    node.end_of(*plain, is_get, says(&sent, &of_reader));
    for peer in joining {
        node.end_of(*peer, is_get, says(&sent, &local));
    }
    assert!(!joins(&node));
}

#[test]
fn a_write_to_a_large_record_of_peers_that_join_does_not_read_it_within_a_minute() {
    let mut node = Node::new(3);
    for peer in node.servers.clone() {
        node.behaviour.env.holders.on_shown(peer, true);
    }
    let mut boards = std::iter::repeat_with(board);
    for is_first in [true, false] {
        let client = node.client.clone();
        let mut publish =
            node.begin(async move { client.publish("/sr/a", text("x"), 600 * S).await });
        assert_eq!(node.asked(is_get), if is_first { 3 } else { 0 });
        while is_first
            && node.end(is_get, says(&boards.next().unwrap(), &node.behaviour.env.local)).is_some()
        {
        }
        assert_eq!(node.asked(is_put), 3);
        while node.answer(is_put) {}
        assert!((&mut publish).now_or_never().unwrap().is_ok());
    }
}
