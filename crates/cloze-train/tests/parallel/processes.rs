//! Processes of their own, and what becomes of the others when one is killed.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cloze_train::parallel::{Terms, World, fingerprint, join, leave};

use super::{QUICK, free_port, sum, value};

/// A process of its own that is `rank`, and does what `role` says.
fn process(role: &str, rank: usize, world_size: usize, port: u16) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "processes::worker",
            "--ignored",
            "--nocapture",
            "-q",
        ])
        .env("CLOZE_TEST_ROLE", role)
        .env("RANK", rank.to_string())
        .env("WORLD_SIZE", world_size.to_string())
        .env("LOCAL_RANK", rank.to_string())
        .env("MASTER_ADDR", "localhost")
        .env("MASTER_PORT", port.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// What a process said, after `heading`; kills it where that takes too long.
fn said(mut child: Child, heading: &str) -> String {
    let until = Instant::now() + Duration::from_secs(30);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > until {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|l| l.split_once(heading));
    line.map_or_else(
        || format!("nothing, but {text:?}"),
        |(_, rest)| rest.trim().to_owned(),
    )
}

#[test]
#[ignore = "started by other tests, as a process of its own"]
fn worker() {
    let Ok(role) = std::env::var("CLOZE_TEST_ROLE") else {
        return;
    };
    let world = World::from_environment().unwrap();
    let result = join(&world, &Terms::default(), &QUICK).and_then(|mut c| {
        let mut last = 0;
        let rounds = if role == "endless" { u64::MAX } else { 20 };
        for round in 0..rounds {
            let mut values: Vec<f32> = (0..100_003).map(|i| value(world.rank, i)).collect();
            c.all_reduce(&mut values)?;
            last = fingerprint(&values);
            if round == 2 {
                println!("\nat work");
                std::io::stdout().flush().unwrap();
            }
        }
        leave(c, Ok(last))
    });
    match result {
        Ok(last) => println!("\nsum {last:x}"),
        Err(e) => println!("\nerror {e}"),
    }
}

#[test]
fn processes_come_to_the_same_sum() {
    let port = free_port();
    let children: Vec<Child> = (0..5).rev().map(|r| process("sum", r, 5, port)).collect();
    let expected: Vec<f32> = (0..100_003).map(|i| sum(5, i)).collect();
    let expected = format!("{:x}", fingerprint(&expected));
    for child in children {
        assert_eq!(said(child, "sum "), expected);
    }
}

/// Ends a process as `signal` does, while all are at work.
fn signalled(victim: usize, signal: &str) {
    let port = free_port();
    let mut children: Vec<Child> = (0..4).map(|r| process("endless", r, 4, port)).collect();
    let mut begun = String::new();
    let out = children[victim].stdout.as_mut().unwrap();
    while !begun.contains("at work") {
        let mut byte = [0];
        assert_eq!(out.read(&mut byte).unwrap(), 1, "it ended before: {begun}");
        begun.push(char::from(byte[0]));
    }
    let mut victim_process = children.remove(victim);
    let id = victim_process.id().to_string();
    let sent = Command::new("kill").args([signal, &id]).status().unwrap();
    assert!(sent.success());
    let began = Instant::now();
    let texts: Vec<String> = children.into_iter().map(|c| said(c, "error ")).collect();
    let spent = began.elapsed();
    victim_process.kill().unwrap();
    victim_process.wait().unwrap();
    let how = if signal == "-STOP" {
        "no sign of life for 4s"
    } else {
        "it was killed"
    };
    for text in texts {
        let expected = format!("rank {victim} was lost: {how}");
        assert!(text.starts_with(&expected), "{victim} {signal}: {text}");
    }
    assert!(spent < Duration::from_secs(12), "{spent:?}");
}

#[cfg(unix)]
#[test]
fn all_stop_when_one_is_killed() {
    for victim in 0..4 {
        signalled(victim, "-KILL");
    }
}

/// As a host whose power fails: its connections stay open.
#[cfg(unix)]
#[test]
fn all_stop_when_one_falls_silent() {
    for victim in [0, 2] {
        signalled(victim, "-STOP");
    }
}
