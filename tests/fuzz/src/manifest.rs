//! Manifests: whatever `manifest.json` says of a folder of good files, it is read or refused, in memory that does not grow with what it says, and no file outside the
//! folder is opened; of a dataset in Parquet files too.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;

use arbitrary::{Arbitrary, Result, Unstructured};
use cloze_convert::Target;
use serde_json::{Value, json};

use super::place::{KINDS, OUTSIDE, Place};

/// A dataset, as it was written.
struct Given {
    place: Place,
    whole: Value,
    /// All places in it.
    pointers: Vec<String>,
}

impl Given {
    fn new(kind: u8) -> Self {
        let place = Place::new(kind % KINDS);
        let data = place.path();
        if kind >= KINDS {
            let arrow = data.with_extension("arrow");
            fs::rename(&data, &arrow).expect("a folder");
            cloze_convert::convert(&arrow, &data, Target::Parquet, Some(1), &|_| ())
                .expect("a dataset");
        }
        let text = fs::read(data.join("manifest.json")).expect("a manifest");
        let whole: Value = serde_json::from_slice(&text).expect("a manifest");
        let mut pointers = Vec::new();
        find(&whole, "", &mut pointers);
        Self {
            place,
            whole,
            pointers,
        }
    }
}

fn find(value: &Value, here: &str, found: &mut Vec<String>) {
    found.push(here.to_owned());
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                find(
                    member,
                    &format!("{here}/{}", name.replace('~', "~0").replace('/', "~1")),
                    found,
                );
            }
        }
        Value::Array(members) => {
            for (i, member) in members.iter().enumerate() {
                find(member, &format!("{here}/{i}"), found);
            }
        }
        _ => {}
    }
}

thread_local! {
    static ALL: RefCell<HashMap<u8, Given>> = RefCell::default();
}

/// Numbers that lengths and counts are rarely tried with.
const ODD: [u64; 14] = [
    0,
    1,
    2,
    7,
    255,
    0xFFFF,
    0x1_0000,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_FFFF,
    1 << 32,
    i64::MAX as u64,
    1 << 63,
    u64::MAX,
];

/// Another value for a place.
fn other(u: &mut Unstructured<'_>, given: &Given) -> Result<Value> {
    let pointer =
        |u: &mut Unstructured<'_>| Ok(given.whole.pointer(u.choose(&given.pointers)?).cloned());
    Ok(match u.int_in_range(0..=13)? {
        0 => Value::Null,
        1 => json!(format!("../{OUTSIDE}")),
        2 => json!(
            given
                .place
                .path()
                .join("..")
                .join(OUTSIDE)
                .to_string_lossy()
        ),
        3 => json!(""),
        4 => json!([]),
        5 => json!({}),
        6 => json!(-1),
        7 => json!(1e308),
        8 => json!(vec![*u.choose(&ODD)?; 40]),
        9 => json!(String::arbitrary(u)?),
        10 => json!(u64::arbitrary(u)?),
        11 => json!(
            [
                "train/../train/part-00000.arrow",
                "./documents.arrow",
                "train//part-00000.arrow",
                "/",
                "train",
                "."
            ][u.choose_index(6)?]
        ),
        // One place for another, and things twice.
        12 => pointer(u)?.unwrap_or_default(),
        _ => json!(u.choose(&ODD)?),
    })
}

fn told(u: &mut Unstructured<'_>, given: &Given) -> Result<Value> {
    let mut told = given.whole.clone();
    for _ in 0..u.int_in_range(1..=4)? {
        let at = u.choose(&given.pointers)?;
        let value = other(u, given)?;
        match told.pointer_mut(at) {
            Some(Value::Array(members)) if u.arbitrary()? => {
                let again = members.first().cloned().unwrap_or(value);
                members.push(again);
            }
            Some(Value::Object(members)) if u.arbitrary()? => {
                members.insert(String::arbitrary(u)?, value);
            }
            Some(place) => *place = value,
            None => {}
        }
    }
    Ok(told)
}

/// The first byte says of what kind the dataset is, and whether the rest is a manifest or says what is changed of one.
pub fn check(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else {
        return;
    };
    let kind = first / 2 % (KINDS + 1);
    ALL.with_borrow_mut(|all| {
        let given = all.entry(kind).or_insert_with(|| Given::new(kind));
        let path = given.place.path();
        let text = match first % 2 {
            0 => rest.to_vec(),
            _ => match told(&mut Unstructured::new(rest), given) {
                Ok(told) => told.to_string().into_bytes(),
                Err(_) => return,
            },
        };
        fs::write(path.join("manifest.json"), text).expect("a file");
        given.place.read();
        if let Ok(Some(_)) = cloze_convert::Container::read(&path) {
            let _ = cloze_convert::verify::verify(&path, Some(1), &|_| ());
        }
    });
}
