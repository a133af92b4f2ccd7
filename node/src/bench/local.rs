//! Calls within one process, beside mailboxes that do the same.

use std::sync::Arc;

use steading::object::Object;
use steading::{Node, Tasks};

use super::BenchArgs;
use super::callers::{Caller, rate};
use super::mailbox::Mailbox;
use super::objects::Tally;
use super::report::{Figure, Goal};

type Handle = <Tally as Object>::Handle;

/// So many callers, over so many objects, and what to reach beside the baseline.
const CASES: [(usize, usize, f64); 4] = [
    (1, 1, 1.0),
    (64, 100, 1.0),
    (64, 1, 0.6),
    (64, 100_000, 0.8),
];

/// Calls objects of ours, one after the other.
struct ObjectCaller {
    objects: Arc<[Handle]>,
    first: u64,
}

impl Caller for ObjectCaller {
    async fn call(&mut self, n: u64) {
        let object = &self.objects[index(self.first + n, self.objects.len())];
        object.add(1).await.expect("a local call succeeds");
    }
}

/// Calls mailboxes, one after the other.
struct MailboxCaller {
    mailboxes: Arc<[Mailbox]>,
    first: u64,
}

impl Caller for MailboxCaller {
    async fn call(&mut self, n: u64) {
        self.mailboxes[index(self.first + n, self.mailboxes.len())]
            .add(1)
            .await;
    }
}

fn index(n: u64, len: usize) -> usize {
    usize::try_from(n % len as u64).expect("it is below the length")
}

/// Measures each case.
pub(super) async fn measure(args: &BenchArgs) -> anyhow::Result<Vec<Figure>> {
    let node = Node::builder().register::<Tally>().start().await?;
    let tasks = Tasks::new();
    let mut figures = Vec::new();
    for (callers, objects, times) in CASES {
        let handles: Arc<[Handle]> = (0..objects)
            .map(|i| node.object::<Tally>(format!("local-{i}")))
            .collect();
        for handle in &*handles {
            handle.add(0).await?; // Activated before the clock runs.
        }
        let mailboxes: Arc<[Mailbox]> = (0..objects).map(|_| Mailbox::start(&tasks)).collect();
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..args.rounds {
            let first = |i: usize| (i * objects / callers) as u64;
            let callers_of_ours = (0..callers)
                .map(|i| ObjectCaller {
                    objects: handles.clone(),
                    first: first(i),
                })
                .collect();
            ours.push(rate(callers_of_ours, args.time).await);
            let callers_of_theirs = (0..callers)
                .map(|i| MailboxCaller {
                    mailboxes: mailboxes.clone(),
                    first: first(i),
                })
                .collect();
            theirs.push(rate(callers_of_theirs, args.time).await);
        }
        let name = format!("local calls, callers: {callers}, objects: {objects}");
        let figure = Figure::new(name, "calls/s", ours).beside("tokio mailbox", theirs);
        figures.push(figure.goal(Goal::TimesBaseline(times)));
    }
    node.stop().await;
    Ok(figures)
}
