//! What rules know of a language: a file of words for each, read once.

use std::sync::OnceLock;

/// What a word is to the rules, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags(u16);

impl Flags {
    /// Stands before a name: never ends a sentence.
    pub(crate) const TITLE: Self = Self(1);
    /// Never ends a sentence (cf., e.g.).
    pub(crate) const NEVER: Self = Self(1 << 1);
    /// Stands before a number (Fig. 3), and is a word like others elsewhere.
    pub(crate) const REFERENCE: Self = Self(1 << 2);
    /// Ends a sentence where a word follows that begins one (Inc., U.S.).
    pub(crate) const INNER: Self = Self(1 << 3);
    /// Ends a sentence where a capital follows (etc.).
    pub(crate) const LAST: Self = Self(1 << 4);
    /// An hour (a.m.).
    pub(crate) const CLOCK: Self = Self(1 << 5);
    /// A name with an exclamation mark (Yahoo!).
    pub(crate) const BANG: Self = Self(1 << 6);
    /// Begins sentences, and no names.
    pub(crate) const STARTER: Self = Self(1 << 7);
    /// Says who spoke, after a name.
    pub(crate) const SAID: Self = Self(1 << 8);
    /// Comes before an hour at the beginning of a sentence (at).
    pub(crate) const LEAD: Self = Self(1 << 9);
    /// Comes after an hour or date and belongs to it (GMT).
    pub(crate) const ZONE: Self = Self(1 << 10);

    /// Comes before a letter that is a name (Plan B).
    pub(crate) const LETTERED: Self = Self(1 << 11);

    /// Comes before a language whose name is a letter (in C).
    pub(crate) const PROGRAMMED: Self = Self(1 << 12);
    /// Any that is written with a full stop.
    pub(crate) const ABBREVIATION: Self = Self((1 << 6) - 1);

    /// Whether any of these are set.
    pub(crate) fn has(self, any: Self) -> bool {
        self.0 & any.0 != 0
    }

    /// Both together.
    pub(crate) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The names of lists in the files of languages.
const LISTS: [(&str, Flags); 13] = [
    ("title", Flags::TITLE),
    ("never", Flags::NEVER),
    ("reference", Flags::REFERENCE),
    ("inner", Flags::INNER),
    ("last", Flags::LAST),
    ("clock", Flags::CLOCK),
    ("bang", Flags::BANG),
    ("starter", Flags::STARTER),
    ("said", Flags::SAID),
    ("lead", Flags::LEAD),
    ("zone", Flags::ZONE),
    ("lettered", Flags::LETTERED),
    ("programmed", Flags::PROGRAMMED),
];

/// Words are no longer than this in the files, in bytes.
pub(crate) const LONGEST: usize = 24;

/// What is special about a language besides its words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traits {
    /// A number with a full stop is an ordinal: "am 3. Oktober".
    pub(crate) ordinals: bool,
    /// An ellipsis has white space before it where words are left out, at the end of a sentence too: "Er schwieg … Dann ging er."
    pub(crate) spaced_ellipsis: bool,
    /// A semicolon is the question mark.
    pub(crate) greek: bool,
    /// Quoted speech goes on in its sentence where these follow.
    pub(crate) after_quote: &'static [&'static str],
}

/// A language that has rules of our own.
pub(crate) struct Language {
    pub(crate) code: &'static str,
    pub(crate) traits: Traits,
    /// The file, for those that look through it.
    pub(crate) file: &'static str,
    table: OnceLock<Table>,
}

macro_rules! languages {
    ($($code:literal $traits:expr;)*) => {
        /// The languages that have a file, by code.
        static LANGUAGES: [Language; 18] = [$(Language {
            code: $code,
            traits: $traits,
            file: include_str!(concat!("languages/", $code, ".txt")),
            table: OnceLock::new(),
        }),*];
    };
}

const PLAIN: Traits = Traits {
    ordinals: false,
    spaced_ellipsis: false,
    greek: false,
    after_quote: &[],
};

const ORDINALS: Traits = Traits {
    ordinals: true,
    ..PLAIN
};

languages! {
    "cs" ORDINALS;
    "da" ORDINALS;
    "de" Traits { spaced_ellipsis: true, ..ORDINALS };
    "el" Traits { greek: true, ..PLAIN };
    "en" PLAIN;
    "es" PLAIN;
    "fi" ORDINALS;
    "fr" PLAIN;
    "it" PLAIN;
    "ja" Traits { after_quote: &["と", "って", "は", "が", "を", "に", "の", "も", "や", "で", "な", "という"], ..PLAIN };
    "nl" PLAIN;
    "no" ORDINALS;
    "pl" ORDINALS;
    "pt" PLAIN;
    "ru" PLAIN;
    "sv" PLAIN;
    "uk" PLAIN;
    "zh" Traits { after_quote: &["他说", "她说", "我说", "他問", "他问", "她问", "他答", "她答", "的", "这样", "这句", "说"], ..PLAIN };
}

impl Language {
    /// The language of a code, if it has rules of our own.
    pub(crate) fn find(code: &str) -> Option<&'static Self> {
        LANGUAGES.iter().find(|language| language.code == code)
    }

    #[cfg(test)]
    pub(crate) fn all() -> &'static [Self] {
        &LANGUAGES
    }

    /// The words, in a table.
    pub(crate) fn table(&self) -> &Table {
        self.table.get_or_init(|| Table::new(self.file))
    }
}

/// The words of a file, each with the list that it is in. What follows `#` is for people.
pub(crate) fn words(file: &str) -> impl Iterator<Item = (&str, Flags)> {
    let lines = file
        .lines()
        .map(|line| line.split('#').next().unwrap_or(""));
    lines.flat_map(|line| {
        let (name, words) = line.split_once(':').unwrap_or(("", ""));
        let list = LISTS.iter().find(|(list, _)| *list == name.trim());
        let flags = list.map_or(Flags::default(), |(_, flags)| *flags);
        words.split_whitespace().map(move |word| (word, flags))
    })
}

/// Words by their hash. A word of the file that begins with a capital is found with a capital only.
pub(crate) struct Table {
    short: Short,
    slots: Vec<Option<(&'static str, bool, Flags)>>,
    lowered: Vec<String>,
    /// The longest word, in bytes.
    longest: usize,
}

impl Table {
    fn new(file: &'static str) -> Self {
        let count = words(file).count();
        let mut table = Self {
            short: Short::new(file),
            slots: vec![None; (count * 4).next_power_of_two().max(8)],
            lowered: vec![],
            longest: 0,
        };
        table.lowered = vec![String::new(); table.slots.len()];
        for (word, flags) in words(file) {
            let lower: String = word.chars().flat_map(folded).collect();
            let capital = word.chars().next().is_some_and(char::is_uppercase);
            table.longest = table.longest.max(word.len()).max(lower.len());
            let mut slot = table.slot(hash(lower.as_bytes()));
            loop {
                match &mut table.slots[slot] {
                    None => {
                        table.slots[slot] = Some((word, capital, flags));
                        table.lowered[slot] = lower;
                        break;
                    }
                    Some((_, same, known)) if table.lowered[slot] == lower && *same == capital => {
                        *known = known.with(flags);
                        break;
                    }
                    Some(_) => slot = (slot + 1) % table.slots.len(),
                }
            }
        }
        table
    }

    fn slot(&self, hash: u64) -> usize {
        (hash >> 32) as usize & (self.slots.len() - 1)
    }

    /// What the file says of a word, whatever its case.
    #[inline]
    pub(crate) fn flags(&self, word: &str) -> Flags {
        if word.is_empty() || word.len() > self.longest {
            return Flags::default();
        }
        match key(word.as_bytes()) {
            Some(key) => self
                .short
                .flags(key, word.as_bytes()[0].is_ascii_uppercase()),
            None => self.flags_slowly(word),
        }
    }

    /// As [`Table::flags`], of the last `letters` of `bytes`, at least one and all letters of ASCII.
    #[inline]
    pub(crate) fn flags_of_letters(&self, bytes: &[u8; 16], letters: usize) -> Flags {
        let others = 8 * (16 - letters as u32);
        let key = u128::from_le_bytes(*bytes) >> others;
        const SMALL: u128 = u128::MAX / 0xff * 0x20;
        self.short.flags(key | SMALL >> others, key & 0x20 == 0)
    }

    /// As [`Table::flags`], of words of any length and script.
    fn flags_slowly(&self, word: &str) -> Flags {
        let mut room = [0; LONGEST];
        let Some(lower) = lowered(word, &mut room) else {
            return Flags::default();
        };
        let mut slot = self.slot(hash(lower));
        let mut flags = Flags::default();
        while let Some((_, capital, known)) = self.slots[slot] {
            if self.lowered[slot].as_bytes() == lower
                && (!capital || word.chars().next().is_some_and(char::is_uppercase))
            {
                flags = flags.with(known);
            }
            slot = (slot + 1) & (self.slots.len() - 1);
        }
        flags
    }
}

/// Words of ASCII of up to 16 bytes: a key each, of their bytes in lower case and zeros.
struct Short {
    /// A byte for each slot: 0 where it is empty, else some bits of the hash. Most words are not there, and are found out here, where it is near.
    tags: Vec<u8>,
    /// What words of a key are in lower case, and with a capital.
    slots: Vec<(u128, [Flags; 2])>,
}

impl Short {
    fn new(file: &str) -> Self {
        let words =
            || words(file).filter_map(|(word, flags)| Some((word, key(word.as_bytes())?, flags)));
        let size = (words().count() * 4).next_power_of_two().max(8);
        let mut short = Self {
            tags: vec![0; size],
            slots: vec![Default::default(); size],
        };
        for (word, key, flags) in words() {
            let capital = word.starts_with(|c: char| c.is_ascii_uppercase());
            let (mut slot, tag) = short.slot(key);
            while short.tags[slot] != 0 && short.slots[slot].0 != key {
                slot = (slot + 1) & (size - 1);
            }
            short.tags[slot] = tag;
            let (there, [any, with_capital]) = &mut short.slots[slot];
            *there = key;
            *with_capital = with_capital.with(flags);
            if !capital {
                *any = any.with(flags);
            }
        }
        short
    }

    /// The first slot that a key may have, and its tag.
    #[inline]
    fn slot(&self, key: u128) -> (usize, u8) {
        let mixed = key as u64 ^ ((key >> 64) as u64).wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
        let hash = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (
            (hash >> 32) as usize & (self.tags.len() - 1),
            (hash >> 56) as u8 | 1,
        )
    }

    #[inline]
    fn flags(&self, key: u128, capital: bool) -> Flags {
        let (mut slot, tag) = self.slot(key);
        while self.tags[slot] != 0 {
            if self.tags[slot] == tag && self.slots[slot].0 == key {
                return self.slots[slot].1[usize::from(capital)];
            }
            slot = (slot + 1) & (self.tags.len() - 1);
        }
        Flags::default()
    }
}

/// The key of a word that is not empty: `None` if it is longer, not ASCII, or ends with a zero.
#[inline]
fn key(word: &[u8]) -> Option<u128> {
    let n = word.len();
    // Bytes that are taken twice are the same twice.
    let key = if let (Some(first), Some(last)) = (word.first_chunk(), word.last_chunk()) {
        let last = u128::from(u64::from_le_bytes(*last));
        u128::from(u64::from_le_bytes(*first)) | last.checked_shl(8 * (n as u32 - 8))?
    } else if let (Some(first), Some(last)) = (word.first_chunk(), word.last_chunk()) {
        let last = u64::from(u32::from_le_bytes(*last)) << (8 * (n - 4));
        u128::from(u64::from(u32::from_le_bytes(*first)) | last)
    } else {
        let at = |i: usize| u32::from(word[i]) << (8 * i);
        u128::from(at(0) | at(n / 2) | at(n - 1))
    };
    const ONES: u128 = u128::MAX / 0xff;
    if n > 16 || key & (0x80 * ONES) != 0 || word[n - 1] == 0 {
        return None;
    }
    // A byte has its highest bit set here if it is a capital.
    let capitals = (key + (0x80 - b'A' as u128) * ONES) & !(key + (0x7f - b'Z' as u128) * ONES);
    Some(key | (capitals & (0x80 * ONES)) >> 2)
}

/// A character in lower case. The two small sigmas are one.
fn folded(c: char) -> impl Iterator<Item = char> {
    c.to_lowercase().map(|c| if c == 'ς' { 'σ' } else { c })
}

/// The word in lower case, if it fits.
#[inline]
fn lowered<'r>(word: &str, room: &'r mut [u8; LONGEST]) -> Option<&'r [u8]> {
    let mut end = 0;
    if word.is_ascii() {
        let place = room.get_mut(..word.len())?;
        for (to, byte) in place.iter_mut().zip(word.bytes()) {
            *to = byte.to_ascii_lowercase();
        }
        end = word.len();
    } else {
        for lower in word.chars().flat_map(folded) {
            let place = room.get_mut(end..end + lower.len_utf8())?;
            lower.encode_utf8(place);
            end += lower.len_utf8();
        }
    }
    Some(&room[..end])
}

#[inline]
fn hash(bytes: &[u8]) -> u64 {
    let mut hash = bytes.len() as u64;
    for &byte in bytes {
        hash = (hash ^ u64::from(byte))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(23);
    }
    hash.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// As [`Table::flags`], by looking through the whole file.
#[cfg(any(test, feature = "naive"))]
pub(crate) fn flags_by_reading(file: &str, word: &str) -> Flags {
    let same = |known: &str| {
        known
            .chars()
            .flat_map(folded)
            .eq(word.chars().flat_map(folded))
            && (!known.starts_with(char::is_uppercase) || word.starts_with(char::is_uppercase))
    };
    words(file)
        .filter(|(known, _)| same(known))
        .fold(Flags::default(), |all, (_, flags)| all.with(flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_hold_lists_of_known_names_and_words_that_fit() {
        for language in Language::all() {
            let mut seen = std::collections::BTreeSet::new();
            for line in language.file.lines() {
                let line = line.split('#').next().unwrap().trim();
                let known = LISTS
                    .iter()
                    .any(|(name, _)| line.starts_with(&format!("{name}:")));
                assert!(line.is_empty() || known, "{}: {line}", language.code);
            }
            for (word, flags) in words(language.file) {
                assert!(word.len() <= LONGEST, "{}: {word}", language.code);
                assert!(!word.ends_with('.'), "{}: {word}", language.code);
                assert!(
                    seen.insert((word, flags.0)),
                    "{}: {word} twice",
                    language.code
                );
            }
        }
    }

    #[test]
    fn the_table_says_what_the_file_says() {
        for language in Language::all() {
            for (word, flags) in words(language.file) {
                assert!(language.table().flags(word).has(flags));
                for word in [word.to_uppercase(), word.to_lowercase(), format!("{word}x")] {
                    let expected = flags_by_reading(language.file, &word);
                    assert_eq!(language.table().flags(&word), expected, "{word}");
                    if (1..=16).contains(&word.len())
                        && word.bytes().all(|b| b.is_ascii_alphabetic())
                    {
                        let padded = format!("a.Z9 bcdefghijkl{word}");
                        let last = padded.as_bytes().last_chunk().unwrap();
                        let flags = language.table().flags_of_letters(last, word.len());
                        assert_eq!(flags, expected, "{word}");
                    }
                    let short = !word.is_empty() && word.len() <= language.table().longest;
                    if short {
                        assert_eq!(language.table().flags_slowly(&word), expected, "{word}");
                    }
                }
            }
        }
    }

    #[test]
    fn keys_are_bytes_in_lower_case() {
        let bytes = b"azAZ@[`{09'\x7f\x01QmN";
        for n in 1..=16 {
            for shift in 0..16 {
                let word: Vec<u8> = (0..n).map(|i| bytes[(i + shift) % 16]).collect();
                let mut padded = [0; 16];
                padded[..n].copy_from_slice(&word);
                padded.make_ascii_lowercase();
                assert_eq!(key(&word), Some(u128::from_le_bytes(padded)), "{word:?}");
                for at in 0..n {
                    let mut other = word.clone();
                    other[at] |= 0x80;
                    assert_eq!(key(&other), None);
                }
            }
        }
        assert_eq!(key(&[b'a'; 17]), None);
        assert_eq!(key(b"dr\0"), None);
        assert_eq!(key(&[b'a'; 40]), None);
    }

    #[test]
    fn capitals_of_the_file_are_asked_for() {
        let table = Table::new("title: Mt dr # mister\nstarter: the Mt\n");
        assert!(table.flags("MT").has(Flags::TITLE) && table.flags("Mt").has(Flags::STARTER));
        assert_eq!(table.flags("mt"), Flags::default());
        assert!(table.flags("Dr").has(Flags::TITLE) && table.flags("dr").has(Flags::TITLE));
        assert_eq!(table.flags("mister"), Flags::default());
    }
}
