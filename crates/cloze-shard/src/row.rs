//! One row: one exact, unpadded model input.

/// Whether B follows A. The numbers are BERT's and Hugging Face's `next_sentence_label`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i8)]
pub enum NextSentenceLabel {
    /// 0: B follows A in its document.
    IsNext = 0,
    /// 1: B is random text (NSP), or A and B are swapped (SOP).
    NotNext = 1,
}

impl NextSentenceLabel {
    /// The label of a stored 0 or 1.
    #[must_use]
    pub fn from_i8(value: i8) -> Option<Self> {
        match value {
            0 => Some(Self::IsNext),
            1 => Some(Self::NotNext),
            _ => None,
        }
    }
}

/// A token id in one of its widths.
pub trait Id: Copy + Default + Ord + Send + Sync {
    /// The id, which this width holds.
    fn of(id: u32) -> Self;
    /// The id, widened.
    fn id(self) -> u32;
    /// Ids of this width.
    fn view(ids: &[Self]) -> Ids<'_>;
    /// The ids, where they have this width.
    fn of_ids<'a>(ids: &Ids<'a>) -> Option<&'a [Self]>;
}

impl Id for u16 {
    #[inline(always)]
    fn of(id: u32) -> Self {
        id as Self
    }

    #[inline(always)]
    fn id(self) -> u32 {
        self.into()
    }

    fn view(ids: &[Self]) -> Ids<'_> {
        Ids::U16(ids)
    }

    fn of_ids<'a>(ids: &Ids<'a>) -> Option<&'a [Self]> {
        match ids {
            Ids::U16(ids) => Some(ids),
            Ids::U32(_) => None,
        }
    }
}

impl Id for u32 {
    #[inline(always)]
    fn of(id: u32) -> Self {
        id
    }

    #[inline(always)]
    fn id(self) -> u32 {
        self
    }

    fn view(ids: &[Self]) -> Ids<'_> {
        Ids::U32(ids)
    }

    fn of_ids<'a>(ids: &Ids<'a>) -> Option<&'a [Self]> {
        match ids {
            Ids::U16(_) => None,
            Ids::U32(ids) => Some(ids),
        }
    }
}

/// Token ids as they are stored: 16 bits wide where the vocabulary allows it, 32 otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ids<'a> {
    /// Vocabularies of at most 65,536 entries.
    U16(&'a [u16]),
    /// Larger vocabularies.
    U32(&'a [u32]),
}

impl<'a> Ids<'a> {
    /// The number of tokens.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::U16(ids) => ids.len(),
            Self::U32(ids) => ids.len(),
        }
    }

    /// Whether there is no token.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The id at `i`, if there is one.
    #[must_use]
    pub fn get(&self, i: usize) -> Option<u32> {
        match self {
            Self::U16(ids) => ids.get(i).map(|&id| u32::from(id)),
            Self::U32(ids) => ids.get(i).copied(),
        }
    }

    /// The ids, widened.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = u32> + DoubleEndedIterator + 'a {
        let ids = *self;
        (0..ids.len()).map(move |i| match ids {
            Ids::U16(ids) => u32::from(ids[i]),
            Ids::U32(ids) => ids[i],
        })
    }

    /// The ids from `start` to `end`; both are clamped to what there is.
    #[must_use]
    pub fn slice(&self, start: usize, end: usize) -> Self {
        let end = end.min(self.len());
        let start = start.min(end);
        match self {
            Self::U16(ids) => Self::U16(&ids[start..end]),
            Self::U32(ids) => Self::U32(&ids[start..end]),
        }
    }

    /// Has the processor fetch the ids, see [`crate::prefetch`].
    pub fn prefetch(&self) {
        match self {
            Self::U16(ids) => crate::prefetch(ids),
            Self::U32(ids) => crate::prefetch(ids),
        }
    }

    /// Appends the ids to `out`, whose width must hold them.
    #[inline]
    pub fn extend_into<T: Id>(&self, out: &mut Vec<T>) {
        if let Some(ids) = T::of_ids(self) {
            return out.extend_from_slice(ids);
        }
        match self {
            Self::U16(ids) => out.extend(ids.iter().map(|&id| T::of(id.into()))),
            Self::U32(ids) => out.extend(ids.iter().map(|&id| T::of(id))),
        }
    }

    /// The ids, widened, in a vector of their own.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u32> {
        let mut out = Vec::with_capacity(self.len());
        self.extend_into(&mut out);
        out
    }
}

/// A row as it is read: borrowed from the memory map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowRef<'a> {
    /// `[CLS] A [SEP] B [SEP]`, or `[CLS] A [SEP]`; already masked where the shard has static masks.
    pub input_ids: Ids<'a>,
    /// Index of B's first token; equals the length when there is no B.
    pub b_start: u16,
    /// `None` when there is no B.
    pub next_sentence_label: Option<NextSentenceLabel>,
    /// Hash id of the document that A comes from.
    pub doc_a: i64,
    /// Hash id of the document that B comes from; `doc_a` when there is no B.
    pub doc_b: i64,
    /// Index, in its document, of the sentence that A's first token belongs to.
    pub sentence_a: u32,
    /// Likewise for B; `sentence_a` when there is no B.
    pub sentence_b: u32,
    /// Static masks, where the dataset has them.
    pub masks: Option<MasksRef<'a>>,
}

/// Static masks of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MasksRef<'a> {
    /// Ascending indices into `input_ids`.
    pub positions: &'a [u16],
    /// The original id at each position.
    pub labels: Ids<'a>,
}

impl<'a> RowRef<'a> {
    /// The number of tokens, special tokens included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.input_ids.len()
    }

    /// Whether the row holds no token (which no valid row does).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.input_ids.is_empty()
    }

    /// Whether the row has a second segment.
    #[must_use]
    pub fn has_b(&self) -> bool {
        usize::from(self.b_start) < self.len()
    }

    /// A's tokens, without special tokens.
    #[must_use]
    pub fn segment_a(&self) -> Ids<'a> {
        self.input_ids
            .slice(1, usize::from(self.b_start).saturating_sub(1))
    }

    /// B's tokens, without special tokens; empty when there is no B.
    #[must_use]
    pub fn segment_b(&self) -> Ids<'a> {
        self.input_ids
            .slice(usize::from(self.b_start), self.len().saturating_sub(1))
    }

    /// `input_ids` with static masks undone.
    #[must_use]
    pub fn original_ids(&self) -> Vec<u32> {
        let mut ids = self.input_ids.to_vec();
        if let Some(masks) = self.masks {
            for (&position, label) in masks.positions.iter().zip(masks.labels.iter()) {
                if let Some(id) = ids.get_mut(usize::from(position)) {
                    *id = label;
                }
            }
        }
        ids
    }

    /// The row, in memory of its own.
    #[must_use]
    pub fn to_row(&self) -> Row {
        Row {
            input_ids: self.input_ids.to_vec(),
            b_start: self.b_start,
            next_sentence_label: self.next_sentence_label,
            doc_a: self.doc_a,
            doc_b: self.doc_b,
            sentence_a: self.sentence_a,
            sentence_b: self.sentence_b,
            masks: self.masks.map(|m| Masks {
                positions: m.positions.to_vec(),
                labels: m.labels.to_vec(),
            }),
        }
    }
}

/// A row as it is written. The fields are those of [`RowRef`]; ids are as wide as `T`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Row<T = u32> {
    pub input_ids: Vec<T>,
    pub b_start: u16,
    pub next_sentence_label: Option<NextSentenceLabel>,
    pub doc_a: i64,
    pub doc_b: i64,
    pub sentence_a: u32,
    pub sentence_b: u32,
    pub masks: Option<Masks<T>>,
}

/// Static masks, owned. The fields are those of [`MasksRef`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Masks<T = u32> {
    pub positions: Vec<u16>,
    pub labels: Vec<T>,
}

impl<T: Id> Row<T> {
    /// The row, borrowed.
    #[must_use]
    pub fn view(&self) -> RowRef<'_> {
        RowRef {
            input_ids: T::view(&self.input_ids),
            b_start: self.b_start,
            next_sentence_label: self.next_sentence_label,
            doc_a: self.doc_a,
            doc_b: self.doc_b,
            sentence_a: self.sentence_a,
            sentence_b: self.sentence_b,
            masks: self.masks.as_ref().map(|m| MasksRef {
                positions: &m.positions,
                labels: T::view(&m.labels),
            }),
        }
    }
}
