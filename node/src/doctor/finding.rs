//! What a check finds.

use serde::Serialize;

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Level {
    /// As it should be.
    Ok,
    /// Users do not notice yet.
    Warn,
    /// Users notice, or will with the next failure.
    Bad,
}

impl Level {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Bad => "BAD",
        }
    }
}

/// A page of docs/runbooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Runbook(pub(super) &'static str);

/// Where the runbooks are.
const RUNBOOKS_URL: &str = "https://github.com/steading/steading/blob/main/docs/runbooks/";

impl Runbook {
    /// Returns its address.
    pub(super) fn url(self) -> String {
        format!("{RUNBOOKS_URL}{}.md", self.0)
    }
}

/// What a check found: what is wrong, why, and what to type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// Which check; a stable name.
    pub(super) check: &'static str,
    /// How bad it is.
    pub(super) level: Level,
    /// What was found.
    pub(super) what: String,
    /// What is behind it, most likely.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) why: Option<String>,
    /// What to type, or to do where nothing can be typed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) next: Vec<String>,
    /// Where to read on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) runbook: Option<String>,
}

impl Finding {
    /// Nothing is wrong.
    pub(super) fn ok(check: &'static str, what: impl Into<String>) -> Self {
        Self {
            check,
            level: Level::Ok,
            what: what.into(),
            why: None,
            next: Vec::new(),
            runbook: None,
        }
    }

    /// Something is wrong, though users do not notice yet.
    pub(super) fn warn(check: &'static str, runbook: Runbook, what: impl Into<String>) -> Self {
        Self {
            level: Level::Warn,
            runbook: Some(runbook.url()),
            ..Self::ok(check, what)
        }
    }

    /// Something is wrong that users notice.
    pub(super) fn bad(check: &'static str, runbook: Runbook, what: impl Into<String>) -> Self {
        Self {
            level: Level::Bad,
            ..Self::warn(check, runbook, what)
        }
    }

    /// Says what is behind it.
    pub(super) fn because(self, why: impl Into<String>) -> Self {
        Self {
            why: Some(why.into()),
            ..self
        }
    }

    /// Adds something to type or do.
    pub(super) fn then(mut self, next: impl Into<String>) -> Self {
        self.next.push(next.into());
        self
    }
}
