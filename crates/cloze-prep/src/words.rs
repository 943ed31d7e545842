//! The words of a corpus, counted by all threads.

use cloze_text::Tokenizer;
use cloze_text::extension::{Counter, Words};
use rayon::prelude::*;

use crate::input::{Document, InputPlan};
use crate::tokenize::reading::{Event, Reading};
use crate::{Error, Progress, Result};

/// Text that is read ahead while the block before it is counted: bounds memory.
const BLOCK_BYTES: usize = 4 << 20;

/// What was counted.
#[derive(Debug, Default)]
pub struct WordCount {
    /// How often each word occurs.
    pub words: Words,
    /// Documents that were read.
    pub documents: u64,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// Counts the words of every source of `plan` as `tokenizer` makes them, with so many threads; their number changes nothing.
///
/// Memory holds a block of text and one entry for each different word.
pub fn count_words(
    plan: &InputPlan,
    tokenizer: &Tokenizer,
    jobs: Option<usize>,
    progress: &dyn Progress,
) -> Result<WordCount> {
    count_blocks(plan, tokenizer, jobs, progress, BLOCK_BYTES)
}

fn count_blocks(
    plan: &InputPlan,
    tokenizer: &Tokenizer,
    jobs: Option<usize>,
    progress: &dyn Progress,
    size: usize,
) -> Result<WordCount> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(jobs.unwrap_or(0))
        .build()
        .map_err(|e| Error::Threads(e.to_string()))?;
    let counter = Counter::new(tokenizer)?;
    let mut all = WordCount::default();
    let mut reading = Reading::new(plan, (0, 0), size, progress);
    let mut read = reading.next()?;
    while let Some(block) = read {
        let mut counted = Ok(Words::default());
        // The next block is read on this thread while the others count.
        let next = pool.in_place_scope(|scope| {
            scope.spawn(|_| counted = count(&counter, &block.documents));
            reading.next()
        });
        all.words = std::mem::take(&mut all.words).merge(counted?);
        let documents = block.documents.len() as u64;
        all.documents += documents;
        progress.count(documents, 0);
        for (_, event) in block.events {
            let Event::Ends(ended) = event else { continue };
            for (reason, first) in ended.first_skipped {
                let warning = format!("passed over: {reason}; first {first}");
                all.warnings.push(warning);
            }
        }
        read = next?;
    }
    Ok(all)
}

fn count(counter: &Counter<'_>, block: &[Document]) -> Result<Words> {
    let parts = block.par_iter().try_fold(Words::default, |mut words, d| {
        counter.count(&d.text, &mut words)?;
        Ok::<_, Error>(words)
    });
    parts.try_reduce(Words::default, |a, b| Ok(a.merge(b)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::{InputOptions, OnBadInput};
    use crate::{Config, Silent};

    #[test]
    fn words_are_counted_alike_by_any_number_of_threads() {
        let mut tokens: Vec<String> = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
            .map(str::to_owned)
            .into();
        tokens.extend(('a'..='z').flat_map(|c| [c.to_string(), format!("##{c}")]));
        let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
        let tokenizer = Tokenizer::from_tokens(&tokens, cloze_text::Settings::default()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let texts: Vec<String> = (0..90)
            .map(|i| {
                let word =
                    |j: usize| format!("w{} Ü{},", "xyz".repeat((i * j) % 5), "q".repeat(j % 7));
                (0..50).map(word).collect()
            })
            .collect();
        let lines = texts.iter().map(|t| format!("{{\"text\": \"{t}\"}}\n"));
        let file = folder.path().join("a.jsonl");
        std::fs::write(&file, lines.collect::<String>() + "broken\n").unwrap();
        let config = Config {
            on_bad_input: OnBadInput::Skip,
            ..Config::default()
        };
        let plan = InputPlan::resolve(&[file], &InputOptions::of(&config)).unwrap();
        let mut expected = Words::default();
        let counter = Counter::new(&tokenizer).unwrap();
        texts
            .iter()
            .for_each(|t| counter.count(t, &mut expected).unwrap());
        for jobs in [1, 2, 5] {
            let found = count_blocks(&plan, &tokenizer, Some(jobs), &Silent, 4_000).unwrap();
            assert_eq!(found.words, expected);
            assert_eq!((found.documents, found.warnings.len()), (90, 1));
        }
    }
}
