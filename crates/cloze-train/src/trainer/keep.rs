//! What is kept of a run: checkpoints, of models that are whole alone. And what is said where there can be none.

use super::Observer;
use super::run::Run;
use crate::checkpoint::{BEST, Checkpoint, MODEL, write_checkpoint};
use crate::engine::{EngineState, StepOutcome};
use crate::parameters::Layout;
use crate::{Error, Result};

/// Rows that an error names.
const NAMED: usize = 5;

/// Rows without a finite loss, after which it is the model that is broken.
const ENOUGH: usize = 64;

impl Run<'_> {
    /// Writes a checkpoint, on rank 0. A model that is not whole is an error, and what was kept before stays.
    pub fn checkpoint(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let Some(log) = &mut self.log else {
            return Ok(());
        };
        log.sync()?;
        let engine = self.engine.state()?;
        if let Some(why) = self.broken(&engine)? {
            return Err(Error::Broken {
                step: self.trainer.step,
                why,
                model: self.model_folder(),
            });
        }
        let tokenizer = self.datasets[0].tokenizer()?;
        let checkpoint = Checkpoint {
            config: &self.model,
            layout: self.engine.layout(),
            engine: &engine,
            trainer: &self.trainer,
            tokenizer: &tokenizer,
        };
        let path = write_checkpoint(self.run, &checkpoint, self.config.keep)?;
        observer.on_checkpoint(&path);
        Ok(())
    }

    /// The best model, for a hint, or where none was measured the newest, which may be what has diverged.
    fn model_folder(&self) -> Option<std::path::PathBuf> {
        let models = [BEST, MODEL].map(|name| self.run.join(name));
        models.into_iter().find(|model| model.is_dir())
    }

    /// Why the model is not worth keeping: numbers that are none, or no row that it has a finite loss for.
    fn broken(&mut self, engine: &EngineState) -> Result<Option<String>> {
        if let Some(why) = not_finite(engine, self.engine.layout()) {
            return Ok(Some(why));
        }
        let (position, rate) = self.made_of;
        let mut feed = self.training_feed()?;
        feed.seek(position);
        feed.set_rate(rate);
        let mut looked_at = 0;
        while looked_at < ENOUGH {
            for number in feed.next_rows() {
                let sums = self.engine.evaluate(&feed.row(number)?)?;
                if (sums.mlm_loss + sums.nsp_loss).is_finite() {
                    return Ok(None);
                }
                looked_at += 1;
            }
        }
        let why = format!("of {looked_at} training rows none has a finite loss");
        Ok(Some(why))
    }

    /// Why training cannot go on, with the rows of the last step that have no finite loss by themselves. What was learned is kept, if it can be.
    pub fn diverged(&mut self, outcome: &StepOutcome, observer: &mut dyn Observer) -> Error {
        let rows = match self.broken_rows() {
            Ok((rows, all)) => said_of(rows, all),
            Err(e) => format!("its rows could not be looked at: {e}"),
        };
        let kept = self.checkpoint(observer);
        // All end together: a process that ends takes the others with it.
        let waited = self.peers.barrier();
        match kept.and(waited) {
            Ok(()) | Err(Error::Broken { .. }) => Error::NonFinite {
                step: self.trainer.step,
                in_a_row: self.config.max_skipped,
                norm: outcome.grad_norm,
                rows,
                model: self.model_folder(),
            },
            Err(e) => e,
        }
    }

    /// The rows of the last batch whose own loss is not finite, by name, and how many rows there are.
    fn broken_rows(&mut self) -> Result<(Vec<String>, usize)> {
        let (position, rate) = self.made_of;
        let mut feed = self.training_feed()?;
        feed.seek(position);
        feed.set_rate(rate);
        let numbers = feed.next_rows();
        let mut broken = Vec::new();
        for &number in &numbers {
            let sums = self.engine.evaluate(&feed.row(number)?)?;
            if !(sums.mlm_loss + sums.nsp_loss).is_finite() {
                let (path, row) = feed.locate(number);
                broken.push(format!("{} row {row}", path.display()));
            }
        }
        Ok((broken, numbers.len()))
    }
}

fn said_of(broken: Vec<String>, all: usize) -> String {
    let n = broken.len();
    if n == 0 {
        return format!("each of its {all} rows has a finite loss by itself");
    }
    let mut names: Vec<String> = broken.into_iter().take(NAMED + 1).collect();
    if names.len() > NAMED {
        names[NAMED] = "…".into();
    }
    let names = names.join(", ");
    match n == all {
        true => format!("none of its {all} rows has a finite loss: {names}"),
        false => format!("{n} of its {all} rows have no finite loss: {names}"),
    }
}

/// The first parameter that holds a number that is none, or whose moments do.
fn not_finite(engine: &EngineState, layout: &Layout) -> Option<String> {
    let arenas = [
        ("", &engine.parameters),
        ("the first moment of ", &engine.first_moment),
        ("the second moment of ", &engine.second_moment),
    ];
    for (what, values) in arenas {
        let Some(at) = values.iter().position(|v| !v.is_finite()) else {
            continue;
        };
        let holds =
            |p: &&crate::parameters::Parameter| (p.offset..p.offset + p.len()).contains(&at);
        let name = layout.parameters().iter().find(holds);
        let name = name.map_or("a parameter", |p| p.name.as_str());
        return Some(format!("{what}{name} is not finite any more"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BertConfig;

    #[test]
    fn the_first_number_that_is_none_is_named() {
        let json = serde_json::json!({"vocab_size": 8, "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8,
            "max_position_embeddings": 8});
        let layout = Layout::new(&BertConfig::parse(&json.to_string()).unwrap());
        let whole = EngineState::initial(vec![1.0; layout.len()]);
        assert_eq!(not_finite(&whole, &layout), None);
        for p in layout.parameters() {
            for (at, bad) in [
                (p.offset, f32::NAN),
                (p.offset + p.len() - 1, f32::INFINITY),
            ] {
                let mut state = whole.clone();
                state.parameters[at] = bad;
                let said = not_finite(&state, &layout).unwrap();
                assert_eq!(said, format!("{} is not finite any more", p.name));
                let mut state = whole.clone();
                state.second_moment[at] = bad;
                let said = not_finite(&state, &layout).unwrap();
                assert!(said.starts_with("the second moment of ") && said.contains(&p.name));
            }
        }
    }

    #[test]
    fn rows_are_named_and_not_too_many() {
        let names = |n: usize| (0..n).map(|i| format!("x row {i}")).collect();
        assert!(said_of(names(0), 3).starts_with("each of its 3 rows"));
        assert_eq!(
            said_of(names(1), 3),
            "1 of its 3 rows have no finite loss: x row 0"
        );
        let all = said_of(names(9), 9);
        assert!(all.starts_with("none of its 9 rows has") && all.ends_with("x row 4, …"));
    }
}
