//! A stream of bytes that its listener can cut.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Slot;

/// A connection in its [`Slot`]: once that is cut, reads and writes fail.
pub struct Guarded<T> {
    io: T,
    slot: Slot,
}

impl<T> Guarded<T> {
    /// Puts a connection into its slot. With TLS the decrypted stream belongs here: it is read for
    /// how requests begin.
    pub fn new(io: T, slot: Slot) -> Self {
        Self { io, slot }
    }

    fn check(&self) -> io::Result<()> {
        if self.slot.0.state.is_cut() {
            let why = "closed by the server's limits";
            return Err(io::Error::new(io::ErrorKind::TimedOut, why));
        }
        Ok(())
    }

    /// Has the task woken by a cut; checks again, since that may have come in between.
    fn wait(&self, cx: &Context<'_>) -> io::Result<()> {
        self.slot.0.state.wake(cx.waker());
        self.check()
    }

    fn wrote(&self, result: &Poll<io::Result<usize>>, cx: &Context<'_>) -> io::Result<()> {
        self.slot.0.state.wrote(result.is_pending());
        if result.is_pending() {
            self.wait(cx)?;
        }
        Ok(())
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Guarded<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check()?;
        let filled = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        if read.is_pending() {
            self.wait(cx)?;
        } else if buffer.filled().len() > filled {
            self.slot.0.state.read(&buffer.filled()[filled..]);
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Guarded<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.wrote(&written, cx)?;
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.wrote(&written, cx)?;
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        if flushed.is_pending() {
            self.wait(cx)?;
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        let ended = Pin::new(&mut self.io).poll_shutdown(cx);
        if ended.is_pending() {
            self.wait(cx)?;
        }
        ended
    }
}

impl<T> fmt::Debug for Guarded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded")
            .field("slot", &self.slot)
            .finish_non_exhaustive()
    }
}
