//! Masks in training: by words and spans, at rates that change from step to step, with shares of one's own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use cloze_kernels::cpu::Cpu;
use cloze_kernels::cpu::isa::Precision;
use cloze_shard::manifest::Masking;
use cloze_shard::masking::{MaskUnit, MaskingRule};
use cloze_shard::{Dataset, Vocabulary};
use cloze_train::checkpoint::{self, initial_parameters, read_state};
use cloze_train::engine::{
    Dropout, Engine, EngineState, Objective, Optimizer, OptimizerStep, Whole,
};
use cloze_train::eval::evaluate;
use cloze_train::feed::Feed;
use cloze_train::native::NativeEngine;
use cloze_train::parallel::Share;
use cloze_train::record::{StepRecord, ValidationRecord};
use cloze_train::{
    Begun, BertConfig, Error, Observer, PretrainConfig, Result, Start, Summary, pretrain,
};
use support::{VOCAB, config, dataset, dataset_of, tokens_with_pieces};

const UNITS: [MaskUnit; 3] = [MaskUnit::Token, MaskUnit::Word, MaskUnit::SPAN];

/// Asks to stop after a step.
struct StopAfter(Option<u64>);

impl Observer for StopAfter {
    fn on_start(&mut self, _: &Begun<'_>) {}
    fn on_step(&mut self, _: &StepRecord) {}
    fn on_validation(&mut self, _: &ValidationRecord) {}
    fn on_checkpoint(&mut self, _: &Path) {}
    fn should_stop(&mut self, step: u64) -> bool {
        Some(step) == self.0
    }
}

fn with_pieces(folder: &Path, masking: Masking) -> PathBuf {
    dataset_of(tokens_with_pieces(), folder, 60, 10, masking)
}

fn rule(unit: MaskUnit, rate: f64) -> MaskingRule {
    MaskingRule {
        rate,
        unit,
        ..MaskingRule::default()
    }
}

/// Nine steps from 70 % to 20 %, into the second epoch.
fn falling(unit: MaskUnit) -> PretrainConfig {
    PretrainConfig {
        steps: 9,
        batch_tokens: 100,
        learning_rate: 1e-2,
        warmup_steps: 0,
        mask_rate: 0.7,
        mask_rate_end: Some(0.2),
        mask_share: 0.6,
        random_share: 0.3,
        mask_unit: unit,
        eval_every: 0,
        checkpoint_every: 0,
        log_every: 1,
        seed: 3,
        ..PretrainConfig::default()
    }
}

fn train(data: &Path, start: &Start, run: &Path, plan: &PretrainConfig) -> Result<Summary> {
    pretrain(data, start, run, plan, &mut StopAfter(None))
}

fn newest(run: &Path) -> PathBuf {
    checkpoint::latest(run).unwrap().unwrap()
}

/// The loop without a trainer: each step by hand, at its own rate.
fn by_hand(data: &Path, model: &Path, plan: &PretrainConfig) -> EngineState {
    let data = Dataset::open(data).unwrap();
    let model = BertConfig::read(model).unwrap();
    let state = EngineState::initial(initial_parameters(&model, plan.seed));
    let ops = Cpu::new(Precision::F32);
    let mut engine = NativeEngine::new(ops, &model, Objective::MlmNsp, state).unwrap();
    let split = data.split("train").unwrap();
    let mut position = Default::default();
    for step in 1..=plan.steps {
        let share = (step - 1) as f64 / (plan.steps - 1) as f64;
        let rule = MaskingRule {
            rate: if step == plan.steps {
                0.2
            } else {
                0.7 + (0.2 - 0.7) * share
            },
            mask_share: 0.6,
            random_share: 0.3,
            unit: plan.mask_unit,
        };
        let mut feed = Feed::new(&data, split, rule, plan.seed, plan.batch_tokens, VOCAB).unwrap();
        feed.seek(position);
        let batch = feed.next_batch().unwrap().unwrap();
        position = feed.position();
        let dropout = Dropout {
            seed: plan.seed,
            step,
            hidden: model.hidden_dropout_prob,
            attention: model.attention_probs_dropout_prob,
        };
        engine
            .accumulate(&batch, &Whole::of(&batch), Some(&dropout))
            .unwrap();
        let learning_rate =
            plan.schedule
                .learning_rate(plan.learning_rate, step, plan.warmup_steps, plan.steps);
        let step = OptimizerStep {
            optimizer: Optimizer::AdamW,
            step,
            learning_rate,
            weight_decay: plan.weight_decay,
            betas: (plan.beta1, plan.beta2),
            eps: plan.epsilon,
            clip: plan.clip,
            layer_decay: plan.layer_decay,
        };
        engine.step(&step).unwrap();
    }
    engine.state().unwrap()
}

/// The steps that a trainer makes are those at the rates of the schedule, and a stop after any of them changes no bit.
#[test]
fn a_schedule_of_rates_is_kept_to_across_stops() {
    let folder = tempfile::tempdir().unwrap();
    let data = with_pieces(folder.path(), Masking::Dynamic);
    let model = config(folder.path());
    let start = Start::Config(model.clone());
    for unit in UNITS {
        let plan = falling(unit);
        let whole = folder.path().join(format!("whole-{}", unit.name()));
        train(&data, &start, &whole, &plan).unwrap();
        let (trainer, state) = read_state(&newest(&whole)).unwrap();
        assert!(trainer.position.epoch > 0, "an epoch ends");
        assert!(state == by_hand(&data, &model, &plan), "{unit:?}");
        for stop in [1, 4, 8] {
            let run = folder.path().join(format!("{}-{stop}", unit.name()));
            let mut stopping = StopAfter(Some(stop));
            let summary = pretrain(&data, &start, &run, &plan, &mut stopping).unwrap();
            assert!(summary.stopped && summary.steps == stop);
            train(&data, &Start::Resume, &run, &plan).unwrap();
            let resumed = read_state(&newest(&run)).unwrap();
            assert!(
                resumed == (trainer.clone(), state.clone()),
                "{unit:?} {stop}"
            );
        }
    }
}

#[test]
fn a_run_is_resumed_with_the_masks_it_was_started_with() {
    let folder = tempfile::tempdir().unwrap();
    let data = with_pieces(folder.path(), Masking::Dynamic);
    let run = folder.path().join("run");
    let plan = PretrainConfig {
        mask_rate_end: None,
        ..falling(MaskUnit::Word)
    };
    let start = Start::Config(config(folder.path()));
    pretrain(&data, &start, &run, &plan, &mut StopAfter(Some(4))).unwrap();
    type Change = fn(&mut PretrainConfig);
    let changes: [(Change, &str); 5] = [
        (|c| c.mask_rate = 0.6, "--mask-rate was 0.7, is 0.6"),
        (
            |c| c.mask_rate_end = Some(0.5),
            "--mask-rate-end was null, is 0.5",
        ),
        (|c| c.mask_share = 0.5, "--mask-share was 0.6, is 0.5"),
        (|c| c.random_share = 0.1, "--random-share was 0.3, is 0.1"),
        (
            |c| c.mask_unit = MaskUnit::Token,
            "--mask-unit was \"word\", is \"token\"",
        ),
    ];
    for (change, says) in changes {
        let mut other = plan.clone();
        change(&mut other);
        let error = train(&data, &Start::Resume, &run, &other).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
    train(&data, &Start::Resume, &run, &plan).unwrap();
}

/// What a checkpoint of before says nothing about is as it was then.
#[test]
fn checkpoints_of_before_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), 60, 10, Masking::Dynamic);
    let plan = PretrainConfig {
        steps: 6,
        batch_tokens: 100,
        warmup_steps: 0,
        ..PretrainConfig::default()
    };
    let start = Start::Config(config(folder.path()));
    let (whole, run) = (folder.path().join("whole"), folder.path().join("run"));
    train(&data, &start, &whole, &plan).unwrap();
    pretrain(&data, &start, &run, &plan, &mut StopAfter(Some(3))).unwrap();
    let path = newest(&run).join("trainer_state/state.json");
    let mut state: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let fields = state["config"].as_object_mut().unwrap();
    for name in ["mask_rate_end", "mask_share", "random_share", "mask_unit"] {
        assert!(fields.remove(name).is_some(), "{name}");
    }
    fs::write(&path, state.to_string()).unwrap();
    train(&data, &Start::Resume, &run, &plan).unwrap();
    let state = |run: &Path| read_state(&newest(run)).unwrap();
    assert!(state(&whole) == state(&run));
}

/// What a process does of a batch is its share of the whole, masks and counts, though it masks its own rows only.
#[test]
fn shares_of_a_batch_are_masked_as_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let data = Dataset::open(&with_pieces(folder.path(), Masking::Dynamic)).unwrap();
    let split = data.split("train").unwrap();
    for unit in UNITS {
        let feed = || Feed::new(&data, split, rule(unit, 0.15), 5, 100, VOCAB).unwrap();
        let mut whole = feed();
        let mut parts: Vec<Feed<'_>> = (0..3).map(|_| feed()).collect();
        for rate in [0.15, 0.5, 0.5, 0.3, 1.0, 0.15, 0.2, 0.2] {
            whole.set_rate(rate);
            let batch = whole.next_batch().unwrap().unwrap();
            for (rank, part) in parts.iter_mut().enumerate() {
                part.set_rate(rate);
                let share = part.next_share(rank, 3).unwrap().unwrap();
                assert_eq!(share, Share::of(&batch, rank, 3), "{unit:?}");
            }
        }
        assert!(whole.position().epoch > 0);
    }
}

/// Words are whole: a piece is predicted exactly if what it goes on with is.
#[test]
fn a_feed_masks_by_the_words_of_the_dataset() {
    let folder = tempfile::tempdir().unwrap();
    let path = with_pieces(folder.path(), Masking::Dynamic);
    let vocabulary = Vocabulary::read(&path.join("tokenizer")).unwrap();
    let data = Dataset::open(&path).unwrap();
    let split = data.split("train").unwrap();
    let mut halves = [0; 3];
    for (unit, halves) in UNITS.into_iter().zip(&mut halves) {
        let mut feed = Feed::new(&data, split, rule(unit, 0.5), 5, 2_000, VOCAB).unwrap();
        let batch = feed.next_batch().unwrap().unwrap();
        let mut ids = batch.input_ids.clone();
        for (&p, &label) in batch.masked_positions.iter().zip(&batch.masked_labels) {
            ids[p as usize] = label;
        }
        let predicted = |p: usize| batch.masked_positions.contains(&(p as u32));
        *halves = (1..ids.len())
            .filter(|&p| vocabulary.is_continuation(ids[p]) && ids[p - 1] > 4)
            .filter(|&p| predicted(p) != predicted(p - 1))
            .count();
    }
    assert!(halves[0] > 0, "tokens are chosen one by one");
    assert_eq!(halves[1..], [0, 0]);
    // A tokenizer that is not the dataset's says nothing about its words.
    fs::write(
        path.join("tokenizer/vocab.txt"),
        support::tokens().join("\n"),
    )
    .unwrap();
    let error = Feed::new(&data, split, rule(MaskUnit::Word, 0.5), 5, 2_000, VOCAB).err();
    assert!(error.unwrap().to_string().contains("manifest.json"));
}

#[test]
fn what_cannot_be_masked_is_refused_before_there_is_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), 60, 10, Masking::Dynamic);
    let run = folder.path().join("run");
    let start = Start::Config(config(folder.path()));
    for unit in [MaskUnit::Word, MaskUnit::SPAN] {
        let error = train(&data, &start, &run, &falling(unit)).unwrap_err();
        assert!(error.to_string().contains("no ## piece"), "{error}");
        assert!(error.hint().unwrap().contains("--mask-unit token"));
    }
    type Spoil = fn(&mut PretrainConfig);
    let cases: [(Spoil, &str); 6] = [
        (|c| c.mask_rate = 0.0, "--mask-rate"),
        (|c| c.mask_rate_end = Some(0.0), "--mask-rate-end"),
        (|c| c.mask_rate_end = Some(f64::NAN), "--mask-rate-end"),
        (|c| c.mask_share = -0.1, "--mask-share"),
        (|c| c.random_share = 1.1, "--random-share"),
        (|c| c.mask_share = 0.8, "--mask-share"),
    ];
    for (spoil, name) in cases {
        let mut plan = falling(MaskUnit::Token);
        spoil(&mut plan);
        let error = train(&data, &start, &run, &plan).unwrap_err();
        assert!(
            matches!(error, Error::Config { option, .. } if option == name),
            "{error}"
        );
    }
    assert!(!run.exists());
}

/// Evaluations draw by the same rules: of static masks nothing, otherwise by what is asked for; and those of a run stay at the first rate.
#[test]
fn evaluations_mask_as_they_are_asked() {
    let folder = tempfile::tempdir().unwrap();
    let data = with_pieces(folder.path(), Masking::Dynamic);
    let run = folder.path().join("run");
    let start = Start::Config(config(folder.path()));
    let plan = PretrainConfig {
        eval_every: 3,
        eval_rows: 0,
        ..falling(MaskUnit::Word)
    };
    let summary = train(&data, &start, &run, &plan).unwrap();
    let eval = |rule: MaskingRule| {
        evaluate(
            &data,
            "validation",
            &run.join("model"),
            rule,
            plan.seed,
            plan.batch_tokens,
            0,
            Default::default(),
            &mut |_| (),
        )
        .unwrap()
    };
    let asked = MaskingRule {
        mask_share: 0.6,
        random_share: 0.3,
        ..rule(MaskUnit::Word, 0.7)
    };
    assert_eq!(summary.validation.unwrap(), eval(asked));
    for other in [
        rule(MaskUnit::Word, 0.7),
        MaskingRule { rate: 0.2, ..asked },
        MaskingRule {
            unit: MaskUnit::Token,
            ..asked
        },
        MaskingRule {
            unit: MaskUnit::SPAN,
            ..asked
        },
    ] {
        assert_ne!(eval(other), eval(asked), "{other:?}");
    }
}
