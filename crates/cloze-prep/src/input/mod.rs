//! From INPUT arguments to documents, in an order that does not depend on the machine.

mod bytes;
mod columns;
mod datasets;
mod decode;
mod documents;
mod error;
mod html;
mod json;
mod kinds;
mod members;
mod remote;
mod resolve;
mod stream;
mod table;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use bytes::digest;
pub use decode::Encoding;
pub use documents::{Document, SourceReader};
pub use error::InputError;
pub(crate) use json::first_names;
pub use remote::Object;
pub(crate) use remote::only_a_file;
pub use resolve::{Compression, Format, InputPlan, Source, is_pipe, listed};

use serde::{Deserialize, Serialize};

use crate::Config;

/// What a document and a sentence look like in plain text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum TextForm {
    /// A form feed ends a document, as the end of the file does; sentences are found by rules
    Prose,
    /// Every line is a sentence, a blank line ends a document (the form of BERT's own script)
    SentencePerLine,
    /// As prose, but a document is one sentence, cut where a row is full: for text that has no sentences
    Whole,
}

/// What to do with a line or document that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum OnBadInput {
    /// Stop and say where
    Fail,
    /// Leave out the line, the JSONL document, or the rest of a damaged archive; count and report it
    Skip,
}

/// Most bytes of a line of JSON, a row of a table, or a page: what is longer is not read, so that memory stays bounded.
const MOST: usize = 256 << 20;
/// Bytes of plain text after which a document is ended where a line ends.
const LONGEST_TEXT: usize = 64 << 20;

/// What a document's source gives.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    id: Option<String>,
    meta: Option<String>,
    text: String,
}

/// How inputs are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputOptions {
    /// What all inputs are, whatever their names say.
    pub format: Option<Format>,
    /// How bytes are text.
    pub encoding: Encoding,
    /// JSONL, CSV, TSV, Parquet: the field that holds the text.
    pub text_field: String,
    /// Fields that are kept beside the document.
    pub meta_fields: Vec<String>,
    /// The field that holds the document's id.
    pub id_field: Option<String>,
    /// Plain text: what a document looks like.
    pub text_form: TextForm,
    /// What to do with what cannot be read.
    pub on_bad_input: OnBadInput,
}

impl InputOptions {
    /// Those of `config`.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self {
            format: config.input_format,
            // Checked before.
            encoding: Encoding::of(&config.encoding).unwrap_or(Encoding::Named(encoding_rs::UTF_8)),
            text_field: config.text_field.clone(),
            meta_fields: config.meta_field.clone(),
            id_field: config.id_field.clone(),
            text_form: config.text_form,
            on_bad_input: config.on_bad_input,
        }
    }
}
