//! The requests on one connection, with one stream for each.
//!
//! **Invariants.** Accepts no inbound stream. At most [`MAX_STREAMS`] are open or being negotiated;
//! further requests wait. The negotiation of a stream cannot be cancelled, so it keeps its place
//! until libp2p ends it after ten seconds. Memory is reserved as the bytes of an answer arrive.
//!
//! **Spec.** [Kademlia
//! DHT](https://github.com/libp2p/specs/blob/master/kad-dht/README.md#rpc-messages): a stream
//! carries a request and its answer. It may carry more, but is not reused here.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    io,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt, AsyncWriteExt, FutureExt, future::BoxFuture};
use libp2p_core::{
    Multiaddr,
    upgrade::{DeniedUpgrade, ReadyUpgrade},
};
use libp2p_identity::PeerId;
use libp2p_swarm::{
    ConnectionHandler, ConnectionHandlerEvent, Stream, StreamProtocol, StreamUpgradeError,
    SubstreamProtocol,
    handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedOutbound, ProtocolSupport},
};
use smart_record_lookup::RequestId;

use super::{
    Failure,
    message::{InvalidAnswer, MAX_ANSWER_BYTES, Request, Response},
};

/// Maximum number of streams on a connection. A rust-libp2p server accepts 32, including those of
/// Kademlia itself, and drops further ones silently.
pub(super) const MAX_STREAMS: usize = 8;
/// Number of bytes read from an answer at once.
const CHUNK_BYTES: usize = 16 * 1_024;

/// A command to a connection: send a request, or cancel it.
#[derive(Debug)]
pub struct Command {
    pub(super) id: RequestId,
    /// `None`: the request and its stream are cancelled.
    pub(super) request: Option<Arc<Request>>,
}

/// The end of a request that was not cancelled, as a connection reports it.
#[derive(Debug)]
pub struct CommandOutcome {
    pub(super) id: RequestId,
    pub(super) result: Result<Response, Failure>,
}

type HandlerEvent = ConnectionHandlerEvent<ReadyUpgrade<StreamProtocol>, RequestId, CommandOutcome>;

/// The requests on one connection.
pub struct Handler {
    protocol: StreamProtocol,
    local: PeerId,
    remote: Multiaddr,
    /// Requests that wait for a stream.
    queue: VecDeque<(RequestId, Arc<Request>)>,
    /// Requests with a stream being negotiated; `None` for a cancelled one.
    negotiating: BTreeMap<RequestId, Option<Arc<Request>>>,
    /// Requests with a stream.
    exchanges: Vec<(RequestId, BoxFuture<'static, Result<Response, Failure>>)>,
    events: VecDeque<HandlerEvent>,
    is_reported: bool,
}

impl Handler {
    pub(super) fn new(protocol: StreamProtocol, local: PeerId, remote: Multiaddr) -> Self {
        Self {
            protocol,
            local,
            remote,
            queue: VecDeque::new(),
            negotiating: BTreeMap::new(),
            exchanges: Vec::new(),
            events: VecDeque::new(),
            is_reported: false,
        }
    }

    /// Starts the exchange of messages over a negotiated stream.
    fn on_negotiated(&mut self, mut stream: Stream, id: RequestId) {
        if !self.is_reported {
            self.is_reported = true;
            let protocols = ProtocolSupport::Added(HashSet::from([self.protocol.clone()]));
            self.events.push_back(ConnectionHandlerEvent::ReportRemoteProtocols(protocols));
        }
        let Some(request) = self.negotiating.remove(&id).flatten() else {
            return;
        };
        let (local, remote) = (self.local, self.remote.clone());
        let exchange = async move {
            stream.write_all(&request.encode()).await.map_err(closed)?;
            // The write side stays open, so dropping the stream resets it, and the peer does no
            // more work for a cancelled request.
            stream.flush().await.map_err(closed)?;
            let message = read_packet(&mut stream).await?;
            Ok(Response::read(message, &request, &local, &remote)?)
        };
        self.exchanges.push((id, exchange.boxed()));
    }

    fn on_not_negotiated(
        &mut self,
        error: StreamUpgradeError<std::convert::Infallible>,
        id: RequestId,
    ) {
        if self.negotiating.remove(&id).flatten().is_none() {
            return;
        }
        let failure = match error {
            StreamUpgradeError::NegotiationFailed => Failure::Unsupported,
            StreamUpgradeError::Timeout => closed(io::ErrorKind::TimedOut.into()),
            StreamUpgradeError::Io(error) => closed(error),
            StreamUpgradeError::Apply(never) => match never {},
        };
        self.end(id, Err(failure));
    }

    fn end(&mut self, id: RequestId, result: Result<Response, Failure>) {
        self.events
            .push_back(ConnectionHandlerEvent::NotifyBehaviour(CommandOutcome { id, result }));
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Command;
    type ToBehaviour = CommandOutcome;
    type InboundProtocol = DeniedUpgrade;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = RequestId;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(DeniedUpgrade, ())
    }

    fn on_behaviour_event(&mut self, command: Command) {
        let Command { id, request } = command;
        match request {
            Some(request) => self.queue.push_back((id, request)),
            None => {
                self.queue.retain(|(other, _)| *other != id);
                self.exchanges.retain(|(other, _)| *other != id);
                if let Some(request) = self.negotiating.get_mut(&id) {
                    *request = None;
                }
            }
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<
            Self::InboundProtocol,
            Self::OutboundProtocol,
            Self::InboundOpenInfo,
            Self::OutboundOpenInfo,
        >,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: stream,
                info: id,
            }) => self.on_negotiated(stream, id),
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, info: id }) => {
                self.on_not_negotiated(error, id);
            }
            _ => {}
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<HandlerEvent> {
        let mut ended = None;
        self.exchanges.retain_mut(|(id, exchange)| {
            if ended.is_some() {
                return true;
            }
            match exchange.poll_unpin(cx) {
                Poll::Ready(result) => ended = Some((*id, result)),
                Poll::Pending => {}
            }
            ended.is_none()
        });
        if let Some((id, result)) = ended {
            self.end(id, result);
        }
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(event);
        }
        if self.negotiating.len().saturating_add(self.exchanges.len()) < MAX_STREAMS
            && let Some((id, request)) = self.queue.pop_front()
        {
            self.negotiating.insert(id, Some(request));
            let protocol = SubstreamProtocol::new(ReadyUpgrade::new(self.protocol.clone()), id);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        Poll::Pending
    }
}

/// Reads a packet: the length of a message, then the message.
async fn read_packet(stream: &mut (impl AsyncRead + Unpin)) -> Result<Bytes, Failure> {
    let len = read_len(stream).await?;
    let mut message = Vec::new();
    while message.len() < len {
        let read = message.len();
        message.resize(read.saturating_add(CHUNK_BYTES).min(len), 0);
        stream.read_exact(message.split_at_mut(read).1).await.map_err(closed)?;
    }
    Ok(message.into())
}

/// Reads the length of a message: an unsigned varint of at most [`MAX_ANSWER_BYTES`].
async fn read_len(stream: &mut (impl AsyncRead + Unpin)) -> Result<usize, Failure> {
    let mut varint = Vec::new();
    loop {
        let mut byte = [0_u8];
        stream.read_exact(&mut byte).await.map_err(closed)?;
        varint.extend(byte);
        if byte < [0x80] {
            break;
        }
        // Exceeds any accepted length.
        if varint.len() >= 4 {
            return Err(InvalidAnswer::TooLong.into());
        }
    }
    let len = prost::decode_length_delimiter(&*varint).map_err(InvalidAnswer::from)?;
    if len > MAX_ANSWER_BYTES { Err(InvalidAnswer::TooLong.into()) } else { Ok(len) }
}

fn closed(error: io::Error) -> Failure {
    tracing::debug!(%error, "a stream ended before the answer");
    Failure::Closed
}

smart_record_core::impl_debug! { Handler: |handler| exchanges: handler.exchanges.len() }
