//! What can be typed about masks. Doc comments are the help texts.

use clap::{Args, ValueEnum};
use cloze_shard::masking::{MaskUnit, MaskingRule};

/// What masks are like, beside how many there are.
#[derive(Debug, Args)]
pub struct MaskArgs {
    /// Share of the predicted tokens that become [MASK]
    #[arg(long, default_value_t = 0.8, value_name = "P")]
    pub mask_share: f64,
    /// Share of the predicted tokens that become a random token; the rest stay as they are
    #[arg(long, default_value_t = 0.1, value_name = "P")]
    pub random_share: f64,
    /// What is chosen at a time
    #[arg(long, value_enum, default_value = "token")]
    pub mask_unit: MaskUnitArg,
}

/// What masks choose at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MaskUnitArg {
    /// A token
    Token,
    /// A whole word: a token and the ## pieces after it
    Word,
    /// A span of words, 1 to 10, as SpanBERT does
    Span,
}

impl From<MaskUnitArg> for MaskUnit {
    fn from(arg: MaskUnitArg) -> Self {
        match arg {
            MaskUnitArg::Token => Self::Token,
            MaskUnitArg::Word => Self::Word,
            MaskUnitArg::Span => Self::SPAN,
        }
    }
}

impl MaskArgs {
    /// The rule of masks at `rate`.
    pub fn rule(&self, rate: f64) -> MaskingRule {
        MaskingRule {
            rate,
            mask_share: self.mask_share,
            random_share: self.random_share,
            unit: self.mask_unit.into(),
        }
    }
}
