//! The last step: shards of both splits, from tokens that are mapped, or by buckets.

use std::collections::BTreeMap;
use std::fs;
use std::thread::Scope;

use cloze_shard::atomic::Postponed;
use cloze_shard::manifest::SplitRecord;
use cloze_shard::schema::IdType;

use super::{Preparation, SPLITS};
use crate::Result;
use crate::gather::Gather;
use crate::pairing::Cursor;
use crate::plan::{self, Plan, Planned};
use crate::progress::Stage;
use crate::shards::{self, Ending, Kept, RowMaker, Split};
use crate::split::{SplitDocuments, SplitIndex};

impl Preparation<'_> {
    /// Removes what was made of other tokens.
    pub(super) fn forget_shards(&self) -> Result<()> {
        let work = &self.folder;
        for split in SPLITS {
            let folder = self.out.join(split);
            if folder.exists() {
                fs::remove_dir_all(&folder).map_err(cloze_shard::Error::io(&folder))?;
            }
            for entry in fs::read_dir(work).map_err(cloze_shard::Error::io(work))? {
                let path = entry.map_err(cloze_shard::Error::io(work))?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                if name.starts_with(split) && name.ends_with(".json") {
                    fs::remove_file(&path).map_err(cloze_shard::Error::io(&path))?;
                }
            }
        }
        Ok(())
    }

    fn kept<'a>(&'a self, postponed: Option<&'a Postponed>) -> Kept<'a> {
        Kept {
            folder: &self.folder,
            postponed,
            progress: self.progress,
        }
    }

    /// The split's folder, and the path of each shard of a bin in the dataset.
    fn shards_of(&self, split: usize) -> Result<impl Fn(usize, u64) -> String + Sync> {
        let folder = self.out.join(SPLITS[split]);
        fs::create_dir_all(&folder).map_err(cloze_shard::Error::io(&folder))?;
        let edges = self.config.bins();
        Ok(move |bin: usize, shard: u64| shards::name(SPLITS[split], &edges, bin, shard))
    }

    /// Writes the rows of both splits; they are durable when what it returns has ended.
    pub(super) fn write_splits<'s>(
        &'s self,
        threads: &'s Scope<'s, '_>,
        documents: &[SplitDocuments<'_>; 2],
    ) -> Result<Ending<'s>> {
        let config = &self.config;
        let mut splits = Vec::new();
        for (i, documents) in documents.iter().enumerate() {
            let plans = self.recipes(i);
            let plans = plans.iter().map(|path| Plan::open(path));
            let plans: Vec<Plan> = plans.collect::<Result<_>>()?;
            let rows: Vec<u64> = plans.iter().map(Plan::rows).collect();
            splits.push(Split {
                maker: RowMaker::new(documents, &self.vocabulary, config, i as u32)?,
                parts: shards::parts(config, i as u32, &rows, self.shards_of(i)?),
                plans,
            });
        }
        let rows = splits.iter().flat_map(|split| &split.plans);
        self.progress
            .begin(Stage::Write, rows.map(Plan::rows).sum());
        let kept = self.kept(Some(&self.postponed));
        shards::write_splits(threads, &splits, self.out, config, kept, self.progress)
    }

    /// As [`write_splits`](Self::write_splits), by buckets; `cursor` goes through the documents of a split.
    pub(super) fn gather_splits<C: Cursor>(
        &self,
        planned: &[Planned; 2],
        indexes: &[SplitIndex; 2],
        cursor: impl Fn(usize) -> C,
    ) -> Result<BTreeMap<String, SplitRecord>> {
        let config = &self.config;
        // What a shard was made of is removed when it is noted.
        let kept = self.kept(None);
        let recipes = [self.recipes(0), self.recipes(1)];
        let rows = planned[0].rows + planned[1].rows;
        self.progress.begin(Stage::Gather, rows);
        let mut all = Vec::new();
        for i in [0, 1] {
            let rows = recipes[i].iter().map(|path| plan::rows(path));
            let rows: Vec<u64> = rows.collect::<Result<_>>()?;
            let gather = Gather {
                config,
                id_type: IdType::for_vocab_size(self.vocabulary.len()),
                parts: shards::parts(config, i as u32, &rows, self.shards_of(i)?),
                recipes: &recipes[i],
                planned: &planned[i],
                documents: indexes[i].totals.documents,
                sorting: self.sorting(),
                name: SPLITS[i],
                kept: &kept,
                out: self.out,
                progress: self.progress,
            };
            let gathered = gather.gather(&mut cursor(i))?;
            all.push((gather, gathered));
        }
        self.progress.end();
        self.progress.begin(Stage::Write, rows);
        let mut splits = BTreeMap::new();
        for (i, (gather, gathered)) in all.iter().enumerate() {
            let maker = RowMaker::new(&(), &self.vocabulary, config, i as u32)?;
            let shards = gather.write(gathered, &maker)?;
            let record = SplitRecord::new(shards, indexes[i].totals.documents);
            splits.insert(SPLITS[i].to_owned(), record);
        }
        self.progress.end();
        Ok(splits)
    }
}
