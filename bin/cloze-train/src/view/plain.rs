//! The step log, line by line.

use std::path::Path;
use std::time::{Duration, Instant};

use cloze_cli::{format, table, visible};
use cloze_train::checkpoint::LoadReport;
use cloze_train::parallel::World;
use cloze_train::record::{SkipRecord, StepRecord, ValidationRecord};
use cloze_train::samples::MaskedRow;
use cloze_train::{Begun, Observer};

use super::View;
use crate::stop::Stop;

/// Hands each line of the log to `sink`.
pub struct Plain<'a, F> {
    steps: u64,
    started: Instant,
    header: bool,
    bold: bool,
    stop: &'a Stop,
    sink: F,
}

impl<'a, F: FnMut(&str)> Plain<'a, F> {
    /// Of a run of so many steps; what matters is bold where that can be shown.
    pub fn new(steps: u64, bold: bool, stop: &'a Stop, sink: F) -> Self {
        Self {
            steps,
            started: Instant::now(),
            header: false,
            bold,
            stop,
            sink,
        }
    }

    /// Hands lines to `sink` from now on.
    pub fn replace_sink(&mut self, sink: F) {
        self.sink = sink;
    }

    fn line(&mut self, text: &str) {
        (self.sink)(text);
    }

    fn bold(&self, text: &str) -> String {
        if self.bold {
            format!("\x1b[1m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

impl<F: FnMut(&str)> View for Plain<'_, F> {
    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

impl<F: FnMut(&str)> Observer for Plain<'_, F> {
    fn on_meeting(&mut self, world: &World, time: Duration) {
        let Some(address) = &world.address else {
            return;
        };
        let time = format::duration(time);
        let (rank, last) = (world.rank, world.world_size - 1);
        self.line(&match (rank, last) {
            (0, 1) => format!("rank 0 waits for rank 1 at {address} (up to {time})"),
            (0, last) => format!("rank 0 waits for ranks 1 to {last} at {address} (up to {time})"),
            (rank, _) => format!("rank {rank} looks for rank 0 at {address} (up to {time})"),
        });
    }

    fn on_met(&mut self) {
        self.stop.begin();
    }

    fn on_start(&mut self, begun: &Begun<'_>) {
        let (config, step) = (begun.config, begun.step);
        for dataset in begun.datasets {
            let manifest = dataset.manifest();
            let split = |name: &str| manifest.splits.get(name).cloned().unwrap_or_default();
            let (train, validation) = (split("train"), split("validation"));
            self.line(&format!(
                "dataset  {}: {} rows, {} tokens; validation {} rows",
                dataset.path().display(),
                format::count(train.rows),
                format::short(train.tokens as f64),
                format::count(validation.rows)
            ));
        }
        self.line(&format!(
            "model    {} layers, hidden {}, {} heads, {} parameters",
            config.num_hidden_layers,
            config.hidden_size,
            config.num_attention_heads,
            format::short(begun.engine.layout().count() as f64),
        ));
        self.line(&format!(
            "device   {}; {}",
            begun.engine.describe(),
            begun.device
        ));
        if begun.engine.describe().contains("bf16 by scalar") {
            self.line("warning: this processor multiplies no bf16: --precision f32 is faster here, and more exact");
        }
        let room = begun.room;
        let free = room.free.map_or_else(String::new, |free| {
            format!("; {} are free", format::bytes(free))
        });
        self.line(&format!(
            "disk     a checkpoint takes {}, up to {} are there at a time{free}",
            format::bytes(room.checkpoint),
            room.most
        ));
        if step < self.steps && !room.is_enough(begun.checkpoints) {
            self.line("warning: there may be no room for all of them: keep fewer (--keep), free some, or give another --out");
        }
        if !begun.processes.is_empty() {
            self.line(&format!("together {}", begun.processes));
        }
        if let Some(report) = begun.report {
            self.line(&load_table(report));
            if report.lost_decoder {
                self.line("warning: the checkpoint has a decoder of its own, which was left out: the MLM head predicts by the word embeddings here, and begins worse than it was");
            }
        }
        if !begun.first.is_empty() {
            self.line("the first rows that it is fed; what it has to predict is in [ ]:");
        }
        for row in begun.first {
            self.line(&format!("row      {}", visible(&first_row(row))));
        }
        if step >= self.steps {
            self.line(&format!(
                "all {} steps were made before: nothing is left to do",
                format::count(step)
            ));
        } else if step > 0 {
            self.line(&format!("resumed after step {}", format::count(step)));
        }
        self.started = Instant::now();
    }

    fn on_step(&mut self, r: &StepRecord) {
        if !self.header {
            let pair = if r.sop_loss.is_some() { "sop" } else { "nsp" };
            let header = self.bold(&format!(
                "    step     loss      mlm      {pair}        rate   norm    tok/s   wait   left"
            ));
            self.line(&header);
            self.header = true;
        }
        let nsp = r
            .nsp_loss
            .or(r.sop_loss)
            .map_or_else(|| "–".to_owned(), |x| format!("{x:.4}"));
        let left = format::duration(Duration::from_secs_f64(r.seconds_left.min(1e9)));
        self.line(&format!(
            "{:>8} {:>8.4} {:>8.4} {nsp:>8} {:>11.2e} {:>6.2} {:>8} {:>6} {left:>6}",
            r.step,
            r.loss,
            r.mlm_loss,
            r.learning_rate,
            r.grad_norm,
            format::short(r.tokens_per_second),
            format::percent(r.data_wait_fraction),
        ));
    }

    fn on_validation(&mut self, record: &ValidationRecord) {
        let report = self.bold(&validation(&record.report));
        self.line(&format!("{:>8} {report}", record.step));
        for of in &record.datasets {
            let report = validation(&of.report);
            self.line(&format!("           {}: {report}", of.dataset));
        }
    }

    fn on_skipped(&mut self, record: &SkipRecord) {
        self.line(&format!(
            "{:>8} not made, as the gradient was not finite: {}, {} in all",
            record.step,
            format::counted(record.skipped, "step"),
            format::count(record.skipped_total)
        ));
    }

    fn on_checkpoint(&mut self, path: &Path) {
        self.line(&format!("         checkpoint {}", path.display()));
    }

    fn should_stop(&mut self, _step: u64) -> bool {
        self.stop.asked()
    }
}

/// An evaluation in a line.
pub fn validation(report: &cloze_train::eval::EvalReport) -> String {
    let mut parts = Vec::new();
    if let (Some(loss), Some(perplexity), Some(accuracy)) =
        (report.mlm_loss, report.perplexity, report.mlm_accuracy)
    {
        let right = format::percent(accuracy);
        parts.push(format!(
            "mlm {loss:.4} (perplexity {perplexity:.1}, {right} right)"
        ));
    }
    if let (Some(loss), Some(accuracy)) = (report.sop_loss, report.sop_accuracy) {
        parts.push(format!(
            "sop {loss:.4} ({} right)",
            format::percent(accuracy)
        ));
    }
    if let (Some(loss), Some(accuracy)) = (report.nsp_loss, report.nsp_accuracy) {
        parts.push(format!(
            "nsp {loss:.4} ({} right)",
            format::percent(accuracy)
        ));
    }
    parts.push(format!("{} rows", format::count(report.rows)));
    format!("validation: {}", parts.join(", "))
}

/// What was loaded, initialised and ignored; long lists are cut, counts are not.
fn load_table(report: &LoadReport) -> String {
    let few = |names: &[String]| {
        let shown = names.iter().take(4).cloned().collect::<Vec<_>>().join(", ");
        if names.len() > 4 {
            format!("{shown}, …")
        } else {
            shown
        }
    };
    let mut ignored: Vec<String> = report
        .ignored
        .iter()
        .map(|(name, why)| format!("{name} ({why})"))
        .collect();
    ignored.sort();
    let rows: Vec<Vec<String>> = [
        ("loaded", &report.loaded),
        ("drawn at random", &report.initialised),
        ("ignored", &ignored),
    ]
    .iter()
    .map(|(what, names)| vec![(*what).to_owned(), names.len().to_string(), few(names)])
    .collect();
    table(&["checkpoint", "tensors", ""], &rows)
        .trim_end()
        .to_owned()
}

/// A row with what is to be predicted in it, cut to a few lines.
fn first_row(row: &MaskedRow) -> String {
    let text = row.text();
    let short: String = text.chars().take(240).collect();
    if short.len() < text.len() {
        format!("{short}…")
    } else {
        short
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use cloze_train::eval::EvalReport;
    use cloze_train::parallel::Address;

    use super::*;

    /// All that is said of a short run, by one process of two.
    fn told(bold: bool) -> String {
        let mut text = String::new();
        let stop = Stop::default();
        let mut plain = Plain::new(1, bold, &stop, |line: &str| {
            text += line;
            text.push('\n');
        });
        let mut world = World::alone();
        world.world_size = 2;
        world.address = Some(Address {
            host: "127.0.0.1".into(),
            port: 29_500,
        });
        plain.on_meeting(&world, Duration::from_secs(600));
        let report = EvalReport {
            mlm_loss: Some(10.36),
            mlm_accuracy: Some(0.001),
            perplexity: Some(31_571.4),
            nsp_loss: Some(0.7),
            nsp_accuracy: Some(0.5),
            rows: 1_000,
            tokens: 64_000,
            masked_tokens: 9_600,
            labelled_rows: 1_000,
            sop_loss: None,
            sop_accuracy: None,
        };
        plain.on_validation(&ValidationRecord {
            step: 0,
            report,
            datasets: Vec::new(),
        });
        let mut record = StepRecord {
            step: 1,
            epoch: 0,
            loss: 11.0423,
            mlm_loss: 10.3491,
            nsp_loss: Some(0.6932),
            sop_loss: None,
            learning_rate: 3.3e-6,
            grad_norm: 12.345,
            tokens: 4_000,
            tokens_per_second: 12_345.0,
            data_wait_fraction: 0.0123,
            step_seconds: 0.32,
            seconds_left: 0.0,
        };
        plain.on_step(&record);
        record.nsp_loss = None;
        plain.on_step(&record);
        plain.on_skipped(&SkipRecord {
            step: 1,
            skipped: 2,
            skipped_total: 1_002,
        });
        plain.on_checkpoint(Path::new("run/checkpoints/step-00000001"));
        text
    }

    #[test]
    fn the_log_is_as_it_was() {
        let expected = "\
rank 0 waits for rank 1 at 127.0.0.1:29500 (up to 10 min 00 s)
       0 validation: mlm 10.3600 (perplexity 31571.4, 0.1 % right), nsp 0.7000 (50.0 % right), 1,000 rows
    step     loss      mlm      nsp        rate   norm    tok/s   wait   left
       1  11.0423  10.3491   0.6932     3.30e-6  12.35   12.3 k  1.2 %  0.0 s
       1  11.0423  10.3491        –     3.30e-6  12.35   12.3 k  1.2 %  0.0 s
       1 not made, as the gradient was not finite: 2 steps, 1,002 in all
         checkpoint run/checkpoints/step-00000001
";
        assert_eq!(told(false), expected);
        let bold = told(true);
        assert_eq!(bold.matches("\x1b[1m").count(), 2);
        assert_eq!(bold.replace("\x1b[1m", "").replace("\x1b[0m", ""), expected);
    }
}
