//! Assignment of requests to dials and connections.
//!
//! **Invariants.** A request is sent on an established connection only, so a connection that is
//! denied late loses no request. A connection may close as idle while a request is on its way. The
//! request is then sent once more, and may arrive twice. A request fails only when a dial that
//! included its addresses fails.
//!
//! **Spec.** [`Outbound`](super::Outbound).

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;
use libp2p_swarm::{ConnectionId, DialError, NotifyHandler, ToSwarm, dial_opts::DialOpts};
use smart_record_lookup::RequestId;

use super::{
    Failure,
    handler::Command,
    message::{Request, Response},
};

/// The end of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) id: RequestId,
    pub(crate) peer: PeerId,
    pub(crate) result: Result<Response, Failure>,
}

/// Stage of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Waits for a connection; no dial of this behaviour includes its addresses.
    Waiting,
    /// Waits for a dial of this behaviour that includes its addresses.
    Dialled,
    /// Sent on a connection.
    Sent(ConnectionId),
}

#[derive(Debug)]
struct Pending {
    peer: PeerId,
    addresses: Vec<Multiaddr>,
    request: Arc<Request>,
    stage: Stage,
    is_sent_again: bool,
}

/// All requests under way.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    pending: BTreeMap<RequestId, Pending>,
    /// Connections by peer, the newest last: it is the most likely to stay open.
    connections: HashMap<PeerId, Vec<ConnectionId>>,
    /// Dials of this behaviour.
    dials: HashMap<PeerId, ConnectionId>,
    events: VecDeque<ToSwarm<Ended, Command>>,
}

impl Deliveries {
    pub(super) fn send(
        &mut self,
        id: RequestId,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        request: Request,
    ) {
        let request = Arc::new(request);
        let stage = Stage::Waiting;
        self.pending.insert(id, Pending { peer, addresses, request, stage, is_sent_again: false });
        self.advance(peer);
    }

    /// Dials a peer at these addresses.
    pub(super) fn dial(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        let opts = DialOpts::peer_id(peer).addresses(addresses).build();
        self.events.push_back(ToSwarm::Dial { opts });
    }

    pub(super) fn cancel(&mut self, id: RequestId) {
        if let Some(Pending { peer, stage: Stage::Sent(connection), .. }) = self.pending.remove(&id)
        {
            let command = Command { id, request: None };
            self.events.push_back(notify(peer, connection, command));
        }
    }

    /// Returns the addresses for a dial of a peer, whichever behaviour started it.
    pub(super) fn on_dial(&mut self, connection: ConnectionId, peer: PeerId) -> Vec<Multiaddr> {
        let is_ours = self.dials.get(&peer) == Some(&connection);
        let mut addresses = Vec::new();
        for pending in self.unsent(peer) {
            addresses.extend(pending.addresses.iter().cloned());
            if is_ours {
                pending.stage = Stage::Dialled;
            }
        }
        addresses
    }

    pub(super) fn on_established(&mut self, connection: ConnectionId, peer: PeerId) {
        self.end_dial(connection, peer);
        self.connections.entry(peer).or_default().push(connection);
        self.advance(peer);
    }

    pub(super) fn on_closed(&mut self, connection: ConnectionId, peer: PeerId) {
        if let Some(connections) = self.connections.get_mut(&peer) {
            connections.retain(|other| *other != connection);
            if connections.is_empty() {
                self.connections.remove(&peer);
            }
        }
        for id in self.ids(|pending| pending.stage == Stage::Sent(connection)) {
            match self.pending.get_mut(&id) {
                Some(pending) if !pending.is_sent_again => {
                    pending.is_sent_again = true;
                    pending.stage = Stage::Waiting;
                }
                // A proxy may accept connections for a dead peer.
                _ => self.on_outcome(id, Err(Failure::Unreachable)),
            }
        }
        self.advance(peer);
    }

    pub(super) fn on_dial_failure(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        error: &DialError,
    ) {
        let is_ours = self.end_dial(connection, peer);
        // Another behaviour is dialling the peer, and the end of its dial will be reported.
        if matches!(error, DialError::DialPeerConditionFalse(_)) {
            return;
        }
        if is_ours {
            let is_denied = matches!(error, DialError::Denied { .. });
            let has_failed = |pending: &Pending| match pending.stage {
                // An earlier behaviour may deny a dial before this one is asked for addresses.
                Stage::Waiting => is_denied,
                Stage::Dialled => true,
                Stage::Sent(_) => false,
            };
            for id in self.ids(|pending| pending.peer == peer && has_failed(pending)) {
                self.on_outcome(id, Err(Failure::from(error)));
            }
        }
        self.advance(peer);
    }

    /// Ends a request that was answered or has failed.
    pub(super) fn on_outcome(&mut self, id: RequestId, result: Result<Response, Failure>) {
        if let Some(Pending { peer, .. }) = self.pending.remove(&id) {
            self.events.push_back(ToSwarm::GenerateEvent(Ended { id, peer, result }));
        }
    }

    pub(super) fn next_event(&mut self) -> Option<ToSwarm<Ended, Command>> {
        self.events.pop_front()
    }

    #[cfg(test)]
    pub(super) fn pending(&self) -> Vec<(RequestId, PeerId, Request)> {
        let pending = self.pending.iter();
        pending.map(|(id, it)| (*id, it.peer, Request::clone(&it.request))).collect()
    }

    /// Sends the requests that wait for a connection to a peer, or dials the peer.
    fn advance(&mut self, peer: PeerId) {
        let connection = self.connections.get(&peer).and_then(|all| all.last()).copied();
        let unsent =
            self.ids(|pending| pending.peer == peer && !matches!(pending.stage, Stage::Sent(_)));
        match connection {
            Some(connection) => {
                for id in unsent {
                    if let Some(pending) = self.pending.get_mut(&id) {
                        pending.stage = Stage::Sent(connection);
                        let request = Some(pending.request.clone());
                        let command = Command { id, request };
                        self.events.push_back(notify(peer, connection, command));
                    }
                }
            }
            None if !unsent.is_empty() && !self.dials.contains_key(&peer) => {
                let opts = DialOpts::peer_id(peer).build();
                self.dials.insert(peer, opts.connection_id());
                self.events.push_back(ToSwarm::Dial { opts });
            }
            None => {}
        }
    }

    /// Removes a dial that has ended. Returns whether it was started by this behaviour.
    fn end_dial(&mut self, connection: ConnectionId, peer: PeerId) -> bool {
        let is_ours = self.dials.get(&peer) == Some(&connection);
        if is_ours {
            self.dials.remove(&peer);
        }
        is_ours
    }

    fn unsent(&mut self, peer: PeerId) -> impl Iterator<Item = &mut Pending> {
        self.pending
            .values_mut()
            .filter(move |pending| pending.peer == peer && !matches!(pending.stage, Stage::Sent(_)))
    }

    fn ids(&self, is_meant: impl Fn(&Pending) -> bool) -> Vec<RequestId> {
        let meant = self.pending.iter().filter(|(_, pending)| is_meant(pending));
        meant.map(|(id, _)| *id).collect()
    }
}

fn notify(peer_id: PeerId, connection: ConnectionId, event: Command) -> ToSwarm<Ended, Command> {
    ToSwarm::NotifyHandler { peer_id, handler: NotifyHandler::One(connection), event }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use libp2p_swarm::{ConnectionDenied, dial_opts::PeerCondition};
    use smart_record_lookup::{Place, Requests};

    use super::*;

    fn send(deliveries: &mut Deliveries, n: u64, peer: PeerId, address: &str) {
        let request = Request::GetValue { key: Bytes::from_static(b"key") };
        deliveries.send(id(n), peer, vec![address.parse().unwrap()], request);
    }

    fn id(n: u64) -> RequestId {
        let mut requests = Requests::default();
        let mut begin = || {
            let peer = PeerId::random();
            let distance = Place::of_key(b"key").distance_of(&peer);
            requests.begin(peer, distance, Duration::ZERO).unwrap()
        };
        for _ in 0..n {
            begin();
        }
        begin()
    }

    fn name(id: RequestId) -> String {
        format!("{id:?}").chars().filter(char::is_ascii_digit).collect()
    }

    const A: &str = "/ip4/10.0.0.1/tcp/1";
    const B: &str = "/ip4/10.0.0.2/tcp/1";

    /// The pending events in short form.
    fn events(deliveries: &mut Deliveries) -> Vec<String> {
        let events = std::iter::from_fn(|| deliveries.next_event());
        let short = events.map(|event| match event {
            ToSwarm::Dial { .. } => "dial".to_owned(),
            ToSwarm::NotifyHandler { event: Command { id, request: Some(_) }, .. } => {
                format!("send {}", name(id))
            }
            ToSwarm::NotifyHandler { event: Command { id, request: None }, .. } => {
                format!("cancel {}", name(id))
            }
            ToSwarm::GenerateEvent(Ended { id, result: Ok(_), .. }) => {
                format!("answered {}", name(id))
            }
            ToSwarm::GenerateEvent(Ended { id, result: Err(failure), .. }) => {
                format!("failed {} {failure:?}", name(id))
            }
            other => format!("{other:?}"),
        });
        short.collect()
    }

    /// The dial of a peer that was just started.
    fn dial(deliveries: &Deliveries, peer: PeerId) -> ConnectionId {
        deliveries.dials[&peer]
    }

    fn connection() -> ConnectionId {
        DialOpts::peer_id(PeerId::random()).build().connection_id()
    }

    fn refused() -> DialError {
        DialError::Transport(vec![(
            A.parse().unwrap(),
            libp2p_core::transport::TransportError::Other(
                std::io::ErrorKind::ConnectionRefused.into(),
            ),
        )])
    }

    #[test]
    fn a_cancelled_request_is_not_reported() {
        let (mut deliveries, peer) = (Deliveries::default(), PeerId::random());
        (1..=3).for_each(|id| send(&mut deliveries, id, peer, A));
        deliveries.cancel(id(1));
        deliveries.on_established(dial(&deliveries, peer), peer);
        assert_eq!(events(&mut deliveries), ["dial", "send 2", "send 3"]);
        deliveries.cancel(id(2));
        // Its answer was on its way.
        deliveries.on_outcome(id(2), Ok(Response::default()));
        deliveries.on_outcome(id(3), Ok(Response::default()));
        deliveries.cancel(id(3));
        assert_eq!(events(&mut deliveries), ["cancel 2", "answered 3"]);
        assert!(deliveries.pending.is_empty());
    }

    #[test]
    fn a_dial_of_a_cancelled_request_serves_the_next_request() {
        let (mut deliveries, peer) = (Deliveries::default(), PeerId::random());
        send(&mut deliveries, 1, peer, A);
        deliveries.cancel(id(1));
        let dial = dial(&deliveries, peer);
        send(&mut deliveries, 2, peer, A);
        deliveries.on_established(dial, peer);
        assert_eq!(events(&mut deliveries), ["dial", "send 2"]);
    }

    #[test]
    fn addresses_that_come_too_late_for_a_dial_are_dialled_next() {
        let (mut deliveries, peer) = (Deliveries::default(), PeerId::random());
        send(&mut deliveries, 1, peer, A);
        let first = dial(&deliveries, peer);
        assert_eq!(deliveries.on_dial(first, peer), [A.parse().unwrap()]);
        send(&mut deliveries, 2, peer, B);
        deliveries.on_dial_failure(first, peer, &refused());
        assert_eq!(events(&mut deliveries), ["dial", "failed 1 Unreachable", "dial"]);
        let second = dial(&deliveries, peer);
        assert_eq!(deliveries.on_dial(second, peer), [B.parse().unwrap()]);
        deliveries.on_dial_failure(second, peer, &refused());
        assert_eq!(events(&mut deliveries), ["failed 2 Unreachable"]);
        assert!(deliveries.pending.is_empty() && deliveries.dials.is_empty());
    }

    #[test]
    fn a_request_waits_for_the_dial_of_another_behaviour() {
        let (mut deliveries, peer, others) =
            (Deliveries::default(), PeerId::random(), connection());
        send(&mut deliveries, 1, peer, A);
        let busy = DialError::DialPeerConditionFalse(PeerCondition::DisconnectedAndNotDialing);
        deliveries.on_dial_failure(dial(&deliveries, peer), peer, &busy);
        assert_eq!(events(&mut deliveries), ["dial"]);
        // That dial had other addresses.
        deliveries.on_dial_failure(others, peer, &refused());
        assert_eq!(events(&mut deliveries), ["dial"]);
        let ours = dial(&deliveries, peer);
        deliveries.on_dial(ours, peer);
        deliveries.on_established(connection(), peer);
        assert_eq!(events(&mut deliveries), ["send 1"]);
        // A failed dial does not affect a request that was sent.
        deliveries.on_dial_failure(ours, peer, &refused());
        assert_eq!(events(&mut deliveries).len(), 0);
        assert_eq!(deliveries.pending.len(), 1);
    }

    #[test]
    fn a_dial_denied_before_addresses_are_requested_fails_its_requests() {
        let (mut deliveries, peer) = (Deliveries::default(), PeerId::random());
        send(&mut deliveries, 1, peer, A);
        let denied = DialError::Denied { cause: ConnectionDenied::new("full") };
        deliveries.on_dial_failure(dial(&deliveries, peer), peer, &denied);
        assert_eq!(events(&mut deliveries), ["dial", "failed 1 Denied"]);
    }

    #[test]
    fn a_request_is_sent_once_more_if_its_connection_closes() {
        let (mut deliveries, peer) = (Deliveries::default(), PeerId::random());
        let [first, second] = [connection(), connection()];
        deliveries.on_established(first, peer);
        deliveries.on_established(second, peer);
        send(&mut deliveries, 1, peer, A);
        deliveries.on_closed(second, peer);
        assert_eq!(events(&mut deliveries), ["send 1", "send 1"]);
        deliveries.on_closed(first, peer);
        assert_eq!(events(&mut deliveries), ["failed 1 Unreachable"]);

        let only = connection();
        deliveries.on_established(only, peer);
        send(&mut deliveries, 2, peer, A);
        deliveries.on_closed(only, peer);
        assert_eq!(events(&mut deliveries), ["send 2", "dial"]);
        deliveries.on_established(dial(&deliveries, peer), peer);
        assert_eq!(events(&mut deliveries), ["send 2"]);
    }
}
