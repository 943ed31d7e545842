//! What the processes of a run must have alike before they begin.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::PretrainConfig;

/// What a process says of itself; all must say the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Why this process cannot take part, if it cannot.
    failed: Option<String>,
    /// In the order in which they are compared.
    terms: Vec<Term>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Term {
    name: String,
    value: String,
    /// Told, but not compared: a path may be another one on another host.
    note: String,
}

impl Terms {
    /// A process that has failed already: it comes to tell the others.
    #[must_use]
    pub fn failed(why: String) -> Self {
        let failed = Some(why);
        let terms = Vec::new();
        Self { failed, terms }
    }

    /// Terms of a run: executable, dataset, how it begins, options. `begins` is how, for a person: anew, or after a step of the run in a folder.
    #[must_use]
    pub fn of(config: &PretrainConfig, dataset: (&Path, &str), begins: (&str, &Path)) -> Self {
        let mut terms = Self::default();
        let version = env!("CARGO_PKG_VERSION").into();
        terms.add("version", version, String::new());
        let ((path, digest), (how, run)) = (dataset, begins);
        terms.add("dataset", digest.into(), path.display().to_string());
        terms.add("a run that", how.into(), run.display().to_string());
        // It has nothing but plain fields: this cannot fail.
        let options = serde_json::to_value(config).unwrap_or_default();
        for (name, value) in options.as_object().into_iter().flatten() {
            let name = format!("--{}", name.replace('_', "-"));
            terms.add(&name, value.to_string(), String::new());
        }
        terms
    }

    fn add(&mut self, name: &str, value: String, note: String) {
        let name = name.into();
        self.terms.push(Term { name, value, note });
    }

    fn find(&self, name: &str) -> Option<&Term> {
        self.terms.iter().find(|t| t.name == name)
    }

    /// What rank `rank`, whose terms are `theirs`, has otherwise than rank 0, whose terms these are.
    pub(super) fn difference(&self, rank: usize, theirs: &Self) -> Option<String> {
        if let Some(why) = &self.failed {
            return Some(format!("rank 0 failed: {why}"));
        }
        if let Some(why) = &theirs.failed {
            return Some(format!("rank {rank} failed: {why}"));
        }
        let value = |terms: &Self, name: &str| terms.find(name).map(|t| t.value.clone());
        let name = (self.terms.iter().chain(&theirs.terms))
            .map(|t| &t.name)
            .find(|name| value(self, name) != value(theirs, name))?;
        let show = |terms: &Self| match terms.find(name) {
            Some(term) if term.note.is_empty() => format!("{name} {}", term.value),
            Some(term) => format!("{name} {} ({})", term.value, term.note),
            None => format!("no {name}"),
        };
        Some(format!(
            "rank {rank} has {}, rank 0 has {}",
            show(theirs),
            show(self)
        ))
    }
}
