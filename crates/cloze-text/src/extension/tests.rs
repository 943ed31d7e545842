use super::*;
use crate::Settings;

/// Letters alone, so that words share beginnings and ends; `##e` is missing, so that some words cannot be cut.
const TOKENS: [&str; 22] = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "d", "ab", "abc", "ca", "##a",
    "##b", "##c", "##d", "##ab", "##bc", "##cd", "##dca", "1", "##1",
];

fn small() -> Tokenizer {
    Tokenizer::from_tokens(&TOKENS, Settings::default()).unwrap()
}

fn count(tokenizer: &Tokenizer, text: &str) -> Words {
    let mut words = Words::default();
    let counter = Counter::new(tokenizer).unwrap();
    text.lines()
        .for_each(|l| counter.count(l, &mut words).unwrap());
    words
}

/// Random words over few letters, some many times.
fn random_text(seed: u64) -> String {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut draw = |n: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % n
    };
    let mut text = String::new();
    for _ in 0..60 {
        let length = 1 + draw(7);
        let word: String = (0..length)
            .map(|_| ['a', 'b', 'c', 'd', 'a', 'e', '1'][draw(7) as usize])
            .collect();
        for _ in 0..=draw(5) {
            text.push_str(&word);
            text.push(if draw(4) == 0 { '\n' } else { ' ' });
        }
    }
    text
}

const ALL: Wanted = Wanted {
    words: usize::MAX,
    min_count: 1,
    max_pieces: None,
};

/// The definition: in each round all words are cut anew by the tokenizer with the words chosen before, and the best is looked for.
fn oracle(tokenizer: &Tokenizer, words: &Words, wanted: &Wanted) -> Vec<Chosen> {
    let cut = |t: &Tokenizer, word: &str| {
        let mut pieces = Vec::new();
        t.pieces(word, &mut pieces).unwrap();
        pieces
    };
    let unknown = tokenizer.id("[UNK]").unwrap();
    let mut chosen: Vec<Chosen> = Vec::new();
    while chosen.len() < wanted.words {
        let names: Vec<&str> = chosen.iter().map(|c| c.word.as_str()).collect();
        let now = tokenizer.extended(&names).unwrap();
        let mut best: Option<(u64, Reverse<&String>, u64)> = None;
        for (word, &n) in &words.counts {
            let old = cut(tokenizer, word);
            let long = wanted.max_pieces.is_some_and(|m| old.len() > m);
            let digits = word.bytes().all(|b| b.is_ascii_digit());
            if n < wanted.min_count || now.id(word).is_some() || digits || long {
                continue;
            }
            let pieces = cut(&now, word);
            let saved = n * (pieces.len() as u64 - 1);
            let score = if pieces == [unknown] { n } else { saved };
            best = best.max(Some((score, Reverse(word), saved)));
        }
        let Some((_, Reverse(word), saved)) = best else {
            break;
        };
        chosen.push(Chosen {
            word: word.clone(),
            count: words.counts[word],
            pieces: cut(tokenizer, word),
            saved,
        });
    }
    chosen
}

#[test]
fn choosing_agrees_with_the_definition() {
    let tokenizer = small();
    let mut unknown = 0;
    for seed in 0..40 {
        let words = count(&tokenizer, &random_text(seed));
        let all = select(&tokenizer, &words, &ALL).unwrap();
        assert_eq!(all, oracle(&tokenizer, &words, &ALL), "seed {seed}");
        unknown += all.iter().filter(|c| c.pieces == [1]).count();
        let some = Wanted {
            words: 7,
            min_count: 3,
            max_pieces: Some(4),
        };
        let few = select(&tokenizer, &words, &some).unwrap();
        assert_eq!(few, oracle(&tokenizer, &words, &some), "seed {seed}");
        assert!(few.len() <= 7 && few.iter().all(|c| c.count >= 3 && c.pieces.len() <= 4));
        // The first of many are those of fewer.
        let fewer = Wanted { words: 5, ..ALL };
        assert_eq!(select(&tokenizer, &words, &fewer).unwrap(), all[..5]);
    }
    assert!(unknown > 0, "no word was unknown: the texts are too easy");
}

#[test]
fn rules_cut_as_the_tokenizer_does() {
    let tokenizer = small();
    let mut rules = tokenizer.rules().unwrap();
    let words = count(&tokenizer, &random_text(99));
    let chosen = select(&tokenizer, &words, &Wanted { words: 9, ..ALL }).unwrap();
    let names: Vec<&str> = chosen.iter().map(|c| c.word.as_str()).collect();
    names.iter().for_each(|w| rules.add(w));
    let now = tokenizer.extended(&names).unwrap();
    let long = "a".repeat(101);
    let most = "a".repeat(100);
    let odd = [
        "é",
        "aé",
        "abcdabcd",
        long.as_str(),
        most.as_str(),
        "ae",
        "aba",
    ];
    for word in words.counts.keys().map(String::as_str).chain(odd) {
        let mut pieces = Vec::new();
        now.pieces(word, &mut pieces).unwrap();
        let expected = (pieces != [1]).then_some(pieces.len());
        assert_eq!(rules.pieces(word), expected, "{word}");
    }
}

#[test]
fn what_is_counted_is_what_is_encoded() {
    let tokenizer = Tokenizer::from_tokens(&TOKENS, Settings::default()).unwrap();
    for seed in 0..20 {
        let text = format!(
            "{} [SEP] É, {} x{}",
            random_text(seed),
            "b".repeat(101),
            seed
        );
        let words = count(&tokenizer, &text);
        let chosen = select(&tokenizer, &words, &Wanted { words: 6, ..ALL }).unwrap();
        let names: Vec<&str> = chosen.iter().map(|c| c.word.as_str()).collect();
        let new = tokenizer.extended(&names).unwrap();
        let found = effect(&tokenizer, &new, &words, &chosen).unwrap();
        for (t, fit) in [(&tokenizer, found.before), (&new, found.after)] {
            let mut ids = Vec::new();
            text.lines()
                .for_each(|l| t.encode_into(l, &mut ids).unwrap());
            assert_eq!(fit.tokens, ids.len() as u64);
            assert_eq!(
                fit.unknown,
                ids.iter().filter(|&&id| id == 1).count() as u64
            );
        }
        assert_eq!(found.before.words, found.after.words);
        let mut parts = Words::default();
        for line in text.lines() {
            parts = parts.merge(count(&tokenizer, line));
        }
        assert_eq!(
            (parts.counts, parts.too_long),
            (words.counts, words.too_long)
        );
    }
}

#[test]
fn words_that_begin_with_an_entry_are_counted_when_they_are_cut_otherwise() {
    let tokenizer = small();
    let words = count(&tokenizer, "cab cabcd cabcd caba ab ecb ca");
    let list = vec!["cab".to_owned(), "ec".to_owned()];
    let chosen = listed(&tokenizer, &words, &list).unwrap();
    assert_eq!(
        (chosen[0].count, chosen[0].saved, chosen[0].pieces.len()),
        (1, 1, 2)
    );
    assert_eq!(
        (chosen[1].count, chosen[1].pieces.as_slice()),
        (0, &[1][..])
    );
    let new = tokenizer.extended(&list).unwrap();
    let found = effect(&tokenizer, &new, &words, &chosen).unwrap();
    // cabcd: ca ##bc ##d, then cab ##cd; caba: ca ##b ##a, then cab ##a; ecb: unknown, then ec ##b.
    let expected = Recut {
        words: 3,
        occurrences: 4,
        fewer: 2,
        more: 0,
        found: 1,
        lost: 0,
    };
    assert_eq!(found.recut, expected);
    // A longer entry can take away what the rest needs: b ##cd, then bc and nothing that goes on with d.
    let tokens: Vec<&str> = TOKENS.iter().copied().filter(|t| *t != "##d").collect();
    let tokenizer = Tokenizer::from_tokens(&tokens, Settings::default()).unwrap();
    let words = count(&tokenizer, "bcd");
    let chosen = listed(&tokenizer, &words, &["bc".to_owned()]).unwrap();
    let new = tokenizer.extended(&["bc"]).unwrap();
    let found = effect(&tokenizer, &new, &words, &chosen).unwrap();
    assert_eq!((found.recut.lost, found.after.unknown), (1, 1));
    // Or leave more pieces: b ##dca, then bd ##c ##a.
    let tokenizer = small();
    let words = count(&tokenizer, "bdca");
    let chosen = listed(&tokenizer, &words, &["bd".to_owned()]).unwrap();
    let new = tokenizer.extended(&["bd"]).unwrap();
    let found = effect(&tokenizer, &new, &words, &chosen).unwrap();
    assert_eq!((found.recut.more, found.after.tokens), (1, 3));
}

#[test]
fn words_of_digits_are_left_alone() {
    let tokenizer = small();
    let words = count(&tokenizer, "1111 1111 1111 a1111");
    let chosen = select(&tokenizer, &words, &ALL).unwrap();
    assert_eq!(chosen.len(), 1);
    assert_eq!(chosen[0].word, "a1111");
}

#[test]
fn an_extended_tokenizer_has_its_old_ids_and_is_read_from_its_files() {
    let tokenizer = small();
    let words = count(&tokenizer, "İstanbul İstanbul");
    let chosen = select(&tokenizer, &words, &ALL).unwrap();
    assert_eq!(chosen[0].word, "istanbul");
    let new = tokenizer
        .extended(&[chosen[0].word.as_str(), "cabc"])
        .unwrap();
    assert_eq!(new.vocab_size(), TOKENS.len() + 2);
    for (id, token) in TOKENS.iter().enumerate() {
        assert_eq!(new.id(token), Some(id as u32));
    }
    let folder = tempfile::tempdir().unwrap();
    new.write(folder.path()).unwrap();
    let from_json = Tokenizer::open(folder.path()).unwrap();
    std::fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
    let from_vocab = Tokenizer::open(folder.path()).unwrap();
    for t in [&new, &from_json, &from_vocab] {
        let mut ids = Vec::new();
        t.encode_into("İSTANBUL cabcd Cabc", &mut ids).unwrap();
        assert_eq!(ids, [22, 23, 15, 23]);
    }
}

/// A token of one's own, as transformers adds them: it stands beside the vocabulary of words.
#[test]
fn tokens_that_were_added_stay_and_are_no_words() {
    let folder = tempfile::tempdir().unwrap();
    small().write(folder.path()).unwrap();
    let path = folder.path().join("tokenizer.json");
    let mut json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let added = json["added_tokens"].as_array_mut().unwrap();
    let mut own = added[0].clone();
    own["content"] = "[E1]".into();
    own["id"] = TOKENS.len().into();
    own["special"] = false.into();
    added.push(own);
    std::fs::write(&path, json.to_string()).unwrap();
    let tokenizer = Tokenizer::open(folder.path()).unwrap();
    let text = "cabc [E1] cabc[E1]";
    let words = count(&tokenizer, text);
    assert_eq!(
        (words.count("cabc"), words.distinct(), words.whole),
        (2, 1, 2)
    );
    let chosen = select(&tokenizer, &words, &ALL).unwrap();
    let new = tokenizer.extended(&["cabc"]).unwrap();
    let mut ids = Vec::new();
    new.encode_into(text, &mut ids).unwrap();
    assert_eq!(ids, [23, 22, 23, 22]);
    let found = effect(&tokenizer, &new, &words, &chosen).unwrap();
    assert_eq!((found.after.words, found.after.tokens), (4, 4));
    std::fs::write(folder.path().join("list"), "[E1]\ncabd").unwrap();
    let list = tokenizer.word_list(&folder.path().join("list")).unwrap();
    assert_eq!(list, (vec!["cabd".to_owned()], 1));
}

#[test]
fn what_can_be_no_entry_is_refused() {
    let tokenizer = small();
    let why = |words: &[&str]| tokenizer.extended(words).err().unwrap().to_string();
    assert!(why(&["ab"]).contains("already"));
    assert!(why(&["xy", "xy"]).contains("twice"));
    assert!(why(&["##xy"]).contains("##"));
    assert!(why(&["x y"]).contains("white space"));
    assert!(why(&["x\u{85}"]).contains("white space"));
    assert!(why(&[""]).contains("empty"));
    assert!(why(&[&"x".repeat(101)]).contains("100"));
    // Ids with a gap.
    let folder = tempfile::tempdir().unwrap();
    tokenizer.write(folder.path()).unwrap();
    let path = folder.path().join("tokenizer.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("\"##1\": 21", "\"##1\": 23")).unwrap();
    let gap = Tokenizer::open(folder.path()).unwrap();
    let error = gap.extended(&["xy"]).err().unwrap();
    assert!(error.to_string().contains("ids up to 23") && error.hint().is_some());
}

#[test]
fn lists_are_read_as_texts_are() {
    let tokenizer = small();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("words.txt");
    let read = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        tokenizer.word_list(&path)
    };
    let good = read("\u{feff}Kübel\r\n\n  kubel \nab\nİx\n1234\n".as_bytes());
    let (words, passed) = good.unwrap();
    assert_eq!(words, ["kubel", "ix", "1234"]);
    assert_eq!(passed, 2);
    for (bytes, line, says) in [
        (&b"x\ne-mail\n"[..], 2, "\"e - mail\""),
        (b"two words\n", 1, "\"two words\""),
        (b"##ing\n", 1, "# # ing"),
        (b"x\n\xe2\x80\x8b\n", 2, "nothing"),
        (b"x\ny\xff\n", 2, "UTF-8"),
    ] {
        let error = read(bytes).err().unwrap();
        let text = error.to_string();
        assert!(
            text.contains(&format!("line {line}: ")) && text.contains(says),
            "{text}"
        );
        assert!(text.contains("words.txt") && error.hint().is_some());
    }
}
