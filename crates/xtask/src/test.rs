//! `cargo xtask test`: everything that must hold.

use crate::steps::{executable, root, run_program, target};

/// Packages that the comparisons with Python need.
const PACKAGES: [&str; 8] = [
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "pyarrow",
    "tensorboard",
    "scikit-learn",
    "scipy",
];

/// Everything is built once, with all that can be had: remote inputs, and CUDA, whose libraries are looked for at run time only.
const ALL: [&str; 2] = [
    "--features",
    "cloze/remote,cloze-tests/remote,cloze-train-bin/cuda,cloze-gpu/cuda,cloze-kernels/cuda",
];

pub fn run(python: Option<&str>) -> Result<(), String> {
    run_program("cargo", &["fmt", "--all", "--check"])?;
    let cargo = |verb: &str, rest: &[&str]| {
        let arguments = [&[verb, "--workspace"], &ALL[..], rest].concat();
        run_program("cargo", &arguments)
    };
    cargo("clippy", &["--all-targets", "--", "-D", "warnings"])?;
    // The tests of the executables run what is built here.
    cargo("build", &["--bins", "--examples"])?;
    cargo("test", &[])?;
    // What is built where nothing of that is asked for.
    let plain = ["clippy", "-p", "cloze", "-p", "cloze-train-bin", "--bins"];
    run_program("cargo", &[&plain[..], &["--", "-D", "warnings"]].concat())?;
    let Some(python) = python else {
        println!(
            "\nskipped: the comparisons with Python. To run them: pip install {}, and pass --python PYTHON",
            PACKAGES.join(" ")
        );
        return Ok(());
    };
    with_python(python)
}

fn with_python(python: &str) -> Result<(), String> {
    let import = format!(
        "import {}",
        PACKAGES.join(", ").replace("scikit-learn", "sklearn")
    );
    run_program(python, &["-c", &import])?;
    let work = target().join("python-checks");
    std::fs::create_dir_all(&work).map_err(|e| format!("{}: {e}", work.display()))?;
    let cloze = executable("dev", "cloze");
    let encode = target().join("debug/examples/encode_lines");
    let script = root().join("tests/python/check_all.py");
    let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let arguments = [text(&script), text(&cloze), text(&encode), text(&work)];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    run_program(python, &arguments)
}
