//! Rules that are broken on purpose, to show that the model notices each.
//!
//! What the model takes for granted is tested where it is done. A fence that counted from the
//! receipt: `the_deadline_counts_from_the_send_and_not_from_the_reply` and
//! `the_first_deadline_counts_from_the_send_of_the_grant`. A reply that were taken for the answer
//! to the latest send: `a_stream_is_dropped_with_its_late_replies`. A node key that were put over
//! another: `a_key_of_another_process_is_never_written_over`. All of them are tests of
//! `coordination::membership`, and all come to the same here: [`Broken::Fence`]. What a clock that
//! stops in suspend does is [`Broken::ClockStopsInSuspend`]; that the real one does not stop is
//! `boot_time_counts_suspend` in `clock`. That real storage refuses old tokens is
//! `a_lower_token_is_refused_from_the_load_on`, for every storage.

/// A rule that a world does without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// None: this is how Steading is.
    Nothing,
    /// A release does not ask at which revision the owner key stands.
    GuardOfRelease,
    /// Nor does a hand-over.
    GuardOfHandOver,
    /// Nor does a take-over.
    GuardOfTakeOver,
    /// A take-over does not ask whether the old owner is dead.
    ProofOfDeath,
    /// A hand-over does not ask in which life the target is.
    LifeOfTarget,
    /// Owner news counts at an equal or lower revision.
    OldNewsCounts,
    /// A reply to an earlier life counts for the present one.
    ReplyOfEarlierLife,
    /// A forwarded call makes whoever gets it the owner.
    UncheckedForward,
    /// The lease may end while its owner serves, as with each broken rule of the fence.
    Fence,
    /// The clock of the fence stops while the machine is suspended, so that whoever wakes goes on
    /// without having asked, though its lease may have ended meanwhile.
    ClockStopsInSuspend,
    /// A release without an answer counts as failed.
    UnknownReleaseIsFailure,
    /// So does a hand-over.
    UnknownHandOverIsFailure,
    /// A hand-over without an answer counts as successful.
    UnknownHandOverIsSuccess,
    /// So does a claim.
    UnknownClaimIsSuccess,
    /// What is in doubt is never restamped.
    DoubtStays,
    /// A read that shows my revision reopens what is in doubt.
    ReadReopens,
    /// Activations are kept when the lease is lost.
    ObjectsOutliveLease,
    /// The leader deletes the node key of whom it thinks dead.
    LeaderDeletesNode,
    /// A second process puts its node key over that of the first.
    NodeKeyPutOver,
    /// Storage ignores tokens.
    StorageIgnoresTokens,
    /// A hand-over is sent while turns run.
    HandOverWhileOpen,
    /// Any news that I own the shard lets me go on with the objects that I closed.
    AnyOwnNewsKeepsObjects,
    /// The receiver takes in what it has staged, whatever its name is.
    AnyParcelCounts,
    /// What comes with a shard that shall go on at once is not taken in.
    ParcelPassedBy,
}
