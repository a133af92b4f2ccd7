//! Commands and answers as messages, and back.

use std::time::Duration;

use steading_proto::v1::order_reply::Reply;
use steading_proto::v1::order_request::Command as Wire;
use steading_proto::v1::{self as proto};

use crate::coordination::commands::{Command, Done, Refusal, RefusalCode};
use crate::coordination::keys::{Keys, decode_plan, encode_plan};
use crate::coordination::leader::{Excluded, Insight, WaitingMove};
use crate::coordination::store::Entry;
use crate::ids::{NodeId, PlanId, Revision, ShardCount, ShardId};
use crate::placement::planner::{Reason, Strategy};

/// Writes a command that an operator gave to the node `via`.
pub(super) fn written(command: Command, via: &NodeId, limit: Duration) -> proto::OrderRequest {
    let command = match command {
        Command::Pin { shard, node } => Wire::Pin(proto::PinShard {
            shard: shard.get(),
            node: node.map(|node| node.to_string()),
        }),
        Command::Unpin { shard } => Wire::Unpin(shard.get()),
        Command::Move { moves } => Wire::Move(proto::MoveShards {
            moves: moves
                .into_iter()
                .map(|(shard, node)| proto::MoveShard {
                    shard: shard.get(),
                    node: node.to_string(),
                })
                .collect(),
        }),
        Command::Cordon { node } => Wire::Cordon(node.to_string()),
        Command::Uncordon { node } => Wire::Uncordon(node.to_string()),
        Command::Release { shard } => Wire::Release(shard.get()),
        Command::Rebalance { dry_run, strategy } => Wire::Rebalance(proto::Rebalance {
            dry_run,
            strategy: strategy.map(|strategy| strategy.as_str().to_owned()),
        }),
        Command::Pause => Wire::Pause(true),
        Command::Resume => Wire::Pause(false),
        Command::Abort { plan, reverse } => Wire::Abort(proto::AbortPlan {
            plan: plan.get(),
            reverse,
        }),
    };
    proto::OrderRequest {
        via: via.to_string(),
        timeout_ms: millis(limit),
        command: Some(command),
    }
}

/// Reads a command, and the node that the operator asked.
pub(super) fn read_command(
    request: proto::OrderRequest,
    count: ShardCount,
) -> Result<(Command, NodeId), Refusal> {
    let shard = |number| {
        ShardId::new(number, count)
            .map_err(|error| Refusal::new(RefusalCode::UnknownShard, error.to_string()))
    };
    let command = match request.command {
        Some(Wire::Pin(proto::PinShard {
            shard: number,
            node: name,
        })) => Command::Pin {
            shard: shard(number)?,
            node: name.as_deref().map(node).transpose()?,
        },
        Some(Wire::Unpin(number)) => Command::Unpin {
            shard: shard(number)?,
        },
        Some(Wire::Move(moves)) => {
            let moves = moves.moves.iter();
            let moves = moves.map(|step| Ok((shard(step.shard)?, node(&step.node)?)));
            Command::Move {
                moves: moves.collect::<Result<_, Refusal>>()?,
            }
        }
        Some(Wire::Cordon(name)) => Command::Cordon { node: node(&name)? },
        Some(Wire::Uncordon(name)) => Command::Uncordon { node: node(&name)? },
        Some(Wire::Release(number)) => Command::Release {
            shard: shard(number)?,
        },
        Some(Wire::Rebalance(proto::Rebalance { dry_run, strategy })) => Command::Rebalance {
            dry_run,
            strategy: strategy.as_deref().map(strategy_named).transpose()?,
        },
        Some(Wire::Pause(true)) => Command::Pause,
        Some(Wire::Pause(false)) => Command::Resume,
        Some(Wire::Abort(proto::AbortPlan { plan, reverse })) => Command::Abort {
            plan: PlanId::new(plan),
            reverse,
        },
        None => return Err(malformed("no command that this version knows")),
    };
    Ok((command, node(&request.via)?))
}

fn node(name: &str) -> Result<NodeId, Refusal> {
    NodeId::new(name).map_err(|error| malformed(error.to_string()))
}

fn strategy_named(name: &str) -> Result<Strategy, Refusal> {
    Strategy::named(name).ok_or_else(|| malformed(format!("no strategy is called `{name}`")))
}

fn malformed(detail: impl Into<String>) -> Refusal {
    Refusal::new(RefusalCode::Malformed, detail)
}

/// Writes the answer to a command.
pub(super) fn written_answer(answer: Result<Done, Refusal>) -> proto::OrderReply {
    let reply = match answer {
        Ok(done) => Reply::Done(proto::OrderDone {
            text: done.text,
            changed: done.changed,
            plan: done.plan.map(|plan| proto::PlanValue {
                id: plan.id.get(),
                value: encode_plan(&plan).into(),
            }),
        }),
        Err(refusal) => Reply::Refused(written_refusal(refusal)),
    };
    proto::OrderReply { reply: Some(reply) }
}

/// Reads what came of a command.
pub(super) fn read_done(done: proto::OrderDone, count: ShardCount) -> Result<Done, Refusal> {
    let plan = done.plan.map(|plan| {
        let keys = Keys::new("/");
        let entry = Entry {
            key: keys.plan(PlanId::new(plan.id)),
            value: plan.value.into(),
            create_revision: Revision::default(),
            mod_revision: Revision::default(),
            lease: None,
        };
        decode_plan(&entry, &keys, count)
            .map_err(|error| Refusal::new(RefusalCode::NoAnswer, error.to_string()))
    });
    Ok(Done {
        text: done.text,
        changed: done.changed,
        plan: plan.transpose()?,
    })
}

fn written_refusal(refusal: Refusal) -> proto::OrderRefusal {
    proto::OrderRefusal {
        code: refusal.code.as_str().into(),
        detail: refusal.detail,
        leader: refusal.leader.map(|leader| leader.to_string()),
    }
}

/// Reads a refusal; one of a kind that this version does not know counts as malformed.
pub(super) fn read_refusal(refusal: proto::OrderRefusal) -> Refusal {
    Refusal {
        code: RefusalCode::named(&refusal.code).unwrap_or(RefusalCode::Malformed),
        detail: refusal.detail,
        leader: refusal.leader.and_then(|leader| NodeId::new(&leader).ok()),
    }
}

/// Writes the answer to a question.
pub(super) fn written_insight(answer: Result<Insight, Refusal>) -> proto::AskReply {
    let insight = match answer {
        Ok(insight) => insight,
        Err(refusal) => {
            return proto::AskReply {
                refused: Some(written_refusal(refusal)),
                ..proto::AskReply::default()
            };
        }
    };
    let excluded = insight.excluded.into_iter();
    proto::AskReply {
        refused: None,
        waiting: insight.waiting.map(|step| proto::WaitingMove {
            plan: step.plan.get(),
            to: step.to.to_string(),
            reason: step.reason.as_str().into(),
            before: step.before,
            paused: step.paused,
        }),
        under_way_ms: insight.under_way.map(millis),
        excluded: excluded
            .map(|excluded| proto::ExcludedNode {
                node: excluded.node.to_string(),
                left_ms: millis(excluded.left),
                why: excluded.why,
            })
            .collect(),
        advice: insight.advice,
        again_in_ms: insight.again_in.map(millis),
    }
}

/// Reads the answer to a question.
pub(super) fn read_insight(reply: proto::AskReply) -> Result<Insight, Refusal> {
    if let Some(refusal) = reply.refused {
        return Err(read_refusal(refusal));
    }
    let waiting = reply.waiting.map(|step| {
        let reason = Reason::named(&step.reason);
        let reason = reason.ok_or_else(|| malformed(format!("reason `{}`", step.reason)))?;
        Ok(WaitingMove {
            plan: PlanId::new(step.plan),
            to: node(&step.to)?,
            reason,
            before: step.before,
            paused: step.paused,
        })
    });
    let excluded = reply.excluded.into_iter().map(|excluded| {
        Ok(Excluded {
            node: node(&excluded.node)?,
            left: Duration::from_millis(excluded.left_ms),
            why: excluded.why,
        })
    });
    Ok(Insight {
        waiting: waiting.transpose()?,
        under_way: reply.under_way_ms.map(Duration::from_millis),
        excluded: excluded.collect::<Result<_, Refusal>>()?,
        advice: reply.advice,
        again_in: reply.again_in_ms.map(Duration::from_millis),
    })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
