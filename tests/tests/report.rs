//! The report of a run.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;

use cloze_tests::Place;

const TRAIN: &str = "pretrain data --config config.json --batch-tokens 256 --warmup-steps 2 --log-every 2 --checkpoint-every 4 --eval-every 4 --jobs 1";

#[test]
fn a_run_is_told_in_full() {
    let place = Place::new();
    let name = "<b>&'.jsonl";
    fs::rename(place.path("corpus.jsonl"), place.path(name)).unwrap();
    place.prepare(name, "data", "--seq-len 32");
    place.write_config();
    let ran = place
        .cloze(&format!("{TRAIN} --steps 8 --out run"))
        .status(0);
    assert!(ran.out().contains("run/report.html"));
    let html = fs::read_to_string(place.path("run/report.html")).unwrap();
    for there in [
        "A model of 1 layer, 16 wide: 8 steps on",
        "MLM loss went from",
        "<title>MLM loss</title>",
        "<title>NSP loss</title>",
        "<title>Throughput</title>",
        "learning_rate",
        "max_position_embeddings",
        "&lt;b&gt;&amp;&#39;.jsonl",
        "[CLS]",
        "blake3",
    ] {
        assert!(html.contains(there), "{there}");
    }
    assert_eq!(html.matches("class=\"sample\"").count(), 8);
    assert!(html.matches("class=\"right\"").count() + html.matches("class=\"wrong\"").count() > 8);
    for outside in ["http:", "https:", "<script", "<b>&"] {
        assert!(!html.contains(outside), "{outside}");
    }
    // The whole log, after a run was gone on with too.
    fs::remove_dir_all(place.path("run/checkpoints/step-00000008")).unwrap();
    let again = format!("{TRAIN} --steps 8 --out run --resume auto");
    let _ = place.cloze(&again).status(0);
    let gone_on = fs::read_to_string(place.path("run/report.html")).unwrap();
    let curve = |html: &str| {
        let at = html.find("<polyline class=\"thin").unwrap();
        html[at..].lines().next().unwrap().to_owned()
    };
    assert_eq!(curve(&gone_on), curve(&html));
}

/// Without validation rows, training rows are shown; and a report that cannot be written is a warning.
#[test]
fn what_is_not_there_is_said() {
    let place = Place::new();
    let _ = place
        .cloze("prepare corpus.jsonl --tokenizer tokenizer --out data --validation-fraction 0 --seq-len 32")
        .status(0);
    place.write_config();
    let line = format!("{TRAIN} --objective mlm --out run --resume auto");
    let _ = place.cloze(&format!("{line} --steps 4")).status(0);
    let html = fs::read_to_string(place.path("run/report.html")).unwrap();
    assert!(html.contains("Rows of the train split") && html.contains("there are none"));
    assert!(!html.contains("NSP loss"));
    fs::remove_file(place.path("run/report.html")).unwrap();
    fs::create_dir_all(place.path("run/report.html/in-the-way")).unwrap();
    for made in ["run/checkpoints/step-00000004", "run/model"] {
        fs::remove_dir_all(place.path(made)).unwrap();
    }
    let _ = place
        .cloze(&format!("{line} --steps 4"))
        .status(0)
        .says(&["warning: run/report.html could not be written"]);
}
