//! Objects that call objects: many transfers at once between accounts on three nodes, some of which
//! fail, and no money appears or disappears.

mod account;
mod transfer;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::ensure;
use futures::stream::{self, StreamExt, TryStreamExt};
use steading::coordination::MemoryStore;
use steading::{CallError, Node};

use account::Account;
use transfer::{Transfer, TransferError};

const NODES: usize = 3;
const ACCOUNTS: u64 = 100;
const FIRST_DEPOSIT: u64 = 1_000;
const TRANSFERS: u64 = 5_000;

/// Transfers under way at once.
const CONCURRENCY: usize = 64;

#[allow(clippy::print_stdout, reason = "a program for a terminal")]
#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let nodes = start().await?;
    let bank = &nodes[0];
    open_accounts(bank).await?;

    let results = stream::iter((0..TRANSFERS).zip(nodes.iter().cycle()))
        .map(|(number, node)| transfer(node, number))
        .buffer_unordered(CONCURRENCY)
        .try_collect::<Vec<_>>()
        .await?;
    let mut outcomes = BTreeMap::new();
    for result in &results {
        *outcomes.entry(name(result)).or_insert(0_u64) += 1;
    }
    for (outcome, count) in &outcomes {
        println!("{count:>6} {outcome}");
    }

    let (sum, expected) = (sum(bank).await?, ACCOUNTS * FIRST_DEPOSIT);
    println!("{sum:>6} in all accounts, of {expected} paid in");
    for node in &nodes {
        node.stop().await;
    }
    Ok(if sum == expected {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Starts nodes that agree through one store in memory. In a real cluster each is a process of
/// its own, and the store is etcd.
async fn start() -> anyhow::Result<Vec<Node>> {
    let store = MemoryStore::new();
    let starting = (1..=NODES).map(|number| {
        let builder = Node::builder().store(Arc::new(store.client()));
        async move {
            let builder = builder.id(format!("bank-{number}").parse()?);
            let node = builder.register::<Account>().register::<Transfer>().start();
            anyhow::Ok(node.await?)
        }
    });
    futures::future::try_join_all(starting).await
}

/// Pays into each account, and closes every tenth of them.
async fn open_accounts(bank: &Node) -> anyhow::Result<()> {
    for number in 0..ACCOUNTS {
        let account = bank.object::<Account>(account_id(number));
        account.deposit(FIRST_DEPOSIT).await??;
        if number % 10 == 0 {
            account.close().await?;
        }
    }
    Ok(())
}

/// Runs one of the transfers. Their accounts and amounts are scattered so that neighbours run
/// against each other, and so that some accounts run out.
async fn transfer(bank: &Node, number: u64) -> Result<Result<(), TransferError>, CallError> {
    let scattered = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let (from, to) = (scattered % ACCOUNTS, (scattered / ACCOUNTS) % ACCOUNTS);
    let amount = 1 + scattered % 400;
    bank.object::<Transfer>(format!("transfer-{number}"))
        .run(account_id(from), account_id(to), amount)
        .await
}

/// Adds up the balances.
async fn sum(bank: &Node) -> anyhow::Result<u64> {
    let mut sum = 0;
    for number in 0..ACCOUNTS {
        let balance = bank.object::<Account>(account_id(number)).balance().await?;
        ensure!(
            balance <= ACCOUNTS * FIRST_DEPOSIT,
            "no account can hold {balance}"
        );
        sum += balance;
    }
    Ok(sum)
}

fn account_id(number: u64) -> String {
    format!("account-{number}")
}

fn name(result: &Result<(), TransferError>) -> &'static str {
    match result {
        Ok(()) => "done",
        Err(TransferError::Insufficient { .. }) => "refused: not enough money",
        Err(TransferError::Closed) => "refused: the account is closed",
        Err(TransferError::SameAccount) => "refused: from an account to itself",
        Err(TransferError::InDoubt(_)) => "in doubt",
    }
}
