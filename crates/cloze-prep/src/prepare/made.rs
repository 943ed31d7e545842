//! All that is made of tokens: lists of documents, recipes, shards, and what a dataset has beside its rows.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;

use cloze_shard::atomic::{self, Written};
use cloze_shard::documents::{self, DocumentRecord, DocumentsWriter};
use cloze_shard::manifest::{FileRecord, SplitRecord, TOKENIZER_FOLDER, TokenizerRecord};

use super::{Preparation, SPLITS};
use crate::plan::Planned;
use crate::split::{Assignment, IndexWriter, SplitCursor, SplitDocuments, SplitIndex};
use crate::token_store::TokenFiles;
use crate::{Error, Result, StoredDocument, TokenStore};

/// What is made of tokens, all of it durable.
pub(super) struct Made {
    pub(super) planned: [Planned; 2],
    pub(super) splits: BTreeMap<String, SplitRecord>,
    /// The table of all documents.
    pub(super) table: FileRecord,
    pub(super) tokenizer: TokenizerRecord,
}

impl Preparation<'_> {
    /// Makes everything of tokens that are mapped.
    pub(super) fn mapped(&self, files: &TokenFiles, tokens: String) -> Result<Made> {
        let has_failed = AtomicBool::new(false);
        let has_failed = &has_failed;
        std::thread::scope(|threads| {
            let (to, table) = sync_channel(1);
            // Who makes rows waits for no disk.
            let beside = threads.spawn(move || {
                let write = || {
                    let tokenizer = self.write_tokenizer()?;
                    // When the table has its name, the folder of the tokenizer has, too.
                    let none = |_| Err(Error::Threads("no table of the documents".into()));
                    Ok((end(table.recv().unwrap_or_else(none)?)?, tokenizer))
                };
                write().inspect_err(|_| has_failed.store(true, Ordering::Relaxed))
            });
            let made = rayon::in_place_scope(|scope| {
                scope.spawn(|_| {
                    // Nobody takes it where the tokenizer could not be written.
                    let _ = to.send(self.list_all(files));
                });
                let indexes = self.list_documents(files)?;
                let store = TokenStore::map(files)?;
                let map = |index| SplitDocuments::map(&store, index);
                let documents = [map(&indexes[0])?, map(&indexes[1])?];
                let planned = self.plan(&indexes, tokens, None, |split| &documents[split])?;
                if has_failed.load(Ordering::Relaxed) {
                    return Err(Error::Threads("what is written beside rows failed".into()));
                }
                // While the disk is waited for, tokens and recipes are let go.
                let ending = self.write_splits(threads, &documents)?;
                let documents = indexes.map(|index| index.totals.documents);
                Ok((planned, ending, documents))
            });
            let beside: Result<_> = beside
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let ((table, tokenizer), (planned, ending, documents)) = (beside?, made?);
            let shards = ending.end()?;
            self.progress.end();
            let splits = SPLITS.iter().zip(shards).zip(documents);
            let of = |((name, shards), documents): ((&&str, _), u64)| {
                let record = SplitRecord::new(shards, documents);
                (String::from(*name), record)
            };
            Ok(Made {
                planned,
                splits: splits.map(of).collect(),
                table,
                tokenizer,
            })
        })
    }

    /// Makes everything of tokens that are sorted.
    pub(super) fn sorted(&self, files: &TokenFiles, tokens: String) -> Result<Made> {
        let table = end(self.list_all(files)?)?;
        let indexes = self.list_documents(files)?;
        let cursor = |split: usize| SplitCursor::new(files, &indexes[split]);
        let planned = self.plan(&indexes, tokens, Some(self.sorting()), cursor)?;
        let splits = self.gather_splits(&planned, &indexes, cursor)?;
        let tokenizer = self.write_tokenizer()?;
        atomic::sync_folder(self.out)?;
        Ok(Made {
            planned,
            splits,
            table,
            tokenizer,
        })
    }

    /// Goes through the documents: which split has which.
    fn list_documents(&self, files: &TokenFiles) -> Result<[SplitIndex; 2]> {
        let config = &self.config;
        let mut cursor = files.cursor();
        let docs = (0..files.len()).map(|i| Ok(cursor.document(i)?.doc));
        let assignment = Assignment::new(docs, config.seed, config.validation_fraction)?;
        let index = |split: usize| {
            IndexWriter::create(
                &self.at(&format!("{}.documents", SPLITS[split])),
                &self.postponed,
            )
        };
        let mut indexes = [index(0)?, index(1)?];
        for i in 0..files.len() {
            let document = cursor.document(i)?;
            let split = usize::from(assignment.is_validation(document.doc));
            indexes[split].push(i, &document)?;
        }
        let [train, validation] = indexes;
        Ok([train.finish()?, validation.finish()?])
    }

    /// Goes through the documents: the table of all.
    fn list_all(&self, files: &TokenFiles) -> Result<DocumentsWriter> {
        let path = self.out.join(documents::FILE_NAME);
        let mut table = DocumentsWriter::create(&path, !self.config.meta_field.is_empty())?;
        let mut cursor = files.cursor();
        for i in 0..files.len() {
            table.push(document_record(&cursor.document(i)?))?;
        }
        Ok(table)
    }

    /// Writes the tokenizer's files: its record.
    fn write_tokenizer(&self) -> Result<TokenizerRecord> {
        let folder = self.out.join(TOKENIZER_FOLDER);
        fs::create_dir_all(&folder).map_err(cloze_shard::Error::io(&folder))?;
        let mut files = Vec::new();
        for (name, bytes) in self.tokenizer.files() {
            let written = atomic::write(&folder.join(name), bytes)?;
            let path = format!("{TOKENIZER_FOLDER}/{name}");
            files.push(FileRecord {
                path,
                bytes: written.bytes,
                blake3: written.blake3,
            });
        }
        Ok(TokenizerRecord::new(&self.vocabulary, files))
    }
}

/// Makes the table of documents durable.
fn end(table: DocumentsWriter) -> Result<FileRecord> {
    let Written { bytes, blake3 } = table.finish()?;
    let path = documents::FILE_NAME.into();
    Ok(FileRecord {
        path,
        bytes,
        blake3,
    })
}

fn document_record(document: &StoredDocument<'_>) -> DocumentRecord {
    DocumentRecord {
        doc: document.doc,
        source: document.source,
        index: document.index,
        id: document.id.map(str::to_owned),
        meta: document.meta.map(str::to_owned),
        sentences: document.sentence_ends.len() as u32,
        tokens: document.input_ids.len() as u32,
    }
}
