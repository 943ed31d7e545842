//! Masks by words and spans, on the executables.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;

use cloze_shard::manifest::{Manifest, Masking};
use cloze_shard::masking::{MaskKey, MaskUnit, Masker, MaskingRule};
use cloze_shard::random::{Key, Permutation, Stage};
use cloze_shard::{Dataset, Vocabulary};
use cloze_tests::Place;

/// A place whose vocabulary lacks half of the corpus's words, so that these are made of pieces.
fn place() -> Place {
    let place = Place::new();
    let vocabulary = fs::read_to_string(place.path("tokenizer/vocab.txt")).unwrap();
    let kept = |(i, line): (usize, &str)| match i % 2 == 0 || !(5..29).contains(&i) {
        true => format!("{line}\n"),
        false => String::new(),
    };
    let lines: String = vocabulary.lines().enumerate().map(kept).collect();
    place.write("tokenizer/vocab.txt", lines);
    place
}

/// The masks in the shards are those that the library draws, keyed by a row's number before the shuffle; and the dataset is a good one.
#[test]
fn static_masks_are_what_the_library_draws() {
    let place = place();
    let vocabulary = Vocabulary::read(&place.path("tokenizer")).unwrap();
    let asked = [
        ("", MaskUnit::Token, 0.15, [0.8, 0.1], 1),
        ("--mask-unit word", MaskUnit::Word, 0.15, [0.8, 0.1], 2),
        (
            "--mask-unit span --mask-rate 0.3 --mask-share 0.5 --random-share 0.25",
            MaskUnit::SPAN,
            0.3,
            [0.5, 0.25],
            2,
        ),
        (
            "--mask-share 1 --random-share 0",
            MaskUnit::Token,
            0.15,
            [1.0, 0.0],
            1,
        ),
    ];
    for (i, (options, unit, rate, [mask_share, random_share], version)) in
        asked.into_iter().enumerate()
    {
        let out = format!("data-{i}");
        let all = format!("{options} --masking static --seq-len 40 --seed 4 --shard-rows 50");
        place.prepare("corpus.jsonl", &out, &all);
        let dataset = Dataset::open(&place.path(&out)).unwrap();
        let rule = MaskingRule {
            rate,
            mask_share,
            random_share,
            unit,
        };
        let manifest = dataset.manifest();
        assert_eq!(manifest.masking, Masking::Static { rule });
        assert_eq!(manifest.format_version, version);
        let masker = Masker::of(rule, &vocabulary).unwrap();
        let mut predicted = 0;
        for (number, name) in [(0, "train"), (1, "validation")] {
            let split = dataset.split(name).unwrap();
            let key = Key::new(4, Stage::RowOrder);
            let order = Permutation::new(key, u64::from(number), 0, split.rows());
            let key = MaskKey::new(4, Stage::StaticMask, number);
            assert!(split.rows() > 0);
            for (place, row) in (0..).zip(split.iter()) {
                let (mut ids, mut positions, mut labels) = (row.original_ids(), vec![], vec![]);
                masker.mask(
                    key,
                    order.inverse(place),
                    &mut ids,
                    &mut positions,
                    &mut labels,
                );
                let masks = row.masks.unwrap();
                assert_eq!(ids, row.input_ids.iter().collect::<Vec<_>>());
                assert_eq!(positions, masks.positions);
                assert_eq!(labels, masks.labels.iter().collect::<Vec<_>>());
                predicted += positions.len();
            }
        }
        assert!(predicted > 100);
        let clean = format!("verify {out} --source corpus.jsonl");
        assert!(place.cloze(&clean).status(0).out().contains("clean"));
        let again = format!("{out}-again");
        place.prepare("corpus.jsonl", &again, &format!("{all} --jobs 3"));
        assert!(place.files(&out) == place.files(&again));
    }
    let shown = |data: &str| place.cloze(&format!("inspect {data}")).status(0).out();
    assert!(shown("data-0").contains("static, 15.0 % of the tokens\n"));
    assert!(shown("data-1").contains("static, 15.0 % of the tokens, by words\n"));
    let spans = "30.0 % of the tokens, by spans of 1 to 10 words (p 0.2); 50.0 % [MASK], 25.0 % random, 25.0 % kept\n";
    assert!(shown("data-2").contains(spans), "{}", shown("data-2"));
}

/// What a manifest says of masks is understood or refused, never passed over; and of masks by tokens it says what it always said.
#[test]
fn manifests_say_what_masks_are_of() {
    let place = place();
    let read = |name: &str| fs::read_to_string(place.path(name).join("manifest.json")).unwrap();
    place.prepare("corpus.jsonl", "tokens", "--masking static");
    for name in ["\"unit\"", "\"mask_unit\""] {
        assert!(!read("tokens").contains(name), "{name}");
    }
    place.prepare("corpus.jsonl", "words", "--masking static --mask-unit word");
    let whole = read("words");
    let manifest = Manifest::read(&place.path("words")).unwrap();
    assert_eq!(manifest.config["mask_unit"], "word");
    let changes = [
        (
            "\"format_version\": 2",
            "\"format_version\": 1",
            "need version 2",
        ),
        (
            "\"format_version\": 2",
            "\"format_version\": 6",
            "version 1 to 5",
        ),
        ("\"unit\": \"word\"", "\"unit\": \"sentence\"", "sentence"),
        ("\"unit\": \"word\"", "\"units\": \"word\"", "units"),
    ];
    for (from, to, says) in changes {
        let changed = whole.replace(from, to);
        assert_ne!(changed, whole);
        fs::write(place.path("words/manifest.json"), changed).unwrap();
        let _ = place
            .cloze("inspect words")
            .status(2)
            .says(&["manifest.json", says]);
    }
}

#[test]
fn masks_that_cannot_be_or_have_no_effect() {
    let place = Place::new();
    // Words as other tokenizers have them: nothing says that a piece goes on with one.
    let vocabulary = fs::read_to_string(place.path("tokenizer/vocab.txt")).unwrap();
    place.write("tokenizer/vocab.txt", vocabulary.replace("##", "@@"));
    let prepare = "prepare corpus.jsonl --tokenizer tokenizer --out data --validation-fraction 0.1 --seq-len 32";
    for unit in ["word", "span"] {
        let _ = place
            .cloze(&format!("{prepare} --masking static --mask-unit {unit}"))
            .status(2)
            .says(&[&format!("--mask-unit {unit}"), "##", "hint:", "token"]);
        assert!(!place.path("data").exists());
    }
    let ran = place
        .cloze(&format!("{prepare} --mask-unit word"))
        .status(0);
    let _ = ran.says(&["warning", "no effect", "cloze pretrain"]);
    place.write_config();
    let pretrain = "pretrain data --config config.json --out run --steps 2 --batch-tokens 256";
    let _ = place
        .cloze(&format!("{pretrain} --mask-unit word"))
        .status(2)
        .says(&["--mask-unit word", "##", "hint:"]);
    let _ = place
        .cloze(&format!("{pretrain} --mask-rate-end 1.5"))
        .status(2)
        .says(&["--mask-rate-end is 1.5"]);
    assert!(!place.path("run").exists());
    place.prepare("corpus.jsonl", "static", "--seq-len 32 --masking static");
    let options = "--mask-rate-end 0.3 --mask-share 0.7 --random-share 0.2 --mask-unit word";
    let pretrain = pretrain.replace("data", "static");
    let ran = place.cloze(&format!("{pretrain} {options}")).status(0);
    let names = options.split(' ').filter(|word| word.starts_with("--"));
    let warnings: Vec<String> = names.map(|name| format!("{name} has no effect")).collect();
    let warnings: Vec<&str> = warnings.iter().map(String::as_str).collect();
    let _ = ran.says(&warnings);
}

#[test]
fn a_run_and_its_evaluation() {
    let place = place();
    place.prepare("corpus.jsonl", "data", "--seq-len 32");
    place.write_config();
    let options =
        "--mask-unit span --mask-rate 0.4 --mask-rate-end 0.2 --mask-share 0.7 --random-share 0.2";
    let run = "--out run --steps 4 --batch-tokens 256 --warmup-steps 0";
    let _ = place
        .cloze(&format!(
            "pretrain data --config config.json {run} {options}"
        ))
        .status(0);
    // Nothing is left to do, with what was typed then or without.
    let _ = place.cloze("pretrain data --out run --resume").status(0);
    let _ = place
        .cloze(&format!("pretrain data --resume {run} {options}"))
        .status(0);
    let _ = place
        .cloze("pretrain data --out run --resume --mask-unit word --random-share 0.1")
        .status(2)
        .says(&["--mask-unit was", "--random-share was 0.2, is 0.1"]);
    let masked = |unit: &str| {
        let line = format!("eval data --model run/model --json --mask-rate 0.4 --mask-unit {unit}");
        let report: serde_json::Value =
            serde_json::from_str(&place.cloze(&line).status(0).out()).unwrap();
        (
            report["masked_tokens"].as_u64().unwrap(),
            report["mlm_loss"].as_f64().unwrap(),
        )
    };
    let [token, word, span] = ["token", "word", "span"].map(masked);
    // Words that do not fit leave some of the budget.
    assert!(word.0 <= token.0 && span.0 <= token.0 && span.0 > token.0 * 9 / 10);
    assert!(token.1 != word.1 && word.1 != span.1);
}
