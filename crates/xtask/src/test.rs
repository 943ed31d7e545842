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

/// Everything is built once, with what reads remote inputs: other features would build most of what we depend on again.
const REMOTE: [&str; 2] = ["--features", "cloze/remote,cloze-tests/remote"];

pub fn run(python: Option<&str>) -> Result<(), String> {
    run_program("cargo", &["fmt", "--all", "--check"])?;
    let cargo = |verb: &str, rest: &[&str]| {
        let arguments = [&[verb, "--workspace"], &REMOTE[..], rest].concat();
        run_program("cargo", &arguments)
    };
    cargo("clippy", &["--all-targets", "--", "-D", "warnings"])?;
    // The tests of the executables run what is built here.
    cargo("build", &["--bins", "--examples"])?;
    cargo("test", &[])?;
    // The same executable with CUDA in it builds, and starts where there is none; and cloze without remote inputs is looked at by the way.
    let cuda = ["--features", "cloze-train-bin/cuda,cloze-kernels/cuda"];
    let ours = [
        "-p",
        "cloze-kernels",
        "-p",
        "cloze-train",
        "-p",
        "cloze-train-bin",
        "-p",
        "cloze",
    ];
    let lint = [
        &["clippy"],
        &ours[..],
        &cuda,
        &["--all-targets", "--", "-D", "warnings"],
    ]
    .concat();
    run_program("cargo", &lint)?;
    let test = [
        "test",
        "-p",
        "cloze-kernels",
        "--features",
        "cuda",
        "--test",
        "driver",
    ];
    run_program("cargo", &test)?;
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
