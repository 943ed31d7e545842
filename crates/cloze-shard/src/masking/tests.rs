//! Tokens: the definition, and the statistics of the draws.

use super::*;
use proptest::prelude::*;

const SPECIAL: SpecialTokens = SpecialTokens {
    pad: 0,
    unk: 100,
    cls: 101,
    sep: 102,
    mask: 103,
};

fn masker(rule: MaskingRule) -> Masker {
    Masker::new(rule, &SPECIAL, 1_000).unwrap()
}

/// Straight from the definition: Floyd's sampling by numbers in a list.
fn oracle(
    m: &Masker,
    seed: u64,
    epoch: u32,
    row: u64,
    ids: &[u32],
) -> (Vec<u32>, Vec<u16>, Vec<u32>) {
    let key = Key::new(seed, Stage::DynamicMask);
    let ordinary: Vec<u32> = (0..1_000)
        .filter(|id| ![0, 100, 101, 102, 103].contains(id))
        .collect();
    let maskable: Vec<usize> = (0..ids.len())
        .filter(|&p| ![0, 100, 101, 102, 103].contains(&ids[p]))
        .collect();
    let n = maskable.len();
    let k = ((m.rule.rate * n as f64).round() as usize).max(1).min(n);
    let mut order: Vec<usize> = Vec::new();
    for t in 0..k {
        let among = n - k + t + 1;
        let share = f64::from(key.block(row, epoch, t as u32)[0]) / 4_294_967_296.0;
        let p = maskable[(share * among as f64) as usize];
        let last = maskable[among - 1];
        order.push(if order.contains(&p) { last } else { p });
    }
    order.sort();
    let mut masked = ids.to_vec();
    for (i, &p) in order.iter().enumerate() {
        let words = key.block(row, epoch, i as u32);
        let share = f64::from(words[1]) / 4_294_967_296.0;
        if share < m.rule.mask_share {
            masked[p] = 103;
        } else if share < m.rule.mask_share + m.rule.random_share {
            masked[p] =
                ordinary[(f64::from(words[2]) / 4_294_967_296.0 * ordinary.len() as f64) as usize];
        }
    }
    (
        masked,
        order.iter().map(|&p| p as u16).collect(),
        order.iter().map(|&p| ids[p]).collect(),
    )
}

fn rows() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(prop_oneof![4 => 0u32..1_000, 1 => 100u32..104], 0..600)
}

proptest! {
    #[test]
    fn agrees_with_the_definition(ids in rows(), seed: u64, epoch: u32, row: u64, rate in 0.01f64..1.0) {
        let m = masker(MaskingRule { rate, ..MaskingRule::default() });
        let (mut masked, mut positions, mut labels) = (ids.clone(), vec![], vec![]);
        m.mask(MaskKey::new(seed, Stage::DynamicMask, epoch), row, &mut masked, &mut positions, &mut labels);
        prop_assert_eq!((masked, positions, labels), oracle(&m, seed, epoch, row, &ids));
    }

    #[test]
    fn never_touches_or_makes_a_special_token(ids in rows(), seed: u64) {
        let m = masker(MaskingRule { rate: 1.0, mask_share: 0.0, random_share: 1.0, ..MaskingRule::default() });
        let (mut masked, mut positions, mut labels) = (ids.clone(), vec![], vec![]);
        m.mask(MaskKey::new(seed, Stage::DynamicMask, 0), 0, &mut masked, &mut positions, &mut labels);
        for (before, after) in ids.iter().zip(&masked) {
            if m.is_special(*before) {
                prop_assert_eq!(before, after);
            } else {
                prop_assert!(!m.is_special(*after) && *after < 1_000);
            }
        }
    }
}

/// Shares of a million draws lie within 4 standard errors of 80/10/10, each position is chosen
/// equally often, and replacements are uniform.
#[test]
fn shares_are_as_asked() {
    let m = masker(MaskingRule::default());
    let key = MaskKey::new(11, Stage::DynamicMask, 3);
    let ids: Vec<u32> = (0..100).map(|i| 200 + i).collect();
    let (mut to_mask, mut kept, mut total) = (0f64, 0f64, 0f64);
    let mut per_position = [0f64; 100];
    for row in 0..20_000 {
        let (mut masked, mut positions, mut labels) = (ids.clone(), vec![], vec![]);
        m.mask(key, row, &mut masked, &mut positions, &mut labels);
        assert_eq!(positions.len(), 15);
        for &p in &positions {
            total += 1.0;
            per_position[usize::from(p)] += 1.0;
            let now = masked[usize::from(p)];
            to_mask += f64::from(u8::from(now == 103));
            kept += f64::from(u8::from(now == ids[usize::from(p)]));
        }
    }
    let close = |seen: f64, p: f64| (seen / total - p).abs() < 4.0 * (p * (1.0 - p) / total).sqrt();
    assert!(close(to_mask, 0.8), "{}", to_mask / total);
    assert!(close(kept, 0.1 + 0.1 / 995.0), "{}", kept / total);
    let expected = total / 100.0;
    // Without replacement within a row: the variance of a count is n·p·(1-p) for n rows.
    let z = |c: f64| (c - expected) / (20_000.0f64 * 0.15 * 0.85).sqrt();
    assert!(
        per_position.iter().all(|&c| z(c).abs() < 4.5),
        "{per_position:?}"
    );
}

/// Of a few tokens, any two are predicted as often as any other two: within 4.5 standard errors of 20,000 rows.
#[test]
fn all_that_can_be_chosen_together_is_as_likely() {
    let m = masker(MaskingRule {
        rate: 0.4,
        ..MaskingRule::default()
    });
    let key = MaskKey::new(5, Stage::DynamicMask, 1);
    let mut seen = std::collections::BTreeMap::new();
    for row in 0..20_000 {
        let (mut ids, mut positions, mut labels) =
            ([101, 7, 8, 102, 9, 10, 11, 102], vec![], vec![]);
        m.mask(key, row, &mut ids, &mut positions, &mut labels);
        *seen.entry(positions).or_insert(0f64) += 1.0;
    }
    assert_eq!(seen.len(), 10);
    let z = |count: &f64| (count - 2_000.0) / (20_000.0f64 * 0.1 * 0.9).sqrt();
    assert!(seen.values().all(|count| z(count).abs() < 4.5), "{seen:?}");
}

#[test]
fn refuses_what_cannot_be() {
    for rate in [0.0, -0.1, 1.1, f64::NAN] {
        assert!(
            Masker::new(
                MaskingRule {
                    rate,
                    ..MaskingRule::default()
                },
                &SPECIAL,
                1_000
            )
            .is_err()
        );
    }
    let rule = MaskingRule {
        mask_share: 0.9,
        random_share: 0.2,
        rate: 0.15,
        ..MaskingRule::default()
    };
    assert!(Masker::new(rule, &SPECIAL, 1_000).is_err());
    assert!(Masker::new(MaskingRule::default(), &SPECIAL, 5).is_err());
}
