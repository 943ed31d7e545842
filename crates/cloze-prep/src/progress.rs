//! Telling a person how far preparation is.

/// The stages of preparation, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Reading, segmenting, tokenizing; measured in bytes of the source files.
    Tokenize,
    /// Deciding which documents and paragraphs stood before, and leaving them out; measured in documents.
    Deduplicate,
    /// Choosing what goes into each row; measured in documents (each once a duplicate).
    Pair,
    /// Looking up the second segments of pairs, where they are sorted for it; measured in rows.
    Find,
    /// Bringing segments to where their rows will be, where they are sorted for it; measured in rows.
    Gather,
    /// Writing shards; measured in rows.
    Write,
}

impl Stage {
    /// A word for a person.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tokenize => "tokenize",
            Self::Deduplicate => "deduplicate",
            Self::Pair => "pair",
            Self::Find => "find",
            Self::Gather => "gather",
            Self::Write => "write",
        }
    }

    /// What [`Progress::advance`] counts.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::Tokenize => "bytes",
            Self::Deduplicate | Self::Pair => "documents",
            Self::Find | Self::Gather | Self::Write => "rows",
        }
    }
}

/// Is told what has been done. Called from any thread, often.
pub trait Progress: Sync {
    /// `stage` begins; it will advance by `total`, which is 0 where nobody knows: standard input and pipes have no size.
    fn begin(&self, stage: Stage, total: u64);
    /// That much more of the current stage is done, in the stage's unit.
    fn advance(&self, amount: u64);
    /// That much of the current stage was done by an earlier run.
    fn was_done(&self, amount: u64) {
        self.advance(amount);
    }
    /// That many more documents and tokens have passed through the current stage.
    fn count(&self, documents: u64, tokens: u64);
    /// The current stage is done.
    fn end(&self);
    /// Something that a person should know before it goes on.
    fn say(&self, _: &str) {}
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: Stage, _: u64) {}
    fn advance(&self, _: u64) {}
    fn count(&self, _: u64, _: u64) {}
    fn end(&self) {}
}
