//! Models by their names on the Hugging Face Hub, where they are no folders here.

use std::path::{Path, PathBuf};

/// The folder of a model: `named` itself where it is one, else what the Hub has by that name, kept in its cache (`HF_HOME`) and taken from there from then on.
pub fn folder(named: &Path, dataset: &Path) -> anyhow::Result<PathBuf> {
    // Nothing is downloaded for a dataset that cannot be read.
    if name_of(named).is_some() {
        cloze_shard::Manifest::read(dataset)?;
    }
    model(named)
}

/// As [`folder`], for no dataset.
pub fn model(named: &Path) -> anyhow::Result<PathBuf> {
    if let Some(hint) = instead(named) {
        return Err(crate::Hinted {
            why: format!("{}: is no model: it has no config.json", named.display()),
            hint,
        }
        .into());
    }
    name_of(named).map_or_else(|| Ok(named.into()), download)
}

/// What somebody meant who gave a folder of another kind.
fn instead(named: &Path) -> Option<String> {
    if named.is_file() {
        return Some("it is a file; give the folder that it lies in".to_owned());
    }
    let is = |name: &str| named.join(name).is_file();
    if !named.is_dir() || is("config.json") {
        return None;
    }
    if is("model/config.json") {
        let model = named.join("model");
        return Some(format!(
            "it is the folder of a run, whose model is {}",
            model.display()
        ));
    }
    is(cloze_shard::manifest::FILE_NAME)
        .then(|| "it is a dataset; give the folder of a model".to_owned())
}

fn name_of(named: &Path) -> Option<&str> {
    let name = named.to_str().filter(|_| !named.exists());
    name.filter(|name| is_name(name))
}

/// `bert-base-uncased`, `google/bert_uncased_L-2_H-128_A-2`: what cannot be meant as a path.
fn is_name(text: &str) -> bool {
    let word = |part: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !part.is_empty() && part.chars().all(plain) && !part.starts_with('.')
    };
    text.split('/').count() <= 2 && text.split('/').all(word)
}

#[cfg(not(feature = "hub"))]
fn download(name: &str) -> anyhow::Result<PathBuf> {
    anyhow::bail!(
        "{name}: there is no such folder, and this build cannot download models: build it with the feature hub"
    )
}

#[cfg(feature = "hub")]
fn download(name: &str) -> anyhow::Result<PathBuf> {
    use std::io::IsTerminal;

    use anyhow::Context;
    use hf_hub::api::sync::{ApiBuilder, ApiRepo};

    /// A file, or `None` where the model has none of that name.
    fn optional(model: &ApiRepo, file: &str) -> anyhow::Result<Option<PathBuf>> {
        match model.get(file) {
            Ok(path) => Ok(Some(path)),
            // It has no kind of its own.
            Err(e) if format!("{e} {e:?}").contains("404") => Ok(None),
            Err(e) => Err(anyhow::Error::new(e).context(format!("downloading {file}"))),
        }
    }

    let progress = std::io::stderr().is_terminal();
    let model = ApiBuilder::from_env()
        .with_progress(progress)
        .build()?
        .model(name.to_owned());
    let missing = || crate::Hinted {
        why: format!(
            "{name}: there is no such folder, and no such model could be had from the Hugging Face Hub"
        ),
        hint: "check the path; a model by its name, such as bert-base-uncased, needs network"
            .into(),
    };
    let config = model.get("config.json").with_context(missing)?;
    let weights = ["model.safetensors", "pytorch_model.bin"];
    let indices = [
        "model.safetensors.index.json",
        "pytorch_model.bin.index.json",
    ];
    let mut found = false;
    for (whole, index) in weights.into_iter().zip(indices) {
        found = optional(&model, whole)?.is_some();
        if !found && let Some(index) = optional(&model, index)? {
            for file in files(&index)? {
                model
                    .get(&file)
                    .with_context(|| format!("downloading {file}"))?;
            }
            found = true;
        }
        if found {
            break;
        }
    }
    anyhow::ensure!(found, "{name}: has neither {}", weights.join(" nor "));
    for file in ["vocab.txt", "tokenizer.json", "tokenizer_config.json"] {
        optional(&model, file)?;
    }
    Ok(config.parent().map(Path::to_path_buf).unwrap_or_default())
}

/// The files that an index names, all of them beside it: what is downloaded is written under the name that stands there.
#[cfg(any(feature = "hub", test))]
fn files(index: &Path) -> anyhow::Result<std::collections::BTreeSet<String>> {
    /// Bytes of an index: one of a hundred thousand tensors has fewer.
    const LONGEST: u64 = 32 << 20;
    let text = cloze_shard::read_small(index, LONGEST)?;
    let json: serde_json::Value = serde_json::from_str(&text)?;
    let map = json["weight_map"].as_object().into_iter().flatten();
    let names = map.filter_map(|(_, file)| file.as_str().map(str::to_owned));
    let names: std::collections::BTreeSet<String> = names.collect();
    let beside = |name: &&String| Path::new(name).file_name() == Some(name.as_ref());
    match names.iter().find(|name| !beside(name)) {
        None => Ok(names),
        Some(name) => anyhow::bail!(
            "{}: names {name:?}, which is no file beside it",
            index.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_paths() {
        for name in [
            "bert-base-uncased",
            "google/bert_uncased_L-2_H-128_A-2",
            "a.b/c",
        ] {
            assert!(is_name(name), "{name}");
        }
        for path in [
            "./model",
            "../model",
            "/models/bert",
            "a/b/c",
            "run/",
            "",
            "~/bert",
            "a b",
        ] {
            assert!(!is_name(path), "{path}");
        }
    }

    /// A download must not be written anywhere else.
    #[test]
    fn an_index_names_files_beside_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let index = folder.path().join("model.safetensors.index.json");
        let named = |names: &[&str]| {
            let pairs = names.iter().map(|n| ((*n).to_owned(), (*n).into()));
            let map: serde_json::Map<String, serde_json::Value> = pairs.collect();
            let json = serde_json::json!({ "weight_map": map }).to_string();
            std::fs::write(&index, json).expect("a file");
            files(&index)
        };
        let two = ["a-1.safetensors", "a-2.safetensors"];
        assert_eq!(named(&two).expect("two files").len(), 2);
        for bad in ["../a", "/tmp/a", "b/a", "..", "a/", "", "./a"] {
            let error = named(&[two[0], bad]).expect_err(bad).to_string();
            assert!(error.contains("which is no file beside it"), "{error}");
        }
    }

    #[test]
    fn folders_of_another_kind_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path();
        assert_eq!(instead(run), None);
        std::fs::write(run.join("manifest.json"), "{}").unwrap();
        assert!(instead(run).unwrap().contains("is a dataset"));
        std::fs::create_dir(run.join("model")).unwrap();
        std::fs::write(run.join("model/config.json"), "{}").unwrap();
        let hint = instead(run).unwrap();
        assert!(hint.contains("of a run") && hint.ends_with("model"));
        assert_eq!(instead(&run.join("model")), None);
        let file = run.join("model/config.json");
        assert!(instead(&file).unwrap().contains("it is a file"));
    }

    #[test]
    fn a_folder_is_itself() {
        let folder_here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let none = Path::new("none");
        assert_eq!(folder(folder_here, none).ok(), Some(folder_here.into()));
        // What can only be a path is left to whoever reads it.
        assert_eq!(
            folder(Path::new("./nothing"), none).ok(),
            Some("./nothing".into())
        );
    }
}
