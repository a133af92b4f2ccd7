//! How the last life ends.

use super::*;
use crate::coordination::Cut;

impl Rig {
    /// Ends the task as SIGKILL would: no revocation, but the lock is released.
    pub(super) async fn ended_by_force(&mut self) {
        let running = self.running.take().expect("it was started");
        running.abort();
        drop(running.await);
        self.membership.shared.lock.lock().take();
    }
}

#[tokio::test(start_paused = true)]
async fn m3_a_node_that_leaves_is_gone_at_once() {
    let (mut rig, _) = Rig::joined().await;
    let began = Instant::now();
    rig.membership.leave().await;
    assert!(began.elapsed() < Duration::from_millis(100));
    assert_eq!(
        (rig.key().await, rig.membership.state()),
        (None, MembershipState::Stopped)
    );
    assert!(!rig.fence.is_open());
    rig.ended().await.expect("no failure");
}

#[tokio::test(start_paused = true)]
async fn shutting_down_leaves_too() {
    let (mut rig, _) = Rig::joined().await;
    rig.tasks.shutdown().cancel();
    rig.ended().await.expect("no failure");
    assert_eq!(rig.key().await, None);
}

/// The fence goes first: nothing may be served once others can take over.
#[tokio::test(start_paused = true)]
async fn leaving_without_the_store_closes_the_fence_and_takes_bounded_time() {
    for cut in [Cut::Refused, Cut::Silent] {
        let (rig, _) = Rig::joined().await;
        rig.store.inner.faults().cut(Some(cut));
        let leaving = rig.tasks.spawn_work({
            let membership = rig.membership.clone();
            async move { membership.leave().await }
        });
        sleep(Duration::from_millis(10)).await;
        assert!(!rig.fence.is_open() && rig.key().await.is_some());
        timeout(TTL, leaving)
            .await
            .expect("bounded")
            .expect("no panic");
        sleep(TTL).await;
        assert_eq!(rig.key().await, None, "the lease ended by itself");
    }
}

#[tokio::test(start_paused = true)]
async fn leaving_before_having_joined_ends_the_waiting() {
    let mut rig = Rig::new();
    rig.store.inner.faults().cut(Some(Cut::Refused));
    rig.start();
    sleep(Duration::from_secs(3)).await;
    rig.membership.leave().await;
    rig.ended().await.expect("no failure");
    let error = rig.membership.joined().await.expect_err("stopped");
    assert!(matches!(error, JoinError::Stopped));
}

#[tokio::test(start_paused = true)]
async fn leaving_amid_the_registration_leaves_no_key_behind() {
    use crate::coordination::CommitFault::{ApplyLater, Delay};
    for fault in [Delay, ApplyLater].map(|fault| fault(Duration::from_secs(1))) {
        let mut rig = Rig::new();
        rig.store.inner.faults().on_commit(1, fault);
        rig.start();
        sleep(Duration::from_millis(20)).await;
        rig.membership.leave().await;
        sleep(Duration::from_secs(2)).await;
        assert_eq!(rig.key().await, None, "{fault:?}");
    }
}
