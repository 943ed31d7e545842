//! What becomes of all when one fails, leaves, or does not take part.

use std::time::{Duration, Instant};

use cloze_train::Result;
use cloze_train::parallel::{Alone, Terms, Timeouts, agree, join};

use super::{QUICK, all, failed, free_port, ranks, texts, world};

#[test]
fn who_succeeds_hears_of_who_failed() {
    let ok = all(3, |c| agree(c, Ok("fine")));
    assert_eq!(ok, ["fine"; 3]);
    assert_eq!(agree(&mut Alone, Ok(1)).unwrap(), 1);
    let texts = all(4, |c| {
        let own = match c.rank() {
            2 => Err(failed(&"ü".repeat(2_000))),
            3 => Err(failed("is the last")),
            _ => Ok(()),
        };
        // All know, and so are in step still.
        Ok(agree(c, own).unwrap_err().to_string())
    });
    assert!(
        texts[0].starts_with("rank 2 failed: --test üüü"),
        "{}",
        texts[0]
    );
    assert_eq!(texts[0], texts[1]);
    assert!(
        texts[0].len() > 1_000 && texts[0].ends_with('ü'),
        "{}",
        texts[0]
    );
    assert_eq!(
        texts[3], "--test is the last",
        "one's own error comes first"
    );
}

/// A rank that stops with an error while the others wait for it.
#[test]
fn all_stop_when_one_fails() {
    for bad in (0..20).map(|n| n % 4) {
        let began = Instant::now();
        let results = ranks(4, QUICK, |c| {
            c.barrier()?;
            if c.rank() == bad {
                return Err(failed("is wrong"));
            }
            let mut values = vec![1.0; 1_000_003];
            c.all_reduce(&mut values)
        });
        for (rank, text) in texts(results).iter().enumerate() {
            let expected = if rank == bad {
                "--test is wrong".into()
            } else {
                format!("rank {bad} failed: --test is wrong")
            };
            assert_eq!(*text, expected, "rank {rank}");
        }
        assert!(
            began.elapsed() < Duration::from_secs(4),
            "{:?}",
            began.elapsed()
        );
    }
}

/// A call after a failure fails at once, and so does `check` without a call.
#[test]
fn a_failure_is_for_good() {
    let results = ranks(2, QUICK, |c| {
        c.barrier()?;
        if c.rank() == 1 {
            return Err(failed("is wrong"));
        }
        let began = Instant::now();
        while c.check().is_ok() {
            assert!(began.elapsed() < Duration::from_secs(5));
            std::thread::sleep(Duration::from_millis(5));
        }
        let first = c.barrier().unwrap_err().to_string();
        assert_eq!(c.broadcast(&mut [1], 0).unwrap_err().to_string(), first);
        c.all_reduce(&mut [1.0])
    });
    assert_eq!(texts(results)[0], "rank 1 failed: --test is wrong");
}

#[test]
fn a_rank_that_leaves_early_is_named() {
    for early in [0, 2] {
        let port = free_port();
        let one = |rank| -> Result<()> {
            let mut c = join(&world(rank, 4, port), &Terms::default(), &QUICK)?;
            if rank == early {
                return Ok(());
            }
            c.all_reduce(&mut [1.0; 100_000])
        };
        std::thread::scope(|scope| {
            let one = &one;
            let threads: Vec<_> = (0..4).map(|r| scope.spawn(move || one(r))).collect();
            for (rank, thread) in threads.into_iter().enumerate() {
                let result = thread.join().unwrap();
                if rank != early {
                    let text = result.unwrap_err().to_string();
                    assert_eq!(text, format!("rank {early} left while others went on"));
                }
            }
        });
    }
}

#[test]
fn a_rank_that_panics_is_named() {
    let port = free_port();
    let one = |rank| -> Result<()> {
        let mut c = join(&world(rank, 3, port), &Terms::default(), &QUICK)?;
        c.barrier()?;
        assert!(rank != 1, "on purpose");
        c.barrier()
    };
    std::thread::scope(|scope| {
        let one = &one;
        let threads: Vec<_> = (0..3).map(|r| scope.spawn(move || one(r))).collect();
        for (rank, thread) in threads.into_iter().enumerate() {
            match thread.join() {
                Ok(result) => assert_eq!(result.unwrap_err().to_string(), "rank 1 panicked"),
                Err(_) => assert_eq!(rank, 1),
            }
        }
    });
}

/// A rank that lives and does not take part.
#[test]
fn a_call_that_nobody_answers_ends() {
    let timeouts = Timeouts {
        call: Duration::from_millis(300),
        silence: Duration::from_secs(1),
        ..QUICK
    };
    let results = ranks(3, timeouts, |c| {
        if c.rank() == 2 {
            std::thread::sleep(Duration::from_secs(2));
        }
        c.barrier()
    });
    for text in texts(results) {
        let named = text.starts_with("rank 1 lives") || text.starts_with("rank 2 lives");
        assert!(
            named && text.contains("did not take part in time"),
            "{text}"
        );
    }
}

/// Signs of life do not come from the thread that works: a long step loses nobody.
#[test]
fn a_long_step_is_no_loss() {
    let timeouts = Timeouts {
        silence: Duration::from_millis(400),
        ..QUICK
    };
    let results = ranks(3, timeouts, |c| {
        std::thread::sleep(Duration::from_millis(700 * c.rank() as u64));
        c.barrier()
    });
    assert!(results.into_iter().all(|r| r.is_ok()));
}
