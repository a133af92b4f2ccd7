//! One suite for every implementation of the store: what the rest of the runtime relies on.
//!
//! Each test runs against the memory store and against a real etcd, through a proxy that can
//! break the connection. What only etcd has (members, users, TLS, restarts) is in `etcd_only`.

mod etcd_only;
mod leases;
mod subject;
mod transactions;
mod watches;

macro_rules! suite {
    ($($etcd:ident { $($part:ident::$test:ident,)* })*) => {
        mod on_memory {
            use crate::subject::Subject;
            $($(#[tokio::test(start_paused = true)]
            async fn $test() {
                crate::$part::$test(Subject::memory(stringify!($test))).await;
            })*)*
        }

        mod on_etcd {
            use crate::subject::Subject;
            $($(#[tokio::test]
            async fn $test() {
                crate::$part::$test(Subject::$etcd(stringify!($test)).await).await;
            })*)*
        }
    };
}

suite! {
    etcd {
        transactions::lists_a_prefix_in_order,
        transactions::an_absent_key_was_created_and_modified_at_zero,
        transactions::writes_of_a_transaction_share_its_revision,
        transactions::a_key_made_again_has_a_new_create_revision,
        transactions::a_key_written_twice_in_a_transaction_is_refused,
        transactions::a_transaction_takes_128_operations_and_no_more,
        transactions::m8_of_many_racing_clients_one_creates_the_key,
        transactions::every_shard_can_be_claimed_in_batches,
        leases::m10_a_lease_ends_with_its_keys_in_one_revision,
        leases::m11_a_lease_lives_while_it_is_kept_alive,
        leases::m3_a_revoked_lease_takes_its_keys_at_once,
        leases::a_lease_that_never_was_is_gone,
        watches::a_watch_tells_the_past_and_what_follows,
        watches::a_watch_sees_its_prefix_only_and_nothing_before_its_start,
        watches::a_watch_never_splits_a_revision,
        watches::m14_a_broken_watch_resumes_without_loss,
    }
    own_etcd {
        transactions::p16_compares_hold_at_their_revision_only,
        transactions::what_changes_nothing_makes_no_revision,
        transactions::an_answer_may_be_large,
        watches::a_compacted_watch_asks_for_a_new_list,
        watches::a_compaction_beside_a_watch_does_not_harm_it,
    }
}
