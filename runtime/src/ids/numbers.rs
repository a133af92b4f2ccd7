//! Numbers that the store gives: revisions, what begins at one, and the tokens that fence.

use std::fmt::{self, Display};
use std::str::FromStr;

/// Reads a number in the one form in which it is written: no sign, leading zero or white space,
/// so that nothing has two names. `None` for every other text.
pub fn canonical_number<T: FromStr + Display>(text: &str) -> Option<T> {
    let number: T = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u64);

        impl $name {
            /// Wraps the raw number.
            pub const fn new(raw: u64) -> Self {
                Self(raw)
            }

            /// Returns the raw number.
            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A revision of the store: every committed transaction has a greater one than all before it.
    /// Zero is before the first.
    Revision
}

number! {
    /// One life of a node: the revision at which its node key was created.
    Incarnation
}

number! {
    /// One reign of a leader: the revision at which its leader key was created.
    Term
}

number! {
    /// One plan: the revision of the view that it was made of. Later plans have greater ones.
    PlanId
}

/// A lease of the store; its keys vanish with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(i64);

impl LeaseId {
    /// Wraps the store's number.
    pub const fn new(raw: i64) -> Self {
        Self(raw)
    }

    /// Returns the store's number.
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// The fencing token of one ownership of a shard; a later owner has a greater one.
///
/// The low 48 bits are the mod revision of the owner key, the high 16 the cluster's restore
/// generation, which an operator raises after restoring the store from a snapshot: revisions
/// then start over, and tokens must not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(u64);

impl Token {
    const REVISION_BITS: u32 = 48;

    /// Returns the token of an owner key written at `revision` in a restore `generation`.
    ///
    /// # Panics
    ///
    /// If the revision needs more than 48 bits: 89 years at 100 000 transactions a second.
    pub fn of(generation: u16, revision: Revision) -> Self {
        assert!(
            revision.0 >> Self::REVISION_BITS == 0,
            "revisions must fit into 48 bits"
        );
        Self(u64::from(generation) << Self::REVISION_BITS | revision.0)
    }

    /// Wraps a token that came over the wire or from storage.
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// Returns the number that storage compares.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the restore generation it is of.
    pub const fn generation(self) -> u16 {
        (self.0 >> Self::REVISION_BITS) as u16
    }

    /// Returns the mod revision of the owner key that it stands for.
    pub const fn revision(self) -> Revision {
        Revision(self.0 & ((1 << Self::REVISION_BITS) - 1))
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_printed_form_of_a_number_is_read() {
        for text in ["0", "7", "17", "4294967295"] {
            let number: u32 = canonical_number(text).expect(text);
            assert_eq!(number.to_string(), text);
        }
        for text in [
            "",
            "-0",
            "+7",
            "007",
            "00",
            " 7",
            "7 ",
            "4294967296",
            "7.0",
            "٧",
        ] {
            assert_eq!(canonical_number::<u32>(text), None, "`{text}`");
        }
    }

    #[test]
    fn a_restored_store_gives_greater_tokens() {
        let before = Token::of(0, Revision::new(1 << 40));
        assert!(Token::of(1, Revision::new(1)) > before);
    }
}
