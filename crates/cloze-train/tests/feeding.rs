//! Several datasets in one feed, and batches of rows of similar length: the same rows, each as often as asked for, wherever a feed begins.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use cloze_shard::manifest::{Masking, SplitRecord};
use cloze_shard::masking::MaskingRule;
use cloze_shard::rules::RowRules;
use cloze_shard::schema::IdType;
use cloze_shard::{Dataset, ShardWriter};
use cloze_train::batch::MaskedBatch;
use cloze_train::checkpoint::{latest, read_state, read_trainer};
use cloze_train::engine::Objective;
use cloze_train::feed::{Feed, Position};
use cloze_train::parallel::World;
use cloze_train::record::{Record, StepRecord, ValidationRecord};
use cloze_train::{Begun, Observer, PretrainConfig, Result, Start, Summary, pretrain_on};
use support::{VOCAB, config, dataset};

/// Datasets of so many training and validation rows, each in a folder of its own.
fn datasets(folder: &Path, sizes: &[(u64, u64)]) -> Vec<PathBuf> {
    let make = |(i, &(train, validation)): (usize, &(u64, u64))| {
        let own = folder.join(format!("set-{i}"));
        fs::create_dir(&own).unwrap();
        dataset(&own, train, validation, Masking::Dynamic)
    };
    sizes.iter().enumerate().map(make).collect()
}

/// The dataset in `path`, with those rows only that have so many tokens.
fn only(path: &Path, lengths: std::ops::Range<usize>) {
    let data = Dataset::open(path).unwrap();
    let mut manifest = data.manifest().clone();
    for (name, record) in &mut manifest.splits {
        let shard = format!("{name}/part-00001.arrow");
        let rules = RowRules::of(data.manifest());
        let create = ShardWriter::create(&path.join(&shard), IdType::UInt16, false, rules);
        let mut writer = create.unwrap();
        let rows = data.split(name).unwrap().iter();
        for row in rows.filter(|r| lengths.contains(&r.len())) {
            writer.push(&row).unwrap();
        }
        *record = SplitRecord::new(vec![writer.finish(&shard).unwrap()], record.documents);
    }
    manifest.write(path).unwrap();
}

fn open(paths: &[PathBuf]) -> Vec<Dataset> {
    paths.iter().map(|p| Dataset::open(p).unwrap()).collect()
}

fn mixed<'d>(data: &'d [Dataset], mix: &[f64], tokens: usize) -> Feed<'d> {
    let sources: Vec<_> = data
        .iter()
        .map(|d| (d, d.split("train").unwrap()))
        .collect();
    Feed::mixed(&sources, mix, MaskingRule::default(), 7, tokens, VOCAB).unwrap()
}

/// So many batches with what they are made of, and where each begins.
fn batches(mut feed: Feed<'_>, n: usize) -> Vec<(Position, Vec<u64>, MaskedBatch)> {
    (0..n)
        .map(|_| {
            let at = feed.position();
            let rows = feed.next_rows();
            let after = feed.position();
            feed.seek(at);
            let batch = feed.next_batch().unwrap().unwrap();
            // At the end of an epoch a feed stands at its last row, or at the first of the next.
            assert_eq!(feed.position(), after);
            assert_eq!(batch.rows(), rows.len());
            (at, rows, batch)
        })
        .collect()
}

/// One dataset is fed as it always was: rows by the epoch's permutation, masks by (epoch, row).
#[test]
fn one_dataset_is_fed_as_before() {
    use cloze_shard::masking::{MaskKey, Masker};
    use cloze_shard::random::{Key, Permutation, Stage};
    let folder = tempfile::tempdir().unwrap();
    let data = open(&datasets(folder.path(), &[(60, 5)]));
    let split = data[0].split("train").unwrap();
    let special = data[0].manifest().tokenizer.special_tokens;
    let masker = Masker::new(MaskingRule::default(), &special, VOCAB).unwrap();
    for mix in [vec![], vec![0.3]] {
        let mut expected = (0..3u32).flat_map(|epoch| {
            let key = Key::new(7, Stage::EpochOrder);
            let order = Permutation::new(key, u64::from(epoch), 0, 60);
            (0..60).map(move |at| (epoch, order.at(at)))
        });
        for (_, rows, batch) in batches(mixed(&data, &mix, 64), 30) {
            let mut whole = MaskedBatch::new();
            for number in rows {
                let (epoch, row) = expected.next().unwrap();
                assert_eq!(row, number);
                let row = split.row(number);
                let mut ids = row.input_ids.to_vec();
                let (mut positions, mut labels) = (vec![], vec![]);
                let key = MaskKey::new(7, Stage::DynamicMask, epoch);
                masker.mask(key, number, &mut ids, &mut positions, &mut labels);
                let b_start = usize::from(row.b_start);
                whole.push(&ids, b_start, row.next_sentence_label, &positions, &labels);
            }
            assert_eq!(batch, whole);
        }
    }
}

#[test]
fn a_position_is_enough_for_a_mixture_in_groups() {
    let folder = tempfile::tempdir().unwrap();
    let data = open(&datasets(folder.path(), &[(90, 5), (35, 5), (200, 5)]));
    for mix in [vec![], vec![0.5, 0.3, 0.2]] {
        for group in [0, 1, 5] {
            let feed = || mixed(&data, &mix, 64).group_lengths(group);
            let sequence = batches(feed(), 120);
            assert!(sequence.last().unwrap().0.epoch >= 1);
            for (at, _, batch) in &sequence {
                assert!(batch.tokens() <= 64);
                let mut there = feed();
                there.seek(*at);
                assert_eq!(there.next_batch().unwrap().unwrap(), *batch);
                // In memory that held another batch, and divided among processes.
                there.seek(*at);
                let used = sequence[3].2.clone();
                let share = there.next_share_in(used, 0, 1).unwrap().unwrap();
                assert_eq!((&share.batch, share.counts), (batch, batch.counts()));
                // Masked later, as where a GPU draws.
                let mut later = feed().deferred(16);
                later.seek(*at);
                let mut left = later.next_batch().unwrap().unwrap();
                assert!(left.pending.is_some() && left.masked() == batch.masked());
                left.settle();
                assert_eq!(left, *batch);
                there.seek(*at);
                let share = there.next_share(1, 3).unwrap().unwrap();
                assert_eq!(share, cloze_train::parallel::Share::of(batch, 1, 3));
            }
        }
    }
}

/// A row of a mixture has other masks each time it comes, and rows of different datasets have nothing in common.
#[test]
fn masks_of_a_mixture_are_drawn_anew() {
    let folder = tempfile::tempdir().unwrap();
    let data = open(&datasets(folder.path(), &[(20, 0), (400, 0)]));
    let mut feed = mixed(&data, &[0.9, 0.1], 64);
    let mut seen = std::collections::HashMap::<(PathBuf, u64), Vec<MaskedBatch>>::new();
    for _ in 0..200 {
        for number in feed.next_rows() {
            let (path, row) = feed.locate(number);
            let place = (path.to_owned(), row);
            let masked = feed.row(number).unwrap();
            seen.entry(place).or_default().push(masked);
        }
    }
    let small: Vec<_> = seen.iter().filter(|(_, m)| m.len() >= 20).collect();
    assert_eq!(small.len(), 20, "the rows of the small dataset");
    for (place, masks) in small {
        let mut different: Vec<&MaskedBatch> = Vec::new();
        for m in masks {
            if !different.contains(&m) {
                different.push(m);
            }
        }
        assert!(different.len() > 2, "{place:?} is always masked alike");
        assert!(place.0.starts_with(folder.path().join("set-0")));
    }
}

/// A dataset with static masks beside one without: the rows of each are masked in its way, where a GPU would draw too.
#[test]
fn static_masks_are_kept_in_a_mixture() {
    let folder = tempfile::tempdir().unwrap();
    let mut paths = datasets(folder.path(), &[(60, 0)]);
    let own = folder.path().join("static");
    fs::create_dir(&own).unwrap();
    let rule = MaskingRule::default();
    paths.push(dataset(&own, 80, 0, Masking::Static { rule }));
    let data = open(&paths);
    let mut feed = mixed(&data, &[0.5, 0.5], 64).deferred(16);
    let mut seen = [0; 2];
    for _ in 0..60 {
        let at = feed.position();
        let rows = feed.next_rows();
        feed.seek(at);
        let batch = feed.next_batch().unwrap().unwrap();
        assert!(batch.pending.is_none());
        for rank in 0..3 {
            feed.seek(at);
            let share = feed.next_share(rank, 3).unwrap().unwrap();
            assert_eq!(share, cloze_train::parallel::Share::of(&batch, rank, 3));
        }
        for (i, number) in rows.into_iter().enumerate() {
            let masked = batch.slice(i..i + 1);
            let (path, row) = feed.locate(number);
            let is_static = path.starts_with(&own);
            let split = data[usize::from(is_static)].split("train").unwrap();
            let row = split.row(row);
            let as_stored = row.input_ids.to_vec() == masked.input_ids;
            let (of_static, original) = (row.masks.is_some(), row.original_ids());
            assert_eq!(of_static, is_static);
            if let Some(masks) = row.masks {
                assert!(as_stored && masked.masked_labels == masks.labels.to_vec());
            }
            for (&place, &label) in masked.masked_positions.iter().zip(&masked.masked_labels) {
                assert_eq!(original[place as usize], label);
            }
            seen[usize::from(is_static)] += 1;
        }
    }
    assert!(seen[0] > 100 && seen[1] > 100, "{seen:?}");
}

/// Shares are of tokens, whatever the sizes of datasets, and of their rows.
#[test]
fn weights_are_shares_of_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let paths = datasets(folder.path(), &[(100, 0), (700, 0)]);
    only(&paths[0], 0..9);
    only(&paths[1], 12..17);
    let data = open(&paths);
    for (mix, share) in [(vec![0.7, 0.3], 0.7), (vec![1.0, 3.0], 0.25)] {
        let (mut tokens, mut first) = (0, 0);
        let mut feed = mixed(&data, &mix, 640);
        // Some ten blocks.
        while tokens < 40_960 * 11 {
            for number in feed.next_rows() {
                let of_first = feed
                    .locate(number)
                    .0
                    .starts_with(folder.path().join("set-0"));
                let n = feed.row(number).unwrap().tokens();
                tokens += n;
                first += n * usize::from(of_first);
            }
        }
        let seen = first as f64 / tokens as f64;
        assert!((seen - share).abs() < 0.005, "{mix:?}: {seen}");
    }
}

/// In groups an epoch holds the same rows once, with the same masks; lengths differ less within a batch, and batches are nearly as full.
#[test]
fn groups_hold_the_same_rows() {
    let folder = tempfile::tempdir().unwrap();
    let data = open(&datasets(folder.path(), &[(600, 0)]));
    let epoch = |group: usize| {
        let all = batches(mixed(&data, &[], 100).group_lengths(group), 400);
        all.into_iter()
            .filter(|(at, ..)| at.epoch + u32::from(at.row_in_epoch == 600) == 1)
            .collect::<Vec<_>>()
    };
    let rows_of = |batches: &[(Position, Vec<u64>, MaskedBatch)]| {
        let mut rows = Vec::new();
        for (_, numbers, batch) in batches {
            rows.extend(
                numbers
                    .iter()
                    .enumerate()
                    .map(|(i, &n)| (n, batch.slice(i..i + 1))),
            );
        }
        rows.sort_by_key(|r| r.0);
        rows
    };
    // Tokens that padding each row to its batch's longest would add, as a share of all.
    let padding = |batches: &[(Position, Vec<u64>, MaskedBatch)]| {
        let padded: usize = batches
            .iter()
            .map(|(_, _, b)| b.rows() * b.spans().map(|s| s.1).max().unwrap())
            .sum();
        let tokens: usize = batches.iter().map(|(_, _, b)| b.tokens()).sum();
        1.0 - tokens as f64 / padded as f64
    };
    let plain = epoch(0);
    let grouped = epoch(16);
    assert!(rows_of(&plain) == rows_of(&grouped));
    assert_ne!(plain[0].1, grouped[0].1);
    let (before, after) = (padding(&plain), padding(&grouped));
    assert!(before > 0.2 && after < before / 4.0, "{before} {after}");
    // Few windows need a batch more than they are meant to.
    assert!(
        grouped.len() <= plain.len() + plain.len() / 20,
        "{} {}",
        plain.len(),
        grouped.len()
    );
    // Batches are not in order of length.
    let lengths: Vec<usize> = grouped.iter().map(|b| b.2.tokens() / b.2.rows()).collect();
    assert!(!lengths[..16].is_sorted() && !lengths[..16].is_sorted_by(|a, b| a >= b));
}

struct Watch(Option<u64>);

impl Observer for Watch {
    fn on_start(&mut self, _: &Begun<'_>) {}
    fn on_step(&mut self, _: &StepRecord) {}
    fn on_validation(&mut self, _: &ValidationRecord) {}
    fn on_checkpoint(&mut self, _: &Path) {}
    fn should_stop(&mut self, step: u64) -> bool {
        Some(step) == self.0
    }
}

fn train(
    data: &[PathBuf],
    start: &Start,
    run: &Path,
    plan: &PretrainConfig,
    stop: Option<u64>,
) -> Result<Summary> {
    let data: Vec<&Path> = data.iter().map(AsRef::as_ref).collect();
    pretrain_on(&World::alone(), &data, start, run, plan, &mut Watch(stop))
}

fn plan() -> PretrainConfig {
    PretrainConfig {
        steps: 24,
        batch_tokens: 200,
        learning_rate: 1e-2,
        warmup_steps: 2,
        eval_every: 12,
        eval_rows: 10,
        checkpoint_every: 0,
        log_every: 1,
        mix: vec![0.6, 0.4],
        group_lengths: 4,
        ..PretrainConfig::default()
    }
}

#[test]
fn a_mixture_in_groups_resumes_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let data = datasets(folder.path(), &[(90, 8), (150, 20)]);
    let start = Start::Config(config(folder.path()));
    let state = |run: &Path| read_state(&latest(run).unwrap().unwrap()).unwrap();
    let whole = folder.path().join("whole");
    train(&data, &start, &whole, &plan(), None).unwrap();
    for stop in [1, 5, 11, 17] {
        let run = folder.path().join(format!("stopped-{stop}"));
        assert!(
            train(&data, &start, &run, &plan(), Some(stop))
                .unwrap()
                .stopped
        );
        train(&data, &Start::Resume, &run, &plan(), None).unwrap();
        assert!(state(&whole) == state(&run), "stopped after {stop}");
    }
    // What was trained on is what a feed gives, in its order: tokens after each step say so.
    let opened = open(&data);
    let sources: Vec<_> = opened
        .iter()
        .map(|d| (d, d.split("train").unwrap()))
        .collect();
    let rule = MaskingRule::default();
    let feed = Feed::mixed(&sources, &[0.6, 0.4], rule, 0, 200, VOCAB).unwrap();
    let mut sum = 0;
    let expected: Vec<u64> = batches(feed.group_lengths(4), 24)
        .iter()
        .map(|(.., b)| {
            sum += b.tokens() as u64;
            sum
        })
        .collect();
    // Each dataset is reported beside all of them.
    let log = fs::read_to_string(whole.join("train.jsonl")).unwrap();
    let tokens: Vec<u64> = log
        .lines()
        .filter_map(|l| match serde_json::from_str(l).unwrap() {
            Record::Train(r) => Some(r.tokens),
            _ => None,
        })
        .collect();
    assert_eq!(tokens, expected);
    let validations: Vec<ValidationRecord> = log
        .lines()
        .filter_map(|l| match serde_json::from_str(l).unwrap() {
            Record::Validation(r) => Some(r),
            _ => None,
        })
        .collect();
    assert_eq!(validations.len(), 3);
    for record in validations {
        let [a, b] = &record.datasets[..] else {
            panic!("{record:?}");
        };
        assert!(a.dataset.contains("set-0") && b.dataset.contains("set-1"));
        assert_eq!(
            (a.report.rows, b.report.rows, record.report.rows),
            (8, 10, 18)
        );
        let sum = |r: &cloze_train::eval::EvalReport| r.mlm_loss.unwrap() * r.masked_tokens as f64;
        let together = sum(&a.report) + sum(&b.report);
        assert!((together - sum(&record.report)).abs() < 1e-6 * together);
    }
    // The state names both, and another mixture is another run.
    let trainer = read_trainer(&latest(&whole).unwrap().unwrap()).unwrap();
    let digests: Vec<String> = open(&data).iter().map(|d| d.manifest().digest()).collect();
    assert_eq!(trainer.dataset, digests.join("+"));
    let swapped = [data[1].clone(), data[0].clone()];
    let other = |change: fn(&mut PretrainConfig)| {
        let mut other = plan();
        change(&mut other);
        other
    };
    for (data, plan, says) in [
        (&swapped[..], plan(), "in another order"),
        (
            &data[..1],
            other(|p| p.mix.clear()),
            "dataset is another one",
        ),
        (&data[..], other(|p| p.mix[0] = 0.5), "--mix"),
        (&data[..], other(|p| p.group_lengths = 5), "--group-lengths"),
    ] {
        let error = train(data, &Start::Resume, &whole, &plan, None).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
}

/// A checkpoint from before there were mixtures says nothing of them, and is gone on with.
#[test]
fn old_checkpoints_are_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let data = datasets(folder.path(), &[(90, 8)]);
    let start = Start::Config(config(folder.path()));
    let plan = PretrainConfig {
        mix: vec![],
        group_lengths: 0,
        ..plan()
    };
    let (whole, run) = (folder.path().join("whole"), folder.path().join("run"));
    train(&data, &start, &whole, &plan, None).unwrap();
    train(&data, &start, &run, &plan, Some(7)).unwrap();
    let path = latest(&run)
        .unwrap()
        .unwrap()
        .join("trainer_state/state.json");
    let text = fs::read_to_string(&path).unwrap();
    let mut state: serde_json::Value = serde_json::from_str(&text).unwrap();
    let config = state["config"].as_object_mut().unwrap();
    assert!(config.remove("mix").is_some() && config.remove("group_lengths").is_some());
    fs::write(&path, state.to_string()).unwrap();
    train(&data, &Start::Resume, &run, &plan, None).unwrap();
    let state = |run: &Path| read_state(&latest(run).unwrap().unwrap()).unwrap();
    assert!(state(&whole) == state(&run));
}

#[test]
fn datasets_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = datasets(folder.path(), &[(90, 8), (150, 20), (30, 0), (0, 4)]);
    let start = Start::Config(config(folder.path()));
    let fails = |data: &[&PathBuf], mix: &[f64], says: &[&str]| {
        let plan = PretrainConfig {
            mix: mix.to_vec(),
            ..plan()
        };
        let data: Vec<PathBuf> = data.iter().map(|&d| d.clone()).collect();
        let run = folder.path().join("run");
        let error = train(&data, &start, &run, &plan, None).unwrap_err();
        let text = format!("{error} {}", error.hint().unwrap_or_default());
        for part in says {
            assert!(text.contains(part), "{text:?} does not say {part:?}");
        }
        assert!(!run.exists());
    };
    let both = [&data[0], &data[1]];
    fails(&both, &[1.0], &["--mix has 1 weights", "2 datasets"]);
    fails(&both, &[1.0, 0.0], &["--mix holds 0"]);
    fails(&both, &[1.0, f64::NAN], &["--mix holds NaN"]);
    fails(
        &both,
        &[1.0, 1e-6],
        &["--mix", "set-1", "less than one row"],
    );
    fails(&[&data[0], &data[0]], &[], &["same dataset", "set-0"]);
    fails(&[&data[0], &data[3]], &[], &["no training rows", "set-3"]);
    let change = |path: &Path, change: &dyn Fn(&mut serde_json::Value)| {
        let path = path.join("manifest.json");
        let text = fs::read_to_string(&path).unwrap();
        let mut manifest = serde_json::from_str(&text).unwrap();
        change(&mut manifest);
        fs::write(&path, manifest.to_string()).unwrap();
        text
    };
    let name = |text: &'static str| ["set-0", "set-1", text];
    let whole = change(&data[1], &|m| m["tokenizer"]["vocab_digest"] = "00".into());
    fails(&both, &[], &name("vocabularies differ"));
    fails(&both, &[], &["--tokenizer", "set-0/data/tokenizer"]);
    fs::write(data[1].join("manifest.json"), &whole).unwrap();
    change(&data[1], &|m| {
        m["tokenizer"]["special_tokens"]["unk"] = 7.into();
    });
    fails(&both, &[], &name("special tokens"));
    fs::write(data[1].join("manifest.json"), &whole).unwrap();
    change(&data[1], &|m| m["tokenizer"]["lowercase"] = false.into());
    fails(&both, &[], &name("lowercases"));
    fs::write(data[1].join("manifest.json"), &whole).unwrap();
    change(&data[1], &|m| {
        m["objective"] = "full-sentences".into();
        m["format_version"] = 3.into();
    });
    fails(&both, &[], &name("labels mean different things"));
    // MLM alone looks at no label.
    let alone = PretrainConfig {
        objective: Objective::Mlm,
        ..plan()
    };
    let both = both.map(PathBuf::clone);
    train(&both, &start, &folder.path().join("run"), &alone, None).unwrap();
}
