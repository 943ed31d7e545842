//! Running commands that a person sees.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// The workspace's folder.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// Runs `program arguments` in the workspace's folder, shown as it is typed; fails if it does.
pub fn run_program(program: &str, arguments: &[&str]) -> Result<(), String> {
    let shown = [&[program], arguments].concat().join(" ");
    println!("\n$ {shown}");
    start(Path::new(program), arguments, &shown)
}

/// Runs an executable of ours, shown by its name alone.
pub fn run_built(executable: &Path, arguments: &[&str]) -> Result<(), String> {
    let name = executable
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let shown = [&[name.as_str()], arguments].concat().join(" ");
    println!("\n$ {shown}");
    start(executable, arguments, &shown)
}

fn start(program: &Path, arguments: &[&str], shown: &str) -> Result<(), String> {
    let begun = Instant::now();
    let status = Command::new(program)
        .args(arguments)
        .current_dir(root())
        .status();
    match status {
        Err(e) => Err(format!("cannot run {}: {e}", program.display())),
        Ok(status) if status.success() => {
            println!("  ({:.0} s)", begun.elapsed().as_secs_f64());
            Ok(())
        }
        Ok(status) => Err(format!("{shown}: {status}")),
    }
}

/// Where cargo puts what it builds.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// A built executable.
pub fn executable(profile: &str, name: &str) -> PathBuf {
    let folder = if profile == "dev" { "debug" } else { profile };
    target()
        .join(folder)
        .join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}
