//! Prints findings: a table, and below it what to do about each that is not well.

use serde::Serialize;

use super::facts::Facts;
use super::finding::{Finding, Level};
use crate::output::{self, Mood, painted};

/// All findings, for programs.
#[derive(Serialize)]
struct Report<'a> {
    /// The worst level.
    level: Level,
    /// Nodes that answered.
    nodes: Vec<&'a str>,
    findings: &'a [Finding],
}

/// Prints what was found.
pub(super) fn print(facts: &Facts, findings: &[Finding], json: bool) {
    let worst = findings.iter().map(|of| of.level).max();
    if json {
        output::json(&Report {
            level: worst.unwrap_or(Level::Ok),
            nodes: facts.told().map(|(node, _)| node.name.as_str()).collect(),
            findings,
        });
        return;
    }
    let row = |finding: &Finding| {
        vec![
            painted(finding.level.as_str(), mood(finding.level)),
            finding.check.into(),
            (&finding.what).into(),
        ]
    };
    output::table(&["", "check", "found"], findings.iter().map(row));
    for finding in findings.iter().filter(|of| of.level > Level::Ok) {
        output::line("");
        output::line(painted(&finding.what, mood(finding.level)));
        if let Some(why) = &finding.why {
            output::line(format_args!("  why   {why}"));
        }
        for next in &finding.next {
            output::line(format_args!("  type  {next}"));
        }
        if let Some(runbook) = &finding.runbook {
            output::line(format_args!("  read  {runbook}"));
        }
    }
}

fn mood(level: Level) -> Mood {
    match level {
        Level::Ok => Mood::Good,
        Level::Warn => Mood::Busy,
        Level::Bad => Mood::Bad,
    }
}
