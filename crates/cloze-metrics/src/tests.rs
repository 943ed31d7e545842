#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use super::*;

fn get(metrics: &Metrics, name: &str) -> Option<f64> {
    metrics.iter().find(|m| m.0 == name).unwrap().1
}

fn near(metrics: &Metrics, name: &str, expected: f64) {
    let found = get(metrics, name).unwrap();
    assert!(
        (found - expected).abs() < 1e-12,
        "{name}: {found} {expected}"
    );
}

#[test]
fn classes_by_hand() {
    // Truth 0: right, right, guessed 1. Truth 1: right, guessed 2. Truth 2: guessed 0. Class 3 does not occur.
    let pairs = [(0, 0), (0, 0), (0, 1), (1, 1), (1, 2), (2, 0)];
    let m = classes(&pairs, 4);
    near(&m, "accuracy", 0.5);
    near(&m, "f1_micro", 0.5);
    // F1: 4/6, 2/4, 0.
    near(&m, "f1_macro", (4.0 / 6.0 + 0.5) / 3.0);
    // c = 3, s = 6; t = 3, 2, 1; p = 3, 2, 1: (18 − 14) / (36 − 14).
    near(&m, "mcc", 4.0 / 22.0);
    // All guesses the same.
    let m = classes(&[(0, 0), (1, 0)], 2);
    near(&m, "mcc", 0.0);
    near(&m, "f1_macro", (2.0 / 3.0) / 2.0);
    // Two classes: (TP TN − FP FN) / √((TP+FP)(TP+FN)(TN+FP)(TN+FN)) with 3, 2, 1, 4.
    let pairs = [
        vec![(1, 1); 3],
        vec![(0, 0); 2],
        vec![(0, 1); 1],
        vec![(1, 0); 4],
    ]
    .concat();
    let expected = (3.0 * 2.0 - 1.0 * 4.0) / (4.0f64 * 7.0 * 3.0 * 6.0).sqrt();
    near(&classes(&pairs, 2), "mcc", expected);
    assert_eq!(get(&classes(&[], 2), "accuracy"), None);
}

#[test]
fn numbers_by_hand() {
    // Means 2.5 and 3: deviations −1.5 −.5 .5 1.5 and −2 −1 2 1; products 3 + .5 + 1 + 1.5, squares 5 and 10.
    let pairs = [(1.0, 1.0), (2.0, 2.0), (3.0, 5.0), (4.0, 4.0)];
    let m = numbers(&pairs);
    near(&m, "pearson", 6.0 / 50f64.sqrt());
    // Ranks 1 2 4 3: 1 − 6 · (1 + 1)/(4 · 15).
    near(&m, "spearman", 0.8);
    near(&m, "mse", 1.0);
    // Equal values share ranks: 1.5 1.5 3 against 1 2 3: deviations −.5 −.5 1, −1 0 1.
    let m = numbers(&[(5.0, 0.0), (5.0, 7.0), (6.0, 8.0)]);
    near(&m, "spearman", 1.5 / 3f64.sqrt());
    // 1 2.5 2.5 4 against 1 2 3 4: deviations −1.5 0 0 1.5, −1.5 −.5 .5 1.5.
    let m = numbers(&[(5.0, 0.0), (6.0, 7.0), (6.0, 8.0), (9.0, 9.0)]);
    near(&m, "spearman", 4.5 / (4.5f64 * 5.0).sqrt());
    let m = numbers(&[(1.0, 3.0), (2.0, 3.0)]);
    assert_eq!((get(&m, "spearman"), get(&m, "pearson")), (None, None));
    near(&m, "mse", 2.5);
    assert_eq!(get(&numbers(&[]), "mse"), None);
}

#[test]
fn sets_by_hand() {
    let truths: [&[u32]; 4] = [&[0, 1], &[1], &[], &[0]];
    let guesses = [vec![0], vec![1], vec![], vec![1]];
    let pairs: Vec<_> = truths.into_iter().zip(guesses).collect();
    let m = sets(&pairs, 3);
    // Right 2, truths 4, guesses 3.
    near(&m, "f1_micro", 4.0 / 7.0);
    // Label 0: 1 of 2 and 1; label 1: 1 of 2 and 2; label 2: nothing.
    near(&m, "f1_macro", (2.0 / 3.0 + 2.0 / 4.0) / 3.0);
    near(&m, "subset_accuracy", 0.5);
}

#[test]
fn entities_by_hand() {
    let find = |tags: &str| {
        let tags: Vec<&str> = tags.split(' ').collect();
        entities(&tags)
    };
    let e = |kind: &str, a, b| (kind.to_owned(), a, b);
    assert_eq!(find("B-X I-X O B-X"), [e("X", 0, 1), e("X", 3, 3)]);
    assert_eq!(
        find("I-X I-X B-X I-Y"),
        [e("X", 0, 1), e("X", 2, 2), e("Y", 3, 3)]
    );
    assert_eq!(
        find("O B-a-b I-a-b O I-a-b"),
        [e("a-b", 1, 2), e("a-b", 4, 4)]
    );
    assert!(find("O O").is_empty());
    let labels = ["O", "B-X", "I-X", "B-Y"].map(str::to_owned);
    assert!(is_iob2(&labels) && !is_iob2(&labels[..1]));
    assert!(!is_iob2(&["O".into(), "B-X".into(), "S-X".into()]));
    assert!(!is_iob2(&["O".into(), "B-X".into(), "B-".into()]));
    // Truth X0–1, Y3; guesses X0–1, X3: one of two right. The second sentence: X0 missed.
    let m = tags(
        &[vec![(1, 1), (2, 2), (0, 0), (3, 1)], vec![(1, 0)]],
        &labels,
    );
    near(&m, "entity_precision", 0.5);
    near(&m, "entity_recall", 1.0 / 3.0);
    near(&m, "entity_f1", 0.4);
    near(&m, "accuracy", 0.6);
    assert_eq!(main_metric(&m), "entity_f1");
    // The end of a sentence ends an entity.
    let m = tags(&[vec![(1, 1)], vec![(2, 2)]], &labels);
    near(&m, "entity_recall", 1.0);
    let plain = ["NOUN", "VERB"].map(str::to_owned);
    assert_eq!(main_metric(&tags(&[vec![(0, 1)]], &plain)), "accuracy");
}

#[test]
fn more_is_better_but_of_losses() {
    assert!(
        is_better("accuracy", Some(0.5), Some(0.4)) && !is_better("accuracy", Some(0.4), Some(0.4))
    );
    assert!(is_better("mse", Some(0.4), Some(0.5)) && is_better("loss", Some(0.4), Some(0.5)));
    assert!(is_better("pearson", Some(-1.0), None) && !is_better("mse", None, Some(1.0)));
}
