//! Texts as rows of a batch, as Hugging Face's tokenizers make them: `[CLS] A [SEP]`, `[CLS] A [SEP] B [SEP]`.

use cloze_text::Tokenizer;
use cloze_train::batch::MaskedBatch;

use crate::Result;

/// Makes rows of at most so many tokens.
#[allow(missing_debug_implementations)]
pub struct Rows<'a> {
    tokenizer: &'a Tokenizer,
    cls: u32,
    sep: u32,
    max_length: usize,
}

/// One row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Ids, special tokens too.
    pub input_ids: Vec<u32>,
    /// Where the second segment begins; the length where there is none.
    pub b_start: usize,
    /// Of a list of words: where the first piece of each is, in order; words that did not fit have none.
    pub words: Vec<Option<usize>>,
    /// Tokens that did not fit.
    pub cut: usize,
}

impl<'a> Rows<'a> {
    /// Rows of at most `max_length` tokens, special tokens included. `cls` and `sep` are the ids of `[CLS]` and `[SEP]`.
    #[must_use]
    pub fn new(tokenizer: &'a Tokenizer, cls: u32, sep: u32, max_length: usize) -> Self {
        Self {
            tokenizer,
            cls,
            sep,
            max_length: max_length.max(4),
        }
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        self.tokenizer.encode_into(text, &mut ids)?;
        Ok(ids)
    }

    /// `[CLS] text [SEP]`, cut at its end.
    pub fn single(&self, text: &str) -> Result<Row> {
        let mut ids = self.encode(text)?;
        let cut = truncate(&mut ids, self.max_length - 2);
        let mut input_ids = vec![self.cls];
        input_ids.append(&mut ids);
        input_ids.push(self.sep);
        Ok(Row {
            b_start: input_ids.len(),
            input_ids,
            words: Vec::new(),
            cut,
        })
    }

    /// `[CLS] a [SEP] b [SEP]`. Where it is too long, the longer of both is cut to the length of the shorter,
    /// then both alike; an odd token is left to the longer, or to the second (`longest_first`, as the `tokenizers` library has it).
    pub fn pair(&self, a: &str, b: &str) -> Result<Row> {
        let (mut a, mut b) = (self.encode(a)?, self.encode(b)?);
        let (m, n) = longest_first(a.len(), b.len(), self.max_length - 3);
        let cut = truncate(&mut a, m) + truncate(&mut b, n);
        let mut input_ids = vec![self.cls];
        input_ids.append(&mut a);
        input_ids.push(self.sep);
        let b_start = input_ids.len();
        input_ids.append(&mut b);
        input_ids.push(self.sep);
        Ok(Row {
            input_ids,
            b_start,
            words: Vec::new(),
            cut,
        })
    }

    /// `[CLS] words [SEP]`, each word on its own.
    pub fn words<S: AsRef<str>>(&self, words: &[S]) -> Result<Row> {
        let mut row = Row {
            input_ids: vec![self.cls],
            ..Row::default()
        };
        let most = self.max_length - 1;
        for word in words {
            let pieces = self.encode(word.as_ref())?;
            let room = most - row.input_ids.len();
            let first = (!pieces.is_empty() && room > 0).then_some(row.input_ids.len());
            row.words.push(first);
            row.cut += pieces.len().saturating_sub(room);
            row.input_ids.extend(pieces.iter().take(room));
        }
        row.input_ids.push(self.sep);
        row.b_start = row.input_ids.len();
        Ok(row)
    }
}

/// Rows, one after another, with nothing to predict.
#[must_use]
pub fn batch<'r>(rows: impl IntoIterator<Item = &'r Row>) -> MaskedBatch {
    let mut batch = MaskedBatch::new();
    for row in rows {
        batch.push(&row.input_ids, row.b_start, None, &[], &[]);
    }
    batch
}

/// Cuts to `most`; how many went.
fn truncate(ids: &mut Vec<u32>, most: usize) -> usize {
    let cut = ids.len().saturating_sub(most);
    ids.truncate(most);
    cut
}

/// Lengths of both once they fit into `most`.
fn longest_first(a: usize, b: usize, most: usize) -> (usize, usize) {
    if a + b <= most {
        return (a, b);
    }
    let (short, long) = (most / 2, most - most / 2);
    match (a <= short, b <= short) {
        (true, _) => (a, most - a),
        (_, true) => (most - b, b),
        _ if a > b => (long, short),
        _ => (short, long),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloze_text::Settings;

    fn tokenizer() -> Tokenizer {
        let tokens = [
            "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "##b", "c",
        ];
        Tokenizer::from_tokens(&tokens, Settings::default()).expect("it is whole")
    }

    #[test]
    fn the_longer_is_cut_first() {
        for most in 1..30 {
            for a in 0..40 {
                for b in 0..40 {
                    let (x, y) = longest_first(a, b, most);
                    let what = format!("{a} {b} {most}: {x} {y}");
                    assert!(x <= a && y <= b && x + y == most.min(a + b), "{what}");
                    // The shorter is only cut where both are longer than half.
                    assert!(x == a || x >= most / 2, "{what}");
                    assert!(y == b || y >= most / 2, "{what}");
                    if x < a && y < b {
                        let odd = most % 2;
                        let expected = if a > b { (odd, 0) } else { (0, odd) };
                        assert_eq!((x - most / 2, y - most / 2), expected, "{what}");
                    }
                }
            }
        }
    }

    #[test]
    fn rows_are_as_long_as_they_may_be() {
        let tokenizer = tokenizer();
        let rows = Rows::new(&tokenizer, 2, 3, 6);
        let row = rows.single("a abb c [SEP] c").expect("it is text");
        assert_eq!(row.input_ids, [2, 5, 5, 7, 7, 3]);
        assert_eq!(row.b_start, 6);
        assert!(row.cut > 1);
        let row = rows.pair("a abb", "c c").expect("it is text");
        assert_eq!(
            (row.input_ids, row.b_start, row.cut),
            (vec![2, 5, 5, 3, 8, 3], 4, 3)
        );
        let row = rows.words(&["a", "", "abb", "c"]).expect("they are words");
        assert_eq!(row.input_ids, [2, 5, 5, 7, 7, 3]);
        assert_eq!(row.words, [Some(1), None, Some(2), None]);
        assert_eq!(row.cut, 1);
        let batch = batch([&row, &rows.single("").expect("it is text")]);
        assert_eq!(batch.cu_seqlens, [0, 6, 8]);
        assert_eq!((batch.masked(), batch.labelled_rows()), (0, 0));
    }
}
