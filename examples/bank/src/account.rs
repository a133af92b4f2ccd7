//! An account: it looks after its own balance and waits for nobody.

use serde::{Deserialize, Serialize};
use steading::{Object, methods};

/// One account. Its balance never goes below zero.
#[derive(Debug, Default, Serialize, Deserialize, Object)]
#[object(storage)]
pub(crate) struct Account {
    balance: u64,
    closed: bool,
}

/// Why an account does not do what it is asked.
#[derive(Clone, Debug, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum Refused {
    /// It does not hold that much.
    #[error("the balance is only {balance}")]
    Insufficient {
        /// What it holds.
        balance: u64,
    },
    /// It takes no deposit any more. What it holds can still be withdrawn.
    #[error("the account is closed")]
    Closed,
}

#[methods]
impl Account {
    /// Puts an amount on the account and returns the new balance.
    async fn deposit(&mut self, amount: u64) -> Result<u64, Refused> {
        if self.closed {
            return Err(Refused::Closed);
        }
        self.balance += amount;
        Ok(self.balance)
    }

    /// Takes an amount off the account and returns the new balance.
    async fn withdraw(&mut self, amount: u64) -> Result<u64, Refused> {
        let balance = self.balance;
        self.balance = balance
            .checked_sub(amount)
            .ok_or(Refused::Insufficient { balance })?;
        Ok(self.balance)
    }

    /// Puts back what was withdrawn, even if the account was closed meanwhile.
    async fn put_back(&mut self, amount: u64) -> u64 {
        self.balance += amount;
        self.balance
    }

    /// Refuses every later deposit.
    async fn close(&mut self) {
        self.closed = true;
    }

    /// Returns the balance.
    async fn balance(&self) -> u64 {
        self.balance
    }
}
