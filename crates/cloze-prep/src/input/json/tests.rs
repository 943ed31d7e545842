//! The scan against the library.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{by_library, copy, scan};
use crate::Config;
use crate::input::{Compression, Format, InputOptions, Source};

fn options(id: bool, meta: &[&str]) -> InputOptions {
    InputOptions::of(&Config {
        id_field: id.then(|| "id".into()),
        meta_field: meta.iter().map(|m| (*m).to_owned()).collect(),
        ..Config::default()
    })
}

fn all_options() -> [InputOptions; 4] {
    [
        options(false, &[]),
        options(true, &[]),
        options(true, &["a", "t"]),
        // The same field twice.
        options(false, &["text"]),
    ]
}

/// Whether the scan gives anything; what it gives is what the library gives.
fn agrees(line: &str, options: &InputOptions) -> bool {
    let source = Source {
        path: "a.jsonl".into(),
        format: Format::JsonLines,
        compression: Compression::None,
        bytes: 1,
        object: None,
    };
    let Some(found) = scan::document(line, options) else {
        return false;
    };
    match by_library(&source, options, 1, line) {
        Ok(expected) => assert_eq!(found, expected, "{line:?}"),
        Err(e) => panic!("{line:?}: {e}"),
    }
    true
}

fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        8 => "[a-z ,.]{0,12}",
        1 => "[a-zé ]{30,90}",
        1 => Just("\"".to_owned()),
        1 => Just("\\".to_owned()),
        1 => "[\n\t\r\u{8}\u{c}\u{0}\u{1f}\u{7f}/]",
        1 => any::<char>().prop_map(String::from),
        1 => Just("😀".to_owned()),
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1e9f64..1e9).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name(), inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec!["text", "id", "a", "t", "meta", "", "$x"]).prop_map(str::to_owned),
        1 => text(),
    ]
}

/// A line as one writer or another writes it: with spaces or none, and with everything beyond ASCII escaped or nothing.
fn line() -> impl Strategy<Value = String> {
    let members = prop::collection::vec((name(), value()), 0..5);
    let own = (
        text(),
        prop_oneof![
            text().prop_map(Value::from),
            any::<i32>().prop_map(Value::from)
        ],
    );
    (
        members,
        own,
        any::<prop::sample::Index>(),
        any::<[bool; 3]>(),
    )
        .prop_map(
            |(mut members, (text, id), place, [spaced, escaped, known])| {
                if known {
                    members.insert(place.index(members.len() + 1), ("text".into(), text.into()));
                    members.insert(place.index(members.len() + 1), ("id".into(), id));
                }
                let (comma, colon) = if spaced { (" , ", ": ") } else { (",", ":") };
                let members = members.iter().map(|(name, value)| {
                    let mut member = format!("{}{colon}{value}", json!(name));
                    if escaped {
                        let mut halves = [0; 2];
                        member = member
                            .chars()
                            .map(|c| match c.is_ascii() {
                                true => c.to_string(),
                                false => c
                                    .encode_utf16(&mut halves)
                                    .iter()
                                    .map(|half| format!("\\u{half:04x}"))
                                    .collect(),
                            })
                            .collect();
                    }
                    member
                });
                format!("{{{}}}\n", members.collect::<Vec<_>>().join(comma))
            },
        )
}

/// The string that begins at `at` is read with each set of instructions as without.
fn are_copied(line: &str, at: usize) {
    let begin = || scan::Scan { line, at };
    let (mut plain, mut read) = (begin(), Vec::new());
    let is_whole = plain.string(&mut read);
    for (way, string) in copy::ways().into_iter().enumerate() {
        let (mut fast, mut copied) = (begin(), Vec::new());
        assert_eq!(
            string(&mut fast, &mut copied),
            is_whole,
            "{way} of {line:?}"
        );
        if is_whole.is_some() {
            assert_eq!((fast.at, &copied), (plain.at, &read), "{way} of {line:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn lines_are_read_as_the_library_reads_them(line in line()) {
        for options in &all_options() {
            let _ = agrees(&line, options);
        }
    }

    /// Lines with something changed in them, which are mostly wrong.
    #[test]
    fn broken_lines_are_read_as_the_library_reads_them(
        line in line(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0u8..3, prop::sample::select(
            "{}[]\":,\\/u0d8Dcfe+-.19tnrl \t\u{e9}$".chars().collect::<Vec<_>>(),
        )), 1..4),
    ) {
        let mut chars: Vec<char> = line.chars().collect();
        for (place, kind, c) in changes {
            let at = place.index(chars.len());
            match kind {
                0 => chars[at] = c,
                1 => chars.insert(at, c),
                _ => drop(chars.remove(at)),
            }
            if chars.is_empty() {
                chars.push(c);
            }
        }
        let line: String = chars.into_iter().collect();
        for options in &all_options() {
            let _ = agrees(&line, options);
        }
    }

    /// Strings that are whole, cut short, or have a control character in them.
    #[test]
    fn strings_are_copied_as_they_are_read(text in text(), behind in text(), cut: prop::sample::Index, control in prop::option::of((any::<prop::sample::Index>(), "[\u{0}-\u{1f}]"))) {
        let mut line = format!("{}{behind}", json!(text));
        if let Some((place, control)) = control {
            let place = line.floor_char_boundary(place.index(line.len()));
            line.insert_str(place, &control);
        }
        let whole = line.len();
        for end in [whole, line.floor_char_boundary(cut.index(whole))] {
            are_copied(&line[..end], end.min(1));
        }
    }

    /// Strings with much that is escaped, rightly or wrongly, wherever blocks begin and end.
    #[test]
    fn escapes_are_read_wherever_they_stand(
        pieces in prop::collection::vec(prop_oneof![
            40 => "[a-z é中]{1,40}",
            40 => r#"\\[nt"\\/rbf]"#,
            10 => r#"\\u[0-9a-fA-D]{4}"#,
            10 => r#"\\ud83d\\ude0[0-9]"#,
            10 => r#"(\\\\){1,5}"#,
            1 => r#"\\[a-zA-Z0-9é]"#,
            1 => "[\\\\\"\u{0}-\u{1f}]",
        ], 0..40),
        more in 0usize..70,
    ) {
        let line = format!("{}{}\"{}", "x".repeat(more), pieces.concat(), "y".repeat(more));
        for at in 0..=more {
            are_copied(&line, at);
        }
    }

    /// Texts and ids of any kind are no reason to ask the library.
    #[test]
    fn common_lines_need_no_library(text in text(), id: i32, other in text(), pretty: bool) {
        let value = json!({"id": id, "a": [1, 2.5, {"b": other}], "t": other, "text": text});
        let line = match pretty {
            true => value.to_string().replace("\":", "\" : ") + "\r\n",
            false => value.to_string(),
        };
        for options in &all_options()[..3] {
            // What stands in a text may look like what is replaced here.
            prop_assert!(agrees(&line, options) || (pretty && line.contains("\\\"")), "{line}");
        }
    }
}

#[test]
fn what_is_not_sure_is_left_to_the_library() {
    let [plain, with_id, ..] = all_options();
    for (line, expected) in [
        (r#"{"text": "a"}"#, true),
        (r#"{"text": "\ud83d\ude00\u00e9\/"}"#, true),
        (
            r#" {"a": {"b": [[], {}, [{}], -0.5e+10, true]}, "text": ""} "#,
            true,
        ),
        (r#"{"text": "a", "text": "b"}"#, false),
        (r#"{"te\u0078t": "a", "text": "b"}"#, false),
        (
            r#"{"$serde_json::private::RawValue": "a", "text": "b"}"#,
            false,
        ),
        (r#"{"text": "\ud83d"}"#, false),
        (r#"{"text": "\ude00\ud83d"}"#, false),
        (r#"{"text": "\ud83d\u0041"}"#, false),
        (r#"{"text": "\x"}"#, false),
        ("{\"text\": \"a\tb\"}", false),
        (
            "{\"text\": \"a text that is longer than a vector \u{1} is\"}",
            false,
        ),
        ("{\"a\tb\": 1, \"text\": \"x\"}", false),
        ("{\"a\": \"b\tc\", \"text\": \"x\"}", false),
        (r#"{"text": "a",}"#, false),
        (r#"{"text": "a"} x"#, false),
        (r#"{"text": "a", "n": 01}"#, false),
        (r#"{"text": "a", "n": 1.}"#, false),
        (r#"{"text": "a", "n": 1e999}"#, false),
        (r#"{"text": "a", "n": 1e5}"#, true),
        (r#"{"text": "a", "n": +1}"#, false),
        (r#"{"text": "a", "n": nul}"#, false),
        (r#"{"text": 1}"#, false),
        (r#"["text"]"#, false),
        ("", false),
    ] {
        assert_eq!(agrees(line, &plain), expected, "{line}");
    }
    for (id, expected) in [
        ("7", true),
        ("-7", true),
        ("\"\\u0041\"", true),
        ("123456789012345678", true),
        ("1234567890123456789", false),
        ("-0", false),
        ("1.0", false),
        ("1e2", false),
        ("null", false),
        ("[1]", false),
    ] {
        let line = format!(r#"{{"id": {id}, "text": "a"}}"#);
        assert_eq!(agrees(&line, &with_id), expected, "{line}");
    }
    assert!(!agrees(r#"{"text": "a"}"#, &with_id));
    let deep = |depth: usize| {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        format!(r#"{{"a": {open}{close}, "text": "b"}}"#)
    };
    assert!(agrees(&deep(60), &plain) && !agrees(&deep(70), &plain));
}
