//! Who is let in.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Barrier;
use std::time::Duration;

use cloze_train::parallel::{Terms, Timeouts, World, join};
use cloze_train::{PretrainConfig, Result};

use super::{QUICK, free_port, texts, world};

/// What each of several worlds, which try to meet at one port, comes to.
fn meet(worlds: Vec<(World, Terms)>, timeouts: Timeouts) -> Vec<Result<()>> {
    let start = Barrier::new(worlds.len());
    std::thread::scope(|scope| {
        let start = &start;
        let spawn = |(world, terms): (World, Terms)| {
            scope.spawn(move || {
                start.wait();
                let mut collective = join(&world, &terms, &timeouts)?;
                collective.barrier()
            })
        };
        let threads: Vec<_> = worlds.into_iter().map(spawn).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    })
}

#[test]
fn what_must_be_alike_is_compared() {
    let config = PretrainConfig::default();
    let other = PretrainConfig {
        batch_tokens: 99,
        ..config.clone()
    };
    let terms = |config: &PretrainConfig, digest: &str, how: &str, at: &str| {
        let data = Path::new(at).join("data");
        Terms::of(config, (&data, digest), (how, &Path::new(at).join("run")))
    };
    let ours = terms(&config, "abc", "begins anew", "/a");
    let cases = [
        (
            terms(&other, "abc", "begins anew", "/b"),
            "rank 1 has --batch-tokens 99, rank 0 has --batch-tokens 4096",
        ),
        (
            terms(&other, "abd", "begins anew", "/b"),
            "rank 1 has dataset abd (/b/data), rank 0 has dataset abc (/a/data)",
        ),
        (
            terms(&other, "abc", "goes on after step 5", "/b"),
            "rank 1 has a run that goes on after step 5 (/b/run), rank 0 has a run that begins anew (/a/run)",
        ),
        (Terms::default(), "rank 1 has no version"),
        (
            Terms::failed("/b/data: not a dataset".into()),
            "rank 1 failed: /b/data: not a dataset",
        ),
    ];
    for (theirs, expected) in cases {
        let port = free_port();
        let worlds = (0..3)
            .map(|r| {
                (
                    world(r, 3, port),
                    if r == 1 { theirs.clone() } else { ours.clone() },
                )
            })
            .collect();
        for text in texts(meet(worlds, QUICK)) {
            assert!(text.contains(expected), "{text}");
            assert!(text.contains(&format!("at 127.0.0.1:{port}: ")), "{text}");
        }
    }
    // Paths may be others elsewhere.
    let elsewhere = terms(&config, "abc", "begins anew", "/c");
    let port = free_port();
    let theirs = |r| {
        if r == 1 {
            elsewhere.clone()
        } else {
            ours.clone()
        }
    };
    let worlds = (0..3).map(|r| (world(r, 3, port), theirs(r))).collect();
    assert!(meet(worlds, QUICK).into_iter().all(|r| r.is_ok()));
    // Rank 0 comes to say that it cannot, too.
    let port = free_port();
    let failed = Terms::failed("no room".into());
    let worlds = vec![(world(0, 2, port), failed), (world(1, 2, port), ours)];
    for text in texts(meet(worlds, QUICK)) {
        assert!(text.contains("rank 0 failed: no room"), "{text}");
    }
}

#[test]
fn a_rank_that_is_there_twice_is_refused() {
    let port = free_port();
    let worlds = [0, 1, 1].map(|r| (world(r, 3, port), Terms::default()));
    let texts = texts(meet(worlds.to_vec(), QUICK));
    for text in &texts {
        assert!(
            text.contains("two processes say that they are rank 1: at 127.0.0.1:"),
            "{text}"
        );
    }
}

#[test]
fn sizes_that_differ_are_refused() {
    let port = free_port();
    let worlds = vec![
        (world(0, 2, port), Terms::default()),
        (world(1, 3, port), Terms::default()),
    ];
    for text in texts(meet(worlds, QUICK)) {
        assert!(
            text.contains("is one of 3 processes, rank 0 one of 2"),
            "{text}"
        );
    }
}

#[test]
fn who_does_not_come_is_named() {
    let quick = Timeouts {
        meet: Duration::from_millis(500),
        ..QUICK
    };
    let port = free_port();
    let worlds = [0, 2].map(|r| (world(r, 4, port), Terms::default()));
    let expected = "ranks 1, 3 of 4 did not come within 500ms";
    for text in texts(meet(worlds.to_vec(), quick)) {
        assert!(text.ends_with(expected), "{text}");
    }
    let alone = meet(vec![(world(1, 2, free_port()), Terms::default())], quick);
    let text = texts(alone).remove(0);
    assert!(
        text.contains("rank 0 cannot be reached at 127.0.0.1:"),
        "{text}"
    );
}

#[test]
fn another_version_is_refused() {
    let port = free_port();
    let host = std::thread::spawn(move || meet(vec![(world(0, 2, port), Terms::default())], QUICK));
    let mut stream = called(port);
    stream.write_all(b"cloze-dp\x09\0\0\0 and so on").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let expected = "speaks version 9 of the protocol, rank 0 version 2";
    assert!(String::from_utf8_lossy(&answer).contains(expected));
    let text = texts(host.join().unwrap()).remove(0);
    assert!(
        text.contains(expected) && text.contains(&stream.local_addr().unwrap().to_string()),
        "{text}"
    );
}

/// Connects to a port where soon somebody listens.
fn called(port: u16) -> TcpStream {
    loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => return stream,
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

#[test]
fn other_programs_at_the_port_are_passed_over() {
    let port = free_port();
    let host = std::thread::spawn(move || meet(vec![(world(0, 2, port), Terms::default())], QUICK));
    let mut browser = called(port);
    browser.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    drop(called(port));
    let mut long = called(port);
    long.write_all(b"cloze-dp\x02\0\0\0\xff\xff\xff\xff")
        .unwrap();
    let rank_1 = meet(vec![(world(1, 2, port), Terms::default())], QUICK);
    for result in rank_1.into_iter().chain(host.join().unwrap()) {
        result.unwrap();
    }
}

#[test]
fn two_jobs_at_one_port() {
    let port = free_port();
    let other = |rank| {
        let job = "another".to_owned();
        World {
            job,
            ..world(rank, 2, port)
        }
    };
    // Rank 1 of another job comes to our rank 0, which goes on without it.
    let host = std::thread::spawn(move || meet(vec![(world(0, 2, port), Terms::default())], QUICK));
    called(port);
    let text = texts(meet(vec![(other(1), Terms::default())], QUICK)).remove(0);
    assert!(
        text.contains("belongs to the job \"another\", rank 0 to \"a test\": two jobs at one port"),
        "{text}"
    );
    // Its rank 0 cannot listen.
    let text = texts(meet(vec![(other(0), Terms::default())], QUICK)).remove(0);
    assert!(
        text.contains("another process listens at this port"),
        "{text}"
    );
    meet(vec![(world(1, 2, port), Terms::default())], QUICK)
        .remove(0)
        .unwrap();
    host.join().unwrap().remove(0).unwrap();
}
