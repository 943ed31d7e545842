//! What is looked at of sources before anything is read of them: whether they are those that a dataset was made of, and whether the output lies among them.

use std::fs;
use std::path::{Path, PathBuf};

use cloze_shard::manifest::{FILE_NAME, Manifest};
use cloze_shard::place::{dataset_around, real};

use crate::input::{InputPlan, Source, digest};
use crate::{Error, Result};

/// Refuses an output in a folder that is read, since what is in it would be taken for text the next time, and one in another dataset.
pub fn outside(out: &Path, inputs: &[PathBuf]) -> Result<()> {
    if let Some(dataset) = dataset_around(out) {
        return Err(Error::OutputExists {
            path: out.into(),
            why: format!(
                "lies in the dataset {}, which holds nothing but its own files",
                dataset.display()
            ),
            hint: "give --out a folder elsewhere",
        });
    }
    let out_is = real(out);
    let around = inputs
        .iter()
        .find(|input| input.is_dir() && out_is.starts_with(real(input)));
    match around {
        None => Ok(()),
        Some(input) => Err(Error::OutputExists {
            path: out.into(),
            why: format!(
                "lies in {}, which is read: it would be taken for text the next time",
                input.display()
            ),
            hint: "give --out a folder elsewhere",
        }),
    }
}

/// Refuses a tokenizer in a folder that is read, if its vocabulary would be taken for text.
pub fn no_vocabulary(tokenizer: &Path, plan: &InputPlan) -> Result<()> {
    let tokenizer_is = real(tokenizer);
    let vocabulary = tokenizer_is.join("vocab.txt");
    let is_of_it = |source: &&Source| {
        let may_be = source.object.is_none() && !source.is_stream();
        may_be && [&tokenizer_is, &vocabulary].contains(&&real(&source.path))
    };
    match plan.sources.iter().find(is_of_it) {
        None => Ok(()),
        Some(source) => Err(Error::Config {
            option: "--tokenizer",
            why: format!(
                "has its vocabulary among the inputs, {}, where it would be taken for text: move the tokenizer out of the folder that is read, or name the texts by a pattern",
                source.path.display()
            ),
        }),
    }
}

/// What is another of the sources that the dataset `out` was made of, in words. Where name and time do not say that one is the same, its bytes do.
pub fn other(manifest: &Manifest, out: &Path, plan: &InputPlan) -> Result<Vec<String>> {
    let (then, now) = (&manifest.sources, &plan.sources);
    if then.len() != now.len() {
        let found = format!("sources were {}, are {}", then.len(), now.len());
        return Ok(vec![found]);
    }
    let modified = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).ok();
    let made = modified(&out.join(FILE_NAME));
    let is_older = |source: &Source| {
        let modified = match source.object {
            Some(_) => None,
            None => modified(&source.path),
        };
        modified
            .zip(made)
            .is_some_and(|(source, made)| source < made)
    };
    for (then, now) in then.iter().zip(now) {
        // What came through a pipe is gone.
        if now.is_stream() {
            continue;
        }
        let (name, was) = (now.path.display(), &then.path);
        if then.bytes != now.bytes {
            return Ok(vec![format!(
                "{was} had {} bytes, {name} has {}",
                then.bytes, now.bytes
            )]);
        }
        let is_named = *was == now.path.to_string_lossy();
        if !(is_named && is_older(now)) && digest(now)?.1 != then.blake3 {
            return Ok(vec![format!("{name} holds other bytes than {was} did")]);
        }
    }
    Ok(Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;
    use crate::input::InputOptions;

    #[test]
    fn an_output_among_the_inputs_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("in/below")).unwrap();
        fs::create_dir_all(at("in2")).unwrap();
        fs::write(at("in/a.txt"), "a").unwrap();
        std::os::unix::fs::symlink(at("in"), at("link")).unwrap();
        let refused = |out: &str, inputs: &[&str]| {
            let inputs: Vec<PathBuf> = inputs.iter().map(|i| at(i)).collect();
            outside(&at(out), &inputs).is_err()
        };
        for out in [
            "in",
            "in/out",
            "in/below/out",
            "in/x/y",
            "link/out",
            "in/../in/out",
        ] {
            assert!(refused(out, &["in2", "in"]), "{out}");
            assert!(refused(out, &["link"]), "{out}");
        }
        for out in ["out", "in3", "in2x/out"] {
            assert!(!refused(out, &["in", "in2", "link"]), "{out}");
        }
        assert!(
            !refused("in/out", &["in/a.txt", "in2"]),
            "a file is not a folder"
        );
        fs::create_dir_all(at("in/bert")).unwrap();
        fs::write(at("in/bert/vocab.txt"), "[UNK]").unwrap();
        let options = InputOptions::of(&Config::default());
        let plan = |input: &str| InputPlan::resolve(&[at(input)], &options).unwrap();
        for tokenizer in ["in/bert", "link/bert", "in/bert/vocab.txt"] {
            let why = no_vocabulary(&at(tokenizer), &plan("in")).unwrap_err();
            assert!(why.to_string().contains("in/bert/vocab.txt"), "{why}");
            assert!(no_vocabulary(&at(tokenizer), &plan("in/a.txt")).is_ok());
            assert!(
                no_vocabulary(&at("in"), &plan("in")).is_ok(),
                "a text beside it"
            );
        }
    }
}
