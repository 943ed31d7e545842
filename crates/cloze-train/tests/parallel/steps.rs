//! A step does not depend on how many processes there are.

use cloze_shard::Dataset;
use cloze_shard::manifest::Masking;
use cloze_shard::masking::MaskingRule;
use cloze_train::batch::{Counts, MaskedBatch};
use cloze_train::feed::{Feed, Position};
use cloze_train::parallel::Share;

use super::support;

/// Ten steps from the beginning, each done by as many processes as `worlds` says; every process has a feed of its own.
fn steps(data: &Dataset, worlds: &[usize]) -> Vec<(Vec<MaskedBatch>, Counts, Position)> {
    let mut position = Position::default();
    let mut done = Vec::new();
    for &world_size in worlds {
        let mut parts = Vec::new();
        let mut after = Vec::new();
        let mut whole = Vec::new();
        for rank in 0..world_size {
            let mut feed = feed_of(data);
            feed.seek(position);
            let part = feed.next_share(rank, world_size).unwrap().unwrap();
            after.push(feed.position());
            let mut feed = feed_of(data);
            feed.seek(position);
            let batch = feed.next_batch().unwrap().unwrap();
            assert_eq!(
                part,
                Share::of(&batch, rank, world_size),
                "masked alone or with all"
            );
            whole.push((part.counts, part.tokens, part.rows));
            parts.push(part.batch);
        }
        assert!(whole.iter().all(|w| *w == whole[0]) && after.iter().all(|p| *p == after[0]));
        position = after[0];
        done.push((parts, whole[0].0, position));
    }
    done
}

fn feed_of(data: &Dataset) -> Feed<'_> {
    let split = data.split("train").unwrap();
    Feed::new(data, split, MaskingRule::default(), 5, 64, support::VOCAB).unwrap()
}

/// Rows of a batch: ids, labels of masked tokens, label.
fn rows(parts: &[MaskedBatch]) -> Vec<String> {
    let mut rows = Vec::new();
    for part in parts {
        for (row, (start, len)) in part.spans().enumerate() {
            let ids = &part.input_ids[start..start + len];
            let masks = part.masked_positions.iter().zip(&part.masked_labels);
            let masks: Vec<(usize, u32)> = masks
                .filter(|(p, _)| (start..start + len).contains(&(**p as usize)))
                .map(|(&p, &label)| (p as usize - start, label))
                .collect();
            rows.push(format!(
                "{ids:?} {masks:?} {:?}",
                part.next_sentence_labels[row]
            ));
        }
    }
    rows
}

/// Over the end of an epoch, whose last batch is short: it may have fewer rows than there are processes.
#[test]
fn a_step_is_the_same_for_any_number_of_processes() {
    for masking in [
        Masking::Dynamic,
        Masking::Static {
            rule: MaskingRule::default(),
        },
    ] {
        let folder = tempfile::tempdir().unwrap();
        let data = support::dataset(folder.path(), 37, 4, masking);
        let data = Dataset::open(&data).unwrap();
        let alone = steps(&data, &[1; 10]);
        assert!(alone.iter().any(|(_, _, p)| p.epoch > 0), "an epoch ends");
        let mut empty = 0;
        for worlds in [
            [2; 10],
            [3; 10],
            [4; 10],
            [9; 10],
            [1, 4, 2, 3, 1, 3, 9, 2, 4, 1],
        ] {
            let found = steps(&data, &worlds);
            for ((parts, counts, position), (whole, all, at)) in found.iter().zip(&alone) {
                assert_eq!(rows(parts), rows(whole));
                assert_eq!((counts, position), (all, at));
                empty += parts.iter().filter(|p| p.rows() == 0).count();
            }
        }
        assert!(empty > 0, "a process has nothing to do");
    }
}
