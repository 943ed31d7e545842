use std::fs;

use super::*;

/// What lies beside a dataset's files: data is a problem, anything else is noted, and what is named, however it is written, is neither.
#[test]
fn what_is_no_part_of_a_dataset_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for name in [
        "manifest.json",
        "documents.arrow",
        "train/part-00000.arrow",
        "tokenizer/vocab.txt",
    ] {
        fs::create_dir_all(at(name).parent().unwrap()).unwrap();
        fs::write(at(name), "").unwrap();
    }
    let named = [
        "documents.arrow",
        "./train//part-00000.arrow",
        "tokenizer/vocab.txt",
    ];
    let look = || {
        let mut report = Report::default();
        check_surplus(folder.path(), named, &mut report);
        report
    };
    let none = look();
    assert!(
        none.problems.is_empty() && none.notes.is_empty(),
        "{none:?}"
    );
    #[cfg(unix)]
    {
        fs::rename(at("train/part-00000.arrow"), at("train/kept.arrow")).unwrap();
        std::os::unix::fs::symlink("kept.arrow", at("train/part-00000.arrow")).unwrap();
        assert!(look().problems.is_empty(), "behind a link");
    }
    fs::write(at(".DS_Store"), "").unwrap();
    assert_eq!(look().notes, ["no part of the dataset: .DS_Store"]);
    fs::create_dir_all(at(".work/tokens")).unwrap();
    fs::create_dir_all(at("train/deep")).unwrap();
    for name in [
        ".work/tokens/part-00000.arrow",
        "train/._part-00000.arrow",
        "train/README.md",
        "train/part-00001.arrow",
        "train/deep/part-00000.parquet",
    ] {
        fs::write(at(name), "").unwrap();
    }
    let all = look();
    assert_eq!(
        all.notes,
        ["no parts of the dataset: .DS_Store, .work/, train/._part-00000.arrow, train/README.md"]
    );
    let mut paths: Vec<_> = all.problems.iter().map(|p| p.path.clone()).collect();
    paths.sort();
    assert_eq!(
        paths,
        [
            at("train/deep/part-00000.parquet"),
            at("train/part-00001.arrow")
        ]
    );
    assert_eq!(all.found[&Check::Files], 2);
    for i in 0..30 {
        fs::write(at(&format!("x{i:02}.txt")), "").unwrap();
    }
    assert!(
        look().notes[0].ends_with(", and 14 more"),
        "{:?}",
        look().notes
    );
}

/// The path of a file is said once.
#[test]
fn an_error_is_said_without_the_path_that_is_said_already() {
    let path = Path::new("data/train/a.arrow");
    let error = Error::Size {
        path: path.into(),
        expected: 2,
        found: 1,
    };
    assert_eq!(error.why(path), "1 bytes, the manifest says 2");
    let other = Path::new("data");
    assert_eq!(
        error.why(other),
        "data/train/a.arrow: 1 bytes, the manifest says 2"
    );
}
