//! A connection in memory: a multiplexer of streams, without Noise and Yamux.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::{self, Debug, Formatter},
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures::{AsyncRead, AsyncWrite};
use libp2p_core::muxing::{StreamMuxer, StreamMuxerEvent};
use smart_record_sim_clock as clock;

use crate::{
    mailbox::Mailbox,
    network::{GIVES_UP, HostId, Network},
};

/// Bytes of a message that only opens or closes something.
const SIGNAL: usize = 0;

#[derive(Debug)]
enum Piece {
    Data(VecDeque<u8>),
    End,
    Reset,
}

/// What one side writes and the other reads.
#[derive(Debug, Default)]
struct Pipe {
    pieces: Mailbox<Piece>,
    /// When the writer hears that nobody reads any more.
    unread: Option<Duration>,
    is_ended: bool,
}

#[derive(Debug, Default)]
struct Streams {
    /// By the side that writes.
    pipes: [Pipe; 2],
    /// Which sides have dropped it.
    dropped: [bool; 2],
}

#[derive(Debug, Default)]
struct Side {
    opened: Mailbox<u64>,
    ended: Mailbox<()>,
    has_closed: bool,
}

#[derive(Debug)]
struct State {
    hosts: [HostId; 2],
    network: Network,
    sides: [Side; 2],
    /// Boxed, because a map of its own keeps room for eleven.
    streams: BTreeMap<u64, Box<Streams>>,
    next_stream: u64,
    /// When the last message of each side arrives.
    last: [Duration; 2],
    /// Whether messages are swallowed.
    is_broken: bool,
}

impl State {
    /// When a message of this side arrives. `None` if it does not; then the connection breaks.
    fn send(&mut self, side: usize, bytes: usize) -> Option<Duration> {
        if self.is_broken {
            return None;
        }
        let [from, to] = [self.hosts[side], self.hosts[1 - side]];
        let is_reset = bytes > 0 && self.network.resets();
        let Some(at) = self.network.transmit(from, to, bytes).filter(|_| !is_reset) else {
            self.is_broken = true;
            let wait = if is_reset { Duration::ZERO } else { GIVES_UP };
            for side in &mut self.sides {
                side.ended.send(clock::now() + wait, ());
            }
            return None;
        };
        let at = at.max(self.last[side]);
        self.last[side] = at;
        Some(at)
    }

    fn close(&mut self, side: usize) {
        if !self.sides[side].has_closed {
            self.sides[side].has_closed = true;
            if let Some(at) = self.send(side, SIGNAL) {
                self.sides[1 - side].ended.send(at, ());
            }
        }
    }
}

type Shared = Arc<Mutex<State>>;

fn lock(shared: &Shared) -> MutexGuard<'_, State> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One side of a connection.
pub(crate) struct Muxer {
    state: Shared,
    side: usize,
    /// Messages that the side loses on purpose, if it is faulty.
    loses_records: bool,
}

impl Muxer {
    /// The sides of a connection: of the dialer and of the listener.
    pub(crate) fn pair(network: Network, hosts: [HostId; 2]) -> (Self, Self) {
        let state = Arc::new(Mutex::new(State {
            hosts,
            network,
            sides: Default::default(),
            streams: BTreeMap::new(),
            next_stream: 0,
            last: [Duration::ZERO; 2],
            is_broken: false,
        }));
        let side = |side| Self { state: Arc::clone(&state), side, loses_records: false };
        (side(0), side(1))
    }

    /// Plants a fault: requests of this side that are as long as if they had a record are lost.
    pub(crate) fn lose_records(mut self, loses_records: bool) -> Self {
        self.loses_records = loses_records;
        self
    }

    fn stream(&self, id: u64, is_outbound: bool) -> Stream {
        let loses_records = self.loses_records && is_outbound;
        Stream { state: Arc::clone(&self.state), side: self.side, id, loses_records }
    }
}

impl Drop for Muxer {
    fn drop(&mut self) {
        lock(&self.state).close(self.side);
    }
}

impl Debug for Muxer {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Muxer").field("side", &self.side).finish_non_exhaustive()
    }
}

impl StreamMuxer for Muxer {
    type Substream = Stream;
    type Error = io::Error;

    fn poll_inbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        let mut state = lock(&self.state);
        let opened = &mut state.sides[self.side].opened;
        if opened.poll(cx).is_pending() {
            return Poll::Pending;
        }
        let id = opened.pop();
        drop(state);
        id.map_or(Poll::Pending, |id| Poll::Ready(Ok(self.stream(id, false))))
    }

    fn poll_outbound(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        let mut state = lock(&self.state);
        let id = state.next_stream;
        state.next_stream += 1;
        state.streams.insert(id, Box::default());
        state.network.count_stream();
        if let Some(at) = state.send(self.side, SIGNAL) {
            state.sides[1 - self.side].opened.send(at, id);
        }
        drop(state);
        Poll::Ready(Ok(self.stream(id, true)))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.state).close(self.side);
        Poll::Ready(Ok(()))
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        let mut state = lock(&self.state);
        // It stays ended: nothing is taken out.
        match state.sides[self.side].ended.poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// One side of a stream.
pub(crate) struct Stream {
    state: Shared,
    side: usize,
    id: u64,
    loses_records: bool,
}

/// Bytes above which a request is taken for one with a record, by the planted fault: keys and the
/// names of protocols are shorter.
const LONG: usize = 220;

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = lock(&self.state);
        let Some(stream) = state.streams.get_mut(&self.id) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        let pieces = &mut stream.pipes[1 - self.side].pieces;
        let Poll::Ready(piece) = pieces.poll(cx) else { return Poll::Pending };
        match piece {
            Piece::Data(data) => {
                let length = io::Read::read(data, buffer)?;
                if data.is_empty() {
                    pieces.pop();
                }
                Poll::Ready(Ok(length))
            }
            Piece::End => Poll::Ready(Ok(0)),
            Piece::Reset => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = lock(&self.state);
        let is_unread = |pipe: &Pipe| pipe.unread.is_some_and(|at| at <= clock::now());
        let pipe = state.streams.get(&self.id).map(|stream| &stream.pipes[self.side]);
        if pipe.is_none_or(|pipe| pipe.is_ended || is_unread(pipe)) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if buffer.is_empty() || (self.loses_records && buffer.len() > LONG) {
            return Poll::Ready(Ok(buffer.len()));
        }
        let at = state.send(self.side, buffer.len());
        if let Some((at, stream)) = at.zip(state.streams.get_mut(&self.id)) {
            let data = buffer.to_vec().into();
            stream.pipes[self.side].pieces.send(at, Piece::Data(data));
        }
        Poll::Ready(Ok(buffer.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        end(&mut lock(&self.state), self.side, self.id, Piece::End);
        Poll::Ready(Ok(()))
    }
}

/// Ends what a side writes.
fn end(state: &mut State, side: usize, id: u64, piece: Piece) {
    let Some(stream) = state.streams.get_mut(&id) else { return };
    if stream.pipes[side].is_ended {
        return;
    }
    stream.pipes[side].is_ended = true;
    let at = state.send(side, SIGNAL);
    if let Some((at, stream)) = at.zip(state.streams.get_mut(&id)) {
        stream.pipes[side].pieces.send(at, piece);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        end(&mut state, self.side, self.id, Piece::Reset);
        let Some(stream) = state.streams.get_mut(&self.id) else { return };
        stream.dropped[self.side] = true;
        if stream.dropped == [true; 2] {
            state.streams.remove(&self.id);
        } else {
            // What the other side still writes is not read; it hears of that with the last message.
            let at = state.last[self.side];
            if let Some(stream) = state.streams.get_mut(&self.id) {
                stream.pipes[1 - self.side].unread.get_or_insert(at);
            }
        }
    }
}

impl Debug for Stream {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("id", &self.id).finish_non_exhaustive()
    }
}
