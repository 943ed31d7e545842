//! Room on the disk: said before anything is written, and refused where there is none.

use std::path::Path;

use cloze_shard::schema::IdType;

use super::{Preparation, SPLITS};
use crate::Result;
use crate::amounts::Amounts;
use crate::disk::{self, Needed, megabytes};
use crate::input::Source;
use crate::plan::Planned;
use crate::tokenize::Encoders;
use crate::tokens::TokenFolder;

/// Under so many bytes of sources, their sizes say enough where the disk has this many times what they say.
const LARGE: u64 = 64 << 20;
const ENOUGH: u64 = 8;

/// How what is needed is known, and the share of it that is certain: a preparation is refused where not even that is free.
struct Known {
    amounts: Amounts,
    by: &'static str,
    sure: f64,
}

/// Of tokens that are there; of a sample from all over the text, and of one from the beginnings of files that cannot be read but from there; of sizes.
const COUNTED: f64 = 0.9;
const ALL_OVER: f64 = 0.8;
const BEGINNINGS: f64 = 0.4;
const SIZES: f64 = 0.5;

impl Preparation<'_> {
    fn id_type(&self) -> IdType {
        IdType::for_vocab_size(self.vocabulary.len())
    }

    pub(super) fn needed(&self, amounts: &Amounts) -> Needed {
        Needed::of(amounts, self.id_type(), &self.config, self.memory)
    }

    /// What the sources come to: as it was counted, by a sample of them, or by their sizes where that is enough.
    fn amounts(&self, folder: &TokenFolder, encoders: &Encoders<'_>) -> Result<Known> {
        if folder.whole {
            return Ok(Known {
                amounts: Amounts::counted(&folder.place.report),
                by: "by the tokens",
                sure: COUNTED,
            });
        }
        let guess = Amounts::guess(&self.sources);
        let all = self.needed(&guess).all().saturating_mul(ENOUGH);
        let is_enough = disk::free(self.out).is_none_or(|free| all < free);
        let sampled = match self.sources.bytes() < LARGE && is_enough {
            true => None,
            false => Amounts::sampled(&self.sources, encoders, &self.config)?,
        };
        let (amounts, by, sure) = match sampled {
            Some((amounts, true)) => (amounts, "by a sample of the text", ALL_OVER),
            Some((amounts, false)) => (
                amounts,
                "by a sample from the beginnings of files",
                BEGINNINGS,
            ),
            None => (guess, "by the sizes of the files", SIZES),
        };
        Ok(Known { amounts, by, sure })
    }

    /// Says how much room is needed, and refuses to begin where there is certainly too little.
    pub(super) fn state_disk(&self, folder: &TokenFolder, encoders: &Encoders<'_>) -> Result<()> {
        let known = self.amounts(folder, encoders)?;
        let mut needed = self.needed(&known.amounts);
        if folder.whole {
            (needed.tokens, needed.copied, needed.ledger) = (0, 0, 0);
        }
        let mut streams = self.sources.sources.iter().map(Source::is_stream);
        let streams = (streams.clone().any(|is| is), streams.all(|is| is));
        let of_input = match streams {
            (true, false) if !folder.whole => ", and what standard input and pipes need",
            _ => "",
        };
        let elsewhere = match &self.work.tokens {
            Some(tokens) if !disk::is_one(tokens, self.out) => Some(tokens.as_path()),
            _ => None,
        };
        let (here, there) = match elsewhere {
            None => (needed.all(), 0),
            Some(_) => (
                needed.dataset + needed.recipes + needed.sorted,
                needed.made(),
            ),
        };
        // What was done before a stop is there already.
        let tokens = disk::taken(&self.token_folder());
        let mut done = disk::taken(self.out);
        if self.token_folder().starts_with(self.out) {
            done -= done.min(tokens);
        }
        if elsewhere.is_none() && !folder.whole {
            done += tokens;
        }
        let left = (here.saturating_sub(done), there.saturating_sub(tokens));
        let free = disk::free(self.out);
        let of_free = free.map_or_else(String::new, |f| format!("; {} are free", megabytes(f)));
        let for_tokens = elsewhere.map_or_else(String::new, |folder| {
            format!(", {} for tokens in {}", megabytes(there), folder.display())
        });
        self.progress.say(&match streams {
            (_, true) if !folder.whole => format!(
                "disk     how much is needed is not known: standard input and pipes have no size{of_free}"
            ),
            _ => format!(
                "disk     about {} while it works{for_tokens}, {} when it is done, {}{of_input}{of_free}",
                megabytes(here),
                megabytes(needed.dataset),
                known.by,
            ),
        });
        // How much cleaning leaves is known when it is done: of filters when a document is read, of duplicates when all are in the tokens.
        let clean = &self.config.clean;
        let made = match clean.filters() {
            true => 0,
            false => needed.made_surely(),
        };
        let sure = match (clean.is_off() || folder.whole, elsewhere) {
            (true, _) => left,
            (false, None) => (made.min(here).saturating_sub(done), 0),
            (false, Some(_)) => (0, made.saturating_sub(tokens)),
        };
        let check = |path: &Path, bytes: u64, sure: u64, free: Option<u64>| -> Result<()> {
            disk::refuse(path, (sure as f64 * known.sure) as u64, free)?;
            if free.is_some_and(|free| bytes > free) {
                let path = path.display();
                let said = match clean.is_off() {
                    true => format!("disk     this may be more than there is in {path}"),
                    false => format!(
                        "disk     this is more than there is in {path}, unless cleaning leaves less"
                    ),
                };
                self.progress.say(&said);
            }
            Ok(())
        };
        check(self.out, left.0, sure.0, free)?;
        elsewhere.map_or(Ok(()), |path| check(path, left.1, sure.1, disk::free(path)))
    }

    /// Refuses to write shards where there is no room, now that it is known what is needed.
    pub(super) fn room_for_shards(&self, planned: &[Planned; 2], sorts: bool) -> Result<()> {
        // Some of them are there already.
        if self.out.join(SPLITS[0]).exists() {
            return Ok(());
        }
        let needed = planned.iter().map(|planned| match sorts {
            false => disk::shards(planned, self.id_type(), &self.config),
            true => disk::gathered(planned, self.id_type()),
        });
        disk::refuse(self.out, needed.sum(), disk::free(self.out))
    }
}
