//! JSON: an object a line. The library says what a line holds; lines that are as they mostly are, are read by a scan that gives the same. What is not asked for is
//! read and not kept: a line may hold a hundred million values.

mod copy;
mod names;
mod scan;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

pub use names::{begins, first_names, is_pretty};

use super::resolve::Source;
use super::stream::{Lines, utf8};
use super::{Found, InputError, InputOptions, MOST};

/// Bytes and values of what is kept of a line beside its text.
const MOST_KEPT: usize = 1 << 20;

/// The document of the next line that is not blank.
pub fn next_json(
    source: &Source,
    options: &InputOptions,
    lines: &mut Lines<'_>,
    buffer: &mut Vec<u8>,
) -> Result<Option<Found>, InputError> {
    loop {
        let Some(line) = lines.lend(buffer, MOST)? else {
            return Ok(None);
        };
        if line.goes_on && line.bytes.len() >= MOST {
            buffer.clear();
            buffer.shrink_to(1 << 20);
            lines.pass_over()?;
            return Err(InputError::TooLong {
                path: source.path.clone(),
                line: lines.line,
                rest: false,
            });
        }
        if !line.bytes.trim_ascii().is_empty() {
            let text = utf8(source, line.known, line.number, line.bytes)?;
            return document(source, options, line.number, text).map(Some);
        }
    }
}

/// The document of `text`, line `line` of `source`.
fn document(
    source: &Source,
    options: &InputOptions,
    line: u64,
    text: &str,
) -> Result<Found, InputError> {
    match scan::document(text, options) {
        Some(found) => Ok(found),
        None => by_library(source, options, line, text),
    }
}

/// As [`document`], by the library alone.
fn by_library(
    source: &Source,
    options: &InputOptions,
    line: u64,
    text: &str,
) -> Result<Found, InputError> {
    let path = &source.path;
    let broken = |why: String| InputError::Json {
        path: path.clone(),
        line,
        why,
    };
    let field = |why: String, hint: &str| InputError::Field {
        path: path.clone(),
        line,
        why,
        hint: hint.into(),
    };
    let left = Cell::new(MOST_KEPT);
    // What is open where the line ends is said to be so, not to hold a line break.
    let fields = match parse(
        text.trim_end_matches(['\r', '\n']),
        Wanted {
            options,
            left: &left,
        },
    ) {
        Ok(Some(fields)) => fields,
        Ok(None) => return Err(broken("not a JSON object".into())),
        Err(_) if left.get() == 0 => {
            let why = "what is to be kept beside the text is longer than 1 MiB";
            return Err(field(why.into(), "give another --meta-field or --id-field"));
        }
        Err(e) => {
            let (column, why) = (e.column(), without_place(&e));
            return Err(broken(format!("broken JSON at column {column}: {why}")));
        }
    };
    let id = match (&options.id_field, fields.id) {
        (None, _) => None,
        (Some(_), Some(Value::String(id))) => Some(id),
        (Some(_), Some(Value::Number(id))) if !id.is_f64() => Some(id.to_string()),
        (Some(name), Some(_)) => {
            return Err(field(
                format!("{name:?} is neither text nor an integer"),
                "give another --id-field",
            ));
        }
        (Some(name), None) => {
            let names = names::of(text);
            return Err(field(
                format!("no field {name:?}; it has [{}]", names.join(", ")),
                "give another --id-field, or none",
            ));
        }
    };
    let mut kept = fields.meta;
    let meta = metadata(&options.meta_fields, |name| {
        let place = options.meta_fields.iter().position(|n| n == name)?;
        kept.get_mut(place)?.take()
    });
    let name = &options.text_field;
    match fields.text {
        Some(Some(text)) => Ok(Found { id, meta, text }),
        Some(None) => Err(field(
            format!("{name:?} is not text"),
            "give another --text-field",
        )),
        None => {
            let names = names::of(text);
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
    let kept: Map<String, Value> = kept.collect();
    (!kept.is_empty()).then(|| Value::Object(kept).to_string())
}

/// What `visitor` makes of the only value of `text`.
fn parse<'t, V: Visitor<'t>>(text: &'t str, visitor: V) -> serde_json::Result<V::Value> {
    let mut json = serde_json::Deserializer::from_str(text);
    let made = json.deserialize_any(visitor)?;
    json.end()?;
    Ok(made)
}

/// What was asked for of a line. Of a name that comes twice, the last counts.
#[derive(Default)]
struct Fields {
    /// There, and a text.
    text: Option<Option<String>>,
    id: Option<Value>,
    /// By their places in the options.
    meta: Vec<Option<Value>>,
}

/// What the field of a name is.
struct Role {
    text: bool,
    id: bool,
    meta: Option<usize>,
}

/// Reads an object's [`Fields`]; there are none in another value.
struct Wanted<'o> {
    options: &'o InputOptions,
    /// How much more is kept.
    left: &'o Cell<usize>,
}

/// Says what a field is by its name.
struct Name<'o>(&'o InputOptions);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Role;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Role, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Role;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Role, E> {
        Ok(Role {
            text: name == self.0.text_field,
            id: self.0.id_field.as_deref() == Some(name),
            meta: self.0.meta_fields.iter().position(|n| n == name),
        })
    }
}

/// Visits every value that is no object, and makes nothing of it.
macro_rules! nothing_else {
    ($nothing:expr) => {
        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok($nothing)
        }
        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
            Ok($nothing)
        }
        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
            Ok($nothing)
        }
        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            Ok($nothing)
        }
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok($nothing)
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
            while items.next_element::<Passed>()?.is_some() {}
            Ok($nothing)
        }
    };
}

impl<'de> Visitor<'de> for Wanted<'_> {
    type Value = Option<Fields>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    nothing_else!(None);

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut fields = Fields {
            meta: vec![None; self.options.meta_fields.len()],
            ..Fields::default()
        };
        while let Some(role) = object.next_key_seed(Name(self.options))? {
            if role.text {
                let text = object.next_value::<Text>()?.0;
                let value = || text.clone().map_or(Value::Null, Value::String);
                if role.id {
                    fields.id = Some(value());
                }
                if let Some(place) = role.meta {
                    fields.meta[place] = Some(value());
                }
                fields.text = Some(text);
            } else if role.id || role.meta.is_some() {
                let value = object.next_value_seed(Kept(self.left))?;
                if let Some(place) = role.meta {
                    fields.meta[place] = Some(value.clone());
                }
                if role.id {
                    fields.id = Some(value);
                }
            } else {
                object.next_value::<Passed>()?;
            }
        }
        Ok(Some(fields))
    }
}

/// A value that is looked at as any other, and not kept.
struct Passed;

impl<'de> Deserialize<'de> for Passed {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Passed {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    nothing_else!(Self);

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(Self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self, A::Error> {
        while object.next_entry::<Self, Self>()?.is_some() {}
        Ok(Self)
    }
}

/// A text, or something else.
struct Text(Option<String>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Self(None))
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    nothing_else!(Self(None));

    fn visit_str<E>(self, text: &str) -> Result<Self, E> {
        Ok(Self(Some(text.into())))
    }

    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<Self, A::Error> {
        Passed.visit_map(object)?;
        Ok(self)
    }
}

/// A value of bounded size.
#[derive(Clone, Copy)]
struct Kept<'l>(&'l Cell<usize>);

impl Kept<'_> {
    fn take<E: Error>(self, bytes: usize) -> Result<(), E> {
        self.0.set(self.0.get().saturating_sub(bytes + 1));
        match self.0.get() {
            0 => Err(E::custom("too much is kept")),
            _ => Ok(()),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Kept<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Kept<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        self.take(0)?;
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.take(0)?;
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.take(0)?;
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        self.take(0)?;
        Ok(value.into())
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.take(0)?;
        Ok(Value::Null)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.take(value.len())?;
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.take(0)?;
        let mut all = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            all.push(item);
        }
        Ok(all.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        self.take(0)?;
        let mut all = Map::new();
        while let Some(name) = object.next_key::<String>()? {
            self.take(name.len())?;
            all.insert(name, object.next_value_seed(self)?);
        }
        Ok(all.into())
    }
}

/// serde_json's message without its "at line 1 column 5", which counts lines of the one line.
fn without_place(error: &serde_json::Error) -> String {
    let message = error.to_string();
    message
        .rsplit_once(" at line ")
        .map_or(message.clone(), |(why, _)| why.to_owned())
}
