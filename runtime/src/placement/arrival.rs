//! What came with a shard, as its new owner counted it.

use crate::ids::Revision;

/// The state that came with a shard when it was handed over on purpose.
///
/// Sender and receiver count by themselves: the one what it packed, the other what it has when
/// calls find the shard open. So the two numbers together show that nothing was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// When the owner key was written that names the state: under this the shard was opened.
    pub revision: Revision,
    /// Objects whose state the old owner sent; `None`: nothing of it is here.
    pub sent: Option<u64>,
    /// Objects whose state the new owner took in.
    pub taken: u64,
}
