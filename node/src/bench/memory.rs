//! Bytes per idle object, each kind in a process of its own.

use std::io::Write;

use anyhow::Context;
use steading::{Node, Tasks};

use super::BenchArgs;
use super::children::Child;
use super::mailbox::Mailbox;
use super::objects::Tally;
use super::report::{Figure, Goal};
use crate::exit::Exit;

/// So many objects of ours.
const OBJECTS: u64 = 1_000_000;

/// So many mailboxes: enough to tell the size of one.
const MAILBOXES: u64 = 100_000;

/// What to measure the memory of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// Objects of ours.
    Objects,
    /// A task with a mailbox each.
    Mailboxes,
}

/// Measures objects of ours, and mailboxes in a map by ID.
pub(super) async fn measure(args: &BenchArgs) -> anyhow::Result<Vec<Figure>> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        ours.push(in_a_process("objects", OBJECTS).await?);
        theirs.push(in_a_process("mailboxes", MAILBOXES).await?);
    }
    let figure = Figure::new("memory of an idle object", "bytes", ours);
    Ok(vec![
        figure
            .beside("a task and mailbox each", theirs)
            .goal(Goal::AtMost(300.0)),
    ])
}

async fn in_a_process(kind: &str, count: u64) -> anyhow::Result<f64> {
    let mut child = Child::part(&["memory", kind, &count.to_string()])?;
    Ok(child.next_line().await?.parse()?)
}

/// Makes the objects and prints the bytes that each takes.
pub(super) async fn in_this_process(kind: Kind, count: u64) -> anyhow::Result<Exit> {
    let bytes = match kind {
        Kind::Objects => {
            let node = Node::builder().register::<Tally>().start().await?;
            let before = resident_bytes()?;
            for i in 0..count {
                node.object::<Tally>(format!("idle-{i:08}")).add(1).await?;
            }
            resident_bytes()? - before
        }
        Kind::Mailboxes => {
            let tasks = Tasks::new();
            let before = resident_bytes()?;
            let mut known = std::collections::HashMap::new();
            for i in 0..count {
                let mailbox = Mailbox::start(&tasks);
                mailbox.add(1).await;
                known.insert(format!("idle-{i:08}"), mailbox);
            }
            resident_bytes()? - before
        }
    };
    #[allow(
        clippy::cast_precision_loss,
        reason = "memories are far below 2^52 bytes"
    )]
    let each = bytes as f64 / count as f64;
    writeln!(std::io::stdout(), "{each}")?;
    Ok(Exit::Done)
}

/// Returns how much memory this process really has.
fn resident_bytes() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    Ok(kilobytes
        .context("the system does not tell")?
        .parse::<u64>()?
        * 1024)
}
