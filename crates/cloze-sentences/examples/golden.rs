//! How many groups of cases hold in each language, here and with `sentencex`; or, of one language, the cases that do not.
//!
//!     cargo run --release -p cloze-sentences --example golden [-- LANGUAGE]

#![allow(clippy::unwrap_used, reason = "an example")]

#[path = "../tests/cases/mod.rs"]
mod cases;

fn main() {
    let Some(language) = std::env::args().nth(1) else {
        println!("{}", cases::table());
        return;
    };
    let groups = cases::groups(&language);
    let (here, wrong) = cases::score(&groups, |text| cases::ours(&language, text));
    println!("{here:?}\n{}", wrong.join("\n"));
    let (there, wrong) = cases::score(&groups, |text| cases::theirs(&language, text));
    println!("\nsentencex: {there:?}\n{}", wrong.join("\n"));
}
