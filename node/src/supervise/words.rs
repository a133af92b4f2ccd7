//! What the child says over the socket.

use std::time::Duration;

use steading::ids::LeaseId;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::unix::OwnedReadHalf;
use tokio::time::timeout;
use tracing::warn;

use super::LEFT;

/// How long what the child said last is waited for: a descendant of it may hold the socket open.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// What the child has said so far.
#[derive(Debug)]
pub(super) struct Words {
    lines: Lines<BufReader<OwnedReadHalf>>,
    /// The lease of its present life; none before the first and after it has left.
    lease: Option<LeaseId>,
    are_over: bool,
}

impl Words {
    pub(super) fn new(from_child: OwnedReadHalf) -> Self {
        Self {
            lines: BufReader::new(from_child).lines(),
            lease: None,
            are_over: false,
        }
    }

    /// Takes in the next line, and returns whether there is a lease now. Never returns once all is
    /// said. Cancel safe.
    pub(super) async fn next(&mut self) -> bool {
        if self.are_over {
            return std::future::pending().await;
        }
        match self.lines.next_line().await {
            Ok(Some(line)) => self.lease = lease_after(self.lease, &line),
            Ok(None) => self.are_over = true,
            Err(error) => {
                warn!(%error, "cannot read what the node says");
                self.are_over = true;
            }
        }
        self.lease.is_some()
    }

    /// Reads what the child said just before its end, and returns the lease that it left behind.
    pub(super) async fn last(mut self) -> Option<LeaseId> {
        // Without the end of the socket, what was read so far counts.
        let _ = timeout(LAST_WORDS, async {
            while !self.are_over {
                self.next().await;
            }
        })
        .await;
        self.lease
    }
}

/// Returns the lease to end after this line. A line that means nothing changes nothing: it must not
/// pass for the news that the node has left.
fn lease_after(lease: Option<LeaseId>, line: &str) -> Option<LeaseId> {
    if line == LEFT {
        return None;
    }
    if let Ok(number) = line.parse() {
        Some(LeaseId::new(number))
    } else {
        warn!(line, "the node said what this version does not know");
        lease
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_goodbye_takes_the_lease_away() {
        let lease = |number| Some(LeaseId::new(number));
        assert_eq!(lease_after(None, "7"), lease(7));
        assert_eq!(lease_after(lease(7), "8"), lease(8));
        assert_eq!(lease_after(lease(7), "nonsense"), lease(7));
        assert_eq!(lease_after(lease(7), ""), lease(7));
        assert_eq!(lease_after(lease(7), LEFT), None);
    }
}
