//! The viewer by scripted keys, on a terminal in memory.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::style::Modifier;

use super::keys::Mode;
use super::*;
use crate::inspect::sample;
use crate::inspect::testing::{self, Made};

pub fn viewer(opened: &Opened) -> Viewer<'_> {
    Viewer::new(opened, "train", MaskingRule::default(), 0).unwrap()
}

fn key(code: KeyCode) -> KeyEvent {
    KeyEvent::new(code, KeyModifiers::NONE)
}

/// Presses the keys that a text stands for, where `⏎` is Enter, `⎋` Esc, `→←↓` arrows, and lets searches end.
pub fn press(viewer: &mut Viewer<'_>, keys: &str) {
    for c in keys.chars() {
        let code = match c {
            '⏎' => KeyCode::Enter,
            '⎋' => KeyCode::Esc,
            '→' => KeyCode::Right,
            '←' => KeyCode::Left,
            '↓' => KeyCode::Down,
            '⌫' => KeyCode::Backspace,
            c => KeyCode::Char(c),
        };
        assert_eq!(viewer.press(key(code)), Flow::On, "{c}");
        while viewer.is_looking() {
            viewer.look_on();
        }
    }
}

fn drawn(viewer: &mut Viewer<'_>, columns: u16, rows: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    terminal.draw(|frame| draw::draw(viewer, frame)).unwrap();
    terminal
}

fn screen(viewer: &mut Viewer<'_>, columns: u16, rows: u16) -> Vec<String> {
    let terminal = drawn(viewer, columns, rows);
    let buffer = terminal.backend().buffer();
    (0..rows)
        .map(|y| {
            (0..columns)
                .map(|x| buffer[(x, y)].symbol())
                .collect::<String>()
        })
        .map(|line| line.trim_end().to_owned())
        .collect()
}

pub fn text(viewer: &mut Viewer<'_>) -> String {
    screen(viewer, 100, 34).join("\n")
}

/// The words of row `row`, both segments, without masks.
fn words(opened: &Opened, row: u64) -> String {
    let row = opened.split("train").unwrap().row(row);
    let [a, b] = [row.segment_a(), row.segment_b()].map(|s| opened.vocabulary.decode(s.iter()));
    format!("{a} | {b}")
}

#[test]
fn rows_are_paged_through_from_end_to_end() {
    let made = testing::dataset(|_| {});
    let opened = made.opened();
    let mut v = viewer(&opened);
    let last = v.rows() - 1;
    press(&mut v, "←");
    assert_eq!(
        (v.row, v.message.as_deref()),
        (0, Some("this is the first row"))
    );
    press(&mut v, "→ l");
    assert_eq!((v.row, v.message.as_deref()), (3, None));
    press(&mut v, "h⌫");
    assert_eq!(v.row, 1);
    press(&mut v, "G");
    assert_eq!(v.row, last);
    press(&mut v, "→");
    assert_eq!(
        (v.row, v.message.as_deref()),
        (last, Some("this is the last row"))
    );
    let _ = v.press(key(KeyCode::Home));
    assert_eq!(v.row, 0);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..=last {
        press(&mut v, "r");
        seen.insert(v.row);
    }
    assert_eq!(seen.len() as u64, last + 1, "each once");
}

#[test]
fn a_row_is_shown_with_where_it_comes_from() {
    let made = testing::dataset(|_| {});
    let opened = made.opened();
    let mut v = viewer(&opened);
    for _ in 0..20 {
        press(&mut v, "→");
        let row = opened.split("train").unwrap().row(v.row);
        let shown = text(&mut v);
        let (head, body): (Vec<&str>, Vec<&str>) = (
            shown.lines().take(2).collect(),
            shown.lines().skip(2).collect(),
        );
        assert!(
            head[0].starts_with(&format!(" train · row {} of ", v.row)),
            "{shown}"
        );
        let label = match row.next_sentence_label {
            Some(cloze_shard::NextSentenceLabel::IsNext) => "B follows A (0)",
            Some(_) => "B is random (1)",
            None => "one segment, no label",
        };
        assert!(
            head[1].starts_with(&format!(
                "{label} · {} tokens · train/part-00000.arrow",
                row.len()
            )),
            "{shown}"
        );
        let decode = |ids: cloze_shard::Ids<'_>| opened.vocabulary.decode(ids.iter());
        for (name, ids, doc, sentence) in [
            ("A", row.segment_a(), row.doc_a, row.sentence_a),
            ("B", row.segment_b(), row.doc_b, row.sentence_b),
        ] {
            let Some(at) = body.iter().position(|l| l.starts_with(&format!("{name} "))) else {
                assert!(name == "B" && !row.has_b(), "{shown}");
                continue;
            };
            let record = &opened.documents.find(doc)[0];
            let id = record.id.as_ref().unwrap();
            assert!(body[at].contains(&format!("id {id:?}")), "{shown}");
            assert!(
                body[at].ends_with(&format!("sentence {sentence} · doc {doc:016x}"))
                    || body[at + 1].contains("doc"),
                "{shown}"
            );
            assert!(shown.replace("\n  ", " ").contains(&decode(ids)), "{shown}");
        }
    }
}

#[test]
fn words_are_found_forward_and_back() {
    let made = testing::dataset(|_| {});
    let opened = made.opened();
    let mut v = viewer(&opened);
    // A word of two pieces, after another word; case does not matter.
    let wanted = "garden walks";
    let rows: Vec<u64> = (0..v.rows())
        .filter(|&r| words(&opened, r).contains(wanted))
        .collect();
    assert!(rows.len() > 3, "{rows:?}");
    press(&mut v, "/GARDEN walks⏎");
    assert_eq!(v.row, rows[0]);
    for &row in &rows[1..] {
        press(&mut v, "n");
        assert_eq!((v.row, v.message.as_deref()), (row, None));
    }
    press(&mut v, "n");
    assert_eq!(
        (v.row, v.message.as_deref()),
        (rows[0], Some("went on from the first row"))
    );
    press(&mut v, "N");
    assert_eq!(
        (v.row, v.message.as_deref()),
        (rows[rows.len() - 1], Some("went on from the last row"))
    );
    press(&mut v, "N");
    assert_eq!((v.row, v.message.as_deref()), (rows[rows.len() - 2], None));

    let marked = |v: &mut Viewer<'_>| {
        let terminal = drawn(v, 200, 20);
        let buffer = terminal.backend().buffer().clone();
        let cells = buffer.content().iter().skip(200);
        cells
            .filter(|c| c.modifier.contains(Modifier::REVERSED))
            .map(|c| c.symbol())
            .collect::<String>()
    };
    assert!(marked(&mut v).starts_with("gardenwalks"));
    press(&mut v, "⎋");
    assert_eq!(marked(&mut v), "");
    press(&mut v, "n");
    assert!(
        v.message
            .as_deref()
            .unwrap()
            .contains("nothing to look for")
    );

    let here = v.row;
    press(&mut v, "/never⏎");
    assert_eq!(
        (v.row, v.message.as_deref()),
        (here, Some("\"never\" is in no row of train"))
    );
    // From the last row, the first is the next.
    press(&mut v, "/river⏎G");
    let first = (0..v.rows()).find(|&r| words(&opened, r).contains("river"));
    press(&mut v, "n");
    assert_eq!(
        (Some(v.row), v.message.as_deref()),
        (first, Some("went on from the first row"))
    );
    // Marks stand apart from words, however they are typed.
    let without = (0..v.rows()).find(|&r| !words(&opened, r).contains("walks ."));
    press(&mut v, &format!("g{}⏎/walks.⏎", without.unwrap()));
    assert!(words(&opened, v.row).contains("walks ."));
}

#[test]
fn a_search_can_be_stopped() {
    let made = testing::dataset(|_| {});
    let opened = made.opened();
    let mut v = viewer(&opened);
    for c in "/never".chars() {
        let _ = v.press(key(KeyCode::Char(c)));
    }
    let _ = v.press(key(KeyCode::Enter));
    assert!(v.is_looking() && text(&mut v).contains("looking for \"never\" … 0.0 %"));
    let _ = v.press(key(KeyCode::Esc));
    assert!(!v.is_looking() && text(&mut v).contains("the search was stopped"));
    let _ = v.press(key(KeyCode::Char('n')));
    let _ = v.press(key(KeyCode::Right));
    assert!(!v.is_looking() && v.row == 1, "other keys do what they do");
}

#[test]
fn rows_and_documents_are_jumped_to() {
    let made = testing::dataset(|_| {});
    let opened = made.opened();
    let mut v = viewer(&opened);
    press(&mut v, "g12⏎");
    assert_eq!(v.row, 12);
    press(&mut v, "g1,0⌫1⏎");
    assert_eq!(v.row, 11);
    for wrong in ["9999999", "-1", "x", "99999999999999999999999"] {
        press(&mut v, &format!("g{wrong}⏎"));
        assert_eq!(v.row, 11);
        assert!(text(&mut v).contains("rows are 0 to "), "{wrong}");
    }
    press(&mut v, "g5⎋");
    assert_eq!((v.row, &v.mode), (11, &Mode::Rows));

    let doc = opened
        .documents
        .get(opened.documents.find_id("d40")[0])
        .unwrap()
        .doc;
    let split = opened.split("train").unwrap();
    let rows: Vec<u64> = (0..)
        .zip(split.iter())
        .filter(|(_, r)| r.doc_a == doc || r.doc_b == doc)
        .map(|(i, _)| i)
        .collect();
    for name in ["d40".to_owned(), "#40".to_owned(), format!("{doc:016x}")] {
        press(&mut v, &format!("g0⏎d{name}⏎"));
        assert_eq!(v.row, rows[0], "{name}");
        press(&mut v, "n");
        assert_eq!(v.row, rows[1]);
    }
    press(&mut v, "dd4000⏎");
    assert_eq!(v.row, rows[1]);
    assert!(text(&mut v).contains("no document \"d4000\""));
}

#[test]
fn splits_are_switched() {
    let made = testing::dataset(|_| {});
    let opened = made.opened();
    let mut v = viewer(&opened);
    press(&mut v, "g5⏎s");
    assert_eq!((v.splits[v.split].0, v.row), ("validation", 0));
    let rows = opened.split("validation").unwrap().rows();
    assert!(text(&mut v).starts_with(&format!(" validation · row 0 of {rows} ")));
    press(&mut v, "s");
    assert_eq!(v.splits[v.split].0, "train");
}

#[test]
fn help_is_shown_and_left() {
    let made = testing::dataset(|_| {});
    let opened = made.opened();
    let mut v = viewer(&opened);
    press(&mut v, "?");
    let shown = text(&mut v);
    for expected in [
        "next row",
        "look for words",
        "masks of another seed",
        "any other key",
    ] {
        assert!(shown.contains(expected), "{shown}");
    }
    press(&mut v, "q");
    assert_eq!(v.mode, Mode::Rows, "a key that quits elsewhere");
    // On a small screen it scrolls.
    press(&mut v, "?");
    let top = screen(&mut v, 40, 10);
    press(&mut v, "↓↓");
    let lower = screen(&mut v, 40, 10);
    assert_eq!((v.above, &v.mode), (2, &Mode::Help));
    assert_eq!(lower[3], top[5]);
}

/// On screens of all sizes nothing panics, nothing is lost on the way down, and no line is too long.
#[test]
fn every_size_will_do() {
    let made = testing::dataset(|_| {});
    let opened = made.opened();
    let mut v = viewer(&opened);
    press(&mut v, "m/walking⏎");
    for columns in [1, 9, 10, 11, 17, 60, 100, 300] {
        for rows in [1, 3, 4, 5, 7, 20, 34] {
            for keys in ["", "?", "?/long words that do not fit here", "⎋"] {
                press(&mut v, keys);
                let lines = screen(&mut v, columns, rows);
                assert_eq!(lines.len(), usize::from(rows));
            }
        }
    }
    press(&mut v, "⎋⎋m");
    let whole = words(&opened, v.row).replace([' ', '|'], "");
    let mut seen = Vec::new();
    let _ = screen(&mut v, 17, 6);
    for above in 0..=v.most_above {
        assert_eq!(v.above, above);
        seen.push(screen(&mut v, 17, 6)[3].clone());
        press(&mut v, "j");
    }
    seen.extend(screen(&mut v, 17, 6)[4..5].iter().cloned());
    let seen = seen.concat().replace(' ', "");
    assert!(whole.len() > 20 && !seen.contains('…'));
    for part in [&whole[..10], &whole[whole.len() - 10..]] {
        assert!(seen.contains(part), "{part} {seen}");
    }
}

#[test]
fn strangers_characters_do_not_reach_the_screen() {
    let made = testing::dataset(|_| {});
    let opened = made.opened();
    let mut v = viewer(&opened);
    let evil = opened.vocabulary.len() as u32 - 1;
    assert_eq!(v.words.get(evil).text, "evil\\u{1b}[31m");
    press(&mut v, "/\u{202e}x⏎");
    assert!(text(&mut v).contains("\"\\u{202e}x\" is in no row"));
    for key in ['\u{1b}', '\u{9b}', '\n'] {
        press(&mut v, &format!("/a{key}b"));
        assert_eq!(v.mode, Mode::Asking(super::keys::Ask::Text, "ab".into()));
        press(&mut v, "⎋");
    }
}

#[test]
fn keys_that_leave() {
    let made: Made = testing::dataset(|_| {});
    let opened = made.opened();
    let mut v = viewer(&opened);
    let control = |c| KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL);
    assert_eq!(v.press(key(KeyCode::Char('q'))), Flow::Quit);
    for before in ["", "/x", "?", "g"] {
        press(&mut v, before);
        assert_eq!(v.press(control('c')), Flow::Quit, "{before}");
        assert_eq!(v.press(control('z')), Flow::Suspend, "{before}");
        press(&mut v, "⎋");
    }
    press(&mut v, "/xy");
    assert_eq!(v.press(control('u')), Flow::On);
    assert_eq!(v.mode, Mode::Asking(super::keys::Ask::Text, String::new()));
    press(&mut v, "⌫");
    assert_eq!(v.mode, Mode::Rows);
}

#[test]
fn without_colours_there_are_none() {
    let made = testing::dataset(|_| {});
    let opened = made.opened();
    let mut v = viewer(&opened);
    let coloured = |v: &mut Viewer<'_>| {
        let terminal = drawn(v, 100, 34);
        let cells = terminal.backend().buffer().content().to_vec();
        cells
            .iter()
            .filter(|c| c.fg != ratatui::style::Color::Reset)
            .count()
    };
    press(&mut v, "m");
    assert!(coloured(&mut v) > 20);
    v.colours = false;
    assert_eq!(coloured(&mut v), 0);
}

/// Lines fill their width, and hold what there is in order.
#[test]
fn lines_are_as_wide_as_they_may_be() {
    let made = testing::dataset(|_| {});
    let opened = made.opened();
    let mut v = viewer(&opened);
    for ids in [false, true] {
        v.show_ids = ids;
        for row in 0..5 {
            let decoded = sample::decode(&opened, v.here().unwrap(), row, None);
            let whole = v.row_lines(&decoded, 10_000);
            let letters = |lines: &[ratatui::text::Line<'_>]| -> String {
                lines
                    .iter()
                    .flat_map(|l| &l.spans)
                    .flat_map(|s| s.content.chars())
                    .filter(|&c| c != ' ')
                    .collect()
            };
            for width in [3, 8, 13, 20, 33, 60] {
                let lines = v.row_lines(&decoded, width);
                assert_eq!(letters(&lines), letters(&whole));
                assert!(
                    lines.iter().all(|line| line.width() <= width),
                    "{width}: {lines:?}"
                );
                // No word that would have fitted is put off.
                for pair in lines.windows(2) {
                    let next = pair[1].to_string();
                    let word = next.trim_start().split(' ').next().unwrap_or_default();
                    let same = pair[0].width() > 0
                        && next.starts_with("  ") == pair[0].to_string().starts_with("  ");
                    let room = width - pair[0].width().min(width);
                    assert!(
                        !same || word.is_empty() || word.chars().count() + 1 > room,
                        "{pair:?}"
                    );
                }
            }
        }
    }
}
