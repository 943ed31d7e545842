//! `cloze-train extend`: the last step of `cloze vocab extend`, which reads the corpus and chooses the words.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use cloze_cli::{Status, format};
use cloze_text::Tokenizer;
use cloze_train::Error;
use cloze_train::checkpoint::{Extended, Extender, Extension, refuse_taken};

/// Write a model with more words in its vocabulary (`cloze vocab extend` finds them, and hands over to this)
#[derive(Debug, Args)]
pub struct ExtendArgs {
    /// Hugging Face folder, with its tokenizer
    #[arg(long, value_name = "HF_DIR")]
    pub model: PathBuf,
    /// Words as the tokenizer's normaliser makes them, a line each; without them it is only checked that the model can be extended
    #[arg(long, value_name = "FILE")]
    pub words: Option<PathBuf>,
    /// The folder that is written; must not exist yet
    #[arg(long, value_name = "HF_DIR")]
    pub out: PathBuf,
}

pub fn run(args: &ExtendArgs) -> anyhow::Result<Status> {
    refuse_taken(&args.out)?;
    let old = Tokenizer::open(&args.model)?;
    refuse_strays(&args.model, &old)?;
    let tokens = old.vocab_size();
    let Some(path) = &args.words else {
        Extender::open(&args.model, tokens, 0)?;
        return Ok(Status::Done);
    };
    let text = std::fs::read_to_string(path).map_err(cloze_shard::Error::io(path))?;
    let words: Vec<&str> = text.split_terminator('\n').collect();
    let new = old.extended(&words)?;
    let cut = |word: &&str| {
        let mut pieces = Vec::new();
        old.pieces(word, &mut pieces).map(|()| pieces)
    };
    let pieces = words.iter().map(cut).collect::<Result<Vec<_>, _>>()?;
    let extender = Extender::open(&args.model, tokens, words.len())?;
    let extension = Extension {
        tokens,
        pieces: &pieces,
        files: new.files(),
    };
    let done = extender.write(&extension, &args.out)?;
    let out = args.out.display();
    write!(std::io::stdout(), "{out}: {}", said(&done, words.len()))?;
    Ok(Status::Done)
}

/// What became of the model.
fn said(done: &Extended, words: usize) -> String {
    let count = |n: usize| format::count(n as u64);
    let (before, after) = done.vocab_size;
    let tokens = before - done.spare;
    let mut text = format!(
        "{} + {} tokens, vocab_size {} → {}; new rows are the means of their pieces' in {}\n",
        count(tokens),
        count(words),
        count(before),
        count(after),
        done.tensors.join(", ")
    );
    if done.spare > 0 {
        let (taken, left) = (words.min(done.spare), done.spare.saturating_sub(words));
        text.push_str(&format!(
            "{} of the {} rows that the model had for no token are taken, {} are left as they were\n",
            count(taken),
            count(done.spare),
            count(left)
        ));
    }
    if done.beyond > 0 {
        let beyond = count(done.beyond);
        text.push_str(&format!("{beyond} rows beyond vocab_size are left out\n"));
    }
    if !done.has_head {
        text.push_str("the model has no MLM head, so only the embeddings grow: pre-training begins a head anew\n");
    }
    text
}

/// Refuses tokens that only `added_tokens.json` knows: new words would take their rows.
fn refuse_strays(model: &Path, tokenizer: &Tokenizer) -> anyhow::Result<()> {
    let path = model.join("added_tokens.json");
    if !path.exists() {
        return Ok(());
    }
    let text = std::fs::read_to_string(&path).map_err(cloze_shard::Error::io(&path))?;
    let refused = |why: String| {
        Error::Run {
        path: path.clone(),
        why,
        hint: "save the tokenizer with transformers (AutoTokenizer.from_pretrained(…).save_pretrained(…)), so that tokenizer.json holds all tokens".into(),
    }
    };
    let added: BTreeMap<String, u32> =
        serde_json::from_str(&text).map_err(|e| refused(format!("broken JSON: {e}")))?;
    match added.iter().find(|(t, id)| tokenizer.id(t) != Some(**id)) {
        None => Ok(()),
        Some((token, id)) => Err(refused(format!(
            "gives {token:?} the id {id}, which the rest of the tokenizer does not know of"
        ))
        .into()),
    }
}
