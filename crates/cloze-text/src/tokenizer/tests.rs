//! Ids are those of the library, whichever way a tokenizer is opened.

use super::*;

const TOKENS: [&str; 9] = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "play", "##ing", "[", "]",
];

fn ids(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    let mut out = vec![];
    tokenizer.encode_into(text, &mut out).unwrap();
    out
}

#[test]
fn special_tokens_in_text_are_text() {
    let t = Tokenizer::from_tokens(&TOKENS, Settings::default()).unwrap();
    assert_eq!(ids(&t, "Playing [SEP] play"), [5, 6, 7, 1, 8, 5]);
}

#[test]
fn truncation_and_padding_in_the_file_are_off() {
    let json = tokenizer_json(&TOKENS, Settings::default()).unwrap();
    let mut value: Value = serde_json::from_slice(&json).unwrap();
    value["truncation"] =
        json!({"max_length": 3, "strategy": "LongestFirst", "stride": 0, "direction": "Right"});
    value["padding"] = json!({"strategy": {"Fixed": 16}, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"});
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokenizer.json");
    fs::write(&file, value.to_string()).unwrap();
    let t = Tokenizer::open(&file).unwrap();
    assert_eq!(ids(&t, "play play play play play").len(), 5);
    let given = t
        .files()
        .iter()
        .find(|(name, _)| name == "tokenizer.json")
        .unwrap();
    assert_eq!(
        given.1,
        fs::read(&file).unwrap(),
        "the file goes on as it came"
    );
}

/// Two files of a folder say the same, ids are those of the library, and the line of `vocab.txt` is the id.
#[test]
fn what_contradicts_itself_is_refused() {
    let json = tokenizer_json(&TOKENS, Settings::default()).unwrap();
    let of = |json: &[u8], config: &str| {
        Tokenizer::new(json.to_vec(), Some(config.into()), None)
            .map(|t| t.file("vocab.txt").to_vec())
    };
    assert!(of(&json, r#"{"do_lower_case": true}"#).is_ok());
    assert!(of(&json, "{}").is_ok());
    let why = of(&json, r#"{"do_lower_case": false}"#).unwrap_err();
    assert!(
        why.contains("do_lower_case") && why.contains("lowercase"),
        "{why}"
    );
    let mut value: Value = serde_json::from_slice(&json).unwrap();
    value["model"]["vocab"]["]"] = json!(11);
    let bytes = value.to_string().into_bytes();
    assert!(Usual::read(&bytes).is_none());
    let lines = String::from_utf8(of(&bytes, "{}").unwrap()).unwrap();
    assert_eq!(lines.split('\n').position(|line| line == "]"), Some(11));
    let added = json!({"id": 20, "content": "more", "special": false, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false});
    value["added_tokens"].as_array_mut().unwrap().push(added);
    let why = of(value.to_string().as_bytes(), "{}").unwrap_err();
    assert!(why.contains("more") && why.contains("20"), "{why}");
}

#[test]
fn a_written_folder_opens_as_the_same_tokenizer() {
    for lowercase in [true, false] {
        let settings = Settings {
            lowercase,
            ..Settings::default()
        };
        let t = Tokenizer::from_tokens(&TOKENS, settings).unwrap();
        let folder = tempfile::tempdir().unwrap();
        t.write(folder.path()).unwrap();
        let text = "Playing playing PLAY [x]";
        let from_json = Tokenizer::open(folder.path()).unwrap();
        fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
        let from_vocab = Tokenizer::open(folder.path()).unwrap();
        assert_eq!(ids(&from_json, text), ids(&t, text));
        assert_eq!(ids(&from_vocab, text), ids(&t, text));
        assert_eq!(from_vocab.vocab_size(), 9);
    }
}

/// What is read without the library is what the library reads; and what it might read in another way, or not at all, is left to it.
#[test]
fn usual_files_are_read_as_the_library_reads_them() {
    let json = tokenizer_json(&TOKENS, Settings::default()).unwrap();
    let value: Value = serde_json::from_slice(&json).unwrap();
    let same = |value: &Value| {
        let t = Tokenizer::new(value.to_string().into_bytes(), None, None).unwrap();
        let was_asked = t.library.get().is_some();
        let by_line: Vec<Option<u32>> = TOKENS.iter().map(|name| t.id(name)).collect();
        assert_eq!((t.id("pla"), t.id("")), (None, None));
        let library = t.library().unwrap();
        assert_eq!(t.vocab_size(), library.get_vocab_size(true));
        assert_eq!(library.get_vocab(true).len(), t.vocab_size());
        let by_library: Vec<Option<u32>> = TOKENS
            .iter()
            .map(|name| library.token_to_id(name))
            .collect();
        assert_eq!(by_line, by_library);
        let lines = t.file("vocab.txt").split(|&b| b == b'\n');
        for (id, line) in (0..t.vocab_size() as u32).zip(lines) {
            assert_eq!(library.id_to_token(id).unwrap().as_bytes(), line);
        }
        let (mut fast, mut slow) = (vec![], vec![]);
        for text in ["Playing [SEP] play", "[MASK]ing x", "plåy 😀"] {
            t.encoder().encode_into(text, &mut fast).unwrap();
            t.encode_into(text, &mut slow).unwrap();
        }
        assert_eq!(fast, slow);
        !was_asked
    };
    assert!(same(&value), "the library is not asked");
    let with = |path: &str, to: Value| {
        let mut other = value.clone();
        *other.pointer_mut(path).unwrap() = to;
        other
    };
    let truncation =
        json!({"max_length": 3, "strategy": "LongestFirst", "stride": 0, "direction": "Right"});
    for (path, to) in [
        ("/truncation", truncation),
        ("/normalizer/lowercase", json!(false)),
        ("/normalizer/strip_accents", json!(true)),
        ("/post_processor", json!(null)),
        ("/decoder", json!(null)),
        ("/added_tokens", json!([])),
        ("/model/max_input_chars_per_word", json!(50)),
    ] {
        assert!(same(&with(path, to)), "{path}");
    }
    // Taken, by the library.
    let added = |content: &str, id: u32, special: bool| json!([{"id": id, "content": content, "special": special, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false}]);
    for (path, to) in [
        ("/normalizer/clean_text", json!(false)),
        ("/pre_tokenizer", json!({"type": "Whitespace"})),
        ("/added_tokens", added("play", 5, false)),
        ("/added_tokens", added("more", 9, true)),
    ] {
        assert!(!same(&with(path, to)), "{path}");
    }
    let mut unnamed = value.clone();
    unnamed["model"]
        .as_object_mut()
        .unwrap()
        .shift_remove("type");
    assert!(!same(&unnamed));
    // Refused, by the library.
    for (path, to) in [
        ("/version", json!("2.0")),
        ("/normalizer", json!({"type": "None"})),
        ("/post_processor", json!({"type": "Template"})),
        ("/decoder", json!(7)),
        ("/added_tokens", json!([{"id": 0}])),
        ("/model/vocab/play", json!(-5)),
        ("/model/vocab/play", json!("5")),
        ("/model/unk_token", json!(null)),
    ] {
        let bytes = with(path, to).to_string().into_bytes();
        assert!(Usual::read(&bytes).is_none(), "{path}");
        assert!(Tokenizer::new(bytes, None, None).is_err(), "{path}");
    }
    // Left to it whatever it makes of them: ids with a gap, an entry of two lines, entries that are there twice.
    for (from, to) in [
        ("\"##ing\": 6", "\"##ing\": 60"),
        (r#""play": 5"#, r#""pl\nay": 5"#),
        (r#""play": 5"#, r#""play": 9, "play": 5"#),
    ] {
        let text = String::from_utf8(json.clone()).unwrap();
        assert!(text.contains(from));
        let bytes = text.replace(from, to).into_bytes();
        assert!(Usual::read(&bytes).is_none(), "{to}");
    }
}

/// Whatever is another in a file, or missing, or more: what is read without the library is what the library reads.
#[test]
fn what_is_read_without_the_library_is_what_it_reads() {
    fn places(value: &Value, at: &str, out: &mut Vec<String>) {
        out.push(at.to_owned());
        match value {
            Value::Object(map) => map
                .iter()
                .for_each(|(key, value)| places(value, &format!("{at}/{key}"), out)),
            Value::Array(list) => list
                .iter()
                .enumerate()
                .for_each(|(i, value)| places(value, &format!("{at}/{i}"), out)),
            _ => {}
        }
    }
    let json = tokenizer_json(&TOKENS, Settings::default()).unwrap();
    let whole: Value = serde_json::from_slice(&json).unwrap();
    let mut all = Vec::new();
    places(&whole, "", &mut all);
    let odd = [
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(7),
        json!(-1),
        json!(2.5),
        json!(4_294_967_296u64),
        json!(""),
        json!("##"),
        json!("play"),
        json!("1.0"),
        json!("Sequence"),
        json!("NFC"),
        json!("BertPreTokenizer"),
        json!([]),
        json!({}),
        json!([1]),
        json!({"type": "Sequence"}),
    ];
    let (mut read, mut refused) = (0, 0);
    let mut check = |value: &Value, what: &str| {
        let bytes = value.to_string().into_bytes();
        let Some(usual) = Usual::read(&bytes) else {
            refused += 1;
            return;
        };
        read += 1;
        let library = library(&bytes).unwrap_or_else(|why| panic!("{what}: {why}"));
        let mut vocab: Vec<_> = library.get_vocab(true).into_iter().collect();
        vocab.sort_by_key(|(_, id)| *id);
        let lines: String = vocab
            .iter()
            .map(|(token, _)| format!("{token}\n"))
            .collect();
        assert_eq!(usual.vocab_txt, lines.as_bytes(), "{what}");
        let mut fast: Vec<u32> = Vec::new();
        let text = "Playing [SEP] play plåy PLAY 中 []";
        usual
            .fast
            .encode_into(&mut usual.fast.scratch(), text, &mut fast);
        let slow = library.encode_fast(text, false).unwrap();
        assert_eq!(fast, slow.get_ids(), "{what}");
    };
    for at in &all {
        for to in &odd {
            let mut other = whole.clone();
            *other.pointer_mut(at).unwrap() = to.clone();
            check(&other, &format!("{at} is {to}"));
        }
        let mut more = whole.clone();
        if let Some(Value::Object(map)) = more.pointer_mut(at) {
            map.insert("more".into(), json!(9));
            check(&more, &format!("more in {at}"));
        }
        let mut less = whole.clone();
        if let Some((parent, key)) = at.rsplit_once('/')
            && let Some(Value::Object(map)) = less.pointer_mut(parent)
        {
            map.shift_remove(key);
            check(&less, &format!("no {at}"));
        }
    }
    assert!(read > 50 && refused > 500, "{read} {refused}");
}

#[test]
fn bad_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let open = |name: &str, content: &str| {
        let file = folder.path().join(name);
        fs::write(&file, content).unwrap();
        let message = Tokenizer::open(&file)
            .err()
            .expect("a bad file")
            .to_string();
        assert!(message.contains(name), "{message}");
        message
    };
    assert!(open("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\nplay\n").contains("[MASK]"));
    assert!(open("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\na\n").contains("duplicates"));
    assert!(open("tokenizer.json", "{\"model\": ").contains("not a tokenizer.json"));
    assert!(
        open(
            "tokenizer.json",
            r#"{"model": {"type": "BPE", "vocab": {}}}"#
        )
        .contains("BPE")
    );
    assert!(
        Tokenizer::open(&folder.path().join("absent"))
            .err()
            .unwrap()
            .hint()
            .is_some()
    );
}

/// Of a `vocab.txt` what lies beside it says whether text is lowercased; of one whose entries have capital letters nobody guesses.
#[test]
fn case_is_said_or_plain() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["vocab.txt", "tokenizer_config.json"];
    let [file, config] = names.map(|name| folder.path().join(name));
    let write = |more: &[&str]| fs::write(&file, [&TOKENS[..], more].concat().join("\n")).unwrap();
    write(&["Play"]);
    for path in [file.as_path(), folder.path()] {
        let why = Tokenizer::open(path).err().unwrap().to_string();
        for what in ["1 of its 10 entries", "\"Play\"", "do_lower_case"] {
            assert!(why.contains(what), "{why}");
        }
        for (lowercase, expected) in [(false, [9, 5]), (true, [5, 5])] {
            fs::write(&config, format!("{{\"do_lower_case\": {lowercase}}}")).unwrap();
            let opened = Tokenizer::open(path).unwrap();
            assert_eq!(opened.lowercase(), Some(lowercase));
            assert_eq!(ids(&opened, "Play play"), expected);
        }
        fs::remove_file(&config).unwrap();
    }
    // A few may be there by chance.
    let words: Vec<String> = (0..200).map(|i| format!("w{i}")).collect();
    let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
    words.push("Ⅱ");
    write(&words);
    assert_eq!(Tokenizer::open(&file).unwrap().lowercase(), Some(true));
}
