//! Why a call brought back no answer, and whether the method may have run.

/// Whether the method of a failed call may have run: what decides about trying again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It surely did not run, and never will; trying again is safe.
    NotRun,
    /// It may have run, may be running, or may yet run.
    Unknown,
    /// It ran; only its answer is missing.
    Ran,
}

impl Outcome {
    /// Returns the outcome's name on the wire: `not_run`, `unknown`, `ran`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotRun => "not_run",
            Self::Unknown => "unknown",
            Self::Ran => "ran",
        }
    }
}

macro_rules! call_errors {
    ($($(#[$doc:meta])* $variant:ident $code:literal $outcome:ident $text:literal,)*) => {
        /// Why a call brought back no answer from the object's method.
        ///
        /// A method's own `Err` is no `CallError`: it is the method's answer. Each variant holds
        /// the particulars in words; [`CallError::outcome`] tells whether the method may have run.
        #[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
        #[non_exhaustive]
        pub enum CallError {
            $($(#[$doc])* #[error($text)] $variant(String),)*
        }

        impl CallError {
            /// Returns the stable name of this kind of error, as HTTP and gRPC clients see it.
            pub fn code(&self) -> &'static str {
                match self { $(Self::$variant(_) => $code,)* }
            }

            /// Returns whether the method may have run.
            pub fn outcome(&self) -> Outcome {
                match self { $(Self::$variant(_) => Outcome::$outcome,)* }
            }

            /// Returns the particulars, as [`CallError::from_parts`] takes them back.
            pub fn detail(&self) -> &str {
                match self { $(Self::$variant(detail) => detail,)* }
            }

            /// Makes the error that another node reported. A code that this version does not
            /// know becomes [`CallError::Protocol`].
            pub fn from_parts(code: &str, detail: String) -> Self {
                match code {
                    $($code => Self::$variant(detail),)*
                    _ => Self::Protocol(format!("{code}: {detail}")),
                }
            }

            /// Every code with its outcome, for tables in the documentation.
            pub const CODES: &[(&str, Outcome)] = &[$(($code, Outcome::$outcome),)*];
        }
    };
}

call_errors! {
    /// The type name or ID cannot name an object.
    InvalidId "invalid_id" NotRun "{0}",
    /// No live node hosts this type, or the called one does not.
    UnknownType "unknown_type" NotRun "there is no object type `{0}`",
    /// The type has no such method.
    UnknownMethod "unknown_method" NotRun "there is no method {0}",
    /// The arguments cannot be read: missing, unknown, or of another type.
    BadArguments "bad_arguments" NotRun "bad arguments: {0}",
    /// The arguments are larger than the payload limit.
    TooLarge "too_large" NotRun "the arguments are too large: {0}",
    /// The reply is larger than the payload limit.
    ReplyTooLarge "reply_too_large" Ran "the reply is too large: {0}",
    /// A bounded queue on the way is full: the object's mailbox, the parked calls, a connection.
    Overloaded "overloaded" NotRun "overloaded: {0}",
    /// The deadline passed while nobody could serve the object's shard.
    NoOwner "no_owner" NotRun "no owner in time: {0}",
    /// The deadline passed before the method began.
    DeadlineBeforeStart "deadline_before_start" NotRun "the deadline passed before the method began: {0}",
    /// The deadline passed, and the method may have run or may still be running.
    Deadline "deadline" Unknown "no answer in time: {0}",
    /// The connection to the object's node broke after the call was sent.
    Disconnected "disconnected" Unknown "lost the connection to {0}",
    /// The object's node can not be reached, and the call was not sent.
    Unreachable "unreachable" NotRun "cannot reach {0}",
    /// The method panicked; the activation was discarded.
    Panicked "panicked" Ran "the method panicked: {0}",
    /// The call would wait for itself; the path of objects is given.
    Cycle "cycle" NotRun "the call would wait for itself: {0}",
    /// The object could not be activated: its state could not be loaded, or its hook failed.
    Activation "activation_failed" NotRun "cannot activate: {0}",
    /// The method ran but its effect could not be stored, so it may be lost.
    NotStored "not_stored" Unknown "the effect could not be stored: {0}",
    /// The node lost its lease or its time ran out between the method and the reply.
    Fenced "fenced" Unknown "the node was fenced before it could answer: {0}",
    /// The node is stopping.
    Stopping "stopping" NotRun "the node is stopping: {0}",
    /// The reply cannot be read as what the method returns.
    BadReply "bad_reply" Ran "the reply cannot be read: {0}",
    /// The other side said something that this version does not understand.
    Protocol "protocol" Unknown "protocol: {0}",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_survives_the_wire() {
        for (code, outcome) in CallError::CODES {
            let error = CallError::from_parts(code, "why".into());
            assert_eq!(
                (error.code(), error.outcome(), error.detail()),
                (*code, *outcome, "why")
            );
            assert!(error.to_string().contains("why"), "{error}");
        }
    }

    #[test]
    fn an_unknown_code_tells_all_it_knows() {
        let error = CallError::from_parts("new_trouble", "why".into());
        assert_eq!(error.outcome(), Outcome::Unknown);
        assert!(error.to_string().contains("new_trouble: why"));
    }
}
