//! Fields that were asked for and are nowhere.

use serde_json::{Map, Value};

use crate::input::{Format, InputPlan, first_names};
use crate::token_store::TokenFiles;
use crate::{Config, Error, Result};

/// Refuses names of fields where no input has any.
pub fn check(sources: &InputPlan, config: &Config) -> Result<()> {
    let asked = [
        ("--id-field", config.id_field.is_some()),
        ("--meta-field", !config.meta_field.is_empty()),
    ];
    let Some((option, _)) = asked.into_iter().find(|(_, asked)| *asked) else {
        return Ok(());
    };
    // What standard input is shows when it is read.
    let may_have = |format| !matches!(format, Format::Text | Format::Html);
    let mut all = sources.sources.iter();
    if all.any(|s| may_have(s.format) || s.has_no_kind(&sources.options)) {
        return Ok(());
    }
    let why = "names a field, and no input has fields: all are plain text or pages \
               (--input-format jsonl says that they are lines of JSON)";
    Err(Error::Config {
        option,
        why: why.into(),
    })
}

/// What to say of fields of `--meta-field` that no document in `files` has.
pub fn warning(files: &TokenFiles, sources: &InputPlan, config: &Config) -> Result<Option<String>> {
    let mut missing: Vec<&str> = config.meta_field.iter().map(String::as_str).collect();
    let mut cursor = files.cursor();
    for i in 0..files.len() {
        if missing.is_empty() {
            break;
        }
        found(&mut missing, cursor.document(i)?.meta);
    }
    if missing.is_empty() {
        return Ok(None);
    }
    let missing: Vec<String> = missing.iter().map(|name| format!("{name:?}")).collect();
    let mut said = format!(
        "no document has the field {}, which --meta-field names",
        missing.join(", ")
    );
    let lines = |format| format == Format::JsonLines;
    let mut sources_of = sources.sources.iter();
    let first = sources_of.find(|s| lines(s.format) && s.bytes > 0 && !s.is_stream());
    // It was read before; if it cannot be now, there is less to say.
    let names = first.and_then(|s| Some((s, first_names(s, &sources.options).ok()??)));
    if let Some((source, names)) = names {
        let (path, names) = (source.path.display(), names.join(", "));
        said.push_str(&format!("; the first line of {path} has [{names}]"));
    }
    Ok(Some(said))
}

/// Takes out of `missing` what `meta` has.
fn found(missing: &mut Vec<&str>, meta: Option<&str>) {
    let fields = meta.and_then(|text| serde_json::from_str::<Map<String, Value>>(text).ok());
    if let Some(fields) = fields {
        missing.retain(|name| !fields.contains_key(*name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_missing_where_no_document_has_them() {
        let names = ["url", "date", "a\"b"].map(str::to_owned);
        let of = |metas: &[Option<&str>]| {
            let mut missing: Vec<&str> = names.iter().map(String::as_str).collect();
            for meta in metas {
                found(&mut missing, *meta);
            }
            missing
        };
        assert_eq!(of(&[]), ["url", "date", "a\"b"]);
        assert_eq!(of(&[None, Some(r#"{"date":null}"#)]), ["url", "a\"b"]);
        // What is in a value is no field.
        assert_eq!(
            of(&[Some(r#"{"url":{"date":1}}"#), Some(r#"{"a\"b":"date"}"#)]),
            ["date"]
        );
        assert!(of(&[Some(r#"{"a\"b":1,"date":2}"#), None, Some(r#"{"url":""}"#)]).is_empty());
    }
}
