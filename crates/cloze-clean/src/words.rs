//! Words as they are compared: lowercased runs of letters and digits, as 64-bit hashes; and runs of words.

use unicode_normalization::char::is_combining_mark;
use xxhash_rust::xxh3::xxh3_64;

/// Appends the hash of each word of `text`, which should be [canonical](crate::canonical::canonical), to `out`.
///
/// A word is a run of letters, digits and the marks on them; an ideograph or kana is one by itself, as in BERT's tokenizer.
pub fn words(text: &str, out: &mut Vec<u64>) {
    let mut word = Vec::with_capacity(64);
    let mut end = |word: &mut Vec<u8>| {
        if !word.is_empty() {
            out.push(xxh3_64(word));
            word.clear();
        }
    };
    let mut rest = text;
    while let Some(&byte) = rest.as_bytes().first() {
        if byte.is_ascii() {
            if byte.is_ascii_alphanumeric() {
                word.push(byte.to_ascii_lowercase());
            } else {
                end(&mut word);
            }
            rest = &rest[1..];
            continue;
        }
        let Some(c) = rest.chars().next() else { break };
        rest = &rest[c.len_utf8()..];
        let mut bytes = [0; 4];
        if stands_alone(c) {
            end(&mut word);
            word.extend_from_slice(c.encode_utf8(&mut bytes).as_bytes());
            end(&mut word);
        } else if c.is_alphanumeric() {
            for lower in c.to_lowercase() {
                word.extend_from_slice(lower.encode_utf8(&mut bytes).as_bytes());
            }
        } else if is_combining_mark(c) && !word.is_empty() {
            word.extend_from_slice(c.encode_utf8(&mut bytes).as_bytes());
        } else {
            end(&mut word);
        }
    }
    end(&mut word);
}

/// Scripts that are written without spaces and have a character a word, or nearly.
fn stands_alone(c: char) -> bool {
    matches!(c as u32,
        0x3040..=0x30ff | 0x31f0..=0x31ff | 0x3400..=0x4dbf | 0x4e00..=0x9fff | 0xf900..=0xfaff | 0x20000..=0x3ffff)
}

/// The base of the polynomial that a run of words is hashed by; odd.
const BASE: u64 = 0x9e37_79b9_7f4a_7c15;

/// The hash of a run of words, by definition: a polynomial of their hashes, mixed with how many they are.
#[must_use]
pub fn run(words: &[u64]) -> u64 {
    let sum = words
        .iter()
        .fold(0u64, |sum, &word| sum.wrapping_mul(BASE).wrapping_add(word));
    mix(sum, words.len())
}

/// Appends the hash of every run of `n` words to `out`, as [`run`] has it, each from the one before.
pub fn runs(words: &[u64], n: usize, out: &mut Vec<u64>) {
    if n == 0 || words.len() < n {
        return;
    }
    out.reserve(words.len() - n + 1);
    let last = (0..n).fold(1u64, |power, _| power.wrapping_mul(BASE));
    let mut sum = 0u64;
    for (i, &word) in words.iter().enumerate() {
        sum = sum.wrapping_mul(BASE).wrapping_add(word);
        if i >= n {
            sum = sum.wrapping_sub(words[i - n].wrapping_mul(last));
        }
        if i + 1 >= n {
            out.push(mix(sum, n));
        }
    }
}

/// SplitMix64's finalizer.
fn mix(sum: u64, n: usize) -> u64 {
    let mut z = sum ^ (n as u64).wrapping_mul(0xd1b5_4a32_d192_ed03);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(text: &str) -> Vec<u64> {
        let mut out = Vec::new();
        words(text, &mut out);
        out
    }

    fn expected(list: &[&str]) -> Vec<u64> {
        list.iter().map(|w| xxh3_64(w.as_bytes())).collect()
    }

    #[test]
    fn words_of_several_scripts() {
        assert_eq!(
            of("The U.S.'s 2nd—Éclair, naïve…"),
            expected(&["the", "u", "s", "s", "2nd", "éclair", "naïve"])
        );
        assert_eq!(of("東京タx"), expected(&["東", "京", "タ", "x"]));
        // A mark without a composed letter stays with its word; one without a word is none.
        assert_eq!(
            of("x\u{301}y \u{301} हिन्दी"),
            expected(&["x\u{301}y", "हिन्दी"])
        );
        assert_eq!(of(" .,! "), Vec::<u64>::new());
    }

    proptest! {
        #[test]
        fn words_are_runs_of_letters_in_ascii(text in "[ -~]{0,60}") {
            let naive: Vec<String> = text.to_lowercase().split(|c: char| !c.is_alphanumeric())
                .filter(|w| !w.is_empty()).map(str::to_owned).collect();
            let naive: Vec<&str> = naive.iter().map(String::as_str).collect();
            prop_assert_eq!(of(&text), expected(&naive));
        }

        #[test]
        fn runs_one_by_one(words in proptest::collection::vec(any::<u64>(), 0..40), n in 1usize..15) {
            let mut rolled = Vec::new();
            runs(&words, n, &mut rolled);
            let naive: Vec<u64> = words.windows(n).map(run).collect();
            prop_assert_eq!(rolled, naive);
        }
    }

    #[test]
    fn a_run_is_not_its_reverse_and_knows_its_length() {
        assert_ne!(run(&[1, 2]), run(&[2, 1]));
        assert_ne!(run(&[0]), run(&[0, 0]));
    }
}
