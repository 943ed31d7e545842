//! `cloze pretrain`

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::bail;
use cloze_cli::{Status, format, table};
use cloze_shard::{Dataset, Vocabulary, manifest::TOKENIZER_FOLDER};
use cloze_train::checkpoint::LoadReport;
use cloze_train::parallel::World;
use cloze_train::record::{SkipRecord, StepRecord, ValidationRecord};
use cloze_train::{Begun, Observer, Start, pretrain_on, stored_config};

use crate::cli::{PretrainArgs, ResumeArg, Typed};
use crate::stop::Stop;

pub fn run(args: &PretrainArgs, typed: &Typed) -> anyhow::Result<Status> {
    let Some(start) = args.start() else {
        bail!("nothing to start from: give --init HF_DIR, --config config.json, or --resume");
    };
    if args.resume == Some(ResumeArg::Always) && (args.init.is_some() || args.config.is_some()) {
        bail!(
            "--resume goes on from a checkpoint of the run, not from --init or --config: leave one out, or give --resume auto"
        );
    }
    let start = match args.datasets.first() {
        Some(dataset) => downloaded(start, dataset)?,
        None => start,
    };
    let stop = crate::stop::on_signals()?;
    crate::start_threads(args.jobs)?;
    let world = World::from_environment()?;
    if world.rank == 0 {
        crate::warn(&args.datasets, args.init.as_deref(), typed);
    }
    let stored = if args.resume.is_some() {
        stored_config(&args.out)?
    } else {
        None
    };
    let config = match stored {
        Some(stored) => args.resumed(stored, typed)?,
        None => args.config(),
    };
    let mut view = View {
        steps: config.steps,
        started: Instant::now(),
        header: false,
        stop: &stop,
    };
    let datasets: Vec<&Path> = args.datasets.iter().map(AsRef::as_ref).collect();
    let summary = pretrain_on(&world, &datasets, &start, &args.out, &config, &mut view)?;
    if world.rank > 0 {
        return Ok(stop.status());
    }
    let mut out = std::io::stdout().lock();
    let time = format::duration(view.started.elapsed());
    writeln!(
        out,
        "{}: {} steps, {time}",
        summary.model.display(),
        format::count(summary.steps)
    )?;
    if summary.skipped > 0 {
        let skipped = format::count(summary.skipped);
        writeln!(
            out,
            "{skipped} steps were not made: their gradient was not finite"
        )?;
    }
    if summary.stopped {
        let of = format::count(config.steps);
        writeln!(out, "stopped before step {of}; --resume goes on")?;
        return Ok(stop.status());
    }
    if let Some(report) = summary.validation {
        writeln!(out, "{}", validation(&report))?;
    }
    Ok(Status::Done)
}

/// `start`, with a folder in place of the name of a model.
fn downloaded(start: Start, dataset: &Path) -> anyhow::Result<Start> {
    Ok(match start {
        Start::Init(named) => Start::Init(crate::hub::folder(&named, dataset)?),
        Start::ResumeOr(fresh) => Start::ResumeOr(Box::new(downloaded(*fresh, dataset)?)),
        other => other,
    })
}

/// The step log on standard error.
struct View<'a> {
    steps: u64,
    started: Instant,
    header: bool,
    stop: &'a Stop,
}

impl View<'_> {
    fn line(&self, text: &str) {
        // A log that cannot be shown is not worth stopping for.
        let _ = writeln!(std::io::stderr(), "{text}");
    }

    fn bold(text: &str) -> String {
        let plain = !std::io::stderr().is_terminal() || std::env::var_os("NO_COLOR").is_some();
        if plain {
            text.to_owned()
        } else {
            format!("\x1b[1m{text}\x1b[0m")
        }
    }
}

impl Observer for View<'_> {
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
        if !begun.processes.is_empty() {
            self.line(&format!("together {}", begun.processes));
        }
        if let Some(report) = begun.report {
            self.line(&load_table(report));
        }
        if let Some(text) = begun.datasets.first().and_then(first_row) {
            self.line(&format!("row 0    {text}\n"));
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
            self.line(&Self::bold(
                "    step     loss      mlm      nsp        rate   norm    tok/s   wait   left",
            ));
            self.header = true;
        }
        let nsp = r
            .nsp_loss
            .or(r.sop_loss)
            .map_or_else(|| "–".to_owned(), |x| format!("{x:.4}"));
        self.line(&format!(
            "{:>8} {:>8.4} {:>8.4} {nsp:>8} {:>11.2e} {:>6.2} {:>8} {:>6} {:>6}",
            r.step,
            r.loss,
            r.mlm_loss,
            r.learning_rate,
            r.grad_norm,
            format::short(r.tokens_per_second),
            format::percent(r.data_wait_fraction),
            format::duration(Duration::from_secs_f64(r.seconds_left.min(1e9)))
        ));
    }

    fn on_validation(&mut self, record: &ValidationRecord) {
        self.line(&format!(
            "{:>8} {}",
            record.step,
            Self::bold(&validation(&record.report))
        ));
        for of in &record.datasets {
            self.line(&format!(
                "           {}: {}",
                of.dataset,
                validation(&of.report)
            ));
        }
    }

    fn on_skipped(&mut self, record: &SkipRecord) {
        self.line(&format!(
            "{:>8} {} steps were not made, {} in all: their gradient was not finite",
            record.step,
            format::count(record.skipped),
            format::count(record.skipped_total)
        ));
    }

    fn on_checkpoint(&mut self, path: &Path) {
        self.line(&format!("         checkpoint {}", path.display()));
    }

    fn should_stop(&mut self) -> bool {
        self.stop.asked()
    }
}

fn validation(report: &cloze_train::eval::EvalReport) -> String {
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

/// The first row of the dataset, so that a person sees what the model is fed.
fn first_row(dataset: &Dataset) -> Option<String> {
    let vocabulary = Vocabulary::read(&dataset.path().join(TOKENIZER_FOLDER)).ok()?;
    let split = dataset.split("train").filter(|s| s.rows() > 0)?;
    let text = vocabulary.decode(split.row(0).input_ids.iter());
    let short: String = text.chars().take(240).collect();
    Some(if short.len() < text.len() {
        format!("{short}…")
    } else {
        short
    })
}
