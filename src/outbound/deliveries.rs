//! Which requests wait for which dial, and which connection has which.
//!
//! **Invariants.** A request is sent on an established connection only, so one that is denied late takes none with it. A
//! connection that closes may have been idle for too long while the request was on its way, so the request is sent once more;
//! it may come twice. A request fails when a dial that had its addresses fails, and no earlier.
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

/// How a request has ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) id: RequestId,
    pub(crate) peer: PeerId,
    pub(crate) result: Result<Response, Failure>,
}

/// Where a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It waits for a connection, and no dial of ours has its addresses.
    Waiting,
    /// It waits for a dial of ours that has its addresses.
    Dialled,
    /// It was given to a connection.
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

/// The requests that have not ended, and how far each has come.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    pending: BTreeMap<RequestId, Pending>,
    /// The newest connection comes last: of two, it is the one more likely to live.
    connections: HashMap<PeerId, Vec<ConnectionId>>,
    /// The dials that were begun here.
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
        self.go_on(peer);
    }

    pub(super) fn cancel(&mut self, id: RequestId) {
        if let Some(Pending { peer, stage: Stage::Sent(connection), .. }) = self.pending.remove(&id)
        {
            let command = Command { id, request: None };
            self.events.push_back(notify(peer, connection, command));
        }
    }

    /// The addresses for a dial of a peer, whoever began it.
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
        self.go_on(peer);
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
                // Behind what takes connections there may be nobody.
                _ => self.on_outcome(id, Err(Failure::Unreachable)),
            }
        }
        self.go_on(peer);
    }

    pub(super) fn on_dial_failure(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        error: &DialError,
    ) {
        let is_ours = self.end_dial(connection, peer);
        // Somebody else dials the peer, and that dial will be told of.
        if matches!(error, DialError::DialPeerConditionFalse(_)) {
            return;
        }
        if is_ours {
            let is_denied = matches!(error, DialError::Denied { .. });
            let has_failed = |pending: &Pending| match pending.stage {
                // A behaviour before this one may deny a dial before it asks for addresses.
                Stage::Waiting => is_denied,
                Stage::Dialled => true,
                Stage::Sent(_) => false,
            };
            for id in self.ids(|pending| pending.peer == peer && has_failed(pending)) {
                self.on_outcome(id, Err(Failure::from(error)));
            }
        }
        self.go_on(peer);
    }

    /// The request was answered, or failed.
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

    /// Sends what waits for a connection to a peer, or dials the peer.
    fn go_on(&mut self, peer: PeerId) {
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

    /// Whether a dial that has ended was ours.
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
        let request = Request::FindNode { key: Bytes::from_static(b"key") };
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

    /// What there is to do, in short.
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

    /// The dial of a peer that was just begun.
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
    fn what_was_cancelled_is_not_told_of_any_more() {
        let (mut deliveries, peer) = (Deliveries::default(), PeerId::random());
        (1..=3).for_each(|id| send(&mut deliveries, id, peer, A));
        deliveries.cancel(id(1));
        deliveries.on_established(dial(&deliveries, peer), peer);
        assert_eq!(events(&mut deliveries), ["dial", "send 2", "send 3"]);
        deliveries.cancel(id(2));
        // Its answer was on the way.
        deliveries.on_outcome(id(2), Ok(Response::default()));
        deliveries.on_outcome(id(3), Ok(Response::default()));
        deliveries.cancel(id(3));
        assert_eq!(events(&mut deliveries), ["cancel 2", "answered 3"]);
        assert!(deliveries.pending.is_empty());
    }

    #[test]
    fn a_dial_that_nobody_waits_for_any_more_is_used_by_whoever_comes_next() {
        let (mut deliveries, peer) = (Deliveries::default(), PeerId::random());
        send(&mut deliveries, 1, peer, A);
        deliveries.cancel(id(1));
        let dial = dial(&deliveries, peer);
        send(&mut deliveries, 2, peer, A);
        deliveries.on_established(dial, peer);
        assert_eq!(events(&mut deliveries), ["dial", "send 2"]);
    }

    #[test]
    fn addresses_that_come_too_late_for_a_dial_have_one_of_their_own() {
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
    fn the_dial_of_somebody_else_is_waited_for() {
        let (mut deliveries, peer, others) =
            (Deliveries::default(), PeerId::random(), connection());
        send(&mut deliveries, 1, peer, A);
        let busy = DialError::DialPeerConditionFalse(PeerCondition::DisconnectedAndNotDialing);
        deliveries.on_dial_failure(dial(&deliveries, peer), peer, &busy);
        assert_eq!(events(&mut deliveries), ["dial"]);
        // It had other addresses.
        deliveries.on_dial_failure(others, peer, &refused());
        assert_eq!(events(&mut deliveries), ["dial"]);
        let ours = dial(&deliveries, peer);
        deliveries.on_dial(ours, peer);
        deliveries.on_established(connection(), peer);
        assert_eq!(events(&mut deliveries), ["send 1"]);
        // What has been sent is no business of the dial any more.
        deliveries.on_dial_failure(ours, peer, &refused());
        assert_eq!(events(&mut deliveries).len(), 0);
        assert_eq!(deliveries.pending.len(), 1);
    }

    #[test]
    fn who_denies_dials_before_addresses_are_asked_for_is_not_asked_again() {
        let (mut deliveries, peer) = (Deliveries::default(), PeerId::random());
        send(&mut deliveries, 1, peer, A);
        let denied = DialError::Denied { cause: ConnectionDenied::new("full") };
        deliveries.on_dial_failure(dial(&deliveries, peer), peer, &denied);
        assert_eq!(events(&mut deliveries), ["dial", "failed 1 Denied"]);
    }

    #[test]
    fn a_connection_that_closes_under_a_request_costs_it_one_more_sending() {
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
