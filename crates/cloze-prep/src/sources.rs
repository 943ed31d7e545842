//! What is looked at of sources before anything is read of them: whether they are those that a dataset was made of, and whether the output lies among them.

use std::fs;
use std::path::{Path, PathBuf};

use cloze_shard::manifest::{FILE_NAME, Manifest};
use cloze_shard::place::{dataset_around, real};

use crate::input::{InputPlan, Source, digest};
use crate::mark::{self, Mark};
use crate::tokens::Place;
use crate::{Error, Result};

/// Differences that are named.
const NAMED: usize = 5;

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

/// Files among the sources that are the vocabulary of some tokenizer, by what is beside them: probably nobody wants them as text.
pub fn vocabularies(plan: &InputPlan) -> Vec<&Path> {
    let is_one = |path: &&Path| {
        let beside = ["tokenizer.json", "tokenizer_config.json"];
        path.file_name().is_some_and(|name| name == "vocab.txt")
            && beside.iter().any(|name| path.with_file_name(name).exists())
    };
    let files = plan.sources.iter().filter(|s| s.object.is_none());
    files.map(|s| s.path.as_path()).filter(is_one).collect()
}

/// Refuses a folder of tokens in a dataset, that which is to be made or another: it holds nothing but its own files.
pub fn tokens_outside(tokens: &Path, out: &Path) -> Result<()> {
    let (is, out_is) = (real(tokens), real(out));
    let dataset = match is.starts_with(&out_is) {
        true => Some(out.to_path_buf()),
        // One that is a dataset itself holds files that are no tokens.
        false => dataset_around(&is.join("tokens")),
    };
    match dataset {
        None => Ok(()),
        Some(dataset) => Err(Error::OutputExists {
            path: tokens.into(),
            why: format!(
                "lies in the dataset {}, which holds nothing but its own files",
                dataset.display()
            ),
            hint: "give --tokens a folder elsewhere",
        }),
    }
}

/// What is another in `now` than in the sources that tokens up to `then` were made of, of which the first `same` are the same, in words: which files are gone,
/// new or changed. What comes behind all that was read is not looked at. Standard input may have been `compared` already: it is not read here.
pub fn differences(
    then: &Place,
    now: &[Source],
    same: usize,
    compared: Option<usize>,
) -> Vec<String> {
    let before: Vec<&str> = then.sources.iter().map(|m| m.path.as_str()).collect();
    let names: Vec<String> = now
        .iter()
        .map(|source| source.path.to_string_lossy().into_owned())
        .collect();
    let mut all = Vec::new();
    // A corpus that was moved or copied: one file stands for another.
    let moved = names.len() == before.len() && !names.iter().any(|n| before.contains(&n.as_str()));
    if moved {
        for (i, mark) in then.sources.iter().enumerate().skip(same) {
            let digest = then.report.sources.get(i).map(|s| s.blake3.as_str());
            let (now, was, is) = (&now[i], &mark.path, &names[i]);
            if now.is_stream() {
                all.push(format!("{is} is not known to hold what {was} did"));
            } else if !mark.holds(now, digest) {
                all.push(format!("{is} holds other bytes than {was} did"));
            }
        }
        return named(all);
    }
    for (i, mark) in then.sources.iter().enumerate().skip(same) {
        let Some(place) = names.iter().position(|name| *name == mark.path) else {
            all.push(format!("{} is not among the inputs now", mark.path));
            continue;
        };
        if now[place].is_stream() {
            let why = match i < then.report.sources.len() {
                _ if i > same => continue,
                true if compared == Some(i) => "holds other bytes",
                true => "is not known to hold the same bytes",
                false => "was not read to its end, and is gone",
            };
            all.push(format!("{} {why}", mark.path));
            continue;
        }
        let is = Mark::of(&now[place]);
        let digest = then.report.sources.get(i).map(|s| s.blake3.as_str());
        if mark.bytes != is.bytes {
            let (name, then, is) = (&mark.path, mark.bytes, is.bytes);
            all.push(format!("{name} had {then} bytes, has {is}"));
        } else if i == same && digest.is_some() && !mark.holds(&now[place], digest) {
            all.push(format!("{} holds other bytes", mark.path));
        } else if is != *mark && i == then.report.sources.len() {
            all.push(format!("{} was changed since it was begun", mark.path));
        }
    }
    let last = names
        .iter()
        .rposition(|name| before.contains(&name.as_str()))
        .unwrap_or(now.len());
    let new = names[..last.min(names.len())]
        .iter()
        .filter(|name| !before.contains(&name.as_str()));
    all.extend(new.map(|name| format!("{name} is new")));
    if all.is_empty() && then.sources.len() > same {
        let was = before[same];
        let is = names
            .get(same)
            .map_or_else(|| "missing".into(), |name| format!("{name} now"));
        all.push(format!("source {same} was {was}, is {is}"));
    }
    named(all)
}

/// The first of them, and how many there are more.
fn named(mut all: Vec<String>) -> Vec<String> {
    let more = all.len().saturating_sub(NAMED);
    all.truncate(NAMED);
    if more > 0 {
        all.push(format!("and {more} more"));
    }
    all
}

/// What is another of the sources that the dataset `out` was made of, in words. Where name and time do not say that one is the same, its bytes do.
pub fn other(manifest: &Manifest, out: &Path, plan: &InputPlan) -> Result<Vec<String>> {
    let (then, now) = (&manifest.sources, &plan.sources);
    if then.len() != now.len() {
        let mut found = vec![format!("sources were {}, are {}", then.len(), now.len())];
        let before: Vec<&str> = then.iter().map(|s| s.path.as_str()).collect();
        let names = now.iter().map(|s| s.path.to_string_lossy().into_owned());
        let names: Vec<String> = names.collect();
        let gone = before
            .iter()
            .filter(|name| !names.iter().any(|n| n == *name));
        let new = names.iter().filter(|name| !before.contains(&name.as_str()));
        found.extend(
            gone.map(|name| format!("{name} is not among the inputs now"))
                .take(NAMED),
        );
        found.extend(new.map(|name| format!("{name} is new")).take(NAMED));
        return Ok(found);
    }
    // A dataset that was copied may have kept one of them.
    let made = fs::metadata(out.join(FILE_NAME)).ok();
    let made = made.map_or(0, |m| mark::changed(&m).min(mark::modified(&m)));
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
        if !(is_named && is_older(now, made)) && digest(now)?.1 != then.blake3 {
            return Ok(vec![format!("{name} holds other bytes than {was} did")]);
        }
    }
    Ok(Vec::new())
}

/// Nanoseconds by which a server's clock may differ from ours.
const CLOCKS: u64 = 600 * 1_000_000_000;

/// Whether nothing of a source changed since a moment, in nanoseconds since 1970; that of an object is told by the server's clock.
fn is_older(source: &Source, made: u64) -> bool {
    match &source.object {
        Some(object) => (1..made.saturating_sub(CLOCKS)).contains(&object.modified()),
        None => fs::metadata(&source.path).is_ok_and(|m| {
            // A time of changes to its bytes can be set; one of changes to the file cannot.
            (1..made).contains(&mark::changed(&m).max(mark::modified(&m)))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;
    use crate::input::InputOptions;

    #[test]
    fn tokens_are_in_no_dataset() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (tokens, good) in [
            ("out", false),
            ("out/tokens", false),
            ("out/../out/x/y", false),
            ("out2", true),
            ("tokens/out", true),
        ] {
            let refused = tokens_outside(&at(tokens), &at("out")).is_err();
            assert_eq!(refused, !good, "{tokens}");
        }
    }

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
