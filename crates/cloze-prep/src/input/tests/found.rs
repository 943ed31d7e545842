//! Which files are found, and what is said where they are not what their names say.

use std::os::unix::fs::symlink;
use std::sync::Mutex;

use super::*;
use crate::tokenize::reading::Reading;
use crate::{Progress, Stage};

/// What programs keep in folders of their own is not what somebody means who gives the folder around them.
#[test]
fn hidden_folders_are_passed_over() {
    let folder = Folder::new();
    let text = folder.write("in/a.txt", "A river.");
    for hidden in [
        "in/.git/b.txt",
        "in/c/.ipynb_checkpoints/c.txt",
        "in/.d.txt",
    ] {
        folder.write(hidden, "A bridge.");
    }
    let options = InputOptions::of(&Config::default());
    let around = text.parent().unwrap().to_path_buf();
    let plan = InputPlan::resolve(std::slice::from_ref(&around), &options).unwrap();
    let read: Vec<_> = plan.sources.iter().map(|s| s.path.clone()).collect();
    assert_eq!((read, plan.ignored.len()), (vec![text], 3));
    // One that is named is meant.
    let named = InputPlan::resolve(&[around.join(".git")], &options).unwrap();
    assert_eq!(named.sources.len(), 1);
}

/// A link that leads nowhere is named with where it leads, if it would be read.
#[test]
fn links_that_lead_nowhere() {
    let folder = Folder::new();
    let text = folder.write("in/a.txt", "A text.");
    let at = |name: &str| folder.0.path().join(name);
    symlink("no/such", at("in/.#lock.txt")).unwrap();
    symlink("no/such", at("in/core")).unwrap();
    let resolve = |input: PathBuf| InputPlan::resolve(&[input], &options());
    // Those that other programs leave are passed over.
    let plan = resolve(at("in")).unwrap();
    assert_eq!((plan.sources.len(), plan.ignored.len()), (1, 2));
    assert_eq!(resolve(at("in/*.txt")).unwrap().sources[0].path, text);
    symlink("no/such", at("in/b.txt")).unwrap();
    for input in ["in", "in/b.txt", "in/*.txt", "in/core"] {
        let error = resolve(at(input)).unwrap_err();
        let said = error.to_string();
        assert!(
            said.ends_with(": a link to no/such, which is not there"),
            "{said}"
        );
        assert!(error.hint().unwrap().contains("link"));
    }
}

/// What a person is told.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Progress for Told {
    fn begin(&self, _: Stage, _: u64) {}
    fn advance(&self, _: u64) {}
    fn count(&self, _: u64, _: u64) {}
    fn end(&self) {}
    fn say(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
}

#[test]
fn a_text_that_is_in_truth_something_else_is_told_of_once() {
    let folder = Folder::new();
    let line = "{\"id\": 1, \"text\": \"A text.\"}\n";
    folder.write("a.txt", "A text.\n");
    folder.write("b.txt.gz", &compressed(line.as_bytes())[0].1);
    folder.write("c.txt", line);
    folder.write("d.txt", "<!DOCTYPE html><p>A page.");
    let told = |name: &str, options: &InputOptions| {
        let plan = InputPlan::resolve(&[folder.0.path().join(name)], options).unwrap();
        let told = Told::default();
        let mut reading = Reading::new(&plan, (0, 0), 1, &told);
        while reading.next().unwrap().is_some() {}
        told.0.lock().unwrap().clone()
    };
    let plain = InputOptions::of(&Config::default());
    let [once] = &told("", &plain)[..] else {
        panic!("once");
    };
    assert!(
        once.contains("b.txt.gz begins with a JSON object of [id, text]"),
        "{once}"
    );
    assert!(once.contains("--input-format jsonl"), "{once}");
    let page = told("d.txt", &plain);
    assert!(page[0].contains("--input-format html"), "{page:?}");
    assert!(told("a.txt", &plain).is_empty());
    let as_text = InputOptions {
        format: Some(Format::Text),
        ..plain
    };
    assert!(told("", &as_text).is_empty());
}

/// Tables whose cells are separated by something else.
#[test]
fn another_delimiter_is_named() {
    let folder = Folder::new();
    for (name, text, says, hint) in [
        ("a.csv", "id;text\n1;A text.\n", "semicolons", "with commas"),
        (
            "b.csv",
            "\"id\";\"text\"\n1;A text.\n",
            "semicolons",
            "with commas",
        ),
        (
            "c.csv",
            "id\ttext\n1\tA text.\n",
            "tabs",
            "--input-format tsv",
        ),
        (
            "d.tsv",
            "id,text\n1,A text.\n",
            "commas",
            "--input-format csv",
        ),
        (
            "e.csv",
            "id;words\n1;A text.\n",
            "no column",
            "--text-field",
        ),
    ] {
        let error = read(
            &folder.write(name, text),
            &InputOptions::of(&Config::default()),
        );
        let error = error.unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert!(error.hint().unwrap().contains(hint), "{error}");
    }
}

/// A line that ends too early is said to, at its end.
#[test]
fn broken_json_has_a_place() {
    let folder = Folder::new();
    for (text, place) in [
        ("{\"text\": \"a\n", "column 11: EOF"),
        ("{\"text\": \"a\r\n", "column 11: EOF"),
        ("{\n", "column 1: EOF"),
        ("{\"text\": \"a\tb\"}\n", "column 12: control character"),
    ] {
        let error = read(
            &folder.write("a.jsonl", text),
            &InputOptions::of(&Config::default()),
        );
        let error = error.unwrap_err().to_string();
        assert!(error.contains(place), "{error}");
    }
}
