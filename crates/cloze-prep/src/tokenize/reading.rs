//! Documents of all sources, in order, by blocks: read on one thread while others work on those before.

use std::collections::BTreeMap;

use cloze_shard::manifest::SourceRecord;

use crate::input::{Document, InputError, InputPlan, SourceReader};
use crate::mark::{Mark, ReadUpTo};
use crate::{Error, Progress, Result};

/// Documents that are worked on together, of one source or several, and what happened between them.
#[derive(Default)]
pub struct Block {
    pub documents: Vec<Document>,
    /// Each with the number of documents of the block that come before it.
    pub events: Vec<(usize, Event)>,
}

/// What happens to a source.
pub enum Event {
    /// It is read from here on, after so many of its documents.
    Begins(Mark, u64),
    /// So much of it was read for the documents up to here.
    Read(ReadUpTo),
    /// Nothing more is in it.
    Ends(Box<Ended>),
}

/// What is known of a source when it was read.
pub struct Ended {
    pub record: SourceRecord,
    pub first_skipped: BTreeMap<String, String>,
    pub cut: u64,
    pub encoding: Option<&'static str>,
}

/// What a source counts for in the size of a block, beside its text: a block of empty files ends, too.
const SOURCE_BYTES: usize = 1 << 10;

/// Reads the sources of a plan one after another.
pub struct Reading<'a> {
    plan: &'a InputPlan,
    progress: &'a dyn Progress,
    /// About how much text a block holds.
    size: usize,
    /// The source that is read, and its number.
    reader: Option<SourceReader<'a>>,
    number: usize,
    /// Documents of the first source that are passed over.
    passed_over: u64,
    failed: Option<Error>,
    /// A person was told of a source that is in truth something else.
    told: bool,
    /// The source as it was when it was begun.
    begun: Option<Mark>,
}

impl<'a> Reading<'a> {
    /// Reads from source `number` on, but for its first `passed_over` documents, blocks of about `size` bytes of text.
    pub fn new(
        plan: &'a InputPlan,
        (number, passed_over): (usize, u64),
        size: usize,
        progress: &'a dyn Progress,
    ) -> Self {
        Self {
            plan,
            progress,
            size,
            reader: None,
            number,
            passed_over,
            failed: None,
            told: false,
            begun: None,
        }
    }

    /// The next block; `None` at the end. What was read before a failure comes before it.
    pub fn next(&mut self) -> Result<Option<Block>> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let mut block = Block::default();
        if let Err(error) = self.fill(&mut block) {
            if block.is_empty() {
                return Err(error);
            }
            self.failed = Some(error);
        }
        if let Some((bytes, blake3)) = self.reader.as_ref().and_then(SourceReader::read_up_to) {
            block.push(Event::Read(ReadUpTo { bytes, blake3 }));
        }
        Ok((!block.is_empty()).then_some(block))
    }

    fn fill(&mut self, block: &mut Block) -> Result<()> {
        let mut bytes = 0;
        while bytes < self.size {
            let Some(reader) = &mut self.reader else {
                let Some(source) = self.plan.sources.get(self.number) else {
                    break;
                };
                let passed_over = std::mem::take(&mut self.passed_over);
                let mark = Mark::of(source);
                self.begun = Some(mark.clone());
                block.push(Event::Begins(mark, passed_over));
                let number = self.number as u32;
                let mut reader =
                    SourceReader::open(source, number, &self.plan.options, self.progress);
                for _ in 0..passed_over {
                    reader.next_document()?;
                }
                self.reader = Some(reader);
                bytes += SOURCE_BYTES;
                continue;
            };
            let document = reader.next_document()?;
            if let Some(misread) = reader.misread().filter(|_| !self.told) {
                self.told = true;
                self.progress
                    .say(&format!("warning: {misread} (only the first is named)"));
            }
            match document {
                Some(document) => {
                    bytes += document.text.len();
                    block.documents.push(document);
                }
                None => {
                    let ended = self.reader.take().map(Ended::of).transpose()?;
                    if let Some(source) = self.plan.sources.get(self.number)
                        && let Some(begun) = self.begun.take()
                        && let Some(is) = begun.was_written_to(source)
                    {
                        return Err(InputError::Changed {
                            path: source.path.clone(),
                            was: source.bytes,
                            is,
                        }
                        .into());
                    }
                    block
                        .events
                        .extend(ended.map(|e| (block.documents.len(), e)));
                    self.number += 1;
                }
            }
        }
        Ok(())
    }
}

impl Ended {
    fn of(reader: SourceReader<'_>) -> Result<Event> {
        Ok(Event::Ends(Box::new(Self {
            first_skipped: reader.first_skipped().clone(),
            cut: reader.cut(),
            encoding: reader.encoding(),
            record: reader.finish()?,
        })))
    }
}

impl Block {
    /// About what it takes of memory.
    pub fn size(&self) -> usize {
        let texts = self.documents.iter().map(|d| d.text.len());
        texts.sum::<usize>() + self.events.len() * SOURCE_BYTES
    }

    fn push(&mut self, event: Event) {
        self.events.push((self.documents.len(), event));
    }

    fn is_empty(&self) -> bool {
        self.documents.is_empty() && self.events.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::input::InputOptions;
    use crate::{Config, Silent};

    /// What a block holds: documents by source and number, and where sources begin and end.
    fn shown(block: &Block) -> Vec<String> {
        let mut events = block.events.iter().peekable();
        let mut shown = Vec::new();
        for i in 0..=block.documents.len() {
            while let Some((_, event)) = events.next_if(|(before, _)| *before == i) {
                shown.push(match event {
                    Event::Begins(_, passed_over) => format!("begins {passed_over}"),
                    Event::Read(_) => continue,
                    Event::Ends(ended) => format!("ends {}", ended.record.documents),
                });
            }
            let document = block.documents.get(i);
            shown.extend(document.map(|d| format!("{}:{}", d.source, d.index)));
        }
        assert!(events.next().is_none());
        shown
    }

    #[test]
    fn blocks_go_on_from_source_to_source_and_come_before_a_failure() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
        write("a.txt", b"one\n\x0ctwo\n");
        write("b.txt", b"three\n");
        write("c.txt", b"");
        write("d.txt", b"four\n\xff\n");
        let config = Config::default();
        let plan = InputPlan::resolve(&[folder.path().into()], &InputOptions::of(&config)).unwrap();
        let mut all = Reading::new(&plan, (0, 0), 1 << 20, &Silent);
        let block = all.next().unwrap().unwrap();
        let expected = [
            "begins 0", "0:0", "0:1", "ends 2", "begins 0", "1:0", "ends 1", "begins 0", "ends 0",
            "begins 0",
        ];
        assert_eq!(shown(&block), expected);
        assert!(all.next().is_err());
        // From the middle of a source on, a document at a time.
        let mut rest = Reading::new(&plan, (0, 1), 1, &Silent);
        let mut blocks = Vec::new();
        let failed = loop {
            match rest.next() {
                Ok(Some(block)) => blocks.extend(shown(&block)),
                Ok(None) => panic!("it has an end"),
                Err(error) => break error,
            }
        };
        assert!(failed.to_string().contains("d.txt"), "{failed}");
        assert_eq!(blocks, [&["begins 1", "0:1"][..], &expected[3..]].concat());
        fs::remove_file(folder.path().join("d.txt")).unwrap();
        let plan = InputPlan::resolve(&[folder.path().into()], &InputOptions::of(&config)).unwrap();
        let mut whole = Reading::new(&plan, (2, 0), 1 << 20, &Silent);
        assert_eq!(
            shown(&whole.next().unwrap().unwrap()),
            ["begins 0", "ends 0"]
        );
        assert!(whole.next().unwrap().is_none());
    }
}
