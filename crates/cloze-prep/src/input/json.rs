//! What a line of JSON holds. The library says what that is; lines that are as they mostly are, are read by a scan that gives the same.

use serde_json::Value;

use super::resolve::Source;
use super::{Found, InputError, InputOptions};

mod scan;
#[cfg(test)]
mod tests;

/// The document of `line`, number `number` of `source`.
pub(super) fn document(
    source: &Source,
    options: &InputOptions,
    number: u64,
    line: &str,
) -> Result<Found, InputError> {
    match scan::document(line, options) {
        Some(found) => Ok(found),
        None => by_library(source, options, number, line),
    }
}

/// As [`document`], by the library alone.
fn by_library(
    source: &Source,
    options: &InputOptions,
    number: u64,
    line: &str,
) -> Result<Found, InputError> {
    let json = |why: String| InputError::Json {
        path: source.path.clone(),
        line: number,
        why,
    };
    let mut object: Value = serde_json::from_str(line).map_err(|e| {
        let (column, why) = (e.column(), without_place(&e));
        json(format!("broken JSON at column {column}: {why}"))
    })?;
    let field = |why: String, hint: &str| InputError::Field {
        path: source.path.clone(),
        line: number,
        why,
        hint: hint.into(),
    };
    let Value::Object(object) = &mut object else {
        return Err(json("not a JSON object".into()));
    };
    let id = match &options.id_field {
        None => None,
        Some(name) => match object.get(name) {
            Some(Value::String(id)) => Some(id.clone()),
            Some(Value::Number(id)) if !id.is_f64() => Some(id.to_string()),
            Some(_) => {
                return Err(field(
                    format!("{name:?} is neither text nor an integer"),
                    "give another --id-field",
                ));
            }
            None => {
                return Err(field(
                    format!("no field {name:?}"),
                    "give another --id-field, or none",
                ));
            }
        },
    };
    let meta = metadata(&options.meta_fields, |name| object.get(name).cloned());
    let name = &options.text_field;
    match object.get_mut(name).map(Value::take) {
        Some(Value::String(text)) => Ok(Found { id, meta, text }),
        Some(_) => Err(field(
            format!("{name:?} is not text"),
            "give another --text-field",
        )),
        None => {
            let names: Vec<&str> = object.keys().take(8).map(String::as_str).collect();
            let why = format!("no field {name:?}; it has [{}]", names.join(", "));
            Err(field(why, "give another --text-field"))
        }
    }
}

/// The fields that there are, as one JSON object.
pub(super) fn metadata(
    names: &[String],
    mut value: impl FnMut(&str) -> Option<Value>,
) -> Option<String> {
    let kept = names.iter().filter_map(|n| Some((n.clone(), value(n)?)));
    let kept: serde_json::Map<String, Value> = kept.collect();
    (!kept.is_empty()).then(|| Value::Object(kept).to_string())
}

/// serde_json's message without its "at line 1 column 5", which counts lines of the one line.
fn without_place(error: &serde_json::Error) -> String {
    let message = error.to_string();
    message
        .rsplit_once(" at line ")
        .map_or(message.clone(), |(why, _)| why.to_owned())
}
