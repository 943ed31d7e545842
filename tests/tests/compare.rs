//! `cloze compare` on the executables: a small grid from text to report, gone on with, shared out, and refused where it should be.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use cloze_tests::{Place, Ran, document};
use serde_json::{Value, json};

const SMALL: &str = "--objectives none,mlm --starts checkpoint --seeds 2 --tokens 2000 --batch-tokens 512 --seq-len 32 --budgets 20 --max-length 32 --eval-rows 20 --epochs 1 --jobs 1 --device cpu";

/// A checkpoint, and a task: whether a document is long.
fn place() -> Place {
    let place = Place::new();
    place.write_config();
    place.prepare("corpus.jsonl", "data", "--seq-len 32");
    let _ = place
        .cloze("pretrain data --config config.json --out start --steps 2 --batch-tokens 256 --warmup-steps 0 --jobs 1 --device cpu")
        .status(0);
    for (name, numbers) in [("train", 400..460), ("dev", 500..520), ("test", 600..640)] {
        let rows = numbers.map(|i| {
            let text = document(i);
            let label = if text.len() > 90 { "long" } else { "short" };
            format!("{}\n", json!({"text": text, "label": label}))
        });
        place.write(&format!("task/{name}.jsonl"), rows.collect::<String>());
    }
    place
}

fn compare(place: &Place, out: &str, options: &str) -> Ran {
    place.cloze(&format!(
        "compare corpus.jsonl --init start/model --task task --out {out} {options}"
    ))
}

fn results(place: &Place, out: &str) -> Value {
    serde_json::from_slice(&fs::read(place.path(out).join("results.json")).unwrap()).unwrap()
}

/// Everything that was found, but for the time that it took.
fn found(place: &Place, out: &str) -> Value {
    let mut outcome = results(place, out)["outcome"].take();
    for arm in outcome["arms"].as_array_mut().unwrap() {
        arm["seconds"] = Value::Null;
    }
    outcome
}

#[test]
fn a_grid_from_text_to_report() {
    let place = place();
    let options = "--objectives none,mlm,mlm+nsp,mlm+sop,full-sentences --other-seeds 1 --seeds 2 --tokens 2000 --batch-tokens 512 --seq-len 32 --budgets 20,all --max-length 32 --eval-rows 20 --epochs 1 --jobs 1 --device cpu";
    let dry = compare(&place, "out", &format!("{options} --dry-run")).status(0);
    for said in [
        "checkpoint-mlm+nsp",
        "scratch-full-sentences",
        "tokens of pre-training in all",
        "left, fine-tuning included",
    ] {
        assert!(dry.out().contains(said), "{said}: {}", dry.out());
    }
    assert!(!place.path("out/arms").exists() && !place.path("out/report.html").exists());

    // One arm alone, as another machine would make it.
    let one = compare(&place, "out", &format!("{options} --arm scratch-mlm")).status(0);
    assert!(
        one.out()
            .contains("preliminary: 12 of 13 models are not done"),
        "{}",
        one.out()
    );
    let made: Vec<String> = fs::read_dir(place.path("out/arms"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(made, ["scratch-mlm"]);

    let all = compare(&place, "out", options).status(0);
    assert!(!all.out().contains("preliminary"), "{}", all.out());
    let found = results(&place, "out");
    let arms = found["outcome"]["arms"].as_array().unwrap();
    assert_eq!(arms.len(), 10);
    let by_name: BTreeMap<&str, &Value> = arms
        .iter()
        .map(|a| (a["name"].as_str().unwrap(), a))
        .collect();
    // The main arms have two seeds, the others one; what is not trained is measured once.
    let losses = |name: &str| {
        by_name[name]["figures"]["mlm_loss"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(
        (
            losses("checkpoint-mlm"),
            losses("scratch-mlm"),
            losses("checkpoint-none")
        ),
        (2, 1, 1)
    );
    // As many tokens for all, up to a step.
    for arm in arms {
        for tokens in arm["tokens"].as_array().unwrap() {
            let tokens = tokens.as_f64().unwrap();
            assert!(
                (1_700.0..2_300.0).contains(&tokens),
                "{}: {tokens}",
                arm["name"]
            );
        }
    }
    assert!(by_name["checkpoint-mlm+sop"]["figures"]["sop_accuracy"].is_array());
    assert!(by_name["checkpoint-mlm+nsp"]["figures"]["nsp_accuracy"].is_array());
    let budgets = found["outcome"]["budgets"].as_array().unwrap();
    assert_eq!(
        (&budgets[0]["rows"], &budgets[1]["rows"]),
        (&json!(20), &json!(60))
    );
    for budget in budgets {
        let seeds: Vec<usize> = budget["scores"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| s.as_array().unwrap().len())
            .collect();
        assert_eq!(seeds.iter().sum::<usize>(), 13);
    }
    // Further: 4, objectives: 3 from each start, start: 4.
    assert_eq!(found["outcome"]["contrasts"].as_array().unwrap().len(), 14);

    let page = fs::read_to_string(place.path("out/report.html")).unwrap();
    let lead = found["verdict"][0].as_str().unwrap();
    for part in [
        lead,
        "What was not tested",
        "Learning curves",
        "What it cost",
        "<svg",
    ] {
        assert!(page.contains(part), "{part}");
    }
    let text = fs::read_to_string(place.path("out/report.md")).unwrap();
    assert!(text.starts_with(&format!("# Does further pre-training help?\n\n**{lead}**")));
    assert!(text.contains("| arm | 20 | all (60) |"), "{text}");

    // Nothing is left to do, and nothing is done again.
    let before =
        fs::metadata(place.path("out/arms/checkpoint-mlm/seed-0/finetune-all/results.json"))
            .unwrap()
            .modified()
            .unwrap();
    let again = compare(&place, "out", options).status(0);
    assert_eq!(again.out().lines().next(), all.out().lines().next());
    let after =
        fs::metadata(place.path("out/arms/checkpoint-mlm/seed-0/finetune-all/results.json"))
            .unwrap()
            .modified()
            .unwrap();
    assert_eq!((before, results(&place, "out")), (after, found));
}

#[test]
fn a_stop_changes_nothing_but_the_time() {
    let place = place();
    let _ = compare(&place, "whole", SMALL).status(0);
    let mut child = place.start(&format!(
        "compare corpus.jsonl --init start/model --task task --out cut {SMALL}"
    ));
    let begun = Instant::now();
    // In the middle of it: the first model is made, others are not.
    while !place
        .path("cut/arms/checkpoint-none/seed-0/finetune-20.json")
        .exists()
    {
        assert!(child.try_wait().unwrap().is_none() && begun.elapsed() < Duration::from_secs(120));
        std::thread::sleep(Duration::from_millis(5));
    }
    let sent = Command::new("kill")
        .args(["-s", "TERM", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let cut = results(&place, "cut");
    assert!(!cut["outcome"]["missing"][0].as_array().unwrap().is_empty());
    let _ = compare(&place, "cut", SMALL).status(0);
    assert_eq!(found(&place, "cut"), found(&place, "whole"));
}

/// Two that begin at once, as a cluster starts them: one prepares, the other waits, and both make models of one plan.
#[test]
fn two_at_once_make_one_comparison() {
    let place = place();
    let _ = compare(&place, "whole", SMALL).status(0);
    let line = format!("compare corpus.jsonl --init start/model --task task --out both {SMALL}");
    let mut children = [place.start(&line), place.start(&line)];
    for child in &mut children {
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
    // What a process that was killed after a model was on record has left.
    let left = place.path("both/arms/checkpoint-mlm/seed-0/run/checkpoints/step-00000001");
    fs::create_dir_all(&left).unwrap();
    let _ = compare(&place, "both", SMALL).status(0);
    assert!(!left.exists());
    assert_eq!(found(&place, "both"), found(&place, "whole"));
    // Elsewhere, as where another machine has the disk: what they hold is what counts.
    fs::rename(place.path("start"), place.path("moved")).unwrap();
    let line =
        |init: &str| format!("compare corpus.jsonl --init {init} --task task --out both {SMALL}");
    let _ = place.cloze(&line("moved/model")).status(0);
    assert_eq!(found(&place, "both"), found(&place, "whole"));
    place.write("moved/model/config.json", "{}");
    let _ = place
        .cloze(&line("moved/model"))
        .status(2)
        .says(&["init/config.json has changed since"]);
}

/// Lists of words are left out of the corpus as texts are.
#[test]
fn a_task_of_words_is_left_out_of_the_corpus() {
    let place = place();
    for (name, numbers) in [("train", 0..60), ("dev", 100..120), ("test", 200..240)] {
        let rows = numbers.map(|i| {
            let text = document(i);
            let words: Vec<&str> = text.split_whitespace().collect();
            let tag = |w: &&str| if w.len() > 4 { "B-LONG" } else { "O" };
            let tags: Vec<&str> = words.iter().map(tag).collect();
            format!("{}\n", json!({"tokens": words, "tags": tags}))
        });
        place.write(&format!("words/{name}.jsonl"), rows.collect::<String>());
    }
    let line =
        format!("compare corpus.jsonl --init start/model --task words --out out {SMALL} --dry-run");
    let _ = place.cloze(&line).status(0);
    let left = fs::read_to_string(place.path("out/task/exclude.jsonl")).unwrap();
    assert_eq!(left.lines().count(), 60);
    let manifest = fs::read(place.path("out/data/nsp/manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let counts = manifest["counts"].as_object().unwrap();
    let excluded = counts.iter().find(|(name, _)| name.contains("exclu"));
    assert!(excluded.unwrap().1.as_u64().unwrap() > 0, "{counts:?}");
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let place = place();
    let _ = compare(&place, "out", &format!("{SMALL} --dry-run")).status(0);
    let _ = compare(&place, "out", &SMALL.replace("--seeds 2", "--seeds 3"))
        .status(2)
        .says(&[
            "holds another comparison",
            "seeds was 2 there, and is 3 now",
            "hint:",
        ]);
    let _ = compare(&place, "out", &format!("{SMALL} --arm checkpoint-nsp"))
        .status(2)
        .says(&[
            "checkpoint-nsp: is no arm",
            "checkpoint-none, checkpoint-mlm",
        ]);
    let _ = compare(&place, "few", &SMALL.replace("--budgets 20", "--budgets 1"))
        .status(2)
        .says(&["the task has 2 labels", "give budgets of at least 2"]);
    let _ = compare(
        &place,
        "short",
        &SMALL.replace("--tokens 2000", "--hours 0.000001"),
    )
    .status(2)
    .says(&["hours are the least", "fewer --objectives"]);
    let _ = compare(&place, "none", &SMALL.replace("none,mlm ", "none "))
        .status(2)
        .says(&["compares nothing"]);
    place.write("full/other.txt", "x");
    let _ = compare(&place, "full", SMALL)
        .status(2)
        .says(&["holds files already", "give --out a new folder"]);
    fs::remove_file(place.path("task/dev.jsonl")).unwrap();
    let _ = compare(&place, "half", SMALL).status(2).says(&[
        "has no dev.jsonl",
        "the folder must hold train.jsonl, dev.jsonl, test.jsonl",
    ]);
    // What was compared on must be what it was.
    place.write("task/dev.jsonl", "{\"text\": \"x\", \"label\": \"long\"}\n");
    let _ = compare(&place, "out", SMALL)
        .status(2)
        .says(&["task/dev.jsonl has changed since"]);
}

#[test]
fn without_a_task_losses_judge_a_dataset() {
    let place = place();
    let line = "compare data --init start/model --out out --objectives none,mlm,full-sentences --starts checkpoint --seeds 2 --tokens 2000 --batch-tokens 512 --seq-len 32 --eval-rows 20 --jobs 1 --device cpu";
    let ran = place.cloze(line).status(0);
    assert!(
        ran.out().contains("the MLM loss on held-out text"),
        "{}",
        ran.out()
    );
    let text = fs::read_to_string(place.path("out/report.md")).unwrap();
    assert!(
        text.contains("a dataset of pairs was given, not its text"),
        "{text}"
    );
    assert!(
        text.contains("a lower loss need not mean a better model for a task"),
        "{text}"
    );
    let names: Vec<Value> = results(&place, "out")["outcome"]["arms"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| a["name"].clone())
        .collect();
    assert_eq!(names, ["checkpoint-none", "checkpoint-mlm"]);
}

/// Texts to be found are looked for by every model, and told of in the report.
#[test]
fn what_should_be_found_is_looked_for() {
    let place = place();
    let docs = (700..720).map(|i| json!({"id": format!("d{i}"), "text": document(i)}));
    let queries = (700..710).map(|i| json!({"query": document(i), "relevant": [format!("d{i}")]}));
    let lines = |rows: &mut dyn Iterator<Item = Value>| {
        rows.map(|row| format!("{row}\n")).collect::<String>()
    };
    place.write("find/docs.jsonl", lines(&mut docs.into_iter()));
    place.write("find/queries.jsonl", lines(&mut queries.into_iter()));
    let options = format!("{SMALL} --retrieval find");
    let _ = compare(&place, "out", &options).status(0);
    let found = results(&place, "out");
    for arm in found["outcome"]["arms"].as_array().unwrap() {
        let figures = &arm["figures"];
        // A query is its document's own text: nothing is nearer.
        for name in ["mrr_at_10", "ndcg_at_10"] {
            let value = figures[name][0][1].as_f64().unwrap();
            assert!((value - 1.0).abs() < 1e-9, "{name}: {arm:#}");
        }
    }
    let text = fs::read_to_string(place.path("out/report.md")).unwrap();
    assert!(text.contains("nDCG"), "{text}");
    // Another question is another comparison.
    place.write(
        "find/queries.jsonl",
        lines(&mut std::iter::once(
            json!({"query": "x", "relevant": ["d700"]}),
        )),
    );
    let _ = compare(&place, "out", &options)
        .status(2)
        .says(&["queries.jsonl has changed since"]);
}

#[test]
fn labels_that_training_lacks_are_left_out_and_told() {
    let place = place();
    let test = fs::read_to_string(place.path("task/test.jsonl")).unwrap();
    place.write(
        "task/test.jsonl",
        format!("{test}{}\n", json!({"text": "a text", "label": "odd"})),
    );
    let ran = compare(&place, "out", SMALL).status(0);
    assert!(
        ran.err().contains("left out: 1 of the rows of test.jsonl"),
        "{}",
        ran.err()
    );
    let text = fs::read_to_string(place.path("out/report.md")).unwrap();
    assert!(
        text.contains("1 of the rows of test.jsonl: training has no example"),
        "{text}"
    );
    place.write(
        "task/dev.jsonl",
        format!("{}\n", json!({"text": "a text", "label": "odd"})),
    );
    let _ = compare(&place, "other", SMALL).status(2).says(&[
        "dev.jsonl: no row has a label that train.jsonl has",
        "spelled alike",
    ]);
}
