//! Bound of the handshakes with others that a transport makes at a time.
//!
//! A peer that connects and says nothing holds a place until the handshake times out, after ten
//! seconds. So that such peers cannot hold all places, the oldest handshake gives way to a new one.
//!
//! **Invariants.** At most as many handshakes as the limit are not told to give way.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use futures::{
    channel::oneshot,
    future::{self, BoxFuture, Either, FutureExt},
};
use libp2p::{
    Multiaddr, Transport, TransportError,
    core::transport::{Boxed, DialOpts, ListenerId, TransportEvent},
};

/// A transport of which at most `limit` inbound handshakes are made at a time.
pub(super) struct Handshakes<O> {
    inner: Boxed<O>,
    limit: usize,
    /// A handshake gives way when its sender is dropped. Oldest first.
    pending: VecDeque<oneshot::Sender<Infallible>>,
}

impl<O> Handshakes<O> {
    pub(super) const fn new(inner: Boxed<O>, limit: usize) -> Self {
        Self { inner, limit, pending: VecDeque::new() }
    }

    fn admit<F>(&mut self, handshake: F) -> BoxFuture<'static, io::Result<O>>
    where
        F: Future<Output = io::Result<O>> + Send + Unpin + 'static,
    {
        self.pending.retain(|handshake| !handshake.is_canceled());
        while self.pending.len() >= self.limit.max(1) {
            self.pending.pop_front();
        }
        let (keep, gives_way) = oneshot::channel();
        self.pending.push_back(keep);
        let result = future::select(handshake, gives_way).map(|first| match first {
            Either::Left((result, _)) => result,
            Either::Right(_) => Err(io::Error::other("the handshake gave way to newer ones")),
        });
        result.boxed()
    }
}

impl<O: 'static> Transport for Handshakes<O> {
    type Output = O;
    type Error = io::Error;
    type ListenerUpgrade = BoxFuture<'static, io::Result<O>>;
    type Dial = <Boxed<O> as Transport>::Dial;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        self.inner.dial(address, options)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        let event = std::task::ready!(Pin::new(&mut self.inner).poll(context));
        Poll::Ready(event.map_upgrade(|handshake| self.admit(handshake)))
    }
}

#[cfg(test)]
mod tests {
    use libp2p::core::transport::dummy::DummyTransport;

    use super::*;

    #[test]
    fn the_oldest_handshake_that_is_not_done_gives_way() {
        let inner: DummyTransport<()> = DummyTransport::new();
        let mut handshakes = Handshakes::new(inner.boxed(), 2);
        let mut done = handshakes.admit(future::ready(Ok(())));
        assert!((&mut done).now_or_never().unwrap().is_ok());
        drop(done);
        let mut silent = || handshakes.admit(future::pending());
        let (mut first, mut second) = (silent(), silent());
        assert!((&mut first).now_or_never().is_none(), "there is room");
        let mut third = silent();
        assert!((&mut first).now_or_never().unwrap().is_err());
        assert!((&mut second).now_or_never().is_none());
        assert!((&mut third).now_or_never().is_none());
    }
}
