//! Objects of the test programs: what the stock ones do not have.

use serde::{Deserialize, Serialize};
use steading::{Context, Object, methods};
use tokio::sync::Notify;

/// Counts in memory alone; its state travels.
#[derive(Debug, Default, Serialize, Deserialize, Object)]
pub struct Tally {
    total: i64,
}

#[methods]
impl Tally {
    /// Adds `n` and returns the new total.
    pub async fn add(&mut self, n: i64) -> i64 {
        self.total += n;
        self.total
    }

    /// Returns the total.
    pub async fn total(&self) -> i64 {
        self.total
    }
}

/// Ends its process.
#[derive(Debug, Default, Serialize, Deserialize, Object)]
pub struct Bomb {}

#[methods]
impl Bomb {
    /// Aborts the process, as an error in foreign code does.
    pub async fn explode(&mut self) {
        std::process::abort();
    }
}

/// Counts in memory alone, and begins anew wherever it goes.
#[derive(Debug, Default, Serialize, Deserialize, Object)]
#[object(transient)]
pub struct Scratch {
    total: i64,
}

#[methods]
impl Scratch {
    /// Adds `n` and returns the new total.
    pub async fn add(&mut self, n: i64) -> i64 {
        self.total += n;
        self.total
    }
}

/// Passes calls on.
#[derive(Debug, Default, Serialize, Deserialize, Object)]
pub struct Relay {}

#[methods]
impl Relay {
    /// Adds `n` to a tally, which may live elsewhere, and says so in the log.
    ///
    /// # Errors
    ///
    /// What went wrong, in words.
    pub async fn pass(&self, ctx: &Context, to: String, n: i64) -> Result<i64, String> {
        tracing::info!(to, "passes on");
        let tally = ctx.object::<Tally>(&to);
        tally.add(n).await.map_err(|error| error.to_string())
    }
}

/// Holds its shard for as long as it is told to.
#[derive(Debug, Default, Serialize, Deserialize, Object)]
pub struct Holder {
    #[serde(skip)]
    enough: Notify,
}

#[methods]
impl Holder {
    /// A turn that ends when [`Holder::let_go`] is called, and never by itself.
    pub async fn hold(&self) {
        self.enough.notified().await;
    }

    /// Ends the turn that holds.
    pub async fn let_go(&self) {
        self.enough.notify_one();
    }
}

/// A type of which the next version of the program has another form.
pub mod now {
    use super::{Deserialize, Object, Serialize, methods};

    /// Keeps a number.
    #[derive(Debug, Default, Serialize, Deserialize, Object)]
    pub struct Changed {
        value: i64,
    }

    #[methods]
    impl Changed {
        /// Adds `n` and returns the sum.
        pub async fn add(&mut self, n: i64) -> i64 {
            self.value += n;
            self.value
        }
    }
}

/// The next version of [`now`], whose author forgot those who run the present one.
pub mod next {
    use super::{Deserialize, Object, Serialize, methods};

    /// Keeps a number, but under another name, and must have it.
    #[derive(Debug, Default, Serialize, Deserialize, Object)]
    pub struct Changed {
        amount: i64,
    }

    #[methods]
    impl Changed {
        /// Adds `n` and returns the sum.
        pub async fn add(&mut self, n: i64) -> i64 {
            self.amount += n;
            self.amount
        }
    }
}
