//! The ids are those of `tokenizers`, on everything that a test can think of.
//!
//! `CLOZE_WORDPIECE_CASES` sets how many random strings are compared (20,000 by default; a million takes minutes). `CLOZE_WORDPIECE_MODEL` names a Hugging Face folder whose
//! `tokenizer.json` is compared too.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::ops::Range;

use cloze_wordpiece::{Isa, Scratch, WordPiece};
use serde_json::{Value, json};

/// A tokenizer of ours on each set of instructions, and theirs.
struct Both {
    ours: Vec<(WordPiece, Scratch)>,
    theirs: tokenizers::Tokenizer,
}

impl Both {
    fn new(json: &Value) -> Self {
        let mut theirs = tokenizers::Tokenizer::from_bytes(json.to_string()).unwrap();
        theirs.with_truncation(None).unwrap();
        theirs.with_padding(None);
        theirs.set_encode_special_tokens(true);
        let ours = Isa::ALL
            .into_iter()
            .filter(|isa| isa.is_there())
            .map(|isa| {
                let tokenizer = WordPiece::from_json(json).unwrap().with(isa).unwrap();
                let scratch = tokenizer.scratch();
                (tokenizer, scratch)
            });
        Self {
            ours: ours.collect(),
            theirs,
        }
    }

    /// As [`Both::agree`], also in parts.
    fn agree_in_parts(&mut self, text: &str) {
        self.agree(text);
        for (tokenizer, scratch) in &mut self.ours {
            for most in [1, 3, 20] {
                parts_agree(tokenizer, scratch, text, &parts(text, most));
            }
        }
    }

    fn agree(&mut self, text: &str) {
        let encoding = self.theirs.encode_fast(text, false).unwrap();
        for (tokenizer, scratch) in &mut self.ours {
            let mut ids = vec![7u32];
            tokenizer.encode_into(scratch, text, &mut ids);
            if ids[1..] != *encoding.get_ids() {
                let isa = tokenizer.isa();
                panic!(
                    "{isa:?}: {text:?} ({:x?}) gives {:?}, not {:?}",
                    text.chars().map(u32::from).collect::<Vec<_>>(),
                    &ids[1..],
                    encoding.get_ids()
                );
            }
        }
    }
}

/// Parts of at most so many characters, without white space around each.
fn parts(text: &str, most: usize) -> Vec<Range<usize>> {
    let mut ends: Vec<usize> = text
        .char_indices()
        .step_by(most)
        .map(|(at, _)| at)
        .collect();
    ends.push(text.len());
    let trimmed = |pair: &[usize]| {
        let part = &text[pair[0]..pair[1]];
        let start = pair[0] + part.len() - part.trim_start().len();
        start..start + part.trim().len()
    };
    ends.windows(2).map(trimmed).collect()
}

/// Parts that are encoded together have the ids that they have one by one.
fn parts_agree(tokenizer: &WordPiece, scratch: &mut Scratch, text: &str, parts: &[Range<usize>]) {
    let (mut one_by_one, mut ends) = (vec![7u32], vec![]);
    for part in parts {
        tokenizer.encode_into(scratch, &text[part.clone()], &mut one_by_one);
        ends.push(one_by_one.len() as u32);
    }
    let (mut together, mut counts) = (vec![7u32], vec![]);
    tokenizer.encode_parts_into(scratch, text, parts, &mut together, &mut counts);
    let isa = tokenizer.isa();
    assert_eq!(together, one_by_one, "{isa:?}: {text:?} in {parts:?}");
    assert_eq!(counts, ends, "{isa:?}: {text:?} in {parts:?}");
    // As narrow ids, of words that were met by now.
    let mut narrow = vec![7u16];
    counts.clear();
    tokenizer.encode_parts_into(scratch, text, parts, &mut narrow, &mut counts);
    let narrow: Vec<u32> = narrow.into_iter().map(u32::from).collect();
    assert_eq!(narrow, one_by_one, "{isa:?}: {text:?} in {parts:?}");
    assert_eq!(counts, ends, "{isa:?}: {text:?} in {parts:?}");
}

/// Ends at the end of a chunk, before a run that is longer than one, and around what is no white space of ASCII.
#[test]
fn parts_of_awkward_texts() {
    let Both { mut ours, .. } = Both::new(&tokenizer(true, None, true));
    for before in [0, 1, 62, 63, 64, 65, 2_046, 2_047, 2_048, 2_049, 4_096] {
        for (stop, after) in [
            (".", ""),
            (". ", ""),
            (".", "\n\n"),
            ("。", ""),
            (".", "\u{c}"),
            ("\u{301}.", "\u{301}"),
            ("", " "),
            ("", ""),
        ] {
            for run in [1, 70, 2_047, 2_048, 2_049, 5_000] {
                let mut text = "a".repeat(before) + stop;
                let first = 0..text.trim_end().len();
                let mut parts = vec![first];
                for _ in 0..3 {
                    let start = text.len() + after.len();
                    text = text + after + &"é".repeat(run % 7) + &"x".repeat(run) + stop;
                    parts.push(start..start + text[start..].trim_end().len());
                }
                for (tokenizer, scratch) in &mut ours {
                    parts_agree(tokenizer, scratch, &text, &parts);
                }
            }
        }
    }
}

fn vocabulary() -> Vec<String> {
    let mut tokens: Vec<String> = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        .map(String::from)
        .into();
    let pieces = "the a an of in to and ing ed s er tion un re able ness abc xyz q zz 1 2 3 00 é è ü ß ñ ø ł ж д я α ω σ ς 中 国 日 本 あ い の カ ン 한 국 ᄒ ᅡ ᆫ ᄀ ا ل م ि क ् ी 。 、 “ ” – — … € £ ² ½ ﬁ İ ı i̇ Ｗ";
    for piece in pieces.split(' ') {
        for token in [
            piece.to_owned(),
            format!("##{piece}"),
            format!("x{piece}"),
            piece.to_uppercase(),
        ] {
            if !tokens.contains(&token) {
                tokens.push(token);
            }
        }
    }
    for c in (0x21u8..0x7F).map(char::from) {
        for token in [c.to_string(), format!("##{c}")] {
            // Some letters are left out, so that some words cannot be spelt.
            if !tokens.contains(&token) && !"jJ~".contains(c) {
                tokens.push(token);
            }
        }
    }
    tokens.push("internationalisations".into());
    tokens.push("##alisationsextra".into());
    tokens
}

fn tokenizer(lowercase: bool, strip_accents: Option<bool>, ideographs: bool) -> Value {
    let vocab: serde_json::Map<String, Value> = vocabulary()
        .into_iter()
        .zip(0..)
        .map(|(t, id)| (t, Value::from(id)))
        .collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [{"id": 0, "content": "[PAD]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
            {"id": 3, "content": "[SEP]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": ideographs, "strip_accents": strip_accents, "lowercase": lowercase},
        "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocab}
    })
}

/// As uncased, cased, multilingual and Chinese models have them, and the rest.
fn all() -> Vec<Both> {
    let mut all = Vec::new();
    for lowercase in [true, false] {
        for strip_accents in [None, Some(true), Some(false)] {
            for ideographs in [true, false] {
                all.push(Both::new(&tokenizer(lowercase, strip_accents, ideographs)));
            }
        }
    }
    if let Ok(model) = std::env::var("CLOZE_WORDPIECE_MODEL") {
        let text = std::fs::read_to_string(format!("{model}/tokenizer.json")).unwrap();
        all.push(Both::new(&serde_json::from_str(&text).unwrap()));
    }
    all
}

#[test]
fn awkward_texts() {
    let long = |n: usize| "ab".repeat(n);
    let mut texts: Vec<String> = [
        "",
        " ",
        "\t\n",
        "a",
        "The cat, the dog.",
        "abc\u{0}def",
        "ab\u{7f}cd",
        "a\u{b}b\u{c}c\u{85}d",
        "caf\u{e9} cafe\u{301} CAF\u{c9}",
        "İstanbul ISTANBUL ı",
        "中国abc日本",
        "한국어 \u{1112}\u{1161}\u{11ab}",
        "ﬁne “quoted” – dash—dash…",
        "a\u{200b}b\u{feff}c",
        "\u{fffd}x",
        "[SEP] [PAD][UNK] [sep]",
        "##ing ing## #",
        "e\u{301}\u{323} e\u{323}\u{301} \u{302e}a\u{302f}\u{301}b",
        "\u{1d165}\u{301}",
        "\u{16ff0}\u{301}x",
        "ΑΣ ΟΔΟΣ ς",
        "don't stop-me_now",
        "a.b.c",
        "x²½",
        "\u{37e}\u{1fef}\u{2126}\u{212a}\u{212b}",
        "\u{f900}\u{2f800}",
        "a\u{a0}b\u{2003}c\u{3000}d\u{2028}e",
        "naïve-façade",
        "\u{1F600}emoji\u{1F468}\u{200d}\u{1F469}",
    ]
    .map(String::from)
    .into();
    for n in [
        7, 8, 9, 15, 16, 17, 31, 32, 49, 50, 51, 64, 100, 1_030, 5_000,
    ] {
        texts.push(long(n));
        texts.push(format!("{} x {}é {}.", long(n), long(n), long(n)));
        texts.push(format!("{}中{}", long(n), long(n)));
        texts.push("é".repeat(n));
        texts.push(" ".repeat(n) + "a");
        texts.push("a ".repeat(n) + "b");
        texts.push(".".repeat(n) + &"a".repeat(n % 70));
        texts.push("\u{0}".repeat(n) + " internationalisations");
        texts.push("internationalisations".repeat(n % 9) + "extra");
    }
    for mut both in all() {
        for text in &texts {
            both.agree_in_parts(text);
        }
    }
}

/// Every character alone, in a word, and beside a mark.
#[test]
fn every_character() {
    for (i, mut both) in all().into_iter().enumerate() {
        // All settings see a part, and three of them all.
        let every = if matches!(i, 0 | 10 | 11) { 1 } else { 7 };
        let mut text = String::new();
        for code in (0..0x11_0000u32).filter(|c| c % every == 0) {
            let Some(c) = char::from_u32(code) else {
                continue;
            };
            text.clear();
            text.extend([c, ' ', 'A', c, 'b', ' ', c, '\u{301}', ' ', c, c, '.', c]);
            both.agree(&text);
        }
    }
}

/// A random text: of words and what stands between them, of awkward characters, of any.
fn random(state: &mut u64) -> String {
    let mut draw = |n: u64| {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        (*state >> 11) % n
    };
    let awkward: Vec<char> = "\0\t\n\r\u{b}\u{c}\u{7f}\u{85}\u{a0}\u{ad}éÉïİıſßẞΣσςÅ中国日本가각힣\u{1100}\u{1161}\u{11a8}\u{300}\u{301}\u{323}\u{345}\u{5b0}\u{64b}\u{93c}\u{94d}\u{302e}\u{302f}\u{1d165}\u{1d16d}\u{16ff0}\u{200b}\u{200d}\u{2028}\u{202e}\u{3000}\u{f900}\u{fb01}\u{feff}\u{fffd}\u{e000}\u{378}\u{1f600}\u{e0001}\u{10ffff}“”‘’–—…。、「」·¡¿#_-'\"$^`|~"
        .chars()
        .collect();
    let pieces = [
        "the",
        "ing",
        "un",
        "able",
        "abc",
        "xyz",
        "zz",
        "00",
        "1",
        "j",
        "Ing",
        "THE",
        "tion",
        "internationalisations",
    ];
    let mut text = String::new();
    let kind = draw(4);
    let most = if draw(20) == 0 { 2_000 } else { 40 };
    for _ in 0..1 + draw(most) {
        match (kind, draw(10)) {
            (0, _) | (1, 0..7) => {
                text.push_str(pieces[draw(pieces.len() as u64) as usize]);
                if draw(3) == 0 {
                    let gap = draw(6) as usize;
                    text.push([' ', '.', ',', '\n', '-', ' '][gap]);
                }
            }
            (1 | 2, _) => text.push(awkward[draw(awkward.len() as u64) as usize]),
            (_, 0..2) => text.push(char::from(draw(128) as u8)),
            (_, 2..5) => text.extend(char::from_u32(draw(0x3000) as u32)),
            _ => text.extend(char::from_u32(draw(0x11_0000) as u32)),
        }
    }
    text
}

#[test]
fn random_texts() {
    let cases =
        std::env::var("CLOZE_WORDPIECE_CASES").map_or(20_000, |n| n.parse::<u64>().unwrap());
    let all = all();
    let each = cases / all.len() as u64 + 1;
    std::thread::scope(|scope| {
        for (i, mut both) in all.into_iter().enumerate() {
            scope.spawn(move || {
                let mut state = 0x9E37_79B9_7F4A_7C15 ^ (i as u64 + 1);
                for _ in 0..each {
                    both.agree_in_parts(&random(&mut state));
                }
            });
        }
    });
}

/// More words than are remembered, met again and again.
#[test]
fn what_was_learned_may_be_forgotten() {
    let mut both = Both::new(&tokenizer(true, None, true));
    for round in 0..3 {
        for i in 0..45_000u32 {
            if i % 97 == 0 {
                both.agree(&format!("abc{i} the{i}xyz"));
            } else {
                let (ours, scratch) = &mut both.ours[0];
                ours.encode_into::<u32>(scratch, &format!("abc{i}"), &mut Vec::new());
            }
        }
        both.agree(&format!("abc{round} the"));
    }
}

#[test]
fn ids_are_as_wide_as_asked() {
    let tokenizer = WordPiece::from_json(&tokenizer(true, None, true)).unwrap();
    let (mut narrow, mut wide) = (Vec::<u16>::new(), Vec::<u32>::new());
    let mut scratch = tokenizer.scratch();
    tokenizer.encode_into(&mut scratch, "The cat unabled, zz", &mut narrow);
    tokenizer.encode_into(&mut scratch, "The cat unabled, zz", &mut wide);
    assert!(narrow.len() > 5 && narrow.iter().map(|id| u32::from(*id)).eq(wide));
}

#[test]
fn what_is_not_covered_is_said() {
    let good = tokenizer(true, None, true);
    assert!(WordPiece::from_json(&good).is_ok());
    let spoilt: [(&str, Value, &str); 9] = [
        (
            "/normalizer",
            json!({"type": "Lowercase"}),
            "normalizer is Lowercase",
        ),
        ("/normalizer", json!(null), "normalizer is none"),
        (
            "/pre_tokenizer/type",
            json!("Whitespace"),
            "pre_tokenizer is Whitespace",
        ),
        ("/model/type", json!("BPE"), "model is BPE"),
        ("/added_tokens/0/special", json!(false), "1 added tokens"),
        ("/normalizer/clean_text", json!(false), "clean text"),
        ("/model/unk_token", json!("?none"), "unknown words"),
        (
            "/model/continuing_subword_prefix",
            json!(""),
            "continue a word",
        ),
        (
            "/model/max_input_chars_per_word",
            json!(10),
            "16 characters",
        ),
    ];
    for (place, value, says) in spoilt {
        let mut json = good.clone();
        *json.pointer_mut(place).unwrap() = value;
        let why = WordPiece::from_json(&json).err().unwrap().to_string();
        assert!(why.contains(says), "{why}");
    }
}
