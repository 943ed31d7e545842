//! Project automation: `cargo xtask demo | test | gpu-kit | debian-corpus OUT | debian-docs OUT | salad OUT GB`.

mod debian;
mod debian_docs;
mod demo;
mod demo_corpus;
mod gpu_kit;
mod salad;
mod steps;
mod test;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  demo [--profile dev]       the whole road on a small corpus of our own: vocabulary, shards, inspection,
                             training, evaluation; under 3 minutes on 2 cores once built
  test [--python PYTHON]     everything that must hold: formatting, lints, all tests, and with a Python that
                             has torch, transformers, tokenizers and pyarrow the comparisons with them
  gpu-kit [--python PYTHON] [--corpus PATH --tokenizer HF_DIR]
                             target/gpu-kit: one folder that checks and measures training on a machine with a GPU,
                             beside PyTorch; on the demo's corpus unless one is given
  debian-corpus OUT          a real 24 MB corpus with a labelled task, from Debian's package index (needs apt-get)
  debian-docs OUT            115 MB of technical English without a task, from Debian's documentation packages (needs
                             apt-get and dpkg-deb; downloads 300 MB, takes some minutes)
  salad OUT GB               GB gigabytes of JSONL that nobody wrote, for measurements
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["demo"] => demo::run("release"),
        ["demo", "--profile", "dev"] => demo::run("dev"),
        ["test"] => test::run(std::env::var("CLOZE_PYTHON").ok().as_deref()),
        ["test", "--python", python] => test::run(Some(python)),
        ["--help" | "-h" | "help"] | [_, "--help" | "-h"] => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        ["gpu-kit", options @ ..] => gpu_kit::run(options),
        ["debian-corpus", out] => debian::run(out.as_ref()),
        ["debian-docs", out] => debian_docs::run(out.as_ref()),
        ["salad", out, gigabytes] => salad(out, gigabytes),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::from(1)
        }
    }
}

fn salad(out: &str, gigabytes: &str) -> Result<(), String> {
    let size = gigabytes.parse().map_err(|e| format!("{gigabytes}: {e}"))?;
    let documents = salad::write(out.as_ref(), size).map_err(|e| format!("{out}: {e}"))?;
    println!("{out}: {documents} documents");
    Ok(())
}
