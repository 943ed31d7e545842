//! `cargo xtask gpu-kit`: one folder that does everything that needs a GPU, for a machine that has nothing else of ours.

use std::fs;
use std::path::{Path, PathBuf};

use crate::demo_corpus;
use crate::steps::{executable, root, run_built, run_program, target};

/// Bytes that the folder may have.
const MOST: u64 = 60 << 20;
/// What machines with a GPU often are: the executable is built where this runs, for the same processor and system.
const FOLDER: &str = "gpu-kit";

/// What can be asked for.
#[derive(Debug, Default, PartialEq)]
struct Options<'a> {
    python: Option<&'a str>,
    corpus: Option<&'a str>,
    tokenizer: Option<&'a str>,
}

fn options<'a>(words: &[&'a str]) -> Result<Options<'a>, String> {
    let mut options = Options::default();
    for pair in words.chunks(2) {
        let place = match pair {
            ["--python", _] => &mut options.python,
            ["--corpus", _] => &mut options.corpus,
            ["--tokenizer", _] => &mut options.tokenizer,
            ["--python" | "--corpus" | "--tokenizer"] => {
                return Err(format!("{} of gpu-kit needs a value", pair[0]));
            }
            _ => {
                return Err(format!(
                    "gpu-kit does not know {}: see cargo xtask --help",
                    pair.join(" ")
                ));
            }
        };
        *place = Some(pair[1]);
    }
    let folders = [options.corpus, options.tokenizer];
    if let Some(missing) = folders
        .into_iter()
        .flatten()
        .find(|p| !Path::new(p).exists())
    {
        return Err(format!("{missing}: there is no such file or folder"));
    }
    if options.corpus.is_some() != options.tokenizer.is_some() {
        return Err("gpu-kit needs --corpus and --tokenizer together".into());
    }
    Ok(options)
}

/// Makes the folder aside; one that is there stays until the new one is whole.
pub fn run(words: &[&str]) -> Result<(), String> {
    let options = options(words)?;
    let (done, kit) = (target().join(FOLDER), target().join("gpu-kit.new"));
    let io = |path: &Path| {
        let path = path.display().to_string();
        move |e: std::io::Error| format!("{path}: {e}")
    };
    if kit.exists() {
        fs::remove_dir_all(&kit).map_err(io(&kit))?;
    }
    fs::create_dir_all(kit.join("peers")).map_err(io(&kit))?;
    let build = [
        "build",
        "--release",
        "-p",
        "cloze",
        "-p",
        "cloze-gpu",
        "--features",
        "cloze-gpu/cuda",
    ];
    run_program("cargo", &build)?;
    let own = kit.join("cloze-gpu");
    fs::copy(executable("release", "cloze-gpu"), &own).map_err(io(&own))?;
    // Names of functions are of no use there; without them it is a third as large.
    if let Err(why) = run_program("strip", &[&text(&own)]) {
        println!("left as it is: {why}");
    }
    copy(
        &root().join("fixtures/golden"),
        &kit.join("golden"),
        ".safetensors",
    )?;
    let sources = root().join("docs/bench");
    copy(&sources.join("peers"), &kit.join("peers"), ".py")?;
    for name in ["run.sh", "run.py"] {
        let to = kit.join(name);
        fs::copy(sources.join("gpu-kit").join(name), &to).map_err(io(&to))?;
    }
    match options.python {
        Some(python) => {
            let script = text(&sources.join("gpu-kit/make_curve.py"));
            run_program(python, &[&script, &text(&kit.join("curve.safetensors"))])?;
        }
        None => println!(
            "\nwithout the curve of 200 steps: pass --python PYTHON, one that has torch and transformers"
        ),
    }
    shards(&options, &kit)?;
    let size = size(&kit).map_err(io(&kit))?;
    let mebibytes = size as f64 / f64::from(1 << 20);
    if size > MOST {
        return Err(format!(
            "the folder has {mebibytes:.1} MiB and may have {}: give a smaller --corpus",
            MOST >> 20
        ));
    }
    if done.exists() {
        fs::remove_dir_all(&done).map_err(io(&done))?;
    }
    fs::rename(&kit, &done).map_err(io(&done))?;
    println!(
        "\n{}: {mebibytes:.1} MiB. On a machine with a GPU: {FOLDER}/run.sh",
        done.display()
    );
    Ok(())
}

/// Rows of at most 128 and of at most 512 tokens.
fn shards(options: &Options<'_>, kit: &Path) -> Result<(), String> {
    let cloze = executable("release", "cloze");
    let (corpus, tokenizer) = match (options.corpus, options.tokenizer) {
        (Some(corpus), Some(tokenizer)) => (PathBuf::from(corpus), PathBuf::from(tokenizer)),
        _ => {
            let made = target().join("gpu-kit-corpus");
            let (corpus, tokenizer) = (made.join("corpus"), made.join("tokenizer"));
            if made.exists() {
                fs::remove_dir_all(&made).map_err(|e| e.to_string())?;
            }
            fs::create_dir_all(&made).map_err(|e| e.to_string())?;
            demo_corpus::write(&corpus).map_err(|e| e.to_string())?;
            let learn = [
                "vocab",
                "train",
                &text(&corpus),
                "--vocab-size",
                "30522",
                "--out",
                &text(&tokenizer),
            ];
            run_built(&cloze, &learn)?;
            (corpus, tokenizer)
        }
    };
    for (length, name) in [("128", "data128"), ("512", "data512")] {
        let prepare = [
            "prepare",
            &text(&corpus),
            "--tokenizer",
            &text(&tokenizer),
            "--seq-len",
            length,
            "--out",
            &text(&kit.join(name)),
        ];
        run_built(&cloze, &prepare)?;
    }
    Ok(())
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Copies the files of a folder whose names end so.
fn copy(from: &Path, to: &Path, ending: &str) -> Result<(), String> {
    let each = || -> std::io::Result<()> {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default();
            if name.to_string_lossy().ends_with(ending) {
                fs::copy(&path, to.join(name))?;
            }
        }
        Ok(())
    };
    each().map_err(|e| format!("{}: {e}", from.display()))
}

fn size(folder: &Path) -> std::io::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        sum += if kind.is_dir() {
            size(&entry.path())?
        } else {
            entry.metadata()?.len()
        };
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let read = options(&["--corpus", "src", "--tokenizer", "."]).unwrap();
        assert_eq!(
            (read.corpus, read.tokenizer, read.python),
            (Some("src"), Some("."), None)
        );
        for (wrong, why) in [
            (&["--corpus", "src"][..], "together"),
            (&["--python"], "--python of gpu-kit needs a value"),
            (&["x", "y"], "does not know x y"),
            (&["--corpus", "src", "--tokenizer", "nowhere"], "nowhere: "),
        ] {
            let said = options(wrong).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
    }
}
