//! What can be typed. Doc comments are the help texts.

use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use cloze_train::engine::{Objective, Optimizer};
use cloze_train::schedule::Schedule;
use cloze_train::{Build, DeviceChoice, EngineKind, Precision, PretrainConfig, Start};

use crate::masks::MaskArgs;

/// Train BERT from datasets that `cloze prepare` made, and measure it
#[derive(Debug, Parser)]
#[command(
    name = "cloze-train",
    bin_name = "cloze",
    version,
    arg_required_else_help = true,
    args_override_self = true,
    allow_negative_numbers = true
)]
pub struct Cli {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    Pretrain(Box<PretrainArgs>),
    Eval(EvalArgs),
    Finetune(Box<crate::finetune::FinetuneArgs>),
    Embed(Box<crate::embed::EmbedArgs>),
    #[command(hide = true)]
    Extend(crate::extend::ExtendArgs),
}

/// Train a BERT from one or more datasets: further from a checkpoint, or from scratch
///
/// Rows are fed without padding, a budget of tokens a step; masks are drawn anew each epoch (unless the shards hold static
/// ones). The run folder holds checkpoints/step-NNNNNNNN, model (the newest, a Hugging Face folder), best (that of the best
/// evaluation) and train.jsonl.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  cloze pretrain data --init bert-base-uncased/ --out run --steps 10000
  cloze pretrain data --config config.json --out run --steps 100000 --warmup-steps 10000
  cloze pretrain data --out run --resume        go on after a stop, bit for bit
  cloze pretrain notes papers --mix 0.7,0.3 --init DIR --out run        two datasets, 70 % of the tokens from the first
  cloze pretrain data --init DIR --out run --resume auto        for a job that may be stopped and started again

Ctrl-C (exit status 130), SIGTERM and a closed terminal (0) write a checkpoint after the step that is under way, and stop; Ctrl-C or SIGTERM once more, a second later or
after that, stops at once.

Several processes, one for each GPU, train as one would. Any of these starts them:
  torchrun --no-python --nproc-per-node 8 cloze-train pretrain ...
  srun cloze-train pretrain ...
  mpirun -n 8 cloze-train pretrain ...
By hand, each process is given RANK (which one it is, from 0), WORLD_SIZE (how many there are), LOCAL_RANK (which one on its
machine: the number of its GPU), and MASTER_ADDR and MASTER_PORT (where rank 0 listens).")]
pub struct PretrainArgs {
    /// The dataset's folder; of several, made with the same tokenizer, rows are mixed
    #[arg(required = true, value_name = "DATASET")]
    pub datasets: Vec<PathBuf>,
    /// What share of the tokens each dataset has, in their order; need not add up to 1 [default: as many as it holds, as if they were one]
    #[arg(long, value_name = "W,W…", value_delimiter = ',')]
    pub mix: Vec<f64>,
    /// Put rows of similar length together: windows of N batches are sorted by length, and batches come in random order; 0 for none
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub group_lengths: usize,
    /// Hugging Face folder to start from, or the name of a model on the Hugging Face Hub, which is downloaded
    #[arg(long, value_name = "HF_DIR", conflicts_with = "config")]
    pub init: Option<PathBuf>,
    /// Start from scratch, in the shape of this config.json
    #[arg(long, value_name = "CONFIG_JSON")]
    pub config: Option<PathBuf>,
    /// What is trained
    #[arg(long, value_enum, default_value = "mlm+nsp")]
    pub objective: ObjectiveArg,
    /// The run's folder
    #[arg(long, value_name = "RUN")]
    pub out: PathBuf,
    /// Go on from the newest checkpoint in the run's folder, with the options that the run was started with; `auto` begins where there is none
    #[arg(long, value_enum, value_name = "WHEN", num_args = 0..=1, default_missing_value = "always")]
    pub resume: Option<ResumeArg>,
    /// Optimizer steps, at most; 0 writes the model as it begins [default: 10000, or as many as --hours allow]
    #[arg(long)]
    pub steps: Option<u64>,
    /// Hours of the clock, at most, evaluations and checkpoints included, and over all processes that the run goes on in: the rate then falls by the clock
    #[arg(long, value_name = "H")]
    pub hours: Option<f64>,
    /// Most tokens in a step
    #[arg(long, default_value_t = 4_096, value_name = "TOKENS")]
    pub batch_tokens: usize,
    /// Most tokens that are computed at a time, where a step does not fit in memory: gradients are accumulated, results stay the same but for rounding; 0 for all
    #[arg(long, default_value_t = 0, value_name = "TOKENS")]
    pub pass_tokens: usize,
    /// Keep each layer's input alone, and compute the rest again on the way back: a third slower, in a fraction of the memory, the same to the bit
    #[arg(long)]
    pub recompute: bool,
    /// Weight of the MLM loss in what is minimised
    #[arg(long, default_value_t = 1.0, value_name = "W")]
    pub mlm_weight: f64,
    /// Weight of the NSP loss, or of that of sentence order
    #[arg(long, default_value_t = 1.0, value_name = "W")]
    pub nsp_weight: f64,
    /// How gradients become a step
    #[arg(long, value_enum, default_value = "adamw")]
    pub optimizer: OptimizerArg,
    /// Peak learning rate
    #[arg(long, alias = "lr", default_value_t = 1e-4, value_name = "RATE")]
    pub learning_rate: f64,
    /// Steps of linear warmup [default: a tenth of the steps; 100 where they are not said]
    #[arg(long, value_name = "STEPS")]
    pub warmup_steps: Option<u64>,
    /// What becomes of the learning rate after the warmup
    #[arg(long, value_enum, default_value = "linear")]
    pub schedule: ScheduleArg,
    /// The rate of each layer is this times that of the layer above it; the heads have all of it
    #[arg(long, default_value_t = 1.0, value_name = "SHARE")]
    pub layer_decay: f64,
    /// Decoupled weight decay of matrices and embeddings
    #[arg(long, default_value_t = 0.01)]
    pub weight_decay: f64,
    /// Decay of Adam's first moment
    #[arg(long, default_value_t = 0.9, value_name = "BETA")]
    pub beta1: f64,
    /// Decay of Adam's second moment
    #[arg(long, default_value_t = 0.999, value_name = "BETA")]
    pub beta2: f64,
    /// Added to the root of Adam's second moment
    #[arg(long, default_value_t = 1e-8, value_name = "EPS")]
    pub epsilon: f64,
    /// Largest global norm of the gradient; 0 for no clipping
    #[arg(long, default_value_t = 1.0, value_name = "NORM")]
    pub clip: f64,
    /// Stop after so many steps in a row whose gradient is not finite; such steps are not made, and counted
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    pub max_skipped: u64,
    /// Dropout [default: the model's own]
    #[arg(long, value_name = "P")]
    pub dropout: Option<f64>,
    /// Share of tokens that are predicted: of each row at least one token, and no special ones
    #[arg(long, default_value_t = 0.15, value_name = "P")]
    pub mask_rate: f64,
    /// That share in the last step, or when --hours are over, reached linearly from --mask-rate at the start; evaluations are at --mask-rate throughout [default: it stays]
    #[arg(long, value_name = "P")]
    pub mask_rate_end: Option<f64>,
    #[command(flatten)]
    pub masks: MaskArgs,
    /// Keys order, masks, dropout and initial weights
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Steps between evaluations on the validation split; 0 for one at the end only
    #[arg(long, default_value_t = 1_000, value_name = "STEPS")]
    pub eval_every: u64,
    /// Most validation rows of each dataset that such an evaluation looks at; 0 for all
    #[arg(long, default_value_t = 2_000, value_name = "ROWS")]
    pub eval_rows: u64,
    /// Steps between checkpoints; 0 for one at the end only
    #[arg(long, default_value_t = 1_000, value_name = "STEPS")]
    pub checkpoint_every: u64,
    /// Newest checkpoints that are kept, beside the one with the best evaluation
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub keep: usize,
    /// Steps between lines of the log
    #[arg(long, default_value_t = 10, value_name = "STEPS")]
    pub log_every: u64,
    /// How the run is shown: live redraws a panel below the log, plain writes lines; auto is live on a terminal
    #[arg(long, value_enum, value_name = "HOW", default_value = "auto")]
    pub view: ViewArg,
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
}

/// When to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ResumeArg {
    /// There must be a checkpoint
    Always,
    /// Where there is a checkpoint; otherwise begin from --init or --config
    Auto,
}

/// How a run is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ViewArg {
    /// Live on a terminal, plain elsewhere
    Auto,
    /// Curve and figures below the log
    Live,
    /// The log alone
    Plain,
}

/// What becomes of the learning rate after the warmup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ScheduleArg {
    /// It falls linearly to zero
    Linear,
    /// It falls to zero by half a wave of a cosine
    Cosine,
    /// It stays
    Constant,
}

impl From<ScheduleArg> for Schedule {
    fn from(arg: ScheduleArg) -> Self {
        match arg {
            ScheduleArg::Linear => Self::Linear,
            ScheduleArg::Cosine => Self::Cosine,
            ScheduleArg::Constant => Self::Constant,
        }
    }
}

/// How gradients become a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OptimizerArg {
    /// Adam with decoupled weight decay
    #[value(name = "adamw")]
    AdamW,
    /// Each matrix moves by its rate times its own norm: for batches of many thousand rows
    Lamb,
}

impl From<OptimizerArg> for Optimizer {
    fn from(arg: OptimizerArg) -> Self {
        match arg {
            OptimizerArg::AdamW => Self::AdamW,
            OptimizerArg::Lamb => Self::Lamb,
        }
    }
}

/// What is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ObjectiveArg {
    /// Masked language model and next sentence prediction
    #[value(name = "mlm+nsp")]
    MlmNsp,
    /// Masked language model alone
    #[value(name = "mlm")]
    Mlm,
    /// Masked language model and sentence order prediction: of rows whose segments follow one another, half are turned around. Prepare with
    /// --random-next-ratio 0 for it
    #[value(name = "mlm+sop")]
    MlmSop,
}

/// What does the arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EngineArg {
    /// Forward and backward by hand: the fast one
    Native,
    /// A plain autograd model on candle: the oracle of the other
    Reference,
}

/// How products are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PrecisionArg {
    /// In single precision
    F32,
    /// With factors rounded to bfloat16, and sums in single precision
    Bf16,
}

impl From<EngineArg> for EngineKind {
    fn from(arg: EngineArg) -> Self {
        match arg {
            EngineArg::Native => Self::Native,
            EngineArg::Reference => Self::Reference,
        }
    }
}

impl From<PrecisionArg> for Precision {
    fn from(arg: PrecisionArg) -> Self {
        match arg {
            PrecisionArg::F32 => Self::F32,
            PrecisionArg::Bf16 => Self::Bf16,
        }
    }
}

/// The names of the options that were typed, as the fields of [`PretrainArgs`] are named.
#[derive(Debug, Default)]
pub struct Typed(Vec<String>);

impl Typed {
    /// Whether option `name` was typed.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|n| n == name)
    }

    fn of(matches: &ArgMatches) -> Self {
        let typed =
            |id: &&clap::Id| matches.value_source(id.as_str()) == Some(ValueSource::CommandLine);
        Self(
            matches
                .ids()
                .filter(typed)
                .map(ToString::to_string)
                .collect(),
        )
    }
}

impl Cli {
    /// What was typed, and which options of the verb were. A mistake ends the process, as clap does.
    pub fn read() -> (Self, Typed) {
        let matches = cloze_cli::negative_numbers(Self::command()).get_matches();
        let typed = matches
            .subcommand()
            .map(|(_, m)| Typed::of(m))
            .unwrap_or_default();
        match Self::from_arg_matches(&matches) {
            Ok(cli) => (cli, typed),
            Err(error) => error.exit(),
        }
    }
}

impl PretrainArgs {
    /// As `config`, but what was not typed is as the run in the folder was started.
    pub fn resumed(&self, stored: PretrainConfig, typed: &Typed) -> anyhow::Result<PretrainConfig> {
        let mut merged = serde_json::to_value(stored)?;
        let ours = serde_json::to_value(self.config())?;
        if let (Some(merged), Some(ours)) = (merged.as_object_mut(), ours.as_object()) {
            for (name, value) in ours.iter().filter(|(name, _)| typed.has(name)) {
                merged.insert(name.clone(), value.clone());
            }
        }
        Ok(serde_json::from_value(merged)?)
    }

    /// Where parameters come from; `None` where nothing says.
    pub fn start(&self) -> Option<Start> {
        let fresh = match (&self.init, &self.config) {
            (Some(folder), _) => Some(Start::Init(folder.clone())),
            // A model's folder has a shape, too.
            (None, Some(path)) if path.is_dir() => Some(Start::Config(path.join("config.json"))),
            (None, Some(path)) => Some(Start::Config(path.clone())),
            (None, None) => None,
        };
        match self.resume {
            None => fresh,
            Some(ResumeArg::Always) => Some(Start::Resume),
            Some(ResumeArg::Auto) => Some(match fresh {
                Some(fresh) => Start::ResumeOr(Box::new(fresh)),
                None => Start::Resume,
            }),
        }
    }

    /// What the library is asked for.
    pub fn config(&self) -> PretrainConfig {
        PretrainConfig {
            objective: match self.objective {
                ObjectiveArg::MlmNsp => Objective::MlmNsp,
                ObjectiveArg::Mlm => Objective::Mlm,
                ObjectiveArg::MlmSop => Objective::MlmSop,
            },
            engine: self.engine.into(),
            device: self.device,
            precision: self.precision.map(Into::into),
            steps: self.steps.unwrap_or(match self.hours {
                Some(_) => u64::from(u32::MAX),
                None => 10_000,
            }),
            hours: self.hours,
            batch_tokens: self.batch_tokens,
            pass_tokens: self.pass_tokens,
            recompute: self.recompute,
            mlm_weight: self.mlm_weight,
            nsp_weight: self.nsp_weight,
            optimizer: self.optimizer.into(),
            learning_rate: self.learning_rate,
            warmup_steps: self.warmup_steps.unwrap_or(match (self.steps, self.hours) {
                (Some(steps), _) => steps / 10,
                (None, Some(_)) => 100,
                (None, None) => 1_000,
            }),
            schedule: self.schedule.into(),
            layer_decay: self.layer_decay,
            weight_decay: self.weight_decay,
            beta1: self.beta1,
            beta2: self.beta2,
            epsilon: self.epsilon,
            clip: self.clip,
            dropout: self.dropout,
            mask_rate: self.mask_rate,
            mask_rate_end: self.mask_rate_end,
            mask_share: self.masks.mask_share,
            random_share: self.masks.random_share,
            mask_unit: self.masks.mask_unit.into(),
            mix: self.mix.clone(),
            group_lengths: self.group_lengths,
            seed: self.seed,
            eval_every: self.eval_every,
            eval_rows: self.eval_rows,
            checkpoint_every: self.checkpoint_every,
            keep: self.keep,
            max_skipped: self.max_skipped,
            log_every: self.log_every,
        }
    }
}

/// Measure a model on a split of a dataset
///
/// Every row is looked at once. Masks are those in the shards where they are static; otherwise they are drawn from the seed,
/// the same ones each time.
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// The dataset's folder
    pub dataset: PathBuf,
    /// Hugging Face folder of the model, or its name on the Hugging Face Hub
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Which split
    #[arg(long, default_value = "validation")]
    pub split: String,
    /// Most tokens in a batch
    #[arg(long, default_value_t = 4_096, value_name = "TOKENS")]
    pub batch_tokens: usize,
    /// Share of tokens that are predicted, where masks are not static
    #[arg(long, default_value_t = 0.15, value_name = "P")]
    pub mask_rate: f64,
    #[command(flatten)]
    pub masks: MaskArgs,
    /// Keys masks
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Most rows to look at; 0 for all
    #[arg(long, default_value_t = 0, value_name = "ROWS")]
    pub rows: u64,
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
    /// Measure the MLM head alone, on rows as they are stored: without it, a model of sentence order sees half of the pairs turned around
    #[arg(long)]
    pub mlm_only: bool,
    /// Measure each source of the dataset apart, too: a row belongs to that of its first segment
    #[arg(long)]
    pub by_source: bool,
    /// Hide each token of so many rows alone, and tell how probable the model finds it; 0 for all rows [default without a number: 100]
    #[arg(long, value_name = "ROWS", num_args = 0..=1, default_missing_value = "100")]
    pub pseudo_perplexity: Option<u64>,
    /// Show so many rows with what the model says is hidden in them
    #[arg(long, value_name = "ROWS", num_args = 0..=1, default_missing_value = "5", default_value_t = 0)]
    pub samples: u64,
    /// Print one JSON object instead
    #[arg(long)]
    pub json: bool,
}

impl EvalArgs {
    /// What the engine is built of.
    pub fn build(&self) -> Build {
        Build {
            engine: self.engine.into(),
            device: self.device,
            precision: self.precision.map(Into::into),
            ..Build::default()
        }
    }
}
