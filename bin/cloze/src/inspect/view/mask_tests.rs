//! What the screen shows of masks and ids.

use cloze_prep::{MaskUnitKind, MaskingKind};
use cloze_shard::masking::{MaskKey, MaskUnit, Masker};
use cloze_shard::random::Stage;

use super::tests::{press, text, viewer};
use super::*;
use crate::inspect::testing;

/// What is predicted of the row on the screen, by its braces.
fn braces(shown: &str) -> Vec<String> {
    let body = shown.lines().skip(3).collect::<Vec<_>>().join(" ");
    let body = body.replace("\\u{1b}", "ESC");
    body.split('{')
        .skip(1)
        .map(|p| p.split('}').next().unwrap().to_owned())
        .collect()
}

/// The masks that the trainer draws, written as the screen has them.
fn expected(opened: &Opened, rule: MaskingRule, row: u64, seed: u64, epoch: u32) -> Vec<String> {
    let masker = Masker::of(rule, &opened.vocabulary).unwrap();
    let mut ids = opened.split("train").unwrap().row(row).input_ids.to_vec();
    let (mut positions, mut labels) = (Vec::new(), Vec::new());
    masker.mask(
        MaskKey::new(seed, Stage::DynamicMask, epoch),
        row,
        &mut ids,
        &mut positions,
        &mut labels,
    );
    let name = |id: u32| {
        opened
            .vocabulary
            .token(id)
            .unwrap()
            .replace('\u{1b}', "ESC")
    };
    let bare = |id: u32| name(id).trim_start_matches("##").to_owned();
    let each = positions.iter().zip(labels);
    each.map(|(&position, label)| match ids[usize::from(position)] {
        4 => bare(label),
        seen if seen == label => format!("{}=", bare(label)),
        seen => format!("{}→{}", bare(label), name(seen)),
    })
    .collect()
}

#[test]
fn masks_are_those_of_the_trainer() {
    let made = testing::dataset(|_| {});
    let opened = made.opened();
    let rule = MaskingRule {
        rate: 0.4,
        ..MaskingRule::default()
    };
    let mut v = Viewer::new(&opened, "train", rule, 6).unwrap();
    assert!(braces(&text(&mut v)).is_empty());
    press(&mut v, "g7⏎m");
    assert_eq!(braces(&text(&mut v)), expected(&opened, rule, 7, 6, 0));
    press(&mut v, "+=-+>>>><");
    assert_eq!((v.preview.seed, v.preview.epoch), (9, 2));
    let shown = text(&mut v);
    assert_eq!(braces(&shown), expected(&opened, rule, 7, 9, 2));
    assert_ne!(braces(&shown), expected(&opened, rule, 7, 6, 0));
    assert!(
        shown.contains("seed 9 · epoch 2 · 40.0 % of the tokens"),
        "{shown}"
    );
    for unit in [MaskUnit::Word, MaskUnit::SPAN, MaskUnit::Token] {
        press(&mut v, "u");
        let rule = MaskingRule { unit, ..rule };
        assert_eq!(braces(&text(&mut v)), expected(&opened, rule, 7, 9, 2));
    }
    for _ in 0..30 {
        press(&mut v, "→");
        assert_eq!(braces(&text(&mut v)), expected(&opened, rule, v.row, 9, 2));
    }
    press(&mut v, "m");
    assert!(braces(&text(&mut v)).is_empty());
    press(&mut v, "<<<<<<<<<<<<---");
    assert_eq!((v.preview.seed, v.preview.epoch), (0, 0));
}

#[test]
fn stored_masks_are_shown_as_they_are() {
    let made = testing::dataset(|c| {
        c.masking = MaskingKind::Static;
        c.mask_unit = MaskUnitKind::Word;
        c.mask_rate = 0.3;
    });
    let opened = made.opened();
    let mut v = viewer(&opened);
    press(&mut v, "g4⏎");
    let plain = text(&mut v);
    assert!(
        braces(&plain).is_empty() && !plain.contains("[MASK]"),
        "{plain}"
    );
    press(&mut v, "m");
    let shown = text(&mut v);
    let row = opened.split("train").unwrap().row(4);
    assert_eq!(braces(&shown).len(), row.masks.unwrap().positions.len());
    assert!(
        shown.contains("as stored: 30.0 % of the tokens, by words"),
        "{shown}"
    );
    press(&mut v, "++>");
    assert_eq!(braces(&text(&mut v)), braces(&shown));
}

#[test]
fn ids_stand_beside_their_tokens() {
    let made = testing::dataset(|_| {});
    let opened = made.opened();
    let mut v = viewer(&opened);
    press(&mut v, "i");
    let shown = text(&mut v).replace("\n  ", " ");
    let row = opened.split("train").unwrap().row(0);
    let tokens: Vec<String> = row
        .segment_a()
        .iter()
        .map(|id| format!("{}·{id}", opened.token(id)))
        .collect();
    assert!(shown.contains(&tokens.join(" ")), "{shown}");
}
