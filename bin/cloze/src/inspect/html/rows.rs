//! Rows with their masks, and where everything comes from.

use cloze_cli::format;
use cloze_page::{Kind, Page, Piece};
use cloze_shard::manifest::Masking;
use serde_json::Value;

use super::Told;
use crate::inspect::sample::{self, Segment, Token};
use crate::inspect::summary;

impl Told<'_> {
    pub fn rows(&self, page: &mut Page) {
        let masks = match self.manifest().masking {
            Masking::Static { rule } => {
                format!("Masks are those in the shards ({}).", summary::masks(&rule))
            }
            Masking::Dynamic => format!(
                "Masks are those that the trainer draws with seed {} in epoch 0 ({}).",
                self.preview.seed,
                summary::masks(self.preview.masker.rule())
            ),
        };
        page.remark(&format!(
            "Rows drawn at random. {masks} Words that the model has to predict stand on a ground: hidden ones as they are, those behind a random word with that word (real → seen), those that can be seen with =."
        ));
        for (row, why) in &self.samples {
            let why = why
                .as_ref()
                .map_or_else(String::new, |why| format!(" · {why}"));
            let label = sample::label(row.label, self.manifest().objective);
            page.heading(&format!("Row {} · {}{why}", row.row, row.shard));
            page.paragraph(&format!("{label} · {} tokens", row.tokens));
            for segment in &row.segments {
                let origin = segment.origin.as_deref();
                let origin = origin.unwrap_or("origin not in the table of documents");
                let heading = format!("{} · {origin}, sentence {}", segment.name, segment.sentence);
                page.sample(&heading, &self.pieces(segment));
            }
        }
    }

    fn pieces(&self, segment: &Segment) -> Vec<Piece> {
        let vocabulary = &self.opened.vocabulary;
        let mut pieces = Vec::new();
        for (i, token) in segment.tokens.iter().enumerate() {
            let continues = vocabulary.is_continuation(token.id);
            if i > 0 && !continues {
                pieces.push(Piece::new(" ", Kind::Plain));
            }
            let name = self.opened.token(token.id);
            let bare = if continues { &name[2..] } else { name };
            pieces.push(self.piece(token, bare));
        }
        pieces
    }

    fn piece(&self, token: &Token, bare: &str) -> Piece {
        let special = self.opened.vocabulary.special();
        let (text, kind, note) = match token.seen {
            None if special.sorted().contains(&token.id) => (bare.to_owned(), Kind::Faint, ""),
            None => (bare.to_owned(), Kind::Plain, ""),
            Some(seen) if seen == special.mask => {
                (bare.to_owned(), Kind::Hidden, "the model sees [MASK]")
            }
            Some(seen) if seen == token.id => (
                format!("{bare}="),
                Kind::Right,
                "predicted, though the model sees it",
            ),
            Some(seen) => {
                let text = format!("{bare} → {}", self.opened.token(seen));
                (text, Kind::Wrong, "the model sees a random token")
            }
        };
        Piece {
            text,
            kind,
            note: note.into(),
        }
    }

    pub fn configuration(&self, page: &mut Page) {
        let manifest = self.manifest();
        page.pairs(summary::facts(manifest));
        page.heading("Options of the preparation");
        let options = manifest.config.as_object().into_iter().flatten();
        page.pairs(options.map(|(name, value)| {
            let value = match value {
                Value::String(text) => text.clone(),
                Value::Null => "–".into(),
                other => other.to_string(),
            };
            (name.clone(), value)
        }));
        let counts = manifest.counts.iter();
        let counts = counts.map(|(name, n)| (name.replace('_', " "), format::count(*n)));
        page.details("What preparation counted", |page| page.pairs(counts));
        let skipped = manifest.sources.iter().flat_map(|s| {
            let each = s.skipped.iter();
            each.map(|(why, n)| vec![s.path.clone(), why.clone(), format::count(*n)])
        });
        let skipped: Vec<Vec<String>> = skipped.collect();
        if !skipped.is_empty() {
            page.details("What was passed over", |page| {
                page.table(&["source", "why", "times"], &skipped);
            });
        }
        let tokenizer = manifest.tokenizer.files.iter().map(|f| (f, String::new()));
        let shards = manifest.splits.values().flat_map(|s| &s.shards);
        let shards = shards.map(|s| (&s.file, format::count(s.rows)));
        let files = std::iter::once((&manifest.documents, String::new()));
        let files: Vec<Vec<String>> = (files.chain(tokenizer).chain(shards))
            .map(|(file, rows)| {
                vec![
                    file.path.clone(),
                    format::bytes(file.bytes),
                    rows,
                    file.blake3.clone(),
                ]
            })
            .collect();
        page.details("Files and their digests (blake3)", |page| {
            page.table(&["file", "bytes", "rows", "digest"], &files);
        });
        let sources: Vec<Vec<String>> = (manifest.sources.iter())
            .map(|s| vec![s.path.clone(), format::bytes(s.bytes), s.blake3.clone()])
            .collect();
        page.details("Sources and their digests (blake3)", |page| {
            page.table(&["source", "bytes", "digest"], &sources);
        });
        page.pairs([
            ("vocabulary", manifest.tokenizer.vocab_digest.clone()),
            ("manifest", manifest.digest()),
        ]);
    }
}
