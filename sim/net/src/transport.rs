//! The transport of a host.

use std::{
    collections::VecDeque,
    future::{Ready, ready},
    io,
    net::Ipv4Addr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use futures_timer::Delay;
use libp2p_core::{
    Multiaddr, Transport,
    multiaddr::Protocol,
    muxing::StreamMuxerBox,
    transport::{DialOpts, ListenerId, TransportError, TransportEvent},
};
use libp2p_identity::PeerId;
use smart_record_sim_clock as clock;

use crate::network::{Dialed, HostId, Network};

/// The port that all nodes listen on.
const PORT: u16 = 4_001;

/// How long a dial waits: the default of libp2p.
const PATIENCE: Duration = Duration::from_secs(10);

/// The listen address of a host.
pub(crate) fn address(ip: Ipv4Addr) -> Multiaddr {
    Multiaddr::from(ip).with(Protocol::Tcp(PORT))
}

type Output = (PeerId, StreamMuxerBox);
type Upgrade = Ready<io::Result<Output>>;
type Event = TransportEvent<Upgrade, io::Error>;

/// Connections over the network in memory.
#[derive(Debug)]
pub(crate) struct HostTransport {
    network: Network,
    host: HostId,
    peer: PeerId,
    listener: Option<ListenerId>,
    events: VecDeque<Event>,
    loses_records: bool,
}

impl HostTransport {
    pub(crate) fn new(network: Network, host: HostId, peer: PeerId, loses_records: bool) -> Self {
        Self { network, host, peer, listener: None, events: VecDeque::new(), loses_records }
    }
}

impl Drop for HostTransport {
    fn drop(&mut self) {
        if self.listener.is_some() {
            self.network.stop_listening(self.host);
        }
    }
}

/// The address and port, if it is one of this network.
fn ip_of(address: &Multiaddr) -> Option<(Ipv4Addr, u16)> {
    let mut protocols = address.iter();
    match (protocols.next(), protocols.next()) {
        (Some(Protocol::Ip4(ip)), Some(Protocol::Tcp(port))) => Some((ip, port)),
        _ => None,
    }
}

async fn wait_until(at: Duration) {
    Delay::new(at.saturating_sub(clock::now())).await;
}

impl Transport for HostTransport {
    type Output = Output;
    type Error = io::Error;
    type ListenerUpgrade = Upgrade;
    type Dial = BoxFuture<'static, io::Result<Output>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        if ip_of(&address).is_none_or(|(ip, _)| ip != self.host.ip()) {
            return Err(TransportError::MultiaddrNotSupported(address));
        }
        self.network.listen(self.host, self.peer);
        self.listener = Some(id);
        let event = TransportEvent::NewAddress { listener_id: id, listen_addr: address };
        self.events.push_back(event);
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        let is_it = self.listener == Some(id);
        if is_it {
            self.listener = None;
            self.network.stop_listening(self.host);
        }
        is_it
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        _: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        let Some((ip, port)) = ip_of(&address) else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        let (network, host, peer) = (self.network.clone(), self.host, self.peer);
        let loses_records = self.loses_records;
        Ok(Box::pin(async move {
            let dialed = match port {
                PORT => network.dial(host, peer, ip),
                _ => Dialed::Silence,
            };
            match dialed {
                Dialed::Connected(at, peer, muxer) => {
                    wait_until(at).await;
                    Ok((peer, StreamMuxerBox::new(muxer.lose_records(loses_records))))
                }
                Dialed::Refused(at) => {
                    wait_until(at).await;
                    Err(io::ErrorKind::ConnectionRefused.into())
                }
                Dialed::Silence => {
                    Delay::new(PATIENCE).await;
                    Err(io::ErrorKind::TimedOut.into())
                }
            }
        }))
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Event> {
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(event);
        }
        let Some(listener_id) = self.listener else { return Poll::Pending };
        let Poll::Ready(incoming) = self.network.poll_incoming(self.host, cx) else {
            return Poll::Pending;
        };
        let muxer = incoming.muxer.lose_records(self.loses_records);
        Poll::Ready(TransportEvent::Incoming {
            listener_id,
            upgrade: ready(Ok((incoming.peer, StreamMuxerBox::new(muxer)))),
            local_addr: address(self.host.ip()),
            send_back_addr: Multiaddr::from(incoming.from).with(Protocol::Tcp(incoming.port)),
        })
    }
}
