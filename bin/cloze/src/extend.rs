//! `cloze vocab extend`

use std::io::Write;
use std::path::Path;
use std::process::ExitStatus;

use cloze_cli::progress::{Unit, Work};
use cloze_cli::{Status, format, table};
use cloze_prep::input::{InputOptions, InputPlan};
use cloze_prep::{Config, WordCount, count_words};
use cloze_text::Tokenizer;
use cloze_text::extension::{Chosen, Effect, Fit, Wanted, effect, listed, select};

use crate::cli::VocabExtendArgs;
use crate::hand_over;
use crate::vocab::Bar;

/// Words that are shown where not all are asked for.
const SHOWN: usize = 10;

/// It cannot be done.
#[derive(Debug)]
pub struct Refused {
    why: String,
    hint: &'static str,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for Refused {}

impl Refused {
    pub fn hint(&self) -> String {
        self.hint.into()
    }
}

pub fn run(args: &VocabExtendArgs) -> anyhow::Result<Status> {
    let old = Tokenizer::open(&args.model)?;
    let out = args.out.as_deref().filter(|_| !args.dry_run);
    if let Some(out) = out {
        // What cannot be written is known before the corpus is read.
        end_as(trainer(&args.model, out, None)?);
    }
    let list = args.list.as_deref().map(|file| old.word_list(file));
    let list = list.transpose()?;
    let counted = count(args, &old)?;
    for warning in &counted.warnings {
        writeln!(std::io::stderr(), "warning: {warning}")?;
    }
    let wanted = Wanted {
        words: args.words,
        min_count: args.min_count,
        max_pieces: args.max_pieces,
    };
    let chosen = match &list {
        Some((words, _)) => listed(&old, &counted.words, words)?,
        None => select(&old, &counted.words, &wanted)?,
    };
    let names: Vec<&str> = chosen.iter().map(|c| c.word.as_str()).collect();
    let new = old.extended(&names)?;
    let mut stdout = std::io::stdout().lock();
    if let Some((_, passed)) = list.filter(|(_, passed)| *passed > 0) {
        let passed = format::count(passed as u64);
        writeln!(
            stdout,
            "{passed} words of the list are in the vocabulary, or stand there twice"
        )?;
    }
    if chosen.is_empty() {
        return Err(Refused {
            why: "there is no word to add".into(),
            hint: "lower --min-count, give more text, or give words by --list: all that were found are whole in the vocabulary already",
        }
        .into());
    }
    let shown = if args.dry_run { chosen.len() } else { SHOWN };
    write!(stdout, "{}", words_table(&old, &chosen, shown))?;
    if counted.documents > 0 {
        let effect = effect(&old, &new, &counted.words, &chosen)?;
        write!(stdout, "\n{}", effect_table(&effect, args.seq_len))?;
        write!(stdout, "{}", recut(&effect))?;
    }
    let Some(out) = out else {
        writeln!(stdout, "\nnothing was written (--dry-run)")?;
        return Ok(Status::Done);
    };
    writeln!(stdout)?;
    stdout.flush()?;
    drop(stdout);
    let mut file = tempfile::NamedTempFile::new()?;
    for name in names {
        writeln!(file, "{name}")?;
    }
    file.flush()?;
    let status = trainer(&args.model, out, Some(file.path()))?;
    drop(file);
    end_as(status);
    Ok(Status::Done)
}

/// Ends this process as the trainer did, where it failed: it has said why.
fn end_as(status: ExitStatus) {
    if !status.success() {
        std::process::exit(status.code().unwrap_or(2));
    }
}

/// Has the trainer write the model, or, without words, see whether it can.
fn trainer(model: &Path, out: &Path, words: Option<&Path>) -> anyhow::Result<ExitStatus> {
    let mut arguments = vec!["--model".as_ref(), model.as_os_str()];
    arguments.extend(["--out".as_ref(), out.as_os_str()]);
    if let Some(words) = words {
        arguments.extend(["--words".as_ref(), words.as_os_str()]);
    }
    hand_over::trainer_does("extend", &arguments)
}

/// Counts the corpus; nothing where there is none.
fn count(args: &VocabExtendArgs, tokenizer: &Tokenizer) -> anyhow::Result<WordCount> {
    if args.inputs.is_empty() && args.inputs_from.files_from.is_empty() {
        return Ok(WordCount::default());
    }
    let config = Config {
        input_format: args.input_format,
        encoding: args.encoding.clone(),
        text_field: args.text_field.clone(),
        on_bad_input: args.on_bad_input,
        ..Config::default()
    };
    config.check()?;
    let inputs = args.inputs_from.and(&args.inputs)?;
    let plan = InputPlan::resolve(&inputs, &InputOptions::of(&config))?;
    let bar = Bar(Work::begin("count", Unit::Bytes, plan.bytes()));
    let counted = count_words(&plan, tokenizer, args.jobs, &bar)?;
    bar.0.end();
    Ok(counted)
}

fn words_table(old: &Tokenizer, chosen: &[Chosen], shown: usize) -> String {
    let row = |c: &Chosen| {
        let pieces = c.pieces.iter().map(|&id| old.token(id).unwrap_or_default());
        vec![
            c.word.clone(),
            format::count(c.count),
            format::count(c.saved),
            pieces.collect::<Vec<_>>().join(" "),
        ]
    };
    let rows: Vec<Vec<String>> = chosen.iter().take(shown).map(row).collect();
    let mut text = table(
        &["word", "occurs", "tokens saved", "pieces until now"],
        &rows,
    );
    let rest = chosen.len().saturating_sub(shown);
    if rest > 0 {
        let rest = format::count(rest as u64);
        text.push_str(&format!(" and {rest} more (--dry-run shows all)\n"));
    }
    text
}

/// How the corpus comes out, before and after.
fn effect_table(effect: &Effect, seq_len: u16) -> String {
    let fits = [effect.before, effect.after];
    // [CLS], [SEP] and [SEP].
    let room = u64::from(seq_len) - 3;
    let share = |part: u64, all: u64| part as f64 / all.max(1) as f64;
    let line = |name: &str, show: &dyn Fn(&Fit) -> String| {
        let [before, after] = &fits;
        vec![name.to_owned(), show(before), show(after)]
    };
    let rows = [
        line("words", &|f| format::count(f.words)),
        line("tokens", &|f| format::count(f.tokens)),
        line("tokens per word", &|f| {
            format!("{:.4}", share(f.tokens, f.words))
        }),
        line("[UNK]", &|f| {
            let share = 100.0 * share(f.unknown, f.tokens);
            format!("{} ({share:.4} %)", format::count(f.unknown))
        }),
        line(&format!("full rows of {seq_len}"), &|f| {
            format::count(f.tokens.div_ceil(room))
        }),
    ];
    table(&["corpus", "before", "after"], &rows)
}

/// What became of other words.
fn recut(effect: &Effect) -> String {
    let recut = &effect.recut;
    let count = format::count;
    let mut text = format!(
        "{} other words ({} occurrences) begin with a new one and are cut otherwise: {} into fewer pieces, {} into more",
        count(recut.words),
        count(recut.occurrences),
        count(recut.fewer),
        count(recut.more)
    );
    for (n, what) in [(recut.found, "no longer"), (recut.lost, "now")] {
        if n > 0 {
            text.push_str(&format!(", {} {what} [UNK]", count(n)));
        }
    }
    text + "\n"
}
