//! `cloze finetune`

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::builder::RangedU64ValueParser;
use clap::{Args, ValueEnum};
use cloze_cli::{Status, format, table};
use cloze_task::data::{Data, Fields, TaskKind};
use cloze_task::finetune::{
    Cut, Evaluation, FinetuneConfig, Observer, Results, Spread, Started, StepDone, finetune,
};
use cloze_train::parallel::World;
use cloze_train::{Build, DeviceChoice};

use crate::cli::{EngineArg, PrecisionArg, ScheduleArg};
use crate::stop::Stop;

/// Train a pre-trained BERT for a task, from labelled examples
///
/// Examples are JSONL, CSV, TSV (both with a header; TSV without quotes) or Parquet, by the name of the file. The task follows from the training
/// file: a label that is text or an integer makes a classification, other numbers a regression, lists a multi-label classification, and lists of
/// words (`tokens`) with a list of `tags` a token classification. After each epoch the model is measured on the dev examples; the best is kept, and
/// measured once on the test examples. The folder holds the model as transformers loads it, results.json, and predictions.jsonl: for each test row
/// the label, the prediction, and the scores (logits) by label. Ctrl-C and SIGTERM keep the seeds that are done, or the best model so far, and the status is 130; a seed
/// that diverges leaves the others alone, and the status is 1.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  cloze finetune --model run/model --train train.jsonl --dev dev.jsonl --test test.jsonl --out task
  cloze finetune --model run/model --train pairs.tsv --text-field question --text-pair-field answer --label-field ok --out task
  cloze finetune --model bert-base-uncased/ --train ner.parquet --dev dev.parquet --seeds 5 --patience 2 --epochs 10 --out task")]
pub struct FinetuneArgs {
    /// What to start from: a Hugging Face folder, or a model by its name on the Hub
    #[arg(long, value_name = "HF_DIR")]
    pub model: PathBuf,
    /// Examples to learn from
    #[arg(long, value_name = "FILE")]
    pub train: PathBuf,
    /// Examples to choose the best model by [default: none, the last is kept]
    #[arg(long, value_name = "FILE")]
    pub dev: Option<PathBuf>,
    /// Examples to measure the best model on, once
    #[arg(long, value_name = "FILE")]
    pub test: Option<PathBuf>,
    /// The folder that is written; must not exist yet, or be empty
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// What is asked; auto says what it took and why
    #[arg(long, value_enum, default_value = "auto")]
    pub task: TaskArg,
    /// Field of the text, or of the list of words [default: text, else tokens]
    #[arg(long, value_name = "FIELD")]
    pub text_field: Option<String>,
    /// Field of the second text of a pair [default: text_pair, where there is one]
    #[arg(long, value_name = "FIELD")]
    pub text_pair_field: Option<String>,
    /// Field of the label [default: label, for lists of words also tags]
    #[arg(long, value_name = "FIELD")]
    pub label_field: Option<String>,
    /// Times that each example is learned from
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub epochs: u64,
    /// Rows of a step
    #[arg(long, default_value_t = 32, value_name = "ROWS")]
    pub batch_size: usize,
    /// Peak learning rate
    #[arg(long, alias = "lr", default_value_t = 5e-5, value_name = "RATE")]
    pub learning_rate: f64,
    /// Steps of linear warmup [default: a tenth of the steps]
    #[arg(long, value_name = "STEPS")]
    pub warmup_steps: Option<u64>,
    /// What becomes of the learning rate after the warmup
    #[arg(long, value_enum, default_value = "linear")]
    pub schedule: ScheduleArg,
    /// The rate of each layer is this times that of the layer above it; the head has all of it
    #[arg(long, default_value_t = 1.0, value_name = "SHARE")]
    pub layer_decay: f64,
    /// Decoupled weight decay of matrices and embeddings
    #[arg(long, default_value_t = 0.01)]
    pub weight_decay: f64,
    /// Largest global norm of the gradient; 0 for no clipping
    #[arg(long, default_value_t = 1.0, value_name = "NORM")]
    pub clip: f64,
    /// Dropout everywhere, the head too [default: the model's own]
    #[arg(long, value_name = "P")]
    pub dropout: Option<f64>,
    /// Most tokens of a row; what is longer is cut [default: 128, or what the model has positions for]
    #[arg(long, value_name = "TOKENS")]
    pub max_length: Option<usize>,
    /// Steps between evaluations on the dev examples; 0 for one after each epoch
    #[arg(long, default_value_t = 0, value_name = "STEPS")]
    pub eval_every: u64,
    /// Stop after so many evaluations in a row without a better one
    #[arg(long, value_name = "N")]
    pub patience: Option<u64>,
    /// What the best model is chosen by [default: accuracy, spearman, f1_micro, or entity_f1 where tags are IOB2]
    #[arg(long, value_name = "METRIC")]
    pub metric: Option<String>,
    /// The first seed: it keys order, dropout, and the parameters that are drawn
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Train with so many seeds, one after another; the model that is best on the dev examples is kept
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = RangedU64ValueParser::<u64>::new().range(1..=1000))]
    pub seeds: u64,
    /// Stop after so many steps in a row whose gradient is not finite; such steps are not made, and counted
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub max_skipped: u64,
    /// What does the arithmetic
    #[arg(long, value_enum, default_value = "native")]
    pub engine: EngineArg,
    /// Where it is done: auto, cpu, cuda, or cuda:N for one of several GPUs; auto says what it took and why
    #[arg(long, default_value_t = DeviceChoice::Auto)]
    pub device: DeviceChoice,
    /// How products are computed: bf16 is faster where there is hardware for it, and less exact [default: bf16 on a GPU, f32 on the CPU]
    #[arg(long, value_enum)]
    pub precision: Option<PrecisionArg>,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=1024))]
    pub jobs: Option<usize>,
    /// Print one JSON object instead: what results.json holds
    #[arg(long)]
    pub json: bool,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TaskArg {
    /// What the training file looks like
    Auto,
    /// One label of several
    Classification,
    /// A number
    Regression,
    /// Any number of labels
    MultiLabel,
    /// A label for each word
    TokenClassification,
}

impl FinetuneArgs {
    fn kind(&self) -> Option<TaskKind> {
        match self.task {
            TaskArg::Auto => None,
            TaskArg::Classification => Some(TaskKind::Classification),
            TaskArg::Regression => Some(TaskKind::Regression),
            TaskArg::MultiLabel => Some(TaskKind::MultiLabel),
            TaskArg::TokenClassification => Some(TaskKind::TokenClassification),
        }
    }

    fn fields(&self) -> Fields {
        Fields {
            text: self.text_field.clone(),
            text_pair: self.text_pair_field.clone(),
            label: self.label_field.clone(),
        }
    }

    fn config(&self) -> FinetuneConfig {
        FinetuneConfig {
            epochs: self.epochs,
            batch_size: self.batch_size,
            learning_rate: self.learning_rate,
            warmup_steps: self.warmup_steps,
            schedule: self.schedule.into(),
            layer_decay: self.layer_decay,
            weight_decay: self.weight_decay,
            clip: self.clip,
            dropout: self.dropout,
            max_length: self.max_length,
            eval_every: self.eval_every,
            patience: self.patience,
            metric: self.metric.clone(),
            seed: self.seed,
            seeds: self.seeds,
            max_skipped: self.max_skipped,
        }
    }

    fn build(&self) -> Build {
        Build {
            engine: self.engine.into(),
            device: self.device,
            precision: self.precision.map(Into::into),
            ..Build::default()
        }
    }
}

pub fn run(args: &FinetuneArgs) -> anyhow::Result<Status> {
    let world = World::from_environment()?;
    if world.world_size > 1 {
        bail!(
            "this is one of {} processes, but one process learns a task: start `cloze finetune` without torchrun, srun or mpirun",
            world.world_size
        );
    }
    let stop = crate::stop::on_signals()?;
    stop.begin();
    crate::start_threads(args.jobs)?;
    let (dev, test) = (args.dev.as_deref(), args.test.as_deref());
    let data = Data::read(&args.train, dev, test, &args.fields(), args.kind())?;
    let pooled = data.task.kind != TaskKind::TokenClassification;
    let mut view = View::new(args.seeds, pooled, &stop);
    view.data(&data);
    let config = args.config();
    let model = crate::hub::model(&args.model)?;
    let results = finetune(&model, &data, &args.out, &config, args.build(), &mut view);
    let results = match results {
        // What is said of it was said.
        Err(cloze_task::Error::Stopped { .. }) => {
            view.line("nothing was written: no model was measured yet");
            return Ok(Status::Interrupted);
        }
        results => results?,
    };
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&results)?)?;
    } else {
        write!(out, "{}", as_text(&results))?;
        let time = format::duration(view.begun.elapsed());
        writeln!(
            out,
            "{}: the model of seed {}, {time}",
            args.out.display(),
            results.kept_seed
        )?;
        write!(out, "{}", of_cut(&results))?;
    }
    // Not what was asked for, even where a scheduler's signal was obeyed: nothing goes on from here.
    Ok(match results.cut.last() {
        None => Status::Done,
        Some(cut) if cut.why == "stopped" => Status::Interrupted,
        Some(_) => Status::Problems,
    })
}

/// What is to be known of results that are not those of all seeds.
fn of_cut(results: &Results) -> String {
    if results.cut.is_empty() {
        return String::new();
    }
    let done = results.seeds.iter().filter(|s| {
        let is = |c: &Cut| c.seed == s.seed;
        !results.cut.iter().any(is)
    });
    match done.count() {
        0 => "no seed came to its end: the model is the best up to there, and was not measured on test examples\n".into(),
        n => format!("{n} of {} seeds came to their end: the figures are theirs\n", results.config.seeds),
    }
}

/// The metrics on both sets of examples, over seeds.
fn as_text(results: &Results) -> String {
    let number = |x: Option<f64>| x.map_or_else(|| "–".to_owned(), |x| format!("{x:.4}"));
    let cell = |s: Option<&Spread>| match s {
        None => String::new(),
        Some(s) if results.seeds.len() > 1 => format!("{} ± {}", number(s.mean), number(s.sd)),
        Some(s) => number(s.mean),
    };
    let sets = [("dev", &results.dev), ("test", &results.test)];
    let sets: Vec<_> = sets.into_iter().filter(|(_, m)| !m.is_empty()).collect();
    let names = sets.first().into_iter().flat_map(|(_, m)| m.iter());
    let rows: Vec<Vec<String>> = names
        .enumerate()
        .map(|(i, (name, _))| {
            let values = sets.iter().map(|(_, m)| cell(m.get(i).map(|(_, s)| s)));
            std::iter::once((*name).to_owned()).chain(values).collect()
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    let header: Vec<&str> = std::iter::once("")
        .chain(sets.iter().map(|(n, _)| *n))
        .collect();
    table(&header, &rows)
}

/// Progress on standard error.
struct View<'a> {
    stop: &'a Stop,
    begun: Instant,
    spoke: Instant,
    tokens: u64,
    seeds: u64,
    pooled: bool,
}

impl<'a> View<'a> {
    fn new(seeds: u64, pooled: bool, stop: &'a Stop) -> Self {
        let now = Instant::now();
        Self {
            stop,
            begun: now,
            spoke: now,
            tokens: 0,
            seeds,
            pooled,
        }
    }

    fn line(&self, text: &str) {
        // Labels are somebody else's. A log that cannot be shown is not worth stopping for.
        let _ = writeln!(std::io::stderr(), "{}", cloze_cli::visible_lines(text));
    }

    fn data(&self, data: &Data) {
        let task = &data.task;
        let labels = match task.labels.len() {
            0 => String::new(),
            n => {
                let few: Vec<&str> = task.labels.iter().take(6).map(String::as_str).collect();
                let more = if n > few.len() { ", …" } else { "" };
                format!("; {n} labels: {}{more}", few.join(", "))
            }
        };
        self.line(&format!("task     {}, {}{labels}", task.kind, data.why));
        let count = |n: usize| format::count(n as u64);
        self.line(&format!(
            "rows     {} to learn from, {} dev, {} test",
            count(data.train.len()),
            count(data.dev.len()),
            count(data.test.len())
        ));
        for warning in data.warnings() {
            self.line(&format!("warning: {warning}"));
        }
    }
}

impl Observer for View<'_> {
    fn on_start(&mut self, s: &Started<'_>) {
        if s.first {
            let c = s.config;
            self.line(&format!(
                "model    {} layers, hidden {}, {} heads",
                c.num_hidden_layers, c.hidden_size, c.num_attention_heads
            ));
            self.line(&format!("device   {}", s.device));
            let drawn: Vec<&str> = (s.report.initialised.iter())
                .map(String::as_str)
                // What the task has no use for does not matter.
                .filter(|n| {
                    !n.starts_with("cls.") && (self.pooled || !n.starts_with("bert.pooler."))
                })
                .collect();
            if !drawn.is_empty() {
                self.line(&format!(
                    "drawn    at random, as the model has none: {}",
                    drawn.join(", ")
                ));
            }
            if drawn.iter().any(|n| n.starts_with("bert.pooler.")) {
                self.line("warning: the model has no pooler; a text's or pair's label is learned through a new one, which takes more steps");
            }
            if s.redrawn {
                self.line(
                    "warning: the model's output layer is for other labels: it was drawn anew",
                );
            }
            if s.cut.0 > 0 {
                let (cut, all) = (format::count(s.cut.0 as u64), format::count(s.cut.1 as u64));
                self.line(&format!(
                    "cut      {cut} of {all} rows are longer than --max-length"
                ));
            }
            if s.cut_words > 0 {
                let words = format::count(s.cut_words as u64);
                self.line(&format!("warning: {words} dev and test words were cut off, or have no token; they are not measured"));
            }
        }
        (self.spoke, self.tokens) = (Instant::now(), 0);
        if self.seeds > 1 {
            self.line(&format!("seed {}", s.seed));
        }
    }

    fn on_step(&mut self, s: &StepDone) {
        self.tokens += s.tokens as u64;
        let time = self.spoke.elapsed();
        if s.step == 1 || s.step == s.steps || time >= Duration::from_secs(5) {
            let rate = self.tokens as f64 / time.as_secs_f64().max(1e-3);
            self.line(&format!(
                "{:>8} of {} loss {:.4}  rate {:.2e}  norm {:.2}  {} tok/s",
                format::count(s.step),
                format::count(s.steps),
                s.loss,
                s.learning_rate,
                s.grad_norm,
                format::short(rate)
            ));
            (self.spoke, self.tokens) = (Instant::now(), 0);
        }
    }

    fn on_evaluation(&mut self, e: &Evaluation, best: bool) {
        (self.spoke, self.tokens) = (Instant::now(), 0);
        let value = |v: &Option<f64>| v.map_or_else(|| "–".to_owned(), |v| format!("{v:.4}"));
        let all: Vec<String> = e
            .dev
            .iter()
            .map(|(n, v)| format!("{n} {}", value(v)))
            .collect();
        let mark = if best { " (best)" } else { "" };
        self.line(&format!(
            "{:>8} epoch {:.2}: dev {}{mark}",
            format::count(e.step),
            e.epoch,
            all.join(", ")
        ));
    }

    fn on_cut(&mut self, _: &Cut, why: &cloze_task::Error) {
        self.line(&format!("warning: {why}"));
    }

    fn should_stop(&mut self) -> bool {
        self.stop.asked()
    }

    fn on_skipped(&mut self, step: u64, skipped: u64) {
        self.line(&format!(
            "{:>8} not made, as the gradient was not finite: {} in all",
            format::count(step),
            format::counted(skipped, "step")
        ));
    }
}
