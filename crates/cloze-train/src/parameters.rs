//! The named parameters of a BERT with both pre-training heads, laid out in one flat arena.
//!
//! Each begins at a multiple of [`ALIGN`] elements, but that a layer's query, key and value stand side by side; what is between is padding, as
//! are the rows that make the outputs of both heads a multiple of [`ALIGN`]. Padding is zero, has a gradient of zero, and stays zero.

use crate::BertConfig;

/// One named parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name in a Hugging Face `BertForPreTraining`.
    pub name: String,
    /// Its shape; row-major.
    pub shape: Vec<usize>,
    /// Its first element in the arena.
    pub offset: usize,
    /// Whether weight decay applies: to matrices and embeddings, not to biases and LayerNorm (as BERT was trained).
    pub decay: bool,
    /// Whether only next sentence prediction trains it: the pooler and its head.
    pub nsp_only: bool,
}

impl Parameter {
    /// Elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its place in the arena.
    #[must_use]
    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.len()
    }
}

/// Elements of what devices like to begin at, and multiples of which they like to multiply by.
pub const ALIGN: usize = 64;

/// All parameters, in order. The MLM decoder's weight is the word embeddings, its bias `cls.predictions.bias`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    parameters: Vec<Parameter>,
    len: usize,
    block: usize,
}

/// Name of the word embeddings, to which the MLM decoder is tied.
pub const WORD_EMBEDDINGS: &str = "bert.embeddings.word_embeddings.weight";
/// Name of the MLM decoder's bias.
pub const PREDICTION_BIAS: &str = "cls.predictions.bias";

impl Layout {
    /// The layout of `config`.
    #[must_use]
    pub fn new(config: &BertConfig) -> Self {
        let mut layout = Self {
            parameters: Vec::new(),
            len: 0,
            block: ALIGN,
        };
        let (h, f) = (config.hidden_size, config.intermediate_size);
        layout.add(WORD_EMBEDDINGS.into(), &[config.vocab_size, h]);
        layout.len = config.vocab_size.next_multiple_of(ALIGN) * h;
        layout.add(
            "bert.embeddings.position_embeddings.weight".into(),
            &[config.max_position_embeddings, h],
        );
        layout.add(
            "bert.embeddings.token_type_embeddings.weight".into(),
            &[config.type_vocab_size, h],
        );
        layout.add_pair("bert.embeddings.LayerNorm", &[h]);
        for i in 0..config.num_hidden_layers {
            let at = |rest: &str| format!("bert.encoder.layer.{i}.{rest}");
            // Side by side, so that one product makes all three.
            for (kind, shape) in [("weight", &[h, h][..]), ("bias", &[h][..])] {
                layout.align();
                for name in ["query", "key", "value"] {
                    layout.push(at(&format!("attention.self.{name}.{kind}")), shape);
                }
            }
            layout.add_pair(&at("attention.output.dense"), &[h, h]);
            layout.add_pair(&at("attention.output.LayerNorm"), &[h]);
            layout.add_pair(&at("intermediate.dense"), &[f, h]);
            layout.add_pair(&at("output.dense"), &[h, f]);
            layout.add_pair(&at("output.LayerNorm"), &[h]);
        }
        layout.add_pair("bert.pooler.dense", &[h, h]);
        layout.add_pair("cls.predictions.transform.dense", &[h, h]);
        layout.add_pair("cls.predictions.transform.LayerNorm", &[h]);
        layout.add(PREDICTION_BIAS.into(), &[config.vocab_size]);
        layout.add("cls.seq_relationship.weight".into(), &[2, h]);
        layout.len += (ALIGN - 2) * h;
        layout.add("cls.seq_relationship.bias".into(), &[2]);
        layout.align();
        layout
    }

    fn align(&mut self) {
        self.len = self.len.next_multiple_of(ALIGN);
    }

    fn add(&mut self, name: String, shape: &[usize]) {
        self.align();
        self.push(name, shape);
    }

    /// `NAME.weight` of `shape`, and `NAME.bias` of its first dimension.
    fn add_pair(&mut self, name: &str, shape: &[usize]) {
        self.add(format!("{name}.weight"), shape);
        self.add(format!("{name}.bias"), &shape[..1]);
    }

    fn push(&mut self, name: String, shape: &[usize]) {
        let decay = !name.ends_with("bias") && !name.contains("LayerNorm");
        let nsp_only =
            name.starts_with("bert.pooler.") || name.starts_with("cls.seq_relationship.");
        let parameter = Parameter {
            name,
            shape: shape.into(),
            offset: self.len,
            decay,
            nsp_only,
        };
        while !self.len.is_multiple_of(self.block) {
            self.block /= 2;
        }
        self.len += parameter.len();
        self.parameters.push(parameter);
    }

    /// The parameters, in order.
    #[must_use]
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Which parameter each block of elements belongs to, and how many elements a block has; padding is of the parameter before it.
    #[must_use]
    pub fn blocks(&self) -> (Vec<u32>, usize) {
        let mut owners = vec![0; self.len / self.block];
        for (number, p) in (0..).zip(&self.parameters) {
            owners[p.offset / self.block..].fill(number);
        }
        (owners, self.block)
    }

    /// Elements of all parameters, without what is between them.
    #[must_use]
    pub fn count(&self) -> usize {
        self.parameters.iter().map(Parameter::len).sum()
    }

    /// Elements of the arena.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no parameter.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A parameter by name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|p| p.name == name)
    }
}
