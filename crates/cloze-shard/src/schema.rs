//! Column names and Arrow types of a shard.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

/// Column: the token ids of a row.
pub const INPUT_IDS: &str = "input_ids";
/// Column: index of B's first token.
pub const B_START: &str = "b_start";
/// Column: 0 = B follows A, 1 = it does not, null = there is no B.
pub const NEXT_SENTENCE_LABEL: &str = "next_sentence_label";
/// Column: hash id of A's document.
pub const DOC_A: &str = "doc_a";
/// Column: hash id of B's document.
pub const DOC_B: &str = "doc_b";
/// Column: sentence that A begins in.
pub const SENTENCE_A: &str = "sentence_a";
/// Column: sentence that B begins in.
pub const SENTENCE_B: &str = "sentence_b";
/// Column, static masks only: ascending positions that are predicted.
pub const MASKED_LM_POSITIONS: &str = "masked_lm_positions";
/// Column, static masks only: the original ids at those positions.
pub const MASKED_LM_LABELS: &str = "masked_lm_labels";

/// How wide a stored token id is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdType {
    /// 16 bits.
    UInt16,
    /// 32 bits.
    UInt32,
}

impl IdType {
    /// The narrowest type that holds every id of a vocabulary of `vocab_size` entries.
    #[must_use]
    pub fn for_vocab_size(vocab_size: usize) -> Self {
        if vocab_size <= 1 << 16 {
            Self::UInt16
        } else {
            Self::UInt32
        }
    }

    /// The Arrow type of one id.
    #[must_use]
    pub fn data_type(self) -> DataType {
        match self {
            Self::UInt16 => DataType::UInt16,
            Self::UInt32 => DataType::UInt32,
        }
    }

    /// Bytes of one id.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::UInt16 => 2,
            Self::UInt32 => 4,
        }
    }
}

/// A non-null list of non-null `item`s.
#[must_use]
pub fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", item, false)))
}

/// The schema of a shard.
#[must_use]
pub fn shard_schema(id_type: IdType, static_masks: bool) -> SchemaRef {
    let ids = list_of(id_type.data_type());
    let mut fields = vec![
        Field::new(INPUT_IDS, ids.clone(), false),
        Field::new(B_START, DataType::UInt16, false),
        Field::new(NEXT_SENTENCE_LABEL, DataType::Int8, true),
        Field::new(DOC_A, DataType::Int64, false),
        Field::new(DOC_B, DataType::Int64, false),
        Field::new(SENTENCE_A, DataType::UInt32, false),
        Field::new(SENTENCE_B, DataType::UInt32, false),
    ];
    if static_masks {
        fields.push(Field::new(
            MASKED_LM_POSITIONS,
            list_of(DataType::UInt16),
            false,
        ));
        fields.push(Field::new(MASKED_LM_LABELS, ids, false));
    }
    Arc::new(Schema::new(fields))
}
