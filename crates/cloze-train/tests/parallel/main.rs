//! Several processes: what they do together, what becomes of all when one is lost, and that a step does not depend on how many there are.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod failures;
mod meeting;
mod processes;
mod steps;
mod sums;
#[path = "../support/mod.rs"]
mod support;

use std::net::TcpListener;
use std::time::Duration;

use cloze_train::parallel::{Address, Collective, Terms, Timeouts, World, join, leave};
use cloze_train::{Error, Result};

const QUICK: Timeouts = Timeouts {
    meet: Duration::from_secs(20),
    silence: Duration::from_secs(4),
    call: Duration::from_secs(20),
};

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn world(rank: usize, world_size: usize, port: u16) -> World {
    World {
        rank,
        world_size,
        local_rank: rank,
        address: Some(Address {
            host: "127.0.0.1".into(),
            port,
        }),
        job: "a test".into(),
    }
}

/// Runs `work` as each rank on a thread of its own; what each came to.
fn ranks<T: Send>(
    world_size: usize,
    timeouts: Timeouts,
    work: impl Fn(&mut dyn Collective) -> Result<T> + Sync,
) -> Vec<Result<T>> {
    let port = free_port();
    let one = |rank| {
        let mut collective = join(&world(rank, world_size, port), &Terms::default(), &timeouts)?;
        let result = work(collective.as_mut());
        leave(collective, result)
    };
    std::thread::scope(|scope| {
        let one = &one;
        let threads: Vec<_> = (0..world_size)
            .map(|r| scope.spawn(move || one(r)))
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    })
}

fn all<T: Send>(
    world_size: usize,
    work: impl Fn(&mut dyn Collective) -> Result<T> + Sync,
) -> Vec<T> {
    let results = ranks(world_size, QUICK, work);
    results.into_iter().map(|r| r.unwrap()).collect()
}

/// Values of very different sizes, so that another order of additions gives other bits.
fn value(rank: usize, i: usize) -> f32 {
    let mut x = (rank as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ i as u64;
    x = (x ^ x >> 31).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let sign = if x >> 40 & 1 == 0 { 1.0 } else { -1.0 };
    sign * (1.0 + (x >> 41) as f32 / 8_388_608.0) * 2f32.powi((x & 31) as i32 - 16)
}

/// The definition: in order of ranks.
fn sum(world_size: usize, i: usize) -> f32 {
    (1..world_size).fold(value(0, i), |sum, rank| sum + value(rank, i))
}

fn failed(why: &str) -> Error {
    Error::Config {
        option: "--test",
        why: why.into(),
    }
}

fn texts<T: std::fmt::Debug>(results: Vec<Result<T>>) -> Vec<String> {
    let text = |r: Result<T>| r.unwrap_err().to_string();
    results.into_iter().map(text).collect()
}
