//! Whether a dataset and a model fit each other.

use std::path::Path;

use cloze_shard::manifest::Objective as Rows;
use cloze_shard::{Dataset, Vocabulary};

use crate::engine::Objective;
use crate::feed::longest_row;
use crate::{BertConfig, Error, Result};

/// Refuses a model whose tokenizer, vocabulary or positions are not those of the dataset.
pub fn check_model(dataset: &Dataset, model: &Path, config: &BertConfig) -> Result<()> {
    let record = &dataset.manifest().tokenizer;
    let mismatch = |why: String, hint: &str| Error::Mismatch {
        dataset: dataset.path().into(),
        model: model.into(),
        why,
        hint: hint.into(),
    };
    check_shape(dataset, model, config)?;
    if !model.is_dir() || Vocabulary::find(model).is_err() {
        return Ok(());
    }
    let again = "prepare the dataset again with --tokenizer pointing at this model's folder";
    let own = Vocabulary::read(model)?;
    if own.digest() != record.vocab_digest {
        let count = if own.len() == record.vocab_size {
            format!("both have {} entries, but not the same ones", own.len())
        } else {
            format!(
                "the dataset's has {} entries, the model's {}",
                record.vocab_size,
                own.len()
            )
        };
        return Err(mismatch(
            format!("their vocabularies differ: {count}"),
            again,
        ));
    }
    if let (Some(ours), Some(theirs)) = (record.lowercase, own.lowercase())
        && ours != theirs
    {
        let case = |lower: bool| {
            if lower {
                "lowercases"
            } else {
                "does not lowercase"
            }
        };
        return Err(mismatch(
            format!(
                "the dataset's tokenizer {}, the model's {}",
                case(ours),
                case(theirs)
            ),
            again,
        ));
    }
    Ok(())
}

/// Refuses a configuration that has too few ids or positions for the dataset.
pub fn check_shape(dataset: &Dataset, model: &Path, config: &BertConfig) -> Result<()> {
    let manifest = dataset.manifest();
    let mismatch = |why: String, hint: String| Error::Mismatch {
        dataset: dataset.path().into(),
        model: model.into(),
        why,
        hint,
    };
    if config.vocab_size < manifest.tokenizer.vocab_size {
        return Err(mismatch(
            format!(
                "the dataset's vocabulary has {} entries, the model's vocab_size is {}",
                manifest.tokenizer.vocab_size, config.vocab_size
            ),
            "prepare the dataset with this model's tokenizer, or set vocab_size in the config.json"
                .into(),
        ));
    }
    let longest = longest_row(manifest);
    if longest > config.max_position_embeddings {
        return Err(mismatch(
            format!(
                "rows have up to {longest} tokens, the model has {} positions (max_position_embeddings)",
                config.max_position_embeddings
            ),
            format!(
                "prepare the dataset with --seq-len {} or less",
                config.max_position_embeddings
            ),
        ));
    }
    Ok(())
}

/// Whether the labels of the dataset's rows are those that `objective` goes by, if it goes by any.
#[must_use]
pub fn has_labels(dataset: &Dataset, objective: Objective) -> bool {
    match (objective, dataset.manifest().objective) {
        (Objective::Mlm, _) | (Objective::MlmNsp, Rows::Nsp) => true,
        (Objective::MlmSop, rows) => matches!(rows, Rows::Nsp | Rows::Sop),
        (Objective::MlmNsp, _) => false,
    }
}

/// Refuses an objective that the dataset's rows have no labels for.
pub fn check_objective(dataset: &Dataset, objective: Objective) -> Result<()> {
    if has_labels(dataset, objective) {
        return Ok(());
    }
    let rows = dataset.manifest().objective;
    let (option, hint) = match rows {
        Rows::Sop => ("sop", "train with --objective mlm+sop"),
        _ => (rows.name(), "train with --objective mlm"),
    };
    Err(Error::Labels {
        dataset: dataset.path().into(),
        why: format!("it was prepared with --objective {option}"),
        hint: format!("{hint}, or prepare it again with --objective nsp"),
    })
}
