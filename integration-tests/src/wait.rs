//! Waiting for a state, never for a time.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long a state may take to come. Far above the expected time: expiry means a bug.
pub const LIMIT: Duration = Duration::from_secs(45);

const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Asks again and again until `state` is `Ok`, and returns what it holds.
///
/// # Panics
///
/// After [`LIMIT`], with the goal and what the last answer lacked.
pub async fn until<T>(goal: &str, state: impl AsyncFnMut() -> Result<T, String>) -> T {
    until_within(LIMIT, goal, state).await
}

/// Does the same for a state that takes long by design.
///
/// # Panics
///
/// After `limit`, with the goal and what the last answer lacked.
pub async fn until_within<T>(
    limit: Duration,
    goal: &str,
    mut state: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let start = Instant::now();
    loop {
        match state().await {
            Ok(reached) => return reached,
            Err(lacks) if start.elapsed() > limit => panic!("never reached: {goal}; last: {lacks}"),
            Err(_) => sleep(POLL_INTERVAL).await,
        }
    }
}
