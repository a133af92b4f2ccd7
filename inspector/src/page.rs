//! The one page.
//!
//! Names that come from the cluster reach the page only through `html!`, which escapes them.
//! Colours are attributes of SVG shapes and never the only sign of anything.

use std::collections::BTreeMap;

use maud::{DOCTYPE, Markup, html};

use crate::summary::{BlockSummary, NodeSummary, ViewSummary};

/// Renders a view.
pub(crate) fn page(view: &ViewSummary) -> Markup {
    let hues = Hues::of(view);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Steading · " (headline(view)) }
                link rel="icon" href="data:,";
                link rel="stylesheet" href="style.css";
                noscript { meta http-equiv="refresh" content="5"; }
                script src="renew.js" defer {}
            }
            body {
                header {
                    h1 { "Steading" }
                    p #renewal role="status" {}
                }
                main {
                    (overview(view))
                    (nodes(view, &hues))
                    (placement(view, &hues))
                }
            }
        }
    }
}

/// Says how the cluster is, worst first.
fn headline(view: &ViewSummary) -> String {
    let shards = view.shards;
    if view.nodes.is_empty() {
        "no node is registered".into()
    } else if shards.unowned > 0 {
        format!(
            "{} of {} shards have no owner",
            shards.unowned, shards.total
        )
    } else if shards.moving > 0 {
        format!("all shards are served, {} are moving", shards.moving)
    } else {
        format!("all {} shards are served", shards.total)
    }
}

fn overview(view: &ViewSummary) -> Markup {
    let shards = view.shards;
    html! {
        section {
            h2 .trouble[shards.unowned > 0] { (headline(view)) }
            dl {
                (figure("Nodes", view.nodes.len()))
                (figure("Shards", shards.total))
                (figure("Owned", shards.owned))
                (figure("Unowned", shards.unowned))
                (figure("Moving", shards.moving))
                @match &view.leader {
                    Some(leader) => {
                        (figure("Leader", &leader.node))
                        (figure("Term", leader.term))
                    }
                    None => (figure("Leader", "none")),
                }
                (figure("Revision", view.revision))
                (figure("Cluster", &view.cluster_id))
            }
        }
    }
}

fn figure(name: &str, value: impl maud::Render) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

fn nodes(view: &ViewSummary, hues: &Hues) -> Markup {
    let leader = view.leader.as_ref().map(|leader| leader.node.as_str());
    html! {
        section {
            h2 { "Nodes" }
            div .wide {
                table {
                    thead {
                        tr {
                            @for (name, class) in COLUMNS { th scope="col" class=[class] { (name) } }
                        }
                    }
                    tbody {
                        @for node in &view.nodes { (node_row(node, leader, hues)) }
                    }
                }
            }
        }
    }
}

const COLUMNS: [(&str, Option<&str>); 9] = [
    ("Node", None),
    ("State", None),
    ("Owned", Some("number")),
    ("Targeted", Some("number")),
    ("Weight", Some("number")),
    ("Zone", None),
    ("gRPC", None),
    ("HTTP", None),
    ("Version", None),
];

fn node_row(node: &NodeSummary, leader: Option<&str>, hues: &Hues) -> Markup {
    html! {
        tr {
            th scope="row" {
                svg .key viewBox="0 0 1 1" aria-hidden="true" {
                    rect width="1" height="1" fill=(hues.fill(&node.id)) {}
                }
                (node.id)
                @if leader == Some(node.id.as_str()) { span .mark { "leader" } }
                @if node.weight == 0.0 { span .mark { "gate" } }
            }
            td class=(node.state) { (node.state) }
            td .number { (node.shards_owned) }
            td .number { (node.shards_targeted) }
            td .number { (node.weight) }
            td { (node.zone.as_deref().unwrap_or("–")) }
            td { (node.grpc) }
            td { (node.http.as_deref().unwrap_or("–")) }
            td { (node.version) }
        }
    }
}

fn placement(view: &ViewSummary, hues: &Hues) -> Markup {
    html! {
        section {
            h2 { "Placement" }
            p { "One bar a block of shards, divided among its owners. Faded: moving away. Empty: no owner." }
            div .blocks {
                @for block in &view.blocks { (bar(block, hues)) }
            }
        }
    }
}

fn bar(block: &BlockSummary, hues: &Hues) -> Markup {
    let len = block.last - block.first + 1;
    html! {
        svg viewBox={ "0 0 " (len) " 1" } preserveAspectRatio="none" role="img" {
            title { (describe(block)) }
            @for Segment { node, x, width, opacity } in segments(block) {
                rect x=(x) width=(width) height="1" fill=(hues.fill(node))
                    fill-opacity=(opacity) {}
            }
        }
    }
}

/// A part of a bar; the unit is one shard.
struct Segment<'a> {
    node: &'a str,
    x: u32,
    width: u32,
    opacity: &'static str,
}

/// Divides a bar: for each owner what stays, then what is moving away.
fn segments(block: &BlockSummary) -> impl Iterator<Item = Segment<'_>> {
    let mut end = 0;
    let parts = block.owned.iter().flat_map(|(node, owned)| {
        let moving = block.moving.get(node).copied().unwrap_or(0);
        [(node, owned - moving, "1"), (node, moving, "0.35")]
    });
    parts
        .filter(|(_, width, _)| *width > 0)
        .map(move |(node, width, opacity)| {
            let x = end;
            end += width;
            Segment {
                node,
                x,
                width,
                opacity,
            }
        })
}

/// Says what a bar shows: `shards 0–127: a 43, b 43 (2 moving), 42 without owner`.
fn describe(block: &BlockSummary) -> String {
    let owned = block
        .owned
        .iter()
        .map(|(node, owned)| match block.moving.get(node) {
            Some(moving) => format!("{node} {owned} ({moving} moving)"),
            None => format!("{node} {owned}"),
        });
    let unowned = (block.unowned > 0).then(|| format!("{} without owner", block.unowned));
    let parts: Vec<_> = owned.chain(unowned).collect();
    format!(
        "shards {}–{}: {}",
        block.first,
        block.last,
        parts.join(", ")
    )
}

/// A colour for each node: neighbours in the list are far apart on the wheel.
struct Hues(BTreeMap<String, u32>);

impl Hues {
    /// The golden angle, in degrees.
    const STEP: u32 = 137;

    fn of(view: &ViewSummary) -> Self {
        let hues = (0..)
            .step_by(Self::STEP as usize)
            .map(|hue| (hue + 210) % 360);
        Self(
            view.nodes
                .iter()
                .map(|node| node.id.clone())
                .zip(hues)
                .collect(),
        )
    }

    fn fill(&self, node: &str) -> String {
        let hue = self.0.get(node).copied().unwrap_or(0);
        format!("hsl({hue} 55% 52%)")
    }
}
