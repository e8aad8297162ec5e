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

use super::counters::SharedCounters;

/// A transport of which at most `limit` inbound handshakes are made at a time.
pub(super) struct Handshakes<O> {
    inner: Boxed<O>,
    limit: usize,
    /// A handshake gives way when its sender is dropped. Oldest first.
    pending: VecDeque<oneshot::Sender<Infallible>>,
    counters: SharedCounters,
}

/// Counts a handshake as timed out when it is dropped, unless it is over.
struct UnderWay {
    counters: SharedCounters,
    is_over: bool,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if !self.is_over {
            self.counters.count(|c| &mut c.handshakes_timed_out);
        }
    }
}

/// Whether a handshake of a boxed transport failed because a timeout of the transport itself, such
/// as that of QUIC, had passed.
fn has_timed_out(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<io::Error>());
    inner.is_some_and(|inner| inner.kind() == io::ErrorKind::TimedOut)
}

impl<O> Handshakes<O> {
    pub(super) const fn new(inner: Boxed<O>, limit: usize, counters: SharedCounters) -> Self {
        Self { inner, limit, pending: VecDeque::new(), counters }
    }

    fn admit<F>(&mut self, handshake: F) -> BoxFuture<'static, io::Result<O>>
    where
        F: Future<Output = io::Result<O>> + Send + Unpin + 'static,
        O: 'static,
    {
        self.pending.retain(|handshake| !handshake.is_canceled());
        while self.pending.len() >= self.limit.max(1) {
            self.pending.pop_front();
            self.counters.count(|c| &mut c.handshakes_displaced);
        }
        let (keep, gives_way) = oneshot::channel();
        self.pending.push_back(keep);
        let counters = self.counters.clone();
        let result = async move {
            // From the first poll on: one that a limit refuses is dropped before.
            let mut under_way = UnderWay { counters, is_over: false };
            let result = match future::select(handshake, gives_way).await {
                Either::Left((result, _)) => result,
                Either::Right(_) => Err(io::Error::other("the handshake gave way to newer ones")),
            };
            under_way.is_over = !result.as_ref().is_err_and(has_timed_out);
            result
        };
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

    fn displaced(counters: &SharedCounters) -> u64 {
        counters.get().handshakes_displaced
    }

    fn timed_out(counters: &SharedCounters) -> u64 {
        counters.get().handshakes_timed_out
    }

    #[test]
    fn the_oldest_handshake_that_is_not_done_gives_way() {
        let inner: DummyTransport<()> = DummyTransport::new();
        let counters = SharedCounters::default();
        let mut handshakes = Handshakes::new(inner.boxed(), 2, counters.clone());
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
        assert_eq!((displaced(&counters), timed_out(&counters)), (1, 0));
    }

    #[test]
    fn a_handshake_that_is_dropped_before_it_is_over_has_timed_out() {
        let inner: DummyTransport<()> = DummyTransport::new();
        let counters = SharedCounters::default();
        let mut handshakes = Handshakes::new(inner.boxed(), 8, counters.clone());
        drop(handshakes.admit(future::pending()));
        let failed = |error| future::ready(Err(error));
        for error in [io::Error::other("bad"), io::ErrorKind::TimedOut.into()] {
            handshakes.admit(failed(error)).now_or_never().unwrap().unwrap_err();
        }
        assert_eq!(timed_out(&counters), 0, "refused, or failed for another reason");
        let quic = io::Error::other(io::Error::from(io::ErrorKind::TimedOut));
        handshakes.admit(failed(quic)).now_or_never().unwrap().unwrap_err();
        assert_eq!(timed_out(&counters), 1, "by a timeout of its own");
        let mut silent = handshakes.admit(future::pending());
        assert!((&mut silent).now_or_never().is_none());
        drop(silent);
        assert_eq!((displaced(&counters), timed_out(&counters)), (0, 2));
    }
}
