//! What cleaning does to the counts and to the token store.

use std::fs;
use std::path::Path;

use cloze_clean::{CleanReport, Cleaner, Ledger, Place, head};
use cloze_shard::schema::IdType;

use super::{Looked, TokenizeReport};
use crate::clean::{Left, REPEATED_ONLY, keep_what_stays};
use crate::input::{Document, InputPlan};
use crate::progress::Stage;
use crate::{Progress, Result};

impl TokenizeReport {
    /// How many documents were dropped, by reason, each a phrase.
    pub fn dropped(&self) -> Vec<String> {
        let dropped = self.clean.dropped.iter();
        dropped
            .map(|(reason, count)| format!("{count} dropped ({})", reason.replace('_', " ")))
            .collect()
    }

    /// What cleaning did; `decode` makes text of ids.
    pub fn cleaning(&self, decode: impl Fn(&[u32]) -> String) -> CleanReport {
        let mut report = self.clean.clone();
        // What only the token store knows.
        let examples = report.examples.get_mut(REPEATED_ONLY);
        for (example, ids) in examples.into_iter().flatten().zip(&self.emptied) {
            example.text = head(&decode(ids));
        }
        let repeated = self.most_repeated.iter();
        report.most_repeated = repeated
            .map(|(first, ids, times)| cloze_clean::RepeatedParagraph {
                text: head(&decode(ids)),
                times: *times,
                first: first.clone(),
            })
            .collect();
        report.most_repeated.sort_by_key(|r| u64::MAX - r.times);
        report
    }

    /// Counts a document that was looked at.
    pub(super) fn look(
        &mut self,
        document: &Document,
        looked: &Looked,
        cleaner: Option<&Cleaner>,
        plan: &InputPlan,
    ) {
        self.text_bytes += looked.bytes;
        if looked.has_nul {
            let (count, first) = &mut self.with_nul;
            if *count == 0 {
                let path = plan.sources[document.source as usize].path.display();
                *first = format!("{path}: document {}", document.index);
            }
            *count += 1;
        }
        self.clean.looked(&looked.changes);
        match &looked.dropped {
            None => self.add(looked),
            Some(dropped) => {
                let exclusion = cleaner.and_then(Cleaner::exclusion);
                self.clean.dropped(dropped, exclusion, || {
                    let Document { source, index, .. } = *document;
                    let place = place(plan, source, index, document.id.as_deref());
                    (place, document.text.clone())
                });
            }
        }
    }

    /// Leaves duplicates out of what is counted and stored: of the store at the first path, the second is made. The blake3 of its bytes, where they are others.
    pub(super) fn deduplicate(
        &mut self,
        ledger: Ledger,
        [all, path]: [&Path; 2],
        id_type: IdType,
        unknown: Option<u32>,
        place: impl Fn(u32, u64, Option<&str>) -> Place,
        progress: &dyn Progress,
    ) -> Result<Option<String>> {
        progress.begin(Stage::Deduplicate, self.documents);
        let mut decisions = ledger.resolve()?;
        if decisions.changes_nothing() {
            fs::rename(all, path).map_err(cloze_shard::Error::io(path))?;
            progress.end();
            return Ok(None);
        }
        let left = keep_what_stays(
            [all, path],
            &mut decisions,
            id_type,
            unknown,
            |d| place(d.source, d.index, d.id),
            &mut self.clean,
            progress,
        )?;
        fs::remove_file(all).map_err(cloze_shard::Error::io(all))?;
        progress.end();
        let Left {
            documents,
            sentences,
            tokens,
            unknown_tokens,
            most,
            emptied,
            blake3,
        } = left;
        (self.documents, self.sentences) = (documents, sentences);
        (self.tokens, self.unknown_tokens) = (tokens, unknown_tokens);
        (self.most_repeated, self.emptied) = (most, emptied);
        Ok(Some(blake3))
    }
}

/// A document as a person finds it.
pub(super) fn place(plan: &InputPlan, source: u32, index: u64, id: Option<&str>) -> Place {
    let path = plan.sources.get(source as usize).map(|s| &s.path);
    Place {
        source: path.map_or_else(String::new, |p| p.to_string_lossy().into_owned()),
        index,
        id: id.map(str::to_owned),
    }
}
