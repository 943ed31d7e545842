//! What the tests of the executables share: running them, and a corpus and a tokenizer of our own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

pub mod server;

/// A folder for one test, with a corpus and a tokenizer in it.
pub struct Place {
    folder: tempfile::TempDir,
}

/// Words of the made-up language that the tests' documents are written in.
const WORDS: [&str; 24] = [
    "river", "stone", "bridge", "winter", "signal", "garden", "copper", "window", "letter",
    "market", "silver", "tunnel", "walks", "finds", "keeps", "sends", "opens", "loses", "old",
    "quiet", "narrow", "bright", "every", "never",
];

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

impl Place {
    /// Makes the folder: `corpus.jsonl`, `corpus/{a,b}.txt`, `tokenizer/vocab.txt`.
    ///
    /// # Panics
    /// Where the folder cannot be made: then no test can run.
    #[must_use]
    pub fn new() -> Self {
        let place = Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
        };
        let special = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";
        let characters: String = ('a'..='z')
            .chain('0'..='9')
            .map(|c| format!("{c}\n##{c}\n"))
            .collect();
        place.write(
            "tokenizer/vocab.txt",
            format!("{special}{}\n.\n,\n{characters}", WORDS.join("\n")),
        );
        let lines: String = (0..120)
            .map(|i| {
                format!(
                    "{}\n",
                    serde_json::json!({"id": format!("d{i}"), "text": document(i)})
                )
            })
            .collect();
        place.write("corpus.jsonl", &lines);
        for (name, first) in [("a", 200), ("b", 300)] {
            let texts: Vec<String> = (first..first + 30).map(document).collect();
            place.write(&format!("corpus/{name}.txt"), texts.join("\n\u{c}\n"));
        }
        place
    }

    /// A path in the folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file, with the folders above it.
    ///
    /// # Panics
    /// Where it cannot be written.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a file has a folder")).expect("a folder");
        fs::write(path, content).expect("a file");
    }

    /// Runs `cloze` in the folder with the words of `line`.
    #[must_use]
    pub fn cloze(&self, line: &str) -> Ran {
        self.cloze_with(line, &[])
    }

    /// As [`cloze`](Self::cloze), with variables of the environment.
    #[must_use]
    pub fn cloze_with(&self, line: &str, variables: &[(&str, &str)]) -> Ran {
        let arguments: Vec<&str> = line.split_whitespace().collect();
        let output = Command::new(executable("cloze"))
            .args(&arguments)
            .envs(variables.iter().copied())
            .current_dir(self.folder.path())
            .output();
        Ran {
            line: line.into(),
            output: output.expect("cloze is built: run the tests by `cargo xtask test`"),
        }
    }

    /// Starts `cloze` in the folder with the words of `line`; what it prints is not kept.
    ///
    /// # Panics
    /// Where it cannot be started.
    #[must_use]
    pub fn start(&self, line: &str) -> Child {
        Command::new(executable("cloze"))
            .args(line.split_whitespace())
            .current_dir(self.folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("cloze is built: run the tests by `cargo xtask test`")
    }

    /// Writes `config.json`: a small BERT for the tokenizer in the folder.
    ///
    /// # Panics
    /// Where it cannot be written.
    pub fn write_config(&self) {
        let words = fs::read_to_string(self.path("tokenizer/vocab.txt")).expect("a vocabulary");
        self.write(
            "config.json",
            serde_json::json!({"model_type": "bert", "vocab_size": words.lines().count(), "hidden_size": 16,
                "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 32})
            .to_string(),
        );
    }

    /// Prepares `inputs` into `out` and demands that it works.
    pub fn prepare(&self, inputs: &str, out: &str, options: &str) -> Ran {
        self.cloze(&format!(
            "prepare {inputs} --tokenizer tokenizer --out {out} --validation-fraction 0.1 {options}"
        ))
        .status(0)
    }

    /// Every file below a folder of the place, by path, with its bytes.
    #[must_use]
    pub fn files(&self, folder: &str) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        collect(&self.path(folder), &mut files);
        let root = self.path(folder);
        files.sort();
        files
            .into_iter()
            .map(|(p, b)| (p.strip_prefix(&root).map(Path::to_path_buf).unwrap_or(p), b))
            .collect()
    }
}

fn collect(folder: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push((path.clone(), fs::read(&path).expect("a file")));
        }
    }
}

/// A document of a few sentences, the same for a number each time.
#[must_use]
pub fn document(number: usize) -> String {
    let word = |i: usize| WORDS[(number * 7 + i * 11 + i * i) % WORDS.len()];
    let sentence = |s: usize| {
        let words: Vec<&str> = (0..4 + (number + s) % 5).map(|w| word(s * 9 + w)).collect();
        let text = words.join(" ");
        format!("{}{}.", text[..1].to_uppercase(), &text[1..])
    };
    (0..2 + number % 6)
        .map(sentence)
        .collect::<Vec<_>>()
        .join(" ")
}

/// What an executable printed, and how it ended.
pub struct Ran {
    line: String,
    output: Output,
}

impl Ran {
    /// Demands an exit status.
    ///
    /// # Panics
    /// Where it is another one.
    #[must_use]
    pub fn status(self, expected: i32) -> Self {
        let code = self.output.status.code();
        assert_eq!(
            code,
            Some(expected),
            "cloze {}\n{}\n{}",
            self.line,
            self.out(),
            self.err()
        );
        self
    }

    /// Demands that standard error says each of `expected`.
    ///
    /// # Panics
    /// Where it does not.
    #[must_use]
    pub fn says(self, expected: &[&str]) -> Self {
        for text in expected {
            assert!(
                self.err().contains(text),
                "cloze {}: does not say {text:?}:\n{}",
                self.line,
                self.err()
            );
        }
        assert!(!self.err().contains("panicked"), "{}", self.err());
        self
    }

    /// Standard output.
    #[must_use]
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    /// Standard error.
    #[must_use]
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }
}

/// An executable of ours: beside the folder that the test itself lies in.
///
/// # Panics
/// Where the test does not know where it lies.
#[must_use]
pub fn executable(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let folder = test
        .parent()
        .and_then(Path::parent)
        .expect("target/PROFILE/deps/TEST");
    folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}
