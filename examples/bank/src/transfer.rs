//! A transfer: an object of its own, which calls both accounts.
//!
//! If an account itself called the other one, two accounts that transfer to each other at the same
//! moment would each wait for the other's turn, until both calls time out. Accounts here call
//! nobody, so none ever waits, and a transfer waits only for accounts: a circle cannot close.

use serde::{Deserialize, Serialize};
use steading::{CallError, Context, Object, methods};

use crate::account::{Account, Refused};

/// One transfer. Once it has a result, whoever asks again under its ID gets that.
#[derive(Debug, Default, Serialize, Deserialize, Object)]
#[object(storage)]
pub(crate) struct Transfer {
    result: Option<Result<(), TransferError>>,
}

/// Why a transfer did not happen.
#[derive(Clone, Debug, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum TransferError {
    /// The sender does not hold that much. Nothing moved.
    #[error("the sender has only {balance}")]
    Insufficient {
        /// What it holds.
        balance: u64,
    },
    /// The receiver takes no deposits. Nothing moved.
    #[error("the receiver's account is closed")]
    Closed,
    /// Both accounts are the same. Nothing moved.
    #[error("an account cannot transfer to itself")]
    SameAccount,
    /// A call brought back no answer and may have run: somebody has to look at both accounts.
    #[error("it is not known what moved: {0}")]
    InDoubt(String),
}

#[methods]
impl Transfer {
    /// Moves an amount, or says why not.
    async fn run(
        &mut self,
        ctx: &Context,
        from: String,
        to: String,
        amount: u64,
    ) -> Result<(), TransferError> {
        if self.result.is_none() {
            self.result = Some(run_once(ctx, &from, &to, amount).await);
        }
        self.result.clone().expect("set above")
    }
}

/// Withdraws, then deposits; if the deposit is refused, puts the amount back.
async fn run_once(ctx: &Context, from: &str, to: &str, amount: u64) -> Result<(), TransferError> {
    if from == to {
        return Err(TransferError::SameAccount);
    }
    let (sender, receiver) = (ctx.object::<Account>(from), ctx.object::<Account>(to));
    sender.withdraw(amount).await??;
    let deposited = receiver.deposit(amount).await?;
    if let Err(refused) = deposited {
        sender.put_back(amount).await?;
        return Err(refused.into());
    }
    Ok(())
}

impl From<Refused> for TransferError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Insufficient { balance } => Self::Insufficient { balance },
            Refused::Closed => Self::Closed,
        }
    }
}

impl From<CallError> for TransferError {
    fn from(error: CallError) -> Self {
        Self::InDoubt(error.to_string())
    }
}
