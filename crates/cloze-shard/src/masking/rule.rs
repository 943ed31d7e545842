//! What can be asked of masks.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// How much to mask, by which unit, and what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaskingRule {
    /// Share of a row's maskable tokens that are predicted; in `(0, 1]`.
    pub rate: f64,
    /// Share of the predicted tokens that become `[MASK]`.
    pub mask_share: f64,
    /// Share of the predicted tokens that become a random token; the rest stay as they are.
    pub random_share: f64,
    /// What is chosen at a time.
    #[serde(default, skip_serializing_if = "MaskUnit::is_token")]
    pub unit: MaskUnit,
}

/// What is chosen at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum MaskUnit {
    /// A token.
    #[default]
    Token,
    /// A word: a token and the `##` pieces after it.
    Word,
    /// A run of words.
    Span {
        /// Words of a span are drawn from the geometric distribution `p · (1 − p)^(ℓ − 1)`, …
        p: f64,
        /// … of which only lengths up to this are kept.
        longest: u16,
    },
}

impl MaskUnit {
    /// Spans of 1 to 10 words, 3.8 on average (Joshi et al. 2020, section 3.1).
    pub const SPAN: Self = Self::Span {
        p: 0.2,
        longest: 10,
    };

    /// Whether it is a token, for which no vocabulary is needed.
    #[must_use]
    pub fn is_token(&self) -> bool {
        *self == Self::Token
    }

    /// The name, as it is typed.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Word => "word",
            Self::Span { .. } => "span",
        }
    }
}

impl Default for MaskingRule {
    /// BERT's: 15 %, by tokens, of which 80 % `[MASK]`, 10 % random, 10 % kept.
    fn default() -> Self {
        Self {
            rate: 0.15,
            mask_share: 0.8,
            random_share: 0.1,
            unit: MaskUnit::Token,
        }
    }
}

impl MaskingRule {
    /// How many of `maskable` tokens are to be predicted: at least one where there is one.
    #[must_use]
    pub fn count(&self, maskable: usize) -> usize {
        // What is positive is cut to the whole number below. No row has 2³² tokens.
        let rounded = (self.rate * f64::from(maskable as u32) + 0.5) as u32 as usize;
        rounded.max(1).min(maskable)
    }

    /// Refuses what cannot be.
    pub(super) fn check(&self) -> Result<()> {
        let config = |name, why: String| Err(Error::Config { name, why });
        if !(self.rate > 0.0 && self.rate <= 1.0) {
            let why = format!("is {}, must be over 0 and at most 1", self.rate);
            return config("--mask-rate", why);
        }
        let shares = self.mask_share + self.random_share;
        if !(self.mask_share >= 0.0 && self.random_share >= 0.0 && shares <= 1.0 + 1e-9) {
            return config(
                "--mask-share and --random-share",
                format!(
                    "are {} and {}, must not be negative, and together at most 1",
                    self.mask_share, self.random_share
                ),
            );
        }
        if let MaskUnit::Span { p, longest } = self.unit
            && !(p > 0.0 && p <= 1.0 && longest > 0)
        {
            return config(
                "--mask-unit",
                "spans need a p over 0 and at most 1, and at least one word".into(),
            );
        }
        Ok(())
    }
}
