//! What operators order, and what came of it. Every command may be given again.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use steading::coordination::commands::{Command, Done};
use steading::ids::{NodeId, PlanId, ShardId, canonical_number};
use steading::placement::ClusterView;
use steading::placement::planner::Strategy;
use utoipa::ToSchema;

use crate::plans::PlanInfo;
use crate::problem::Problem;

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Answer {
    /// What is so now, in words.
    pub text: String,
    /// Whether it was not so before.
    pub changed: bool,
    /// The plan that carries it out, or would.
    pub plan: Option<PlanInfo>,
}

/// Where to pin or move a shard to.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Whereto {
    /// The node; none: where it is.
    #[serde(default)]
    pub node: Option<String>,
}

/// Shards to be moved at once.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Moves {
    /// At most 1024, each shard once.
    pub moves: Vec<MoveTo>,
}

/// One shard to be moved.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveTo {
    /// Which shard.
    pub shard: u32,
    /// Where to.
    pub node: String,
}

/// What to balance.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPlan {
    /// Only tell what would move.
    #[serde(default)]
    pub dry_run: bool,
    /// `count` or `load`; none: as the settings say.
    #[serde(default)]
    pub strategy: Option<String>,
}

/// How to abort a plan.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Abort {
    /// Move back what was moved.
    #[serde(default)]
    pub reverse: bool,
}

impl From<Done> for Answer {
    fn from(done: Done) -> Self {
        Self {
            text: done.text,
            changed: done.changed,
            plan: done.plan.as_ref().map(PlanInfo::of),
        }
    }
}

impl Whereto {
    /// Returns the node, if one is named.
    ///
    /// # Errors
    ///
    /// A problem if its name cannot be a node's.
    pub fn node(&self) -> Result<Option<NodeId>, Problem> {
        self.node.as_deref().map(node_named).transpose()
    }

    /// Returns the node, which must be named.
    ///
    /// # Errors
    ///
    /// As [`Whereto::node`], and if none is named.
    pub fn wanted_node(&self) -> Result<NodeId, Problem> {
        let missing = || Problem::bad_request("`node` is missing");
        self.node()?.ok_or_else(missing)
    }
}

impl NewPlan {
    /// Returns the command.
    ///
    /// # Errors
    ///
    /// A problem if there is no such strategy.
    pub fn command(&self) -> Result<Command, Problem> {
        let named = |name: &String| {
            let none = || Problem::bad_request(format!("`{name}` is not `count` or `load`"));
            Strategy::named(name).ok_or_else(none)
        };
        Ok(Command::Rebalance {
            dry_run: self.dry_run,
            strategy: self.strategy.as_ref().map(named).transpose()?,
        })
    }
}

/// Reads a body, which is a JSON object; an empty one stands for all defaults.
///
/// # Errors
///
/// A problem that says what is wrong with it.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let bad = |why: &dyn fmt::Display| Problem::bad_request(format!("the body: {why}"));
    match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        None => serde_json::from_slice(b"{}").map_err(|error| bad(&error)),
        Some(b'{') => serde_json::from_slice(body).map_err(|error| bad(&error)),
        // An array would pass for the fields in their order.
        Some(_) => Err(bad(&"it must be a JSON object, or empty")),
    }
}

/// Reads the number of a shard that the cluster has.
///
/// # Errors
///
/// A problem if it is no number, or none of this cluster's.
pub fn shard_named(text: &str, view: &ClusterView) -> Result<ShardId, Problem> {
    let number = canonical_number(text)
        .ok_or_else(|| Problem::bad_request(format!("`{text}` is not the number of a shard")))?;
    ShardId::new(number, view.meta.shard_count)
        .map_err(|error| Problem::not_found(error.to_string()))
}

/// Reads the name of a node, which need not exist.
///
/// # Errors
///
/// A problem if it cannot be a node's name.
pub fn node_named(name: &str) -> Result<NodeId, Problem> {
    NodeId::new(name).map_err(|error| Problem::bad_request(error.to_string()))
}

/// Reads the number of a plan, which need not be kept.
///
/// # Errors
///
/// A problem if it is no number.
pub fn plan_named(text: &str) -> Result<PlanId, Problem> {
    let number = canonical_number(text).map(PlanId::new);
    number.ok_or_else(|| Problem::bad_request(format!("`{text}` is not the number of a plan")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use steading::ids::ShardCount;
    use steading::placement::ClusterMeta;

    fn refused<T: DeserializeOwned>(body: &str) -> String {
        let problem = read::<T>(body.as_bytes());
        let problem = problem.err().unwrap_or_else(|| panic!("`{body}` is read"));
        assert_eq!(
            (problem.status, problem.code.as_str()),
            (400, "bad_request")
        );
        problem.detail
    }

    #[test]
    fn a_body_is_an_object_or_nothing() {
        for good in ["", " \n", "{}", r#" {"node": "a"} "#] {
            assert!(read::<Whereto>(good.as_bytes()).is_ok(), "{good}");
        }
        for bad in ["[]", r#"["a"]"#, "null", "5", r#""a""#, "x"] {
            let why = refused::<Whereto>(bad);
            assert_eq!(why, "the body: it must be a JSON object, or empty", "{bad}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_body_is_said_of_the_body() {
        let why = refused::<NewPlan>(r#"{"dryrun": true}"#);
        assert!(why.starts_with("the body: unknown field `dryrun`"), "{why}");
        let why = refused::<Moves>("");
        assert!(why.starts_with("the body: missing field `moves`"), "{why}");
        let why = refused::<Abort>(r#"{"reverse": "#);
        assert!(why.starts_with("the body: EOF"), "{why}");
    }

    #[test]
    fn numbers_in_paths_have_one_form() {
        let count = ShardCount::new(64).expect("a power of two");
        let view = ClusterView::empty(ClusterMeta::new("c", count));
        assert_eq!(shard_named("17", &view).map(ShardId::get), Ok(17));
        assert_eq!(plan_named("17"), Ok(PlanId::new(17)));
        for text in ["017", "+17", " 17", "17 ", "0x11", ""] {
            let refused = shard_named(text, &view).expect_err(text);
            assert_eq!(refused.status, 400, "{text}");
            assert_eq!(plan_named(text).expect_err(text).status, 400, "{text}");
        }
    }
}
