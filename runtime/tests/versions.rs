//! Two versions of a program side by side in one cluster: what `docs/upgrading.md` says of each kind
//! of change. The node `old` has one version of a type, the node `new` the next one.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use steading::ids::{NodeId, ObjectKey};
use steading::storage::{MemoryStorage, Storage};
use steading::telemetry::SendFailureLabels;
use steading::testing::TestCluster;
use steading::{CallError, NodeBuilder, Object, Outcome, methods};

/// The first version.
mod old {
    use super::*;

    #[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
    pub(crate) enum Status {
        #[default]
        Open,
        Paid,
    }

    #[derive(Serialize, Deserialize)]
    pub(crate) struct Order {
        pub(crate) item: String,
    }

    #[derive(Default, Serialize, Deserialize, Object)]
    pub(crate) struct Cart {
        items: Vec<String>,
        status: Status,
    }

    #[methods]
    impl Cart {
        fn add(&mut self, item: String) -> usize {
            self.items.push(item);
            self.items.len()
        }

        fn order(&mut self, order: Order) -> usize {
            self.add(order.item)
        }

        fn items(&self) -> Vec<String> {
            self.items.clone()
        }

        fn pay(&mut self) -> Status {
            self.status = Status::Paid;
            self.status
        }
    }
}

/// The next one, with a field, a variant, an argument, a method and a field of an argument more.
mod new {
    use super::*;

    #[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
    pub(crate) enum Status {
        #[default]
        Open,
        Paid,
        Refunded,
    }

    #[derive(Serialize, Deserialize)]
    pub(crate) struct Order {
        pub(crate) item: String,
        #[serde(default)]
        pub(crate) note: String,
    }

    #[derive(Default, Serialize, Deserialize, Object)]
    pub(crate) struct Cart {
        items: Vec<String>,
        #[serde(default)]
        note: String,
        status: Status,
    }

    #[methods]
    impl Cart {
        fn add(&mut self, item: String, times: u32) -> usize {
            for _ in 0..times {
                self.items.push(item.clone());
            }
            self.items.len()
        }

        fn order(&mut self, order: Order) -> usize {
            self.note.push_str(&order.note);
            self.add(order.item, 1)
        }

        fn items(&self) -> Vec<String> {
            self.items.clone()
        }

        fn annotate(&mut self, note: String) {
            self.note = note;
        }

        fn note(&self) -> String {
            self.note.clone()
        }

        fn refund(&mut self) -> Status {
            self.status = Status::Refunded;
            self.status
        }
    }

    /// A type that the old version does not have.
    #[derive(Default, Serialize, Deserialize, Object)]
    pub(crate) struct Invoice {
        number: u32,
    }

    #[methods]
    impl Invoice {
        fn number(&self) -> u32 {
            self.number
        }
    }
}

/// The field `items` will be called `lines`: this release reads both.
mod renaming {
    use super::*;

    #[derive(Default, Serialize, Deserialize, Object)]
    pub(crate) struct Cart {
        #[serde(alias = "lines")]
        items: Vec<String>,
    }

    #[methods]
    impl Cart {
        fn add(&mut self, item: String) -> usize {
            self.items.push(item);
            self.items.len()
        }
    }
}

/// And this one writes the new name; the struct is called otherwise, too.
mod renamed {
    use super::*;

    #[derive(Default, Serialize, Deserialize, Object)]
    #[object(name = "Cart")]
    pub(crate) struct Basket {
        #[serde(alias = "items")]
        lines: Vec<String>,
    }

    #[methods]
    impl Basket {
        fn add(&mut self, item: String) -> usize {
            self.lines.push(item);
            self.lines.len()
        }
    }
}

/// The type of a field is another, and nothing reads the old one.
mod retyped {
    use super::*;

    #[derive(Default, Serialize, Deserialize, Object)]
    pub(crate) struct Cart {
        items: u32,
    }

    #[methods]
    impl Cart {
        fn count(&self) -> u32 {
            self.items
        }
    }
}

/// The type of a field is another, and every form that was ever written is read.
mod every_form {
    use super::*;

    #[derive(Clone, Serialize, Deserialize)]
    pub(crate) struct Line {
        item: String,
        times: u32,
    }

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Versions {
        Second { lines: Vec<Line> },
        First { items: Vec<String> },
    }

    #[derive(Default, Serialize, Deserialize, Object)]
    #[serde(from = "Versions")]
    pub(crate) struct Cart {
        lines: Vec<Line>,
    }

    impl From<Versions> for Cart {
        fn from(versions: Versions) -> Self {
            let lines = match versions {
                Versions::Second { lines } => lines,
                Versions::First { items } => {
                    let once = |item| Line { item, times: 1 };
                    items.into_iter().map(once).collect()
                }
            };
            Self { lines }
        }
    }

    #[methods]
    impl Cart {
        fn lines(&self) -> Vec<String> {
            let line = |line: &Line| format!("{} × {}", line.times, line.item);
            self.lines.iter().map(line).collect()
        }
    }
}

/// A cluster of the nodes `old` and `new`, each with types of its own.
struct Both {
    cluster: TestCluster,
}

impl Both {
    async fn with(
        old: impl FnOnce(NodeBuilder) -> NodeBuilder,
        new: impl FnOnce(NodeBuilder) -> NodeBuilder,
    ) -> Self {
        let mut cluster = TestCluster::builder().nodes(0).start().await;
        cluster.add_with("old", old).await;
        cluster.add_with("new", new).await;
        cluster.settled().await;
        Self { cluster }
    }

    /// Has the shard of `Cart/c` moved to a node.
    async fn order_to(&self, name: &str) {
        let node: NodeId = name.parse().expect("a good name");
        let moved = self.cluster.node(name).cluster();
        let moved = moved.move_shards([(self.shard(), node)]).await;
        moved.expect("the leader does it");
    }

    /// The same, and waits until it is there.
    async fn move_to(&mut self, name: &str) {
        let shard = self.shard();
        self.order_to(name).await;
        let is_there = |view: &steading::placement::ClusterView| {
            let owner = view.live_owner(shard);
            owner.is_some_and(|owner| owner.node.as_str() == name)
        };
        self.cluster.wait_until("the cart is there", is_there).await;
    }

    fn shard(&self) -> steading::ids::ShardId {
        let key = ObjectKey::new("Cart", "c").expect("a good key");
        let place = self.cluster.node("old").locate(&key);
        place.expect("a good key").shard.expect("it has a shard")
    }

    /// Waits until a node has given up to send state because the other one cannot read it.
    async fn is_unreadable_from(&mut self, name: &str) {
        let metrics = self.cluster.node(name).metrics().clone();
        let reason = "unreadable";
        let failed = &metrics.coordination.sends_failed;
        let failed = failed.get_or_create(&SendFailureLabels { reason }).clone();
        while failed.get() == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    async fn finish(mut self) {
        self.cluster.stop_all().await;
        assert_eq!(self.cluster.history().violations(), []);
    }
}

macro_rules! both {
    ($old:ty, $($new:ty),+) => {
        Both::with(
            |node| node.register::<$old>(),
            |node| node$(.register::<$new>())+,
        )
        .await
    };
}

#[tokio::test(start_paused = true)]
async fn a_field_that_is_added_or_removed_is_ignored_by_who_does_not_know_it_and_dropped() {
    let mut both = both!(old::Cart, new::Cart);
    both.move_to("old").await;
    let old_cart = both.cluster.node("old").object::<old::Cart>("c");
    let new_cart = both.cluster.node("new").object::<new::Cart>("c");
    assert_eq!(old_cart.add("apple".into()).await, Ok(1));
    assert_eq!(old_cart.pay().await, Ok(old::Status::Paid));
    both.move_to("new").await;
    assert_eq!(new_cart.items().await, Ok(vec!["apple".into()]));
    assert_eq!(new_cart.note().await, Ok(String::new()));
    assert_eq!(new_cart.annotate("a gift".into()).await, Ok(()));
    both.move_to("old").await;
    assert_eq!(old_cart.add("pear".into()).await, Ok(2));
    both.move_to("new").await;
    assert_eq!(new_cart.items().await.map(|items| items.len()), Ok(2));
    assert_eq!(new_cart.note().await, Ok(String::new()), "it was dropped");
    both.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_field_is_renamed_in_two_steps_and_a_struct_keeps_its_name_for_keys() {
    let mut both = both!(renaming::Cart, renamed::Basket);
    both.move_to("old").await;
    let first = both.cluster.node("old").object::<renaming::Cart>("c");
    let second = both.cluster.node("new").object::<renamed::Basket>("c");
    assert_eq!(first.add("apple".into()).await, Ok(1));
    both.move_to("new").await;
    assert_eq!(second.add("pear".into()).await, Ok(2));
    both.move_to("old").await;
    assert_eq!(first.add("plum".into()).await, Ok(3));
    both.finish().await;
}

#[tokio::test(start_paused = true)]
async fn state_that_cannot_be_read_stays_where_it_is() {
    let mut both = both!(old::Cart, retyped::Cart);
    both.move_to("old").await;
    let cart = both.cluster.node("old").object::<old::Cart>("c");
    assert_eq!(cart.add("apple".into()).await, Ok(1));
    both.order_to("new").await;
    both.is_unreadable_from("old").await;
    assert_eq!(cart.add("pear".into()).await, Ok(2), "it serves on");
}

#[tokio::test(start_paused = true)]
async fn a_variant_that_the_old_version_does_not_know_keeps_the_object_on_the_new_one() {
    let mut both = both!(old::Cart, new::Cart);
    both.move_to("new").await;
    let cart = both.cluster.node("new").object::<new::Cart>("c");
    assert_eq!(cart.refund().await, Ok(new::Status::Refunded));
    both.order_to("old").await;
    both.is_unreadable_from("new").await;
    assert_eq!(cart.add("apple".into(), 1).await, Ok(1), "it serves on");
}

#[tokio::test(start_paused = true)]
async fn an_argument_that_is_added_has_the_calls_between_two_versions_refused() {
    let mut both = both!(old::Cart, new::Cart);
    // Each caller has one version, and the object the other one.
    let old_cart = both.cluster.node("old").object::<old::Cart>("c");
    let new_cart = both.cluster.node("new").object::<new::Cart>("c");
    both.move_to("new").await;
    let refused = old_cart.add("apple".into()).await.expect_err("no `times`");
    assert!(matches!(refused, CallError::BadArguments(_)), "{refused}");
    assert_eq!(refused.outcome(), Outcome::NotRun);
    both.move_to("old").await;
    let refused = new_cart.add("apple".into(), 3).await;
    let refused = refused.expect_err("an argument that it does not know");
    assert!(matches!(refused, CallError::BadArguments(_)), "{refused}");
    assert_eq!(refused.outcome(), Outcome::NotRun);
    both.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_field_can_be_added_to_an_argument_that_is_a_struct() {
    let mut both = both!(old::Cart, new::Cart);
    let old_cart = both.cluster.node("old").object::<old::Cart>("c");
    let new_cart = both.cluster.node("new").object::<new::Cart>("c");
    both.move_to("new").await;
    let item = String::from("apple");
    assert_eq!(old_cart.order(old::Order { item }).await, Ok(1));
    both.move_to("old").await;
    let (item, note) = (String::from("pear"), String::from("a gift"));
    assert_eq!(new_cart.order(new::Order { item, note }).await, Ok(2));
    both.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_method_or_type_that_a_node_does_not_have_surely_did_not_run() {
    let mut both = both!(old::Cart, new::Cart, new::Invoice);
    both.move_to("old").await;
    let node = both.cluster.node("new");
    let refused = node.object::<new::Cart>("c").note().await;
    let refused = refused.expect_err("the old version has no such method");
    assert!(matches!(refused, CallError::UnknownMethod(_)), "{refused}");
    assert_eq!(refused.outcome(), Outcome::NotRun);

    let on_the_old_one = |id: &String| {
        let key = ObjectKey::new("Invoice", id.as_str()).expect("a good key");
        let owner = node.locate(&key).expect("a good key").owner;
        owner.is_some_and(|owner| owner.as_str() == "old")
    };
    let mut ids = (0..).map(|n: u32| n.to_string());
    let id = ids.find(on_the_old_one).expect("it goes on for ever");
    let refused = node.object::<new::Invoice>(&id).number().await;
    let refused = refused.expect_err("the old version has no such type");
    assert!(matches!(refused, CallError::UnknownType(_)), "{refused}");
    assert_eq!(refused.outcome(), Outcome::NotRun);
    both.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_type_that_reads_every_form_takes_over_the_state_of_the_first() {
    let mut both = both!(old::Cart, every_form::Cart);
    both.move_to("old").await;
    let first = both.cluster.node("old").object::<old::Cart>("c");
    assert_eq!(first.add("apple".into()).await, Ok(1));
    both.move_to("new").await;
    let second = both.cluster.node("new").object::<every_form::Cart>("c");
    assert_eq!(second.lines().await, Ok(vec!["1 × apple".into()]));
    both.finish().await;
}

/// As the guide keeps what a release wrote, for a test of the next one.
#[tokio::test(start_paused = true)]
async fn stored_state_is_what_rmp_serde_writes_with_names() {
    #[derive(Default, Serialize, Deserialize, Object)]
    #[object(storage)]
    struct Stored {
        items: Vec<String>,
    }

    #[methods]
    impl Stored {
        fn add(&mut self, item: String) {
            self.items.push(item);
        }
    }

    let storage = Arc::new(MemoryStorage::new());
    let builder = TestCluster::builder().register::<Stored>();
    let mut cluster = builder.storage(storage.clone()).start().await;
    let object = cluster.node("n1").object::<Stored>("c");
    assert_eq!(object.add("apple".into()).await, Ok(()));
    let key = ObjectKey::new("Stored", "c").expect("a good key");
    let place = cluster.node("n1").locate(&key).expect("a good key");
    let token = place.token.expect("it has an owner");
    let stored = storage.load(&key, token).await.expect("it can be read");
    let items = vec!["apple".into()];
    let written = rmp_serde::to_vec_named(&Stored { items }).expect("it can be written");
    assert_eq!(stored.state, Some(written));
    cluster.stop_all().await;
}
