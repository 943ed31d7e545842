//! Checks and measures a training step on a device. Every finding is a line of JSON on standard output; what a person reads is made of them
//! elsewhere.

mod checks;
mod device;
mod speed;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Check and measure a training step on a device; every finding is a line of JSON
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
    /// cpu, or cuda
    #[arg(long, global = true, default_value = "cuda")]
    device: device::Which,
    /// What activations are kept in: f32 or bf16; on the CPU, what products are computed in
    #[arg(long, global = true, default_value = "bf16")]
    format: device::Precision,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// What the device is
    Describe,
    /// Every operation against its definition in double precision
    Kernels,
    /// Losses and gradients of whole steps against files that PyTorch made
    Gradients {
        /// Folder of *.safetensors
        #[arg(long)]
        golden: PathBuf,
    },
    /// The losses of many steps against a file that PyTorch made
    Curve {
        /// The file
        #[arg(long)]
        golden: PathBuf,
    },
    /// Times of a model's products, and the algorithms that were chosen
    Products(speed::Shape),
    /// Where the time of a step goes, kernel by kernel
    Stages(speed::Shape),
    /// Tokens a second from real shards, as often as a line is read from standard input
    Throughput(speed::Throughput),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let place = device::Place {
        which: cli.device,
        precision: cli.format,
    };
    let done = match &cli.verb {
        Verb::Describe => device::describe(place),
        Verb::Kernels => checks::kernels(place),
        Verb::Gradients { golden } => checks::gradients(place, golden),
        Verb::Curve { golden } => checks::curve(place, golden),
        Verb::Products(shape) => speed::products(place, shape),
        Verb::Stages(shape) => speed::stages(place, shape),
        Verb::Throughput(args) => speed::throughput(place, args),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
