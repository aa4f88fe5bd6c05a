//! A WebSocket on a client's stream: tungstenite's protocol, and the bytes that the client's system has not taken.
//!
//! Not tokio-tungstenite's stream: that one keeps a write buffer as large as its largest frame for as long as it lives, and
//! two wakers on the heap besides. Here what waits is freed as soon as it is written.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::entrance::Stream;

/// Most that is read at once, kept by each connection. A report fits; tungstenite's own default of 128 KiB would cost that
/// much a connection.
const READ_BUFFER: usize = 512;
/// Pongs wait inside tungstenite while more than this is unsent, and there the last one takes the place of the others.
const MOST_UNSENT_FOR_PONGS: usize = 4_096;
/// tungstenite writes control frames alone, of at most 127 bytes.
const CONTROL_BUFFER: usize = 1_024;

/// A server's end of a WebSocket.
pub struct Socket {
    frames: WebSocketContext,
    wire: Wire,
}

struct Wire {
    stream: Stream,
    unsent: Vec<u8>,
}

impl Socket {
    /// On a stream whose client was granted the upgrade, and has sent so much more already. Messages of more than
    /// `message_bytes` are refused.
    pub fn new(stream: Stream, rest: Vec<u8>, message_bytes: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_write_buffer_size(CONTROL_BUFFER)
            .max_message_size(Some(message_bytes))
            .max_frame_size(Some(message_bytes));
        let frames = WebSocketContext::from_partially_read(rest, Role::Server, Some(config));
        Self { frames, wire: Wire { stream, unsent: Vec::new() } }
    }

    /// The next message. None: the connection has ended.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, Error>>> {
        let read = self.frames.read(&mut Polled { wire: &mut self.wire, cx });
        // tungstenite answers pings and closings itself. An error shows at the next read.
        if !self.wire.unsent.is_empty() {
            let _ = self.wire.poll_flush(cx);
        }
        match read {
            Ok(message) => Poll::Ready(Some(Ok(message))),
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            Err(Error::ConnectionClosed | Error::AlreadyClosed) => Poll::Ready(None),
            Err(error) => Poll::Ready(Some(Err(error))),
        }
    }

    /// Puts a text or binary message behind what is unsent; [`Socket::poll_flush`] writes it.
    ///
    /// # Errors
    /// When the socket was closed.
    pub fn send(&mut self, data: Data, message: &[u8]) -> Result<(), Error> {
        if !self.frames.can_write() {
            return Err(Error::AlreadyClosed);
        }
        let header = FrameHeader { opcode: OpCode::Data(data), ..FrameHeader::default() };
        header.format(message.len() as u64, &mut self.wire.unsent)?;
        self.wire.unsent.extend_from_slice(message);
        Ok(())
    }

    /// The same for a ping or a closing.
    ///
    /// # Errors
    /// When the socket was closed.
    pub fn send_control(&mut self, message: Message) -> Result<(), Error> {
        self.frames.write(&mut Unsent(&mut self.wire.unsent), message)
    }

    /// Bytes that the client's system has not taken.
    pub fn unsent_len(&self) -> usize {
        self.wire.unsent.len()
    }

    /// Resolves when the client's system has taken everything.
    ///
    /// # Errors
    /// When the connection is lost.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.poll_flush(cx)
    }

    /// What is below, for who is done with the WebSocket.
    pub fn stream(&mut self) -> &mut Stream {
        &mut self.wire.stream
    }
}

impl Wire {
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut sent = 0;
        while sent < self.unsent.len() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.unsent[sent..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(more)) => sent += more,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.unsent.drain(..sent);
                    return Poll::Pending;
                }
            }
        }
        self.unsent = Vec::new();
        // TLS keeps what the socket does not take at once.
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        Poll::Ready(Ok(()))
    }
}

/// The wire as tungstenite sees it while a task is polled. What it writes is taken as a whole or not at all, so that its
/// frames and those of [`Socket::send`] never cut each other in two.
struct Polled<'a, 'b> {
    wire: &'a mut Wire,
    cx: &'a mut Context<'b>,
}

impl Read for Polled<'_, '_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut read = ReadBuf::new(bytes);
        match Pin::new(&mut self.wire.stream).poll_read(self.cx, &mut read) {
            Poll::Ready(Ok(())) => Ok(read.filled().len()),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for Polled<'_, '_> {
    fn write(&mut self, frame: &[u8]) -> io::Result<usize> {
        if self.wire.unsent.len() > MOST_UNSENT_FOR_PONGS {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.wire.unsent.extend_from_slice(frame);
        Ok(frame.len())
    }

    /// Whoever polls flushes.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The wire as tungstenite sees it at any other time: there is nothing to read, and all that is written waits.
struct Unsent<'a>(&'a mut Vec<u8>);

impl Read for Unsent<'_> {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl Write for Unsent<'_> {
    fn write(&mut self, frame: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(frame);
        Ok(frame.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
