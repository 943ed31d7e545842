//! What cannot be used is refused: where it is, what is wrong, and what to do.

use std::fs;
use std::path::Path;

use cloze_task::Error;
use cloze_task::data::{Data, Fields, Target, TaskKind};
use cloze_task::finetune::FinetuneConfig;
use serde_json::json;

use crate::support::{Seen, colours, lines, model, options, plain, run, shape};

const GOOD: &str =
    "{\"text\": \"red\", \"label\": \"a\"}\n{\"text\": \"blue\", \"label\": \"b\"}\n";

/// Reads a training file of this content, and a dev file.
fn read(
    name: &str,
    content: &[u8],
    dev: Option<&str>,
    kind: Option<TaskKind>,
) -> cloze_task::Result<Data> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    let beside = folder.path().join("dev.jsonl");
    fs::write(&beside, dev.unwrap_or_default()).unwrap();
    Data::read(
        &path,
        dev.map(|_| beside.as_path()),
        None,
        &Fields::default(),
        kind,
    )
}

/// The error has all of these in it, a hint too.
fn says(error: &Error, parts: &[&str]) {
    let text = format!("{error}\n{}", error.hint().expect("what to do"));
    for part in parts {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
}

#[test]
fn bad_files_are_refused_by_line() {
    let refused = |name: &str, content: &[u8], parts: &[&str]| {
        says(
            &read(name, content, None, None).unwrap_err(),
            &[&[name], parts].concat(),
        );
    };
    let line = |text: &str| format!("{GOOD}\n{text}\n").into_bytes();
    refused("t.jsonl", b"", &["no row"]);
    refused("t.jsonl", b"\n \n", &["no row"]);
    refused("t.txt", b"a", &[".parquet"]);
    refused(
        "t.jsonl",
        &line("{\"text\": "),
        &["line 4: ", "broken JSON"],
    );
    refused("t.jsonl", &line("[1]"), &["line 4: ", "a list", "object"]);
    refused(
        "t.jsonl",
        &[GOOD.as_bytes(), b"{\"text\": \"\xFF\"}"].concat(),
        &["line 3: ", "UTF-8"],
    );
    refused(
        "t.jsonl",
        &line("{\"text\": \"x\"}"),
        &["line 4: ", "\"label\"", "--label-field"],
    );
    refused(
        "t.jsonl",
        &line("{\"label\": \"a\"}"),
        &["line 4: ", "\"text\"", "--text-field"],
    );
    refused(
        "t.jsonl",
        &line("{\"text\": 4, \"label\": \"a\"}"),
        &["line 4: ", "a number", "expected text"],
    );
    refused(
        "t.jsonl",
        &line("{\"text\": \"x\", \"label\": null}"),
        &["line 4: ", "null"],
    );
    refused(
        "t.jsonl",
        &line("{\"text\": \"x\", \"label\": [\"a\"]}"),
        &["line 4: ", "multi-label"],
    );
    refused(
        "t.csv",
        b"text,label\nx,a\ny,\n",
        &["line 3: ", "\"label\" is empty", "leave the row out"],
    );
    refused(
        "t.jsonl",
        &line("{\"text\": \"x\", \"label\": \" \"}"),
        &["line 4: ", "\"label\" is empty"],
    );
    for (labels, expected) in [
        (
            ["[0,1,1]", "[0,1]"],
            ["line 1: ", "1 more than once", "0 or 1 for each label"],
        ),
        (
            ["[0.0,1.0]", "[0.5,1.0]"],
            ["line 1: ", "0.0 and not as a label", "0 or 1"],
        ),
        (
            ["[true,false]", "[true]"],
            ["line 1: ", "true and not as a label", "0 or 1"],
        ),
        (
            ["[3,7]", "[2.5]"],
            ["line 2: ", "2.5 and not as a label", "0 or 1"],
        ),
    ] {
        let rows = labels.map(|l| format!("{{\"text\": \"x\", \"label\": {l}}}\n"));
        refused("t.jsonl", rows.concat().as_bytes(), &expected);
    }
    refused(
        "t.jsonl",
        &line("{\"text\": [\"x\"], \"label\": \"a\"}"),
        &["line 4: ", "token-classification"],
    );
    refused(
        "t.jsonl",
        b"{\"text\": \"x\", \"label\": \"a\"}",
        &["1 different labels", "two labels"],
    );
    refused(
        "t.csv",
        b"text,label\nx,a\n\"y\nz\",b\nx,y,b\n",
        &["line 5: ", "3 cells", "2"],
    );
    refused(
        "t.csv",
        b"text,label\nx,a\n\xFF,b\n",
        &["line 3: ", "UTF-8"],
    );
    refused("t.csv", b"text,name\nx,a\n", &["line 2: ", "text, name"]);
    refused(
        "t.csv",
        b"text,label\r\nx,a\r\ny,\r\n",
        &["line 3: ", "\"label\" is empty"],
    );
    refused(
        "t.csv",
        b"text,label\r\nx,a\r\ny,b,c\r\n",
        &["line 3: ", "3 cells"],
    );
    refused(
        "t.csv",
        b"text,label,label\nx,a,b\n",
        &["line 1: ", "\"label\" twice"],
    );
    refused("t.csv", b"text,label\n", &["no row"]);
    refused(
        "t.csv",
        b"text,label\nx,a\n\"y,b\nz,a\n\nz,b\n",
        &["line 3: ", "quote is not closed", "twice"],
    );
    refused(
        "t.csv",
        b"text,label\nx,a\n\"y,b\nz,\"a\",b\n",
        &["line 3: ", "goes on behind its closing quote"],
    );
    refused(
        "t.jsonl",
        b"{\"text\": \"x\", \"label\": \"a\"}\n{\"text\": \"x\", \"text_pair\": \"y\", \"label\": \"b\"}\n",
        &["line 2: ", "\"text_pair\", which the first row", "--text-pair-field"],
    );
    refused(
        "t.parquet",
        b"PAR1 and then nothing of the kind",
        &["t.parquet", "write the file again"],
    );
    let tags = "{\"tokens\": [\"a\", \"b\"], \"tags\": [\"X\", \"Y\"]}\n";
    let words = |text: &str| format!("{tags}{text}\n").into_bytes();
    refused(
        "t.jsonl",
        &words("{\"tokens\": [\"a\"], \"tags\": [\"X\", \"Y\"]}"),
        &["line 2: ", "1 words and 2 tags"],
    );
    refused(
        "t.jsonl",
        &words("{\"tokens\": [\"a\"], \"tags\": \"X\"}"),
        &["line 2: ", "expected a list"],
    );
    refused(
        "t.jsonl",
        &words("{\"tokens\": [1], \"tags\": [\"X\"]}"),
        &["line 2: ", "expected words"],
    );
    refused(
        "t.jsonl",
        &words("{\"tokens\": \"a\", \"tags\": [\"X\"]}"),
        &["line 2: ", "list of words"],
    );
    let absent = Data::read(
        Path::new("/nowhere/t.csv"),
        None,
        None,
        &Fields::default(),
        None,
    );
    assert!(absent.unwrap_err().to_string().contains("/nowhere/t.csv"));
}

#[test]
fn what_does_not_fit_the_task_is_refused() {
    let dev = "{\"text\": \"x\", \"label\": \"a\"}\n{\"text\": \"x\", \"label\": \"z\"}\n";
    let error = read("t.jsonl", GOOD.as_bytes(), Some(dev), None).unwrap_err();
    says(
        &error,
        &["dev.jsonl", "line 2: ", "\"z\"", "2: a, b", "training file"],
    );
    let error = read("t.jsonl", GOOD.as_bytes(), None, Some(TaskKind::Regression)).unwrap_err();
    says(&error, &["line 1: ", "\"a\"", "a number"]);
    for label in ["nan", "inf", "1e60"] {
        let rows = format!("text,label\nx,0.5\ny,{label}\n");
        let error = read("t.csv", rows.as_bytes(), None, Some(TaskKind::Regression)).unwrap_err();
        says(&error, &["line 3: ", label]);
    }
    let error = read(
        "t.csv",
        b"text,label\nx,a\n",
        None,
        Some(TaskKind::MultiLabel),
    )
    .unwrap_err();
    says(&error, &["line 2: ", "list", "CSV and TSV hold no lists"]);
    let kind = Some(TaskKind::TokenClassification);
    let rows = b"{\"text\": \"a\", \"label\": [\"X\", \"Y\"]}";
    says(
        &read("t.jsonl", rows, None, kind).unwrap_err(),
        &["line 1: ", "list of words"],
    );
}

#[test]
fn tasks_are_told_by_their_labels() {
    let of = |name: &str, content: &str| {
        let data = read(name, content.as_bytes(), None, None).unwrap();
        (data.task.kind, data.task.labels.join(" "), data.train)
    };
    let (kind, labels, rows) = of(
        "t.csv",
        "\u{feff}label,text\n10,x\n9,\"a \"\"b\"\", c\"\n-1,z\n",
    );
    assert_eq!(
        (kind, labels.as_str()),
        (TaskKind::Classification, "-1 9 10")
    );
    assert_eq!(rows[0].target, Target::Class(2));
    assert_eq!(format!("{:?}", rows[1].input), "Text(\"a \\\"b\\\", c\")");
    let (kind, labels, rows) = of("t.tsv", "text\ttext_pair\tlabel\n\"x\ty\t1\nx\ty\t2.5\n");
    assert_eq!(
        (kind, labels.as_str(), rows[0].number),
        (TaskKind::Regression, "", 2)
    );
    assert_eq!(format!("{:?}", rows[0].input), "Pair(\"\\\"x\", \"y\")");
    assert_eq!(rows[1].target, Target::Number(2.5));
    // Text in a file with types is text, whatever it looks like.
    let rows = "{\"text\": \"x\", \"label\": \"1.5\"}\n{\"text\": \"x\", \"label\": \"2.5\"}";
    assert_eq!(of("t.jsonl", rows).0, TaskKind::Classification);
    let rows = "{\"text\": \"x\", \"label\": 1.0}\n{\"text\": \"x\", \"label\": 2}";
    assert_eq!(of("t.jsonl", rows).0, TaskKind::Regression);
    let rows = "{\"text\": \"x\", \"label\": true}\n{\"text\": \"x\", \"label\": false}";
    assert_eq!(of("t.jsonl", rows).1, "false true");
    let rows =
        "{\"text\": \"x\", \"label\": [\"b\", \"a\", \"b\"]}\n{\"text\": \"x\", \"label\": []}";
    let (kind, labels, rows) = of("t.jsonl", rows);
    assert_eq!((kind, labels.as_str()), (TaskKind::MultiLabel, "a b"));
    assert_eq!(
        (&rows[0].target, &rows[1].target),
        (&Target::Set(vec![0, 1]), &Target::Set(vec![]))
    );
}

/// Nearly all labels are numbers, and one is none: that is a mistake in the row more often than the name of a class.
#[test]
fn an_odd_label_among_numbers_is_no_class() {
    let rows = |odd: &str, others: usize| {
        let numbers = (0..others).map(|i| format!("x,{i}.5\n"));
        format!("text,label\n{}y,{odd}\n", numbers.collect::<String>())
    };
    for odd in ["NaN", "many", "inf"] {
        let error = read("t.csv", rows(odd, 20).as_bytes(), None, None).unwrap_err();
        says(&error, &["line 22: ", odd, "--task regression"]);
        // Few are too few to say what is odd.
        assert!(read("t.csv", rows(odd, 3).as_bytes(), None, None).is_ok());
        let kind = Some(TaskKind::Classification);
        assert!(read("t.csv", rows(odd, 20).as_bytes(), None, kind).is_ok());
    }
    let pointed = "text,label\nx,1.0\ny,2.0\n";
    let data = read("t.csv", pointed.as_bytes(), None, None).unwrap();
    assert_eq!(data.task.kind, TaskKind::Regression);
}

#[test]
fn what_is_dubious_is_told() {
    let rows = "{\"text\": \"red\", \"label\": \"a\"}\n{\"text\": \" \", \"label\": \"b\"}\n";
    let dev = "{\"text\": \"red\", \"label\": \"a\"}\n{\"text\": \"blue\", \"label\": \"b\"}\n";
    let told = read("t.jsonl", rows.as_bytes(), Some(dev), None)
        .unwrap()
        .warnings();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("1 of 2 dev rows have the text of a training row"));
    assert!(told[1].contains("1 rows hold no text"));
    let spaced = "text,label\nx,a\ny, a\nz,b\n";
    let told = read("t.csv", spaced.as_bytes(), None, None)
        .unwrap()
        .warnings();
    assert!(
        told.len() == 1 && told[0].contains("differ by spaces alone"),
        "{told:?}"
    );
    assert!(
        read("t.jsonl", GOOD.as_bytes(), None, None)
            .unwrap()
            .warnings()
            .is_empty()
    );
}

#[test]
fn fields_go_by_other_names_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.jsonl");
    fs::write(&path, "{\"q\": \"x\", \"r\": \"y\", \"text\": \"z\", \"ok\": 0}\n{\"q\": \"x\", \"r\": \"y\", \"ok\": 1}\n").unwrap();
    let name = |name: &str| Some(name.to_owned());
    let fields = Fields {
        text: name("q"),
        text_pair: name("r"),
        label: name("ok"),
    };
    let data = Data::read(&path, Some(&path), None, &fields, None).unwrap();
    assert_eq!(format!("{:?}", data.dev[1].input), "Pair(\"x\", \"y\")");
    let fields = Fields {
        text_pair: name("s"),
        ..fields
    };
    says(
        &Data::read(&path, None, None, &fields, None).unwrap_err(),
        &["line 1: ", "\"s\"", "--text-pair-field"],
    );
}

#[test]
fn options_out_of_range_are_refused_before_anything_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let train = colours(&at("train.jsonl"), 8, 1);
    let model = plain(folder.path());
    let refused = |files: &[&Path], out: &str, options: &FinetuneConfig, parts: &[&str]| {
        let error = run(&model, files, &at(out), options, &mut Seen::default()).unwrap_err();
        let text = format!("{error} {}", error.hint().unwrap_or_default());
        parts
            .iter()
            .for_each(|part| assert!(text.contains(part), "no {part:?} in {text}"));
        assert!(!at("out").exists());
    };
    let base = options();
    let only: &[&Path] = &[&train];
    let both: &[&Path] = &[&train, &train];
    refused(
        only,
        "out",
        &FinetuneConfig {
            patience: Some(1),
            ..base.clone()
        },
        &["--patience", "--dev"],
    );
    refused(
        only,
        "out",
        &FinetuneConfig {
            eval_every: 1,
            ..base.clone()
        },
        &["--eval-every", "--dev"],
    );
    refused(
        only,
        "out",
        &FinetuneConfig {
            batch_size: 0,
            ..base.clone()
        },
        &["--batch-size"],
    );
    refused(
        only,
        "out",
        &FinetuneConfig {
            learning_rate: f64::NAN,
            ..base.clone()
        },
        &["--learning-rate"],
    );
    refused(
        only,
        "out",
        &FinetuneConfig {
            dropout: Some(1.0),
            ..base.clone()
        },
        &["--dropout"],
    );
    refused(
        only,
        "out",
        &FinetuneConfig {
            max_length: Some(33),
            ..base.clone()
        },
        &["--max-length", "32 positions"],
    );
    refused(
        only,
        "out",
        &FinetuneConfig {
            max_length: Some(3),
            ..base.clone()
        },
        &["--max-length", "at least 4"],
    );
    refused(
        only,
        "out",
        &FinetuneConfig {
            warmup_steps: Some(9),
            ..base.clone()
        },
        &["--warmup-steps", "8 steps"],
    );
    refused(
        only,
        "out",
        &FinetuneConfig {
            layer_decay: 0.0,
            ..base.clone()
        },
        &["--layer-decay"],
    );
    let metric = Some("spearman".into());
    refused(
        both,
        "out",
        &FinetuneConfig {
            metric,
            ..base.clone()
        },
        &["--metric", "accuracy, f1_macro"],
    );
    fs::create_dir(at("full")).unwrap();
    fs::write(at("full/x"), "").unwrap();
    refused(only, "full", &base, &["full", "holds files", "--out"]);
    refused(only, "full/x", &base, &["no folder"]);
    // Another classifier than the task's.
    let foreign = model_with(folder.path());
    let error = run(&foreign, only, &at("out"), &base, &mut Seen::default()).unwrap_err();
    says(&error, &["classifier.weight", "[2, 32]", "other labels"]);
    // What is there but empty is taken.
    fs::create_dir(at("empty")).unwrap();
    run(
        &model,
        only,
        &at("empty"),
        &FinetuneConfig { epochs: 1, ..base },
        &mut Seen::default(),
    )
    .unwrap();
    assert!(at("empty/model.safetensors").exists() && !at(".empty.partial").exists());
}

fn model_with(folder: &Path) -> std::path::PathBuf {
    let folder = folder.join("foreign");
    fs::create_dir(&folder).unwrap();
    model(&folder, &shape(), &[("classifier", 2)], |_| true)
}

#[test]
fn steps_without_a_finite_gradient_are_counted_and_end_it() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    // Twice this is beyond single precision.
    let rows = |huge: std::ops::Range<usize>, label: f64| {
        (0..12).map(
            move |i| json!({"text": "red", "label": if huge.contains(&i) { label } else { 0.5 }}),
        )
    };
    let one = lines(&at("one.jsonl"), rows(5..6, 3.4e38));
    let all = lines(&at("all.jsonl"), rows(0..12, 3.4e38));
    // Of this the square is, while its gradient is finite.
    let square = lines(&at("square.jsonl"), rows(5..6, 1e38));
    let model = plain(folder.path());
    let options = FinetuneConfig {
        epochs: 5,
        batch_size: 1,
        max_skipped: 4,
        ..options()
    };
    let mut seen = Seen::default();
    let results = run(&model, &[&one], &at("out"), &options, &mut seen).unwrap();
    assert_eq!(
        (
            results.seeds[0].skipped,
            seen.skipped.len(),
            seen.steps.len()
        ),
        (5, 5, 55)
    );
    let mut other = Seen::default();
    let results = run(&model, &[&square], &at("other"), &options, &mut other).unwrap();
    assert_eq!(results.seeds[0].skipped, 5);
    // A model that has nothing to say is none, although its last steps were fewer than are borne, and no dev examples tell.
    let wild = FinetuneConfig {
        learning_rate: 1e30,
        max_skipped: 1_000,
        ..options.clone()
    };
    let plainly = lines(&at("plainly.jsonl"), rows(0..0, 0.0));
    let error = run(&model, &[&plainly], &at("none"), &wild, &mut seen).unwrap_err();
    says(&error, &["no finite number", "--learning-rate"]);
    assert!(!at("none").exists());
    let error = run(&model, &[&all], &at("none"), &options, &mut seen).unwrap_err();
    says(
        &error,
        &["seed 0, step 4", "4 times in a row", "--learning-rate"],
    );
    assert!(!at("none").exists());
}
