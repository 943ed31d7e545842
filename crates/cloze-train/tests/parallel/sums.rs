//! What the processes do together, and that its bits depend on nothing but what they bring.

use std::time::Duration;

use cloze_train::engine::EvalSums;
use cloze_train::parallel::{fingerprint, reduce_sums, same, summed_beside};

use super::{QUICK, all, failed, ranks, sum, texts, value};

#[test]
fn sums_are_made_in_order_of_ranks() {
    for world_size in [1, 2, 3, 5] {
        for len in [0, 1, 2, world_size - 1, 65_536, 65_537, 1_000_003] {
            let found = all(world_size, |c| {
                let mut values: Vec<f32> = (0..len).map(|i| value(c.rank(), i)).collect();
                c.all_reduce(&mut values)?;
                Ok(values)
            });
            let expected: Vec<u32> = (0..len).map(|i| sum(world_size, i).to_bits()).collect();
            for (rank, values) in found.iter().enumerate() {
                let same = values
                    .iter()
                    .map(|v| v.to_bits())
                    .eq(expected.iter().copied());
                assert!(same, "rank {rank} of {world_size}, {len} values");
            }
        }
    }
}

/// The order matters for these values: a test that could not see it would show nothing.
#[test]
fn the_order_of_additions_is_seen() {
    let backwards = |i| (0..4).rev().fold(value(4, i), |sum, r| sum + value(r, i));
    assert!((0..100).any(|i| backwards(i) != sum(5, i)));
}

#[test]
fn buckets_and_timing_change_no_bit() {
    let len = 300_001;
    let run = |repeat: usize| {
        all(3, |c| {
            let mut values: Vec<f32> = (0..len).map(|i| value(c.rank(), i)).collect();
            if repeat % 3 == c.rank() {
                std::thread::sleep(Duration::from_millis(10));
            }
            for part in values.rchunks_mut(10_000 * (repeat + 1)) {
                c.all_reduce(part)?;
            }
            Ok(fingerprint(&values))
        })
    };
    let whole: Vec<f32> = (0..len).map(|i| sum(3, i)).collect();
    for repeat in 0..20 {
        assert_eq!(run(repeat), [fingerprint(&whole); 3], "repeat {repeat}");
    }
}

/// With each rank at work between, for a while of its own.
#[test]
fn sums_beside_work_are_the_same() {
    let len = 100_003;
    let sums = all(3, |c| {
        let rank = c.rank();
        let parts = summed_beside(c, |send| {
            for start in (0..len).step_by(20_000).rev() {
                let range = start..len.min(start + 20_000);
                let values = range.clone().map(|i| value(rank, i)).collect();
                std::thread::sleep(Duration::from_millis(3 * rank as u64));
                send(range, values);
            }
            Ok(())
        })?;
        let after = c.all_reduce(&mut [0.0]);
        after.map(|()| parts)
    });
    for parts in sums {
        assert_eq!(parts.iter().map(|(r, _)| r.len()).sum::<usize>(), len);
        for (range, values) in parts {
            let expected: Vec<f32> = range.map(|i| sum(3, i)).collect();
            assert!(values == expected);
        }
    }
}

/// One rank's work fails: its error stays its own, and the others hear of it.
#[test]
fn work_that_fails_beside_sums_stops_all() {
    let results = ranks(3, QUICK, |c| {
        let rank = c.rank();
        summed_beside(c, |send| {
            send(0..1, vec![1.0]);
            if rank == 1 {
                return Err(failed("no more"));
            }
            send(1..2, vec![1.0]);
            Ok(())
        })
    });
    let told = texts(results);
    assert_eq!(told[1], failed("no more").to_string());
    for other in [0, 2] {
        assert!(
            told[other].contains("rank 1") && told[other].contains("no more"),
            "{told:?}"
        );
    }
}

#[test]
fn all_calls_one_after_another_20_times() {
    for _ in 0..20 {
        let sums = all(5, |c| {
            let (rank, n) = (c.rank(), c.world_size());
            let mut doubles = [1e-17 * rank as f64, 1.0, rank as f64];
            c.all_reduce_f64(&mut doubles)?;
            assert_eq!(doubles, [1e-16, 5.0, 10.0]);
            for root in 0..n {
                for len in [0, 1, 700_001] {
                    let mut bytes = vec![rank as u8; len];
                    c.broadcast(&mut bytes, root)?;
                    assert!(bytes.iter().all(|&b| b == root as u8), "root {root}");
                }
            }
            c.barrier()?;
            let sums = EvalSums {
                mlm_loss: 0.5,
                mlm_correct: rank as u64,
                masked_tokens: 3,
                nsp_loss: 2.0,
                nsp_correct: 1,
                labelled_rows: 7,
                rows: 11,
                tokens: 1 << 40,
            };
            reduce_sums(c, sums)
        });
        let expected = EvalSums {
            mlm_loss: 2.5,
            mlm_correct: 10,
            masked_tokens: 15,
            nsp_loss: 10.0,
            nsp_correct: 5,
            labelled_rows: 35,
            rows: 55,
            tokens: 5 << 40,
        };
        assert_eq!(sums, [expected; 5]);
    }
}

#[test]
fn a_barrier_lets_nobody_through_before_the_last() {
    let came = std::sync::atomic::AtomicUsize::new(0);
    all(3, |c| {
        std::thread::sleep(Duration::from_millis(100 * c.rank() as u64));
        came.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        c.barrier()?;
        assert_eq!(came.load(std::sync::atomic::Ordering::SeqCst), 3);
        Ok(())
    });
}

#[test]
fn parameters_that_differ_are_noticed() {
    let one = |bad: usize| {
        ranks(3, QUICK, move |c| {
            let mut parameters = vec![1.0f32; 9];
            if c.rank() == bad {
                parameters[8] = -1.0;
            }
            same(c, "parameters", fingerprint(&parameters))
        })
    };
    assert!(one(9).into_iter().all(|r| r.is_ok()));
    for text in texts(one(1)) {
        assert!(
            text.contains("rank 1 has other parameters than rank 0"),
            "{text}"
        );
    }
    assert_ne!(fingerprint(&[0.0]), fingerprint(&[0.0, 0.0]));
    assert_ne!(fingerprint(&[0.0, 1.0]), fingerprint(&[1.0, 0.0]));
}

#[test]
fn ranks_that_call_different_things_are_told_so() {
    let results = ranks(3, QUICK, |c| match c.rank() {
        0 => c.all_reduce(&mut [1.0; 10]),
        1 => c.all_reduce(&mut [1.0; 12]),
        _ => c.barrier(),
    });
    for text in texts(results) {
        let expected =
            "rank 0 makes call 2, a sum of 10 numbers, rank 1 call 2, a sum of 12 numbers";
        assert_eq!(text, expected);
    }
    let results = ranks(2, QUICK, |c| {
        if c.rank() == 0 {
            c.broadcast(&mut [1; 4], 0)
        } else {
            c.all_reduce(&mut [1.0])
        }
    });
    for text in texts(results) {
        assert!(
            text.contains("4 bytes of rank 0") && text.contains("a sum of 1 number"),
            "{text}"
        );
    }
}
