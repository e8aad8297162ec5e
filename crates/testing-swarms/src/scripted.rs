//! A misbehaving peer: a behaviour that hands each inbound stream of a protocol to a script.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol,
    core::{
        Endpoint,
        transport::PortUse,
        upgrade::{DeniedUpgrade, ReadyUpgrade},
    },
    swarm::{
        ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
        NetworkBehaviour, SubstreamProtocol, ToSwarm,
        handler::{ConnectionEvent, FullyNegotiatedInbound},
    },
};

type Script = Arc<dyn Fn(Stream) -> BoxFuture<'static, ()> + Send + Sync>;

/// A peer that runs a script on each inbound stream of a protocol, and does nothing else.
#[expect(missing_debug_implementations, reason = "a script has no debug output")]
pub struct Scripted {
    protocol: StreamProtocol,
    script: Script,
}

impl Scripted {
    /// A peer with this script. A stream is open until its script ends.
    pub fn new<F: Future<Output = ()> + Send + 'static>(
        protocol: StreamProtocol,
        script: impl Fn(Stream) -> F + Send + Sync + 'static,
    ) -> Self {
        Self { protocol, script: Arc::new(move |stream| script(stream).boxed()) }
    }

    fn handler(&self) -> Handler {
        Handler {
            protocol: self.protocol.clone(),
            script: self.script.clone(),
            streams: FuturesUnordered::new(),
        }
    }
}

impl NetworkBehaviour for Scripted {
    type ConnectionHandler = Handler;
    type ToSwarm = std::convert::Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(self.handler())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(self.handler())
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        never: std::convert::Infallible,
    ) {
        match never {}
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ToSwarm<std::convert::Infallible, std::convert::Infallible>> {
        Poll::Pending
    }
}

/// Streams of a connection.
#[expect(missing_debug_implementations, reason = "a script has no debug output")]
pub struct Handler {
    protocol: StreamProtocol,
    script: Script,
    streams: FuturesUnordered<BoxFuture<'static, ()>>,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = std::convert::Infallible;
    type ToBehaviour = std::convert::Infallible;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = DeniedUpgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(self.protocol.clone()), ())
    }

    fn on_behaviour_event(&mut self, never: std::convert::Infallible) {
        match never {}
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol>,
    ) {
        if let ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
            protocol: stream,
            ..
        }) = event
        {
            self.streams.push((self.script)(stream));
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<DeniedUpgrade, (), std::convert::Infallible>> {
        while let Poll::Ready(Some(())) = self.streams.poll_next_unpin(cx) {}
        Poll::Pending
    }
}
