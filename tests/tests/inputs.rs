//! However a corpus comes, the dataset is the same.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fmt::Write as _;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use cloze_tests::{Place, document, executable};

/// All files but the manifest, which names the sources.
fn rows(place: &Place, dataset: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = place.files(dataset);
    files.retain(|(path, _)| path.extension().is_some_and(|e| e == "arrow"));
    assert!(files.len() >= 3, "{} files", files.len());
    files
}

/// Runs `cloze` with a file on its standard input.
fn fed(place: &Place, file: &str, line: &str) -> std::process::Output {
    Command::new(executable("cloze"))
        .args(line.split_whitespace())
        .current_dir(place.path("."))
        .stdin(Stdio::from(File::open(place.path(file)).unwrap()))
        .output()
        .unwrap()
}

#[test]
fn the_same_rows_from_tables_lists_and_standard_input() {
    let place = Place::new();
    let (mut csv, mut tsv) = (String::from("id,n,text\n"), String::from("text\tid\n"));
    for i in 0..120 {
        let text = document(i).replace('\n', " ");
        writeln!(csv, "d{i},{i},\"{text}\"").unwrap();
        writeln!(tsv, "{text}\td{i}").unwrap();
    }
    place.write("corpus.csv", &csv);
    place.write("corpus.tsv", &tsv);
    let options = "--id-field id --seq-len 32 --jobs 2";
    place.prepare("corpus.csv", "csv", options);
    place.prepare("corpus.tsv", "tsv", options);
    assert!(rows(&place, "csv") == rows(&place, "tsv"));
    let stdin = |file: &str, format: &str, out: &str| {
        let line = format!(
            "prepare - --input-format {format} --tokenizer tokenizer --out {out} --validation-fraction 0.1 {options}"
        );
        let ran = fed(&place, file, &line);
        assert!(ran.status.success(), "{ran:?}");
    };
    stdin("corpus.csv", "csv", "in");
    stdin("corpus.tsv", "tsv", "in-tsv");
    for name in ["in", "in-tsv"] {
        assert!(rows(&place, name) == rows(&place, "csv"), "{name}");
        let _ = place.cloze(&format!("verify {name}")).status(0);
    }
    // What it was made of can be said again, too.
    let _ = place.cloze("verify csv --source corpus.csv").status(0);
    // More than that is more than it was made of, though every row is found.
    place.write(
        "more.csv",
        format!("{csv}d120,0,\"Nobody prepared this.\"\n"),
    );
    let found = place.cloze("verify csv --source more.csv").status(1).out();
    assert!(
        found.contains("the sources hold 121 documents, the dataset was made of 120")
            && found.contains("1 problem\n"),
        "{found}"
    );
    // In every way that it was said in the first time.
    place.write("sources", "corpus.csv\n");
    let looked = |ran: cloze_tests::Ran| ran.status(0).out().contains("source");
    assert!(looked(place.cloze("verify csv --files-from sources")));
    assert!(!looked(place.cloze("verify csv")));
    let ran = fed(&place, "sources", "verify csv --files-from -");
    assert!(ran.status.success(), "{ran:?}");
    let by = |rest: &str| {
        let line = format!("inspect csv --doc d7 --json {rest}");
        place.cloze(&line).status(0).out()
    };
    assert_eq!(by("--files-from sources"), by("--source corpus.csv"));
    assert_ne!(by("--files-from sources"), by(""));
    let refused = |line: &str, says: &str| {
        let _ = place.cloze(line).status(2).says(&[says]);
    };
    // Both at once are all of them.
    let twice = "corpus.csv is given twice";
    refused("verify csv --source corpus.csv --files-from sources", twice);
    place.write("sources", "corpus.tsv\nnone.csv\n");
    refused("verify csv --files-from sources", "none.csv");
    refused("inspect csv --doc d7 --files-from sources", "none.csv");
    refused("verify csv --files-from nothing", "nothing");
    // What they are for must be asked for.
    refused("inspect csv --files-from sources", "--doc");
    refused("inspect csv --source corpus.csv", "--doc");
    refused("verify csv --exclude corpus.csv", "--source");

    place.prepare("corpus corpus.jsonl", "two", "--seq-len 32");
    place.write("list", "corpus\r\n\n  \ncorpus.jsonl\n");
    let list = "prepare --files-from list --tokenizer tokenizer --out listed --validation-fraction 0.1 --seq-len 32";
    let _ = place.cloze(list).status(0);
    assert!(place.files("two") == place.files("listed"), "manifests too");
    let ran = fed(
        &place,
        "list",
        &list
            .replace("from list", "from -")
            .replace("listed", "piped"),
    );
    assert!(ran.status.success(), "{ran:?}");
    assert!(place.files("two") == place.files("piped"));
    // Two lists are both read, and standard input is one thing.
    place.write("first", "corpus\n");
    place.write("second", "corpus.jsonl\n");
    let lists = list.replace("from list", "from first --files-from second");
    let _ = place.cloze(&lists.replace("listed", "both")).status(0);
    assert!(place.files("two") == place.files("both"));
    let ran = fed(
        &place,
        "list",
        &list
            .replace("from list", "from - -")
            .replace("listed", "none"),
    );
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert_eq!(ran.status.code(), Some(2), "{said}");
    assert!(said.contains("standard input is read once"), "{said}");
    // What is written beside text would be text the next time.
    let _ = place
        .cloze("prepare corpus --tokenizer tokenizer --out corpus/data")
        .status(2)
        .says(&["corpus/data: lies in corpus", "folder elsewhere"]);
    assert!(!place.path("corpus/data").exists());
    place.write("list", "\n");
    let _ = place
        .cloze(&list.replace("listed", "none"))
        .status(2)
        .says(&["list names no file"]);
    let _ = place
        .cloze("prepare --tokenizer tokenizer --out none")
        .status(2);
}

#[test]
fn encodings_are_said_or_found() {
    let place = Place::new();
    let text: String = (0..40)
        .map(|i| format!("{} Café à la crème.\u{c}\n", document(i)))
        .collect();
    let latin: Vec<u8> = text.chars().map(|c| c as u8).collect();
    place.write("utf8.txt", &text);
    place.write("latin.txt", &latin);
    place.prepare("utf8.txt", "utf8", "--seq-len 32");
    for label in ["latin1", "windows-1252", "detect"] {
        let ran = place.prepare(
            "latin.txt",
            label,
            &format!("--seq-len 32 --encoding {label}"),
        );
        assert!(rows(&place, label) == rows(&place, "utf8"), "{label}");
        assert!(
            ran.err().contains("1 file read as windows-1252"),
            "{}",
            ran.err()
        );
    }
    let wrong = |encoding: &str| {
        place
            .cloze(&format!(
                "prepare latin.txt --tokenizer tokenizer --out bad {encoding}"
            ))
            .status(2)
    };
    let _ = wrong("").says(&["latin.txt: line 1, byte", "not UTF-8", "--encoding"]);
    let _ = wrong("--encoding klingon").says(&["--encoding is \"klingon\"", "shift_jis"]);
    let _ = place
        .cloze("vocab train latin.txt --out v --encoding klingon")
        .status(2)
        .says(&["--encoding is \"klingon\""]);
    let _ = place
        .cloze("vocab train latin.txt --out v --encoding latin1")
        .status(0);
}

/// What is read from a pipe cannot be read twice, so a stop begins anew, and gives the same.
#[test]
fn standard_input_is_no_file() {
    let place = Place::new();
    place.write("packed", [0x1F, 0x8B, 8, 0, 0xFF, 0xFE]);
    let ran = fed(&place, "packed", "prepare - --tokenizer tokenizer --out a");
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(said.contains("gzip: send it through zcat"), "{said}");
    // Beside that: what is no text is told, whichever way it came.
    place.write("nul.txt", b"A river.\x0c\0A\0 \0r\0.\0\x0cAnother.\0");
    let _ = place.prepare("nul.txt", "nul", "").says(&[
        "warning: 2 documents with NUL characters",
        "--encoding utf-16le",
        "first nul.txt: document 1",
    ]);
    let _ = place
        .cloze("prepare - --input-format parquet --tokenizer tokenizer --out a")
        .status(2)
        .says(&["standard input"]);
    let _ = place
        .cloze("prepare - - --tokenizer tokenizer --out a")
        .status(2)
        .says(&["given twice"]);
    let line = "prepare - --tokenizer tokenizer --out a --seq-len 32";
    let ran = fed(&place, "corpus/a.txt", line);
    assert!(ran.status.success(), "{ran:?}");
    place.prepare(
        "corpus/a.txt",
        "b",
        "--seq-len 32 --validation-fraction 0.01",
    );
    assert!(rows(&place, "a") == rows(&place, "b"));
}

/// It is in the dataset, after cleaning and in other formats too, and `inspect` shows it.
#[test]
fn metadata_stays_with_its_document() {
    let place = Place::new();
    let row = |i: usize| {
        let (text, id) = (document(i / 2), format!("d{i}"));
        let row = serde_json::json!({"id": id, "text": text, "url": format!("https://x/{i}"), "year": 2000 + i});
        format!("{row}\n")
    };
    place.write("meta.jsonl", (0..60).map(row).collect::<String>());
    let options = "--seq-len 32 --id-field id --meta-field url,year";
    for (name, more) in [("data", ""), ("clean", "--dedup exact --tidy-space")] {
        place.prepare("meta.jsonl", name, &format!("{options} {more}"));
        let _ = place.cloze(&format!("verify {name}")).status(0);
        let ran = place.cloze(&format!("inspect {name} --doc d40")).status(0);
        assert!(
            ran.out()
                .contains("{\"url\":\"https://x/40\",\"year\":2040}"),
            "{}",
            ran.out()
        );
        let ran = place
            .cloze(&format!("inspect {name} --doc d40 --json"))
            .status(0);
        let shown: serde_json::Value = serde_json::from_str(&ran.out()).unwrap();
        assert_eq!(shown["documents"][0]["meta"]["year"], 2040);
    }
    // An older program must not take it for what it knows.
    let manifest = |name: &str| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(place.path(name).join("manifest.json")).unwrap())
            .unwrap()
    };
    assert_eq!(manifest("data")["format_version"], 5);
    let mut older = manifest("data");
    older["format_version"] = 1.into();
    place.prepare("meta.jsonl", "older", options);
    place.write("older/manifest.json", older.to_string());
    let _ = place
        .cloze("inspect older")
        .status(2)
        .says(&["metadata need version 5"]);
    for (from, to, format) in [("data", "columns", "parquet"), ("columns", "back", "arrow")] {
        let _ = place
            .cloze(&format!("convert {from} {to} --to {format}"))
            .status(0);
    }
    assert!(place.files("data") == place.files("back"));
    // Where nothing is kept there is no column, and the bytes are what they were.
    place.prepare("meta.jsonl", "none", "--seq-len 32 --id-field id");
    let documents = |name: &str| std::fs::read(place.path(name).join("documents.arrow")).unwrap();
    assert!(documents("none").len() < documents("data").len());
    assert_eq!(manifest("none")["format_version"], 1);
    let ran = place.cloze("inspect none --doc d40").status(0);
    assert!(!ran.out().contains("https://"), "{}", ran.out());
}

/// What reads from elsewhere is built in where that is asked for.
#[cfg(not(feature = "remote"))]
#[test]
fn addresses_are_refused_with_how_to_build_what_reads_them() {
    let place = Place::new();
    for input in ["s3://bucket/a.jsonl", "https://me:word@host/a.txt?x=1"] {
        let ran = place
            .cloze(&format!("prepare {input} --tokenizer tokenizer --out a"))
            .status(2)
            .says(&[
                "this cloze was built without",
                "hint: ",
                "--features remote",
            ]);
        assert!(!ran.err().contains("word"), "{}", ran.err());
    }
}

/// Fields that nothing has are told of, with what there is instead.
#[test]
fn fields_that_are_nowhere() {
    let place = Place::new();
    let prepare = |inputs: &str, out: &str, options: &str| {
        place.cloze(&format!(
            "prepare {inputs} --tokenizer tokenizer --out {out} --seq-len 32 {options}"
        ))
    };
    let says = [
        "warning: no document has the field \"url\", which --meta-field names",
        "the first line of corpus.jsonl has [id, text]",
    ];
    let _ = prepare("corpus.jsonl", "a", "--meta-field id,url")
        .status(0)
        .says(&says);
    // One document that has it is enough, and so is one that is read in an earlier run.
    place.write("one.jsonl", "{\"text\": \"Old river.\", \"url\": null}\n");
    let line = "corpus.jsonl one.jsonl";
    for (out, options) in [("b", ""), ("c", "--dedup exact")] {
        let options = format!("--meta-field url --tokens {out}-tokens {options}");
        for again in ["", "-again"] {
            let ran = prepare(line, &format!("{out}{again}"), &options).status(0);
            assert!(!ran.err().contains("no document has"), "{}", ran.err());
        }
    }
    // Text has no fields at all.
    for (option, name) in [
        ("--id-field id", "--id-field"),
        ("--meta-field x,y", "--meta-field"),
    ] {
        let why = format!("{name} names a field, and no input has fields");
        let _ = prepare("corpus", "none", option).status(2).says(&[&why]);
        assert!(!place.path("none").exists());
    }
    let _ = prepare("corpus corpus.jsonl", "mixed", "--id-field id").status(0);
    // What names a document must be in every line.
    let _ = prepare("corpus.jsonl", "none", "--id-field url")
        .status(2)
        .says(&["line 1: no field \"url\"", "--id-field"]);
}

/// Its vocabulary would be read as prose.
#[test]
fn a_dataset_is_no_text() {
    let place = Place::new();
    place.prepare("corpus.jsonl", "texts/data", "--seq-len 32");
    place.write("texts/a.txt", document(1));
    place.write("texts/manifest.json", "{\"format\": \"somebody's\"}");
    let _ = place
        .cloze("convert texts/data columns --to parquet")
        .status(0);
    let prepare = |inputs: &str| {
        place.cloze(&format!(
            "prepare {inputs} --tokenizer tokenizer --out out --validation-fraction 0 --seq-len 32"
        ))
    };
    for (inputs, dataset) in [
        ("texts/data", "texts/data"),
        ("columns", "columns"),
        ("texts", "texts/data"),
        ("texts/**/*.txt", "texts/data"),
        ("**/*.txt", "columns"),
    ] {
        let says = format!("{dataset}: a dataset that cloze made, which is no text");
        let hint = format!("`cloze inspect {dataset}` names");
        let _ = prepare(inputs).status(2).says(&[&says, "hint: ", &hint]);
        assert!(!place.path("out").exists(), "{inputs}");
    }
    let _ = place
        .cloze("vocab train texts --out vocabulary")
        .status(2)
        .says(&["a dataset that cloze made"]);
    // Beside one, or in one where that is said, there is text.
    let _ = prepare("texts/*.txt texts/data/tokenizer/vocab.txt").status(0);
}

/// Standard input has no name that says what it is.
#[test]
fn lines_of_json_are_known_on_standard_input() {
    let place = Place::new();
    place.prepare("corpus.jsonl", "disk", "--seq-len 32");
    let prepare = |file: &str, out: &str, options: &str| {
        let line = format!(
            "prepare - --tokenizer tokenizer --out {out} --validation-fraction 0.1 --seq-len 32 {options}"
        );
        let ran = fed(&place, file, &line);
        (ran.status.code(), String::from_utf8(ran.stderr).unwrap())
    };
    let said = "standard input begins with a JSON object of [id, text]: read as JSONL";
    let (status, text) = prepare("corpus.jsonl", "json", "");
    assert!(status == Some(0) && text.contains(said), "{text}");
    assert!(rows(&place, "json") == rows(&place, "disk"));
    let (status, text) = prepare("corpus.jsonl", "none", "--text-field body");
    assert!(
        status == Some(2) && text.contains("it has [id, text]"),
        "{text}"
    );
    // It is text where that is said, and where it is.
    let (status, text) = prepare("corpus.jsonl", "text", "--input-format text");
    assert!(status == Some(0) && !text.contains("JSON"), "{text}");
    let documents = |out: &str| std::fs::read(place.path(out).join("documents.arrow")).unwrap();
    assert!(documents("text") != documents("disk"));
    let (status, text) = prepare("corpus/a.txt", "prose", "");
    assert!(status == Some(0) && !text.contains("JSON"), "{text}");
    place.prepare("corpus/a.txt", "prose-disk", "--seq-len 32");
    assert!(rows(&place, "prose") == rows(&place, "prose-disk"));
}

/// Named pipes, and what shells give for `<(…)`: read once, from beginning to end.
#[cfg(unix)]
#[test]
fn pipes_are_read_as_files_are() {
    let place = Place::new();
    let options = "--tokenizer tokenizer --validation-fraction 0.1 --seq-len 32 --id-field id";
    place.prepare("corpus.jsonl", "disk", "--seq-len 32 --id-field id");
    let shell = |line: String| {
        let ran = Command::new("bash")
            .args(["-c", &line])
            .env("CLOZE", executable("cloze"))
            .current_dir(place.path("."))
            .output()
            .unwrap();
        let said = String::from_utf8(ran.stderr).unwrap();
        (ran.status.code(), said)
    };
    for (input, out) in [
        ("<(cat corpus.jsonl)", "substituted"),
        ("/dev/stdin < <(cat corpus.jsonl)", "device"),
    ] {
        let (status, said) = shell(format!("$CLOZE prepare {options} --out {out} {input}"));
        assert!(
            status == Some(0) && said.contains("begins with a JSON object of [id, text]"),
            "{said}"
        );
        assert!(rows(&place, out) == rows(&place, "disk"), "{input}");
    }
    // One that has a name says what it holds by it; whole, it is not waited for again.
    let line = format!(
        "mkfifo a.jsonl; cat corpus.jsonl > a.jsonl & $CLOZE prepare a.jsonl {options} --out named"
    );
    let (status, said) = shell(line.clone());
    assert!(status == Some(0) && !said.contains("begins"), "{said}");
    assert!(rows(&place, "named") == rows(&place, "disk"));
    let (status, said) = shell(format!(
        "timeout 60 $CLOZE prepare a.jsonl {options} --out named --resume"
    ));
    assert!(
        status == Some(0) && said.contains("whole already"),
        "{said}"
    );
    let (status, said) = shell(format!(
        "mkfifo a.parquet; $CLOZE prepare a.parquet {options} --out no"
    ));
    assert!(
        status == Some(2) && said.contains("read from its end, which a pipe does not allow"),
        "{said}"
    );
    let (status, said) = shell(format!(
        "printf '{{\\n  \"text\": \"a\"\\n}}\\n' | $CLOZE prepare - {options} --out no"
    ));
    assert!(
        status == Some(2) && said.contains("JSON over several lines") && said.contains("jq -c ."),
        "{said}"
    );
    // In a folder it is not waited for, and that is said.
    let (status, said) = shell(format!(
        "mkdir with && cp corpus.jsonl with/ && mkfifo with/b.jsonl && timeout 60 $CLOZE prepare with {options} --out with-pipe"
    ));
    assert!(status == Some(0) && said.contains("with/b.jsonl"), "{said}");
    assert!(rows(&place, "with-pipe") == rows(&place, "disk"));
    // Nothing is read twice, whatever fails and whatever it is called.
    let (status, said) = shell(
        "mkfifo h.jsonl.gz; echo hello > h.jsonl.gz & timeout 60 $CLOZE prepare h.jsonl.gz corpus/a.txt --tokenizer tokenizer --seq-len 32 --on-bad-input skip --out skipped"
            .to_owned(),
    );
    assert!(
        status == Some(0) && said.contains("damaged archive, rest lost"),
        "{said}"
    );
    for twice in ["a.jsonl ./a.jsonl", "- /dev/stdin"] {
        let (status, said) = shell(format!(
            "cat corpus.jsonl | timeout 60 $CLOZE prepare {twice} {options} --out no"
        ));
        assert!(status == Some(2) && said.contains("given twice"), "{said}");
    }
    let (status, said) = shell(format!(
        "timeout 60 $CLOZE prepare corpus.jsonl {options} --exclude <(cat corpus.jsonl) --out no"
    ));
    assert!(
        status == Some(2) && said.contains("more than once"),
        "{said}"
    );
    let (status, said) =
        shell("timeout 60 $CLOZE compare <(cat corpus.jsonl) --init tokenizer --out no".to_owned());
    assert!(
        status == Some(2) && said.contains("more than once"),
        "{said}"
    );
    // A file by the name of standard input is looked at, as standard input is.
    let (status, said) = shell(format!(
        "$CLOZE prepare {options} --out file /dev/stdin < corpus.jsonl"
    ));
    assert!(
        status == Some(0) && said.contains("begins with a JSON object"),
        "{said}"
    );
    assert!(rows(&place, "file") == rows(&place, "disk"));
}

#[test]
fn lists_of_names_as_find_writes_them() {
    let place = Place::new();
    let prepare = |list: &str, out: &str| {
        place.cloze(&format!(
            "prepare --files-from {list} --tokenizer tokenizer --seq-len 32 --out {out}"
        ))
    };
    place.write("lines", "corpus/a.txt\r\n\ncorpus/b.txt");
    place.write("nul", "corpus/a.txt\0corpus/b.txt\0");
    let _ = prepare("lines", "lines-data").status(0);
    let _ = prepare("nul", "nul-data").status(0);
    assert!(rows(&place, "lines-data") == rows(&place, "nul-data"));
    place.write("binary", b"corpus/a.txt\n\x00\xff\xfe\n");
    let _ = prepare("binary", "no")
        .status(2)
        .says(&["binary: no list of names: line 2", "a line each"]);
    // Names may be any bytes.
    use std::os::unix::ffi::OsStrExt;
    let name = std::ffi::OsStr::from_bytes(b"corpus/caf\xe9.txt");
    if std::fs::copy(place.path("corpus/a.txt"), place.path("").join(name)).is_ok() {
        place.write("odd", b"\xef\xbb\xbfcorpus/b.txt\ncorpus/caf\xe9.txt\n");
        let _ = prepare("odd", "odd-data").status(0);
    }
}

/// A vocabulary lies as a text file where people keep their tokenizer, and is none.
#[test]
fn a_tokenizer_is_no_text() {
    let place = Place::new();
    place.write(
        "corpus/bert/vocab.txt",
        std::fs::read(place.path("tokenizer/vocab.txt")).unwrap(),
    );
    let prepare = |inputs: &str| {
        place.cloze(&format!(
            "prepare {inputs} --tokenizer corpus/bert --seq-len 32 --out data"
        ))
    };
    let _ = prepare("corpus").status(2).says(&[
        "corpus/bert/vocab.txt",
        "taken for text",
        "by a pattern",
    ]);
    assert!(!place.path("data").exists());
    let _ = prepare("corpus/*.txt").status(0);
    // Text beside it is text.
    place.write(
        "bert/vocab.txt",
        std::fs::read(place.path("tokenizer/vocab.txt")).unwrap(),
    );
    place.write("bert/texts/a.txt", document(1));
    let _ = place
        .cloze("prepare bert/texts --tokenizer bert --seq-len 32 --out beside")
        .status(0);
}

/// Rows that the model beside the tokenizer has no positions for are told of before they are made.
#[test]
fn rows_that_are_too_long_for_the_model() {
    let place = Place::new();
    place.write(
        "a.txt",
        "One sentence stands here. Another one follows it.\n",
    );
    place.write(
        "tokenizer/config.json",
        r#"{"max_position_embeddings": 64}"#,
    );
    for (length, told) in [(64, false), (65, true)] {
        let ran = place.prepare(
            "a.txt",
            &format!("out{length}"),
            &format!("--seq-len {length}"),
        );
        let said = ran.err();
        assert_eq!(
            said.contains("has 64 positions (config.json)"),
            told,
            "{said}"
        );
    }
}
