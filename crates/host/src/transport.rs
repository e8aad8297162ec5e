//! Transport of a node: TCP and QUIC, encrypted, with names resolved.
//!
//! **Invariants.** In a private network every connection is made with its key: there is no QUIC,
//! which libp2p does not protect with one.
//!
//! **Spec.** [Connections](https://github.com/libp2p/specs/blob/master/connections/README.md),
//! [private networks](https://github.com/libp2p/specs/blob/master/pnet/Private-Networks-PSK-V1.md),
//! [names](https://github.com/libp2p/specs/blob/master/addressing/README.md).

use std::{error::Error, io, iter::Chain, net::SocketAddr};

use futures::{
    future::{BoxFuture, Either, FutureExt, TryFutureExt},
    io::{AsyncRead, AsyncWrite},
};
use hickory_resolver::{
    config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts},
    system_conf::read_system_conf,
};
use libp2p::{
    PeerId, Transport,
    core::{
        muxing::StreamMuxerBox,
        transport::OptionalTransport,
        upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo, Version},
    },
    identity::Keypair,
    noise,
    pnet::{PnetConfig, PreSharedKey},
    quic, tcp, tls, yamux,
};

use super::{counters::SharedCounters, handshakes::Handshakes};

/// Transport for addresses without names, in the network of this key if there is one, that makes at
/// most so many handshakes with others at a time.
pub(super) fn encrypted(
    keypair: &Keypair,
    network: Option<PreSharedKey>,
    handshakes: usize,
    counters: SharedCounters,
) -> Result<Handshakes<(PeerId, StreamMuxerBox)>, Box<dyn Error + Send + Sync>> {
    let security =
        Security { noise: noise::Config::new(keypair)?, tls: tls::Config::new(keypair)? };
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
        .and_then(move |socket, _| async move {
            match network {
                Some(key) => {
                    let with_key = PnetConfig::new(key).handshake(socket).await;
                    with_key.map(Either::Left).map_err(io::Error::other)
                }
                None => Ok(Either::Right(socket)),
            }
        })
        .upgrade(Version::V1Lazy)
        .authenticate(security)
        .multiplex(yamux::Config::default())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let quic = match network {
        Some(_) => OptionalTransport::none(),
        None => {
            let quic = quic::tokio::Transport::new(quic::Config::new(keypair));
            OptionalTransport::some(quic.map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer))))
        }
    };
    let quic = quic.map_err(|error| match error {
        quic::Error::HandshakeTimedOut => io::Error::new(io::ErrorKind::TimedOut, error),
        error => io::Error::other(error),
    });
    let both = tcp.map_err(io::Error::other).or_transport(quic);
    let both = both.map(|either, _| either.into_inner()).map_err(|either| either.into_inner());
    Ok(Handshakes::new(both.boxed(), handshakes, counters))
}

/// Configuration of the resolver: these name servers, or those of the machine.
pub(super) fn names(servers: &[SocketAddr]) -> (ResolverConfig, ResolverOpts) {
    let configured = || {
        let of = |at: &SocketAddr| {
            let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
            connections.iter_mut().for_each(|connection| connection.port = at.port());
            NameServerConfig::new(at.ip(), true, connections)
        };
        let servers = servers.iter().map(of).collect();
        (ResolverConfig::from_name_servers(servers), ResolverOpts::default())
    };
    if !servers.is_empty() {
        return configured();
    }
    read_system_conf().unwrap_or_else(|error| {
        // The file of hosts still has names.
        tracing::warn!(%error, "this machine has no name servers: few names in addresses resolve");
        configured()
    })
}

/// Noise and TLS. A dialer proposes Noise first, which peers of all implementations speak.
#[derive(Clone)]
struct Security {
    noise: noise::Config,
    tls: tls::Config,
}

/// Why a connection could not be encrypted.
#[derive(Debug, thiserror::Error)]
enum SecurityError {
    #[error(transparent)]
    Noise(#[from] noise::Error),
    #[error(transparent)]
    Tls(#[from] tls::UpgradeError),
}

impl Security {
    fn is_tls(&self, protocol: &str) -> bool {
        self.tls.protocol_info().any(|it| it == protocol)
    }
}

impl UpgradeInfo for Security {
    type Info = &'static str;
    type InfoIter =
        Chain<<noise::Config as UpgradeInfo>::InfoIter, <tls::Config as UpgradeInfo>::InfoIter>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.noise.protocol_info().chain(self.tls.protocol_info())
    }
}

/// What encrypts a connection of `C`.
type Encrypted<C> = Either<noise::Output<C>, tls::TlsStream<C>>;
type Encrypting<C> = BoxFuture<'static, Result<(PeerId, Encrypted<C>), SecurityError>>;

impl<C> InboundConnectionUpgrade<C> for Security
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = (PeerId, Encrypted<C>);
    type Error = SecurityError;
    type Future = Encrypting<C>;

    fn upgrade_inbound(self, socket: C, protocol: Self::Info) -> Self::Future {
        if self.is_tls(protocol) {
            let upgrade = self.tls.upgrade_inbound(socket, protocol);
            upgrade.map_ok(|(peer, it)| (peer, Either::Right(it))).err_into().boxed()
        } else {
            let upgrade = self.noise.upgrade_inbound(socket, protocol);
            upgrade.map_ok(|(peer, it)| (peer, Either::Left(it))).err_into().boxed()
        }
    }
}

impl<C> OutboundConnectionUpgrade<C> for Security
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = (PeerId, Encrypted<C>);
    type Error = SecurityError;
    type Future = Encrypting<C>;

    fn upgrade_outbound(self, socket: C, protocol: Self::Info) -> Self::Future {
        if self.is_tls(protocol) {
            let upgrade = self.tls.upgrade_outbound(socket, protocol);
            upgrade.map_ok(|(peer, it)| (peer, Either::Right(it))).err_into().boxed()
        } else {
            let upgrade = self.noise.upgrade_outbound(socket, protocol);
            upgrade.map_ok(|(peer, it)| (peer, Either::Left(it))).err_into().boxed()
        }
    }
}
