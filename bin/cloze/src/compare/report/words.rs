//! What is said beside figures: how sure they are, what they leave out, what they were made of.

use std::path::PathBuf;

use cloze_cli::format;

use super::super::args::{Objective, Start};
use super::super::data::{Kind, is_dataset};
use super::super::statistics::RESAMPLES;
use super::super::verdict;
use super::tables::examples;
use super::{Told, capital};

impl Told<'_> {
    pub(super) fn how_sure(&self) -> String {
        let noise = match self.outcome.noise {
            Some((deviation, freedom)) => format!(
                "what seeds change has a standard deviation of {} ({freedom} degrees of freedom, pooled over arms)",
                verdict::value(&self.outcome.judge, deviation)
            ),
            None => "what seeds change is not known".into(),
        };
        let noise = format!(
            "{noise}, and each difference takes that of the arms that begin as its own do, or its own where that is larger"
        );
        match self.outcome.budgets.is_empty() {
            true => format!(
                "Differences are paired by seed; {noise}. Held-out rows are taken as they are: what other rows would change is not in the intervals. A difference is seen where its interval does not hold 0."
            ),
            false => format!(
                "Differences are paired by seed and by test example ({} of them, drawn again {} times); {noise}. A difference is seen where its interval does not hold 0.",
                format::count(self.outcome.test_rows as u64),
                format::count(RESAMPLES as u64)
            ),
        }
    }

    pub(super) fn scores_are(&self) -> String {
        let unit = if self.outcome.judge.is_share() {
            ", in %"
        } else {
            ""
        };
        let grown: Vec<String> = (self.outcome.budgets.iter())
            .filter_map(|b| {
                Some(format!(
                    "{} with {}",
                    verdict::signed(&self.outcome.judge, b.second_half?),
                    examples(b.budget, b.rows)
                ))
            })
            .collect();
        let grown = match grown.is_empty() {
            true => String::new(),
            false => format!(
                " What models still gained on dev in the second half of fine-tuning, on the mean{}: {} labelled examples.",
                match verdict::points(&self.outcome.judge) {
                    "" => String::new(),
                    unit => format!(", in{unit}"),
                },
                grown.join(", ")
            ),
        };
        format!(
            "{}{unit}: mean and standard deviation over seeds, on {} test examples. Each seed has labelled examples of its own, the same ones for all arms.{grown}",
            capital(&verdict::metric(&self.outcome.judge)),
            format::count(self.outcome.test_rows as u64)
        )
    }

    pub(super) fn of_measures(&self) -> Vec<String> {
        let on = match self.datasets.folder(Kind::FullSentences) {
            Some(_) => "whole sentences of held-out documents, with the same masks for all models",
            None => "pairs of held-out documents, with the same masks for all models",
        };
        let mut remarks = vec![format!(
            "Losses are in nats a masked token, on {on}. NSP accuracy of a model that was not trained for it is that of the head in its checkpoint, if there is one."
        )];
        let not = self
            .outcome
            .arms
            .iter()
            .filter_map(|a| Some((a.arm?, a.not_measured.as_ref()?)));
        remarks.extend(
            not.map(|(arm, why)| format!("{}: not measured. {why}", capital(&arm.words()))),
        );
        remarks
    }

    /// What this comparison says nothing about.
    pub(super) fn limits(&self) -> Vec<String> {
        let asked = &self.plan.key.asked;
        let given = self.plan.key.inputs.iter().any(|input| is_dataset(input));
        let pairs = self.datasets.manifest(Kind::Nsp).ok().flatten();
        let length = match pairs.filter(|_| given) {
            Some(manifest) => manifest.max_seq_length,
            None => asked.seq_len,
        };
        let mut limits = vec![
            format!(
                "More training. Every model saw {} tokens; what helps little after few may help more after many, and the other way round.",
                format::short(self.settled.tokens as f64)
            ),
            format!(
                "Other learning rates. All arms of a start have the same ({} from the checkpoint, {} from scratch), which may suit some better than others.",
                asked.learning_rate, asked.scratch_learning_rate
            ),
            format!(
                "Other lengths and batches: rows of up to {length} tokens, steps of {}.",
                asked.batch_tokens
            ),
            "Other checkpoints, other corpora, other tasks.".into(),
        ];
        let left = [
            Objective::Mlm,
            Objective::FullSentences,
            Objective::MlmNsp,
            Objective::MlmSop,
        ];
        for objective in left {
            if let Some(why) = self.settled.left_out.get(objective.name()) {
                limits.push(format!("{}: {why}.", objective.words()));
            } else if !asked.objectives.contains(&objective) {
                limits.push(format!("{}: was not asked for.", objective.words()));
            }
        }
        for start in [Start::Checkpoint, Start::Scratch] {
            if !asked.starts.contains(&start) {
                limits.push(format!(
                    "Starting from {}: was not asked for.",
                    start.name()
                ));
            }
        }
        limits.extend(
            self.task
                .iter()
                .flat_map(|task| task.left_out())
                .map(|rows| capital(&rows) + "."),
        );
        if self.plan.key.task.is_none() {
            limits.push("A task: without --task, losses are all there is to judge by, and a lower loss need not mean a better model for a task.".into());
        }
        if self.plan.key.task.is_some() && given {
            limits.push(
                "Whether text that the dataset shares with the test examples mattered: it was given as it is, and nothing was left out of it."
                    .into(),
            );
        } else if self.plan.key.task.is_some() && asked.keep_overlap {
            limits.push(
                "Whether text that the corpus shares with the test examples mattered: it was kept."
                    .into(),
            );
        }
        if let Some(few) = self
            .outcome
            .arms
            .iter()
            .filter_map(|a| a.arm)
            .map(|a| self.plan.seeds(a))
            .min()
            .filter(|n| *n < 5)
        {
            limits.push(format!(
                "More seeds: some arms have {few}. Small differences need more to be seen."
            ));
        }
        if !self.outcome.missing.0.is_empty() {
            limits.push(format!(
                "Models that are not done yet: {}.",
                self.outcome.missing.0.join("; ")
            ));
        }
        limits
    }

    pub(super) fn provenance(&self) -> anyhow::Result<Vec<(String, String)>> {
        let key = &self.plan.key;
        let paths = |all: &[PathBuf]| {
            all.iter()
                .map(|p| p.display().to_string())
                .collect::<Vec<_>>()
                .join(", ")
        };
        let mut pairs = vec![
            ("text".to_owned(), paths(&key.inputs)),
            ("checkpoint".to_owned(), key.init.display().to_string()),
        ];
        if let (Some(task), Some([train, dev, test])) = (&key.task, self.settled.task_rows) {
            let count = |n: usize| format::count(n as u64);
            pairs.push((
                "task".into(),
                format!(
                    "{}: {} examples to learn from, {} dev, {} test",
                    task.display(),
                    count(train),
                    count(dev),
                    count(test)
                ),
            ));
        }
        for kind in self.datasets.kinds() {
            let Some(manifest) = self.datasets.manifest(kind)? else {
                continue;
            };
            let train = manifest
                .splits
                .get("train")
                .map_or((0, 0), |s| (s.rows, s.tokens));
            let held_out = manifest.splits.get("validation").map_or(0, |s| s.rows);
            pairs.push((
                format!("rows, {}", kind.name()),
                format!(
                    "{} of {} tokens; {} held out",
                    format::count(train.0),
                    format::short(train.1 as f64),
                    format::count(held_out)
                ),
            ));
            if let Some(dropped) = manifest
                .counts
                .iter()
                .find(|(name, _)| name.starts_with("dropped") && name.contains("exclu"))
            {
                pairs.push((
                    format!("left out, {}", kind.name()),
                    format!(
                        "{} documents that share text with the task's dev and test examples",
                        format::count(*dropped.1)
                    ),
                ));
            }
        }
        pairs.push(("written by".into(), self.plan.created_by.clone()));
        Ok(pairs)
    }
}
