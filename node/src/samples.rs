//! Sample objects, which the stock binary hosts.

use serde::{Deserialize, Serialize};
use steading::{CallError, Context, Object, methods};

/// Counts.
#[derive(Debug, Default, Serialize, Deserialize, Object)]
#[object(storage)]
pub struct Counter {
    total: i64,
}

#[methods]
impl Counter {
    /// Adds `n` and returns the new total, which stays within 64 bits.
    pub async fn add(&mut self, n: i64) -> i64 {
        self.total = self.total.saturating_add(n);
        self.total
    }

    /// Returns the total.
    pub async fn total(&self) -> i64 {
        self.total
    }
}

/// An account: its balance never goes below zero.
#[derive(Debug, Default, Serialize, Deserialize, Object)]
#[object(storage)]
pub struct Account {
    balance: u64,
}

/// Why an account does not do what it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum AccountError {
    /// It does not hold that much.
    #[error("the balance is only {balance}")]
    Insufficient {
        /// What it holds.
        balance: u64,
    },
    /// It would hold more than can be counted.
    #[error("the balance would be too great")]
    TooMuch,
    /// An account cannot transfer to itself.
    #[error("the amount would come back to the same account")]
    SameAccount,
    /// The other account surely did not get the amount; it is back on this one.
    #[error("nothing was transferred: {0}")]
    NotTransferred(String),
    /// The other account may have got the amount; it is off this one.
    #[error("taken off, and perhaps not put on the other account: {0}")]
    Uncertain(String),
}

#[methods]
impl Account {
    /// Puts an amount on the account and returns the new balance.
    ///
    /// # Errors
    ///
    /// [`AccountError::TooMuch`].
    pub async fn deposit(&mut self, amount: u64) -> Result<u64, AccountError> {
        self.balance = self
            .balance
            .checked_add(amount)
            .ok_or(AccountError::TooMuch)?;
        Ok(self.balance)
    }

    /// Takes an amount off the account and returns the new balance.
    ///
    /// # Errors
    ///
    /// [`AccountError::Insufficient`].
    pub async fn withdraw(&mut self, amount: u64) -> Result<u64, AccountError> {
        let balance = self.balance;
        self.balance = balance
            .checked_sub(amount)
            .ok_or(AccountError::Insufficient { balance })?;
        Ok(self.balance)
    }

    /// Moves an amount to another account, wherever that lives, and returns the new balance.
    ///
    /// Two accounts that transfer to each other at the same moment wait for one another until
    /// the calls' deadline, and then both take the amount back. The `bank` example shows a way
    /// without that wait: an object of its own for each transfer.
    ///
    /// # Errors
    ///
    /// [`AccountError`]; only after `Uncertain` may the amount be missing on both.
    pub async fn transfer(
        &mut self,
        ctx: &Context,
        to: String,
        amount: u64,
    ) -> Result<u64, AccountError> {
        if to == ctx.id() {
            return Err(AccountError::SameAccount);
        }
        let balance = self.balance;
        self.balance = balance
            .checked_sub(amount)
            .ok_or(AccountError::Insufficient { balance })?;
        match ctx.object::<Self>(to).deposit(amount).await {
            Ok(Ok(_)) => Ok(self.balance),
            Ok(Err(refused)) => {
                self.balance = balance;
                Err(refused)
            }
            Err(error) => Err(self.transfer_failed(balance, &error)),
        }
    }

    /// Returns the balance.
    pub async fn balance(&self) -> u64 {
        self.balance
    }
}

impl Account {
    /// Takes the amount back if the other account surely did not get it.
    fn transfer_failed(&mut self, balance: u64, error: &CallError) -> AccountError {
        match error.outcome() {
            steading::Outcome::NotRun => {
                self.balance = balance;
                AccountError::NotTransferred(error.to_string())
            }
            steading::Outcome::Unknown | steading::Outcome::Ran => {
                AccountError::Uncertain(error.to_string())
            }
        }
    }
}

/// Counts how often a word occurs.
#[derive(Debug, Default, Serialize, Deserialize, Object)]
#[object(storage)]
pub struct Word {
    count: u64,
}

#[methods]
impl Word {
    /// Adds `n` occurrences and returns how many there are.
    pub async fn add(&mut self, n: u64) -> u64 {
        self.count = self.count.saturating_add(n);
        self.count
    }

    /// Returns how many occurrences there are.
    pub async fn count(&self) -> u64 {
        self.count
    }
}
