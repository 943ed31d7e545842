//! Tokenization: for every text, each setting of BERT's normaliser and each vocabulary that `cloze-wordpiece` covers, its ids are those of `tokenizers`, with each
//! set of instructions that the machine has, in 16 bits and in 32, whatever was encoded before.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

use cloze_wordpiece::{Isa, Scratch, WordPiece};
use serde_json::{Map, Value, json};

/// A tokenizer of ours on each set of instructions, and theirs.
struct Both {
    ours: Vec<(WordPiece, Scratch)>,
    theirs: tokenizers::Tokenizer,
}

impl Both {
    /// `None` where ours does not cover it.
    fn new(json: &Value) -> Option<Self> {
        let mut ours = Vec::new();
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_there()) {
            let tokenizer = WordPiece::from_json(json).ok()?.with(isa)?;
            let scratch = tokenizer.scratch();
            ours.push((tokenizer, scratch));
        }
        let theirs = tokenizers::Tokenizer::from_bytes(json.to_string());
        let mut theirs = theirs.unwrap_or_else(|e| panic!("{e}: {json}"));
        theirs.with_truncation(None).expect("none");
        theirs.with_padding(None);
        theirs.set_encode_special_tokens(true);
        Some(Self { ours, theirs })
    }

    fn agree(&mut self, text: &str) {
        let encoding = self.theirs.encode_fast(text, false).expect("any text");
        let expected = encoding.get_ids();
        for (tokenizer, scratch) in &mut self.ours {
            let (mut wide, mut narrow) = (vec![7u32], Vec::<u16>::new());
            tokenizer.encode_into(scratch, text, &mut wide);
            let isa = tokenizer.isa();
            if wide[1..] != *expected {
                let mut anew = Vec::<u32>::new();
                tokenizer.encode_into(&mut tokenizer.scratch(), text, &mut anew);
                let learned = if anew == expected {
                    " (only after what was encoded before)"
                } else {
                    ""
                };
                panic!(
                    "{isa:?}{learned}: {text:?} gives {:?}, not {expected:?}",
                    &wide[1..]
                );
            }
            // All ids of these vocabularies are small.
            tokenizer.encode_into(scratch, text, &mut narrow);
            assert!(
                narrow
                    .iter()
                    .map(|&id| u32::from(id))
                    .eq(expected.iter().copied()),
                "{isa:?}: {text:?}"
            );
        }
    }
}

/// How entries that continue a word begin, what is not spelt is called, and the longest word.
const SHAPES: [(&str, &str, usize); 4] = [
    ("##", "[UNK]", 100),
    ("@@", "<unk>", 16),
    ("é", "[UNK]", 50),
    ("a", "#", 1_000),
];

fn tokenizer(
    settings: u8,
    shape: (&str, &str, usize),
    tokens: impl IntoIterator<Item = String>,
) -> Value {
    let strip = match settings / 2 % 3 {
        0 => Value::Null,
        n => Value::Bool(n == 1),
    };
    let special = ["[PAD]", shape.1, "[CLS]", "[SEP]", "[MASK]"].map(str::to_owned);
    let mut seen = BTreeSet::new();
    let all = special
        .into_iter()
        .chain(tokens)
        .filter(|token| seen.insert(token.clone()));
    let vocab: Map<String, Value> = all
        .zip(0..60_000)
        .map(|(token, id)| (token, Value::from(id)))
        .collect();
    let added = |id: u32, content: &str| json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [added(0, "[PAD]"), added(3, "[SEP]")],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": (settings / 6).is_multiple_of(2),
            "strip_accents": strip, "lowercase": settings.is_multiple_of(2)},
        "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordPiece", "unk_token": shape.1, "continuing_subword_prefix": shape.0,
            "max_input_chars_per_word": shape.2, "vocab": vocab}
    })
}

/// Vocabularies that are made once.
const MADE: u8 = 5;

fn made(number: u8) -> ((&'static str, &'static str, usize), Vec<String>) {
    let both = |pieces: &mut dyn Iterator<Item = String>, prefix: &str| -> Vec<String> {
        pieces
            .flat_map(|piece| [format!("{prefix}{piece}"), piece])
            .collect()
    };
    let words = "the a an of in to and ing ed s er tion un re able ness abc xyz q zz 00 é è ü ß ñ ø ł ж д я α ω σ ς 中 国 日 本 あ い カ ン 한 ᄒ ᅡ ᆫ ᄀ ا ل م ि क ् ी 。 、 “ ” – — … € £ ² ½ ﬁ İ ı i̇ Ｗ internationalisations \u{301} ss i";
    match number {
        // As a model's: words, pieces, and characters of which some are missing.
        0 => {
            let letters = (0x21u8..0x7F)
                .map(char::from)
                .filter(|c| !"jJ~".contains(*c));
            let words = words
                .split(' ')
                .map(str::to_owned)
                .chain(letters.map(String::from));
            (
                SHAPES[0],
                both(
                    &mut words.clone().chain(words.map(|w| w.to_uppercase())),
                    "##",
                ),
            )
        }
        // Hardly anything is spelt.
        1 => (
            SHAPES[0],
            ["t", "##h", "##e", "the", "##a", "a", "中"]
                .map(str::to_owned)
                .into(),
        ),
        // All short words of three letters, so that there are many ways to cut a word, but for some.
        2 => {
            let mut all = vec![String::new()];
            for from in [0, 1, 4, 13] {
                let longer = all[from.min(all.len() - 1)..].to_vec();
                all.extend(
                    longer
                        .iter()
                        .flat_map(|w| ["a", "b", "é"].map(|c| format!("{w}{c}"))),
                );
            }
            let some = all
                .into_iter()
                .enumerate()
                .filter(|(i, w)| !w.is_empty() && i % 7 != 3);
            (SHAPES[0], both(&mut some.map(|(_, w)| w), "##"))
        }
        // Characters of many scripts.
        3 => {
            let blocks = [
                0x20..0x7F,
                0xA1..0x180,
                0x300..0x340,
                0x370..0x460,
                0x5D0..0x660,
                0x900..0x960,
                0x1100..0x1200,
                0x3040..0x3100,
                0x4E00..0x4F00,
                0xAC00..0xAD00,
            ];
            let characters = blocks.into_iter().flatten().filter_map(char::from_u32);
            (SHAPES[0], both(&mut characters.map(String::from), "##"))
        }
        _ => (
            SHAPES[1],
            both(&mut words.split(' ').map(str::to_owned), "@@"),
        ),
    }
}

thread_local! {
    static ALL: RefCell<HashMap<(u8, u8), Both>> = RefCell::default();
}

/// The first byte is a vocabulary, the second the normaliser's settings, the rest a [text](super::text::text); of vocabularies that are made anew, a third says
/// how long their entries are, which come before the text.
pub fn check(data: &[u8]) {
    let Some((&[vocabulary, settings], mut rest)) = data.split_first_chunk() else {
        return;
    };
    let settings = settings % 12;
    let vocabulary = vocabulary % (MADE + 3);
    if vocabulary < MADE {
        let text = super::text::text(rest);
        ALL.with_borrow_mut(|all| {
            let both = all.entry((vocabulary, settings)).or_insert_with(|| {
                let (shape, tokens) = made(vocabulary);
                Both::new(&tokenizer(settings, shape, tokens)).expect("it is covered")
            });
            both.agree(&text);
        });
        return;
    }
    // Entries and words of few characters, so that they have to do with one another.
    let Some((&count, after)) = rest.split_first() else {
        return;
    };
    rest = after;
    let shape = SHAPES[usize::from(count) % SHAPES.len()];
    let (entries, rest) = rest.split_at(rest.len().min(usize::from(count)));
    let letters = [
        "a", "b", "é", "#", "@", "A", "中", "\u{301}", ".", " ", "\n",
    ];
    let entries = entries.split(|&b| b >= 0xE0).map(|entry| {
        let (first, entry) = entry.split_first().map_or((0, entry), |(&f, e)| (f, e));
        let prefix = if first % 2 == 0 { "" } else { shape.0 };
        let letters = entry
            .iter()
            .map(|&b| letters[usize::from(b) % letters.len()]);
        prefix.to_owned() + &letters.collect::<String>()
    });
    let tokens: Vec<String> = entries.filter(|entry| !entry.is_empty()).collect();
    let few: String = rest
        .iter()
        .take(64)
        .map(|&b| letters[usize::from(b) % letters.len()])
        .collect();
    if let Some(mut both) = Both::new(&tokenizer(settings, shape, tokens)) {
        both.agree(&few);
        both.agree(&super::text::text(rest));
    }
}
