//! Lines of the log on their way to whoever reads them.
//!
//! A thread of its own writes them, so that nothing that logs ever waits or fails because of the
//! log: a reader that stops reading would else stop the node with it, and one that is gone would
//! make every task that logs panic. Lines wait up to a bound; beyond it they are lost and counted,
//! which the log says as soon as it is read again.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::Duration;

use tracing::warn;

/// Most lines that wait for the log's reader.
const LINES_MAX: usize = 4096;

/// How long the end of a process waits for its last lines to be written.
const LAST_LINES: Duration = Duration::from_millis(500);

/// Takes lines, and hands them to the thread that writes them. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct LogWriter {
    messages: SyncSender<Message>,
    lost: Arc<AtomicU64>,
}

/// Sees to it that the last lines of the log are written when it is dropped, which takes half a
/// second at most.
#[derive(Debug)]
#[must_use = "lines may be lost if nobody waits for them at the end"]
pub struct LogGuard(LogWriter);

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    /// Everything before this is written.
    Written(SyncSender<()>),
}

impl LogWriter {
    /// Starts to write to `sink`. Its errors are ignored: they cannot be reported anywhere else.
    ///
    /// # Errors
    ///
    /// The system has no thread for it.
    pub(crate) fn start(sink: impl Write + Send + 'static) -> io::Result<Self> {
        let (messages, waiting) = sync_channel(LINES_MAX);
        let lost = Arc::<AtomicU64>::default();
        let counted = lost.clone();
        thread::Builder::new()
            .name("log".into())
            .spawn(move || write_lines(sink, &waiting, &counted))?;
        Ok(Self { messages, lost })
    }

    pub(crate) fn guard(&self) -> LogGuard {
        LogGuard(self.clone())
    }
}

impl Write for LogWriter {
    /// Takes a whole line. Never waits, and never fails.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self
            .messages
            .try_send(Message::Line(line.to_vec()))
            .is_err()
        {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_lines(mut sink: impl Write, waiting: &Receiver<Message>, lost: &AtomicU64) {
    loop {
        let message = match waiting.try_recv() {
            Ok(message) => message,
            Err(TryRecvError::Disconnected) => return,
            Err(TryRecvError::Empty) => {
                // The reader has caught up, so there is room to say what it missed.
                let lines = lost.swap(0, Ordering::Relaxed);
                if lines > 0 {
                    warn!(lines, "the log was not read in time: lines of it are lost");
                }
                match waiting.recv() {
                    Ok(message) => message,
                    Err(_) => return,
                }
            }
        };
        match message {
            Message::Line(line) => drop(sink.write_all(&line)),
            Message::Written(told) => drop(told.send(())),
        }
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        let (told, written) = sync_channel(1);
        // If there is no room even for this, nobody reads the log.
        if self.0.messages.try_send(Message::Written(told)).is_ok() {
            let _ = written.recv_timeout(LAST_LINES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::mpsc::{Sender, channel};

    /// Writes into memory; each write waits until it may.
    struct Sink {
        wrote: Arc<Mutex<Vec<u8>>>,
        may_write: Receiver<()>,
    }

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.may_write
                .recv()
                .map_err(|_| io::ErrorKind::BrokenPipe)?;
            self.wrote.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn sink() -> (Sink, Sender<()>, Arc<Mutex<Vec<u8>>>) {
        let (let_write, may_write) = channel();
        let wrote = Arc::default();
        let sink = Sink {
            wrote: Arc::clone(&wrote),
            may_write,
        };
        (sink, let_write, wrote)
    }

    #[test]
    fn lines_are_written_in_order_before_the_guard_is_gone() {
        let (sink, let_write, wrote) = sink();
        let mut log = LogWriter::start(sink).expect("a thread");
        for line in ["a\n", "b\n", "c\n"] {
            log.write_all(line.as_bytes()).unwrap();
            let_write.send(()).unwrap();
        }
        drop(log.guard());
        assert_eq!(*wrote.lock().unwrap(), b"a\nb\nc\n");
    }

    #[test]
    fn a_reader_that_does_not_read_holds_nobody_up_and_what_it_misses_is_counted() {
        let (sink, let_write, wrote) = sink();
        let mut log = LogWriter::start(sink).expect("a thread");
        // One line is being written, others wait; this ends though no write does.
        for _ in 0..2 * LINES_MAX {
            log.write_all(b"x").unwrap();
        }
        let lost = log.lost.load(Ordering::Relaxed);
        assert!(
            (LINES_MAX as u64 - 1..=LINES_MAX as u64).contains(&lost),
            "{lost}"
        );
        for _ in 0..2 * LINES_MAX {
            let_write.send(()).unwrap();
        }
        let all_written = 2 * LINES_MAX - usize::try_from(lost).unwrap();
        while wrote.lock().unwrap().len() < all_written {
            thread::yield_now();
        }
    }

    #[test]
    fn a_reader_that_is_gone_fails_nobody() {
        let (sink, let_write, wrote) = sink();
        drop(let_write);
        let mut log = LogWriter::start(sink).expect("a thread");
        log.write_all(b"x").unwrap();
        drop(log.guard());
        assert!(wrote.lock().unwrap().is_empty());
    }
}
