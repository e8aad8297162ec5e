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
