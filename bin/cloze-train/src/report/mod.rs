//! `RUN/report.html`: what a run came to, for people.

mod curves;
mod provenance;
mod sentences;

pub use sentences::{became_worse, stopped_before};

use std::fs;
use std::path::{Path, PathBuf};

use cloze_cli::format;
use cloze_page::{Kind, Page, Piece};
use cloze_shard::atomic;
use cloze_train::eval::EvalReport;
use cloze_train::evaluation::{EvalOptions, Evaluation};
use cloze_train::record::Record;
use cloze_train::samples::MaskedRow;
use cloze_train::{Build, Error, PretrainConfig, Summary, checkpoint};

/// The file in the run's folder.
pub const FILE: &str = "report.html";
/// Rows that are shown with what the model says is hidden in them, and predictions of each hidden token.
const SAMPLES: u64 = 8;
const TOP: usize = 3;

/// A run, as it ended, stopped or failed.
pub struct Run<'a> {
    pub folder: &'a Path,
    pub datasets: &'a [PathBuf],
    pub config: &'a PretrainConfig,
    /// How it ended; or why it could not go on.
    pub end: Result<&'a Summary, &'a Error>,
}

impl Run<'_> {
    /// Writes the report, and says where it is.
    pub fn write(&self) -> anyhow::Result<PathBuf> {
        let (records, unread) = self.records()?;
        let model = match fs::read_to_string(self.model().join(checkpoint::CONFIG)) {
            Ok(model) => serde_json::from_str(&model)?,
            // A run that failed may have kept none.
            Err(_) if self.end.is_err() => serde_json::Value::Null,
            Err(e) => return Err(e.into()),
        };
        let lead = sentences::lead(self, &model, &records);
        let mut page = Page::new(&self.title(), &lead);
        page.figures(&sentences::figures(self, &records));
        page.section("Curves");
        curves::fill(&mut page, &records);
        if unread > 0 {
            let lines = format::count(unread);
            page.remark(&format!(
                "Lines of train.jsonl that could not be read, and are not shown: {lines}."
            ));
        }
        page.section("What the model fills in");
        match self.samples() {
            Ok((split, rows)) => samples(&mut page, &split, &rows),
            Err(error) => page.remark(&format!("No rows can be shown: {error}")),
        }
        page.section("Configuration");
        page.heading("Options of the run");
        page.pairs(flat(&serde_json::to_value(self.config)?));
        page.heading("Model");
        page.pairs(flat(&model));
        page.section("Data");
        for dataset in self.datasets {
            provenance::fill(&mut page, dataset)?;
        }
        let path = self.folder.join(FILE);
        atomic::write(&path, page.html().as_bytes())?;
        Ok(path)
    }

    /// The newest model.
    fn model(&self) -> PathBuf {
        self.folder.join(checkpoint::MODEL)
    }

    fn title(&self) -> String {
        let name = std::path::absolute(self.folder).ok();
        let name = name.as_deref().unwrap_or(self.folder).file_name();
        let name = name.map_or_else(|| self.folder.to_string_lossy(), |n| n.to_string_lossy());
        format!("Pre-training: {name}")
    }

    /// All lines of the log, those of earlier processes too, and how many could not be read.
    pub fn records(&self) -> anyhow::Result<(Vec<Record>, u64)> {
        let text = fs::read(self.folder.join("train.jsonl"))?;
        Ok(parse(&String::from_utf8_lossy(&text)))
    }

    /// Rows of the first dataset's validation split, or of its training split, and its name.
    fn samples(&self) -> anyhow::Result<(String, Vec<MaskedRow>)> {
        let Some(dataset) = self.datasets.first() else {
            anyhow::bail!("there is no dataset");
        };
        let config = self.config;
        let mut failed = None;
        for split in ["validation", "train"] {
            let options = EvalOptions {
                split: split.into(),
                rule: cloze_shard::masking::MaskingRule {
                    rate: config.mask_rate,
                    mask_share: config.mask_share,
                    random_share: config.random_share,
                    unit: config.mask_unit,
                },
                mlm_only: false,
                seed: config.seed,
                batch_tokens: config.batch_tokens.max(4_096),
                build: Build {
                    engine: config.engine,
                    device: config.device,
                    precision: config.precision,
                    ..Build::default()
                },
            };
            match Evaluation::open(dataset, &self.model(), options) {
                Ok(mut evaluation) => {
                    return Ok((split.into(), evaluation.samples(SAMPLES, TOP)?));
                }
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.map_or_else(|| anyhow::anyhow!("there is no split"), Into::into))
    }
}

/// The lines of a log, and how many are none: one of them does not take the others with it.
fn parse(log: &str) -> (Vec<Record>, u64) {
    let mut unread = 0;
    let lines = log.lines().filter_map(|line| {
        let record = serde_json::from_str(line).ok();
        unread += u64::from(record.is_none());
        record
    });
    (lines.collect(), unread)
}

/// The values of an object, by name.
fn flat(value: &serde_json::Value) -> Vec<(String, String)> {
    let members = value.as_object().into_iter().flatten();
    let shown = members.map(|(name, value)| {
        let value = match value {
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Null => "–".into(),
            other => other.to_string(),
        };
        (name.clone(), value)
    });
    shown.collect()
}

/// Rows with what is hidden in them, and what the model says is there.
fn samples(page: &mut Page, split: &str, rows: &[MaskedRow]) {
    page.remark(&format!(
        "Rows of the {split} split as the model sees them. What was hidden is marked, with what the model said and how probable that was to it: in green where it is right; in red where it is not, \
         and in brackets what is right. Point at a word for the model's next guesses."
    ));
    for row in rows {
        let right = row
            .masked
            .iter()
            .filter(|m| m.is_right() == Some(true))
            .count();
        let label = match row.is_next {
            Some(true) => "B follows A; ",
            Some(false) => "B does not follow A; ",
            None => "",
        };
        let heading = format!("{label}{right} of {} right", row.masked.len());
        page.sample(&heading, &pieces(row));
    }
}

fn pieces(row: &MaskedRow) -> Vec<Piece> {
    let mut masked = row.masked.iter().peekable();
    let mut pieces: Vec<Piece> = Vec::new();
    for (position, token) in row.tokens.iter().enumerate() {
        let hidden = masked.next_if(|m| m.position == position);
        let shown = hidden.map_or(token, |m| &m.token);
        let bare = shown.strip_prefix("##").unwrap_or(shown);
        if position > 0 && bare.len() == shown.len() {
            pieces.push(Piece::new(" ", Kind::Plain));
        }
        let Some(hidden) = hidden else {
            let frame = shown.starts_with('[') && shown.ends_with(']') && shown.len() > 2;
            let kind = if frame { Kind::Faint } else { Kind::Plain };
            pieces.push(Piece::new(bare, kind));
            continue;
        };
        let said: Vec<String> = (hidden.predictions.iter())
            .map(|(token, p)| format!("{token} {}", format::percent(*p)))
            .collect();
        let (text, kind) = match (hidden.predictions.first(), hidden.is_right()) {
            (Some((_, p)), Some(true)) => (format!("{bare}\u{a0}{}", whole(*p)), Kind::Right),
            (Some((said, p)), _) => (format!("{said}\u{a0}{} [{bare}]", whole(*p)), Kind::Wrong),
            (None, _) => (bare.to_owned(), Kind::Hidden),
        };
        pieces.push(Piece {
            text,
            kind,
            note: said.join(", "),
        });
    }
    pieces
}

/// A probability, short.
fn whole(p: f64) -> String {
    format!("{:.0}\u{a0}%", 100.0 * p)
}

/// Name, loss and accuracy of the head on pairs, where it was measured.
fn pair(report: &EvalReport) -> Option<(&'static str, f64, f64)> {
    match (report.sop_loss, report.nsp_loss) {
        (Some(loss), _) => Some(("SOP", loss, report.sop_accuracy?)),
        (None, Some(loss)) => Some(("NSP", loss, report.nsp_accuracy?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloze_train::samples::MaskedToken;

    #[test]
    fn a_broken_line_costs_itself_only() {
        let skipped = |step: u64| {
            format!(r#"{{"kind":"skipped","step":{step},"skipped":1,"skipped_total":1}}"#)
        };
        let log = format!(
            "{}\n{{\"kind\":\"train\",\"st\n\u{fffd}\n{}",
            skipped(3),
            skipped(7)
        );
        let (records, unread) = parse(&log);
        let steps: Vec<u64> = records.iter().map(Record::step).collect();
        assert_eq!((steps, unread), (vec![3, 7], 2));
        assert_eq!(parse(""), (vec![], 0));
    }

    #[test]
    fn a_row_shows_what_was_right_and_what_was_said() {
        let token = |position, token: &str, said: &[(&str, f64)]| MaskedToken {
            position,
            token: token.into(),
            predictions: said.iter().map(|(t, p)| ((*t).to_owned(), *p)).collect(),
        };
        let row = MaskedRow {
            tokens: ["[CLS]", "a", "[MASK]", "[MASK]", "[SEP]"]
                .map(str::to_owned)
                .into(),
            masked: vec![
                token(2, "play", &[("play", 0.81), ("game", 0.1)]),
                token(3, "##er", &[("##ing", 0.5)]),
            ],
            is_next: None,
        };
        let pieces = pieces(&row);
        let text: String = pieces.iter().map(|p| p.text.as_str()).collect();
        assert_eq!(
            text,
            "[CLS] a play\u{a0}81\u{a0}%##ing\u{a0}50\u{a0}% [er] [SEP]"
        );
        let kinds: Vec<Kind> = pieces
            .iter()
            .map(|p| p.kind)
            .filter(|k| *k != Kind::Plain)
            .collect();
        assert_eq!(kinds, [Kind::Faint, Kind::Right, Kind::Wrong, Kind::Faint]);
        assert!(pieces.iter().any(|p| p.note.contains("game 10")));
    }
}
