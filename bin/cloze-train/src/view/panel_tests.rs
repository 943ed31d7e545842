use cloze_train::eval::EvalReport;
use cloze_train::record::SkipRecord;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::super::screen;
use super::*;

fn trained(step: u64, mlm: f64) -> StepRecord {
    StepRecord {
        step,
        epoch: 3,
        loss: mlm + 0.6812,
        mlm_loss: mlm,
        nsp_loss: Some(0.6812),
        sop_loss: None,
        learning_rate: 9.5e-5,
        grad_norm: 1.234,
        tokens: step * 4_096,
        tokens_per_second: 12_345.0,
        data_wait_fraction: 0.031,
        step_seconds: 0.5,
        seconds_left: 0.0,
    }
}

fn validated(step: u64, mlm: f64) -> ValidationRecord {
    ValidationRecord {
        datasets: Vec::new(),
        step,
        report: EvalReport {
            mlm_loss: Some(mlm),
            mlm_accuracy: Some(0.123),
            perplexity: Some(mlm.exp()),
            nsp_loss: Some(0.6543),
            nsp_accuracy: Some(0.567),
            sop_loss: None,
            sop_accuracy: None,
            rows: 100,
            tokens: 6_000,
            masked_tokens: 900,
            labelled_rows: 100,
        },
    }
}

/// 12,340 of 20,000 steps, resumed after 10,000.
fn panel() -> Panel {
    let before = [
        Record::Validation(validated(0, 10.4)),
        Record::Train(trained(1, 10.3)),
        Record::Train(trained(5_000, 7.5)),
        Record::Skipped(SkipRecord {
            step: 9_000,
            skipped: 2,
            skipped_total: 2,
        }),
        Record::Validation(validated(10_000, 6.25)),
    ];
    let mut panel = Panel::new(20_000, 10_000, before.into_iter());
    for step in (10_010..=12_340).step_by(10) {
        panel.step(trained(step, 6.0), Duration::from_secs(1_170));
    }
    panel.validation(validated(12_000, 6.5));
    panel
}

const NOW: Duration = Duration::from_secs(1_200);

/// What is on a screen of that size that is all panel, line by line.
fn on_screen(panel: &Panel, stage: Stage, columns: u16, rows: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).expect("a terminal");
    terminal
        .draw(|frame| {
            let area = frame.area();
            panel.draw(NOW, stage, true, area, frame.buffer_mut());
        })
        .expect("drawn");
    let buffer = terminal.backend().buffer();
    (0..rows)
        .map(|y| (0..columns).map(|x| buffer[(x, y)].symbol()).collect())
        .collect()
}

fn shown(panel: &Panel, columns: u16, rows: u16) -> String {
    on_screen(panel, Stage::Runs, columns, Panel::height(columns, rows)).join("\n")
}

fn assert_holds(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
}

fn has_curve(text: &str) -> bool {
    // The sample of a line above the curve is one, too.
    let braille = text.chars().filter(|c| ('⠁'..='⣿').contains(c)).count();
    braille > 2
}

#[test]
fn everything_is_there_at_80_columns() {
    for (columns, rows) in [(72, 15), (80, 24), (100, 30), (200, 60)] {
        let text = shown(&panel(), columns, rows);
        assert_holds(
            &text,
            &[
                "12,340 of 20,000  61 %",
                // 7,660 steps at half a second, 30 seconds of which are over.
                "epoch 3, 20 min 00 s, 1 h 03 min left",
                "mlm        6.0000, smoothed 6.0000",
                "nsp        0.6812",
                "valid. mlm 6.5000, 12.3 % right",
                "valid. nsp 0.6543, 56.7 % right",
                "best mlm   6.2500 at step 10,000",
                "rate       9.50e-5",
                "norm       1.23",
                "tokens/s   12.3 k, mean 12.3 k",
                "tokens     50.5 M",
                "data wait  3.1 %",
                "skipped    2 steps",
                "10.4│",
                "step 12,340",
                "•",
            ],
        );
        assert!(has_curve(&text), "{text}");
        assert_eq!(text.lines().count(), 12);
    }
}

#[test]
fn a_run_by_the_clock_tells_of_its_time() {
    let mut panel = Panel::new(u64::from(u32::MAX), 0, std::iter::empty()).by_the_clock(Some(2.0));
    let begun = shown(&panel, 80, 24);
    assert_holds(&begun, &["0 steps  0 %"]);
    let mut record = trained(500, 6.0);
    record.seconds_left = 1_830.0;
    panel.step(record, Duration::from_secs(1_170));
    // 30 of these seconds are over.
    assert_holds(
        &shown(&panel, 80, 24),
        &["500 steps  75 %", "30 min 00 s left"],
    );
}

#[test]
fn less_room_shows_less() {
    let narrow = shown(&panel(), 60, 20);
    assert_holds(
        &narrow,
        &[
            "12,340 of 20,000  61 %",
            "1 h 03 min left",
            "10.4│",
            "mlm 6.0000",
            "nsp 0.6812",
            "valid. 6.5000",
            "tokens/s 12.3 k",
            "skipped 2",
            "rate 9.50e-5",
            "norm 1.23",
            "wait 3.1 %",
        ],
    );
    assert!(has_curve(&narrow), "{narrow}");
    let low = shown(&panel(), 40, 10);
    assert_holds(
        &low,
        &["12,340 of 20,000  61 %", "mlm 6.0000", "rate 9.50e-5"],
    );
    assert!(!has_curve(&low), "{low}");
    let short = shown(&panel(), 120, 10);
    assert_holds(
        &short,
        &["epoch 3, 20 min 00 s, 1 h 03 min left", "wait 3.1 %"],
    );
    assert_eq!(shown(&panel(), 22, 30), "12,340 of 20,000  61 %");
    assert_eq!(Panel::height(9, 30), 0);
    assert_eq!(Panel::height(80, 2), 0);
}

#[test]
fn figures_in_short_are_whole_or_absent() {
    for columns in 30..72 {
        let text = shown(&panel(), columns, 10);
        for line in text.lines().skip(1) {
            let line = line.trim();
            let part = |part: &&str| {
                let (name, value) = part.split_once(' ')?;
                let value_is_whole = match name {
                    "mlm" => value == "6.0000",
                    "nsp" => value == "0.6812",
                    "valid." => value == "6.5000",
                    "tokens/s" => value == "12.3 k",
                    "skipped" => value == "2",
                    "rate" => value == "9.50e-5",
                    "norm" => value == "1.23",
                    "wait" => value == "3.1 %",
                    _ => false,
                };
                value_is_whole.then_some(())
            };
            let whole = |p: &&str| part(p).is_some();
            assert!(
                line.is_empty() || line.split("   ").all(|p| whole(&p)),
                "{columns} columns: {line:?}"
            );
        }
    }
}

#[test]
fn every_size_can_be_drawn() {
    let bare = Panel::new(0, 0, std::iter::empty());
    let mut one = Panel::new(300, 0, std::iter::empty());
    one.step(trained(1, 10.0), Duration::from_secs(1));
    let mut strange = Panel::new(u64::MAX, 0, std::iter::empty());
    let values = [f64::NAN, f64::INFINITY, f64::MAX, f64::MIN, 1e29, -1e29];
    for (i, value) in values.into_iter().enumerate() {
        let mut record = trained(i as u64 + 1, value);
        record.grad_norm = value;
        record.tokens_per_second = value;
        record.data_wait_fraction = value;
        record.nsp_loss = Some(value);
        strange.step(record, Duration::from_secs(1));
        strange.validation(validated(i as u64, value));
    }
    strange.skipped(7, u64::MAX);
    for panel in [&bare, &one, &strange, &panel()] {
        for stage in [Stage::Runs, Stage::Stops, Stage::Over] {
            for columns in (1..=40).chain([71, 72, 80, 100, 200]) {
                for rows in (1..=16).chain([30, 60]) {
                    on_screen(panel, stage, columns, rows);
                    let height = Panel::height(columns, rows);
                    assert!(height == 0 || height + 2 <= rows, "{columns} {rows}");
                }
            }
        }
    }
    assert!(shown(&bare, 80, 24).contains("skipped    0 steps"));
}

#[test]
fn one_point_is_a_curve() {
    let mut panel = Panel::new(300, 0, std::iter::empty());
    panel.step(trained(1, 10.0), Duration::from_secs(1));
    let text = shown(&panel, 80, 24);
    assert_holds(&text, &["10.000│", "step 2"]);
    assert!(has_curve(&text), "{text}");
    panel.step(trained(10, f64::NAN), Duration::from_secs(2));
    assert_holds(
        &shown(&panel, 80, 24),
        &["mlm        NaN, smoothed 10.0000"],
    );
}

#[test]
fn stages_are_told() {
    let text = |stage| on_screen(&panel(), stage, 80, 12).join("\n");
    assert!(text(Stage::Stops).contains("stops after this step"));
    let over = text(Stage::Over);
    assert!(
        over.contains("epoch 3, 20 min 00 s") && !over.contains("left"),
        "{over}"
    );
}

#[test]
fn no_style_writes_no_codes() {
    let draw = |style| {
        let area = Rect::new(0, 0, 100, 12);
        let mut buffer = Buffer::empty(area);
        panel().draw(NOW, Stage::Runs, style, area, &mut buffer);
        format!("{:?}", screen::rows(&buffer))
    };
    assert!(draw(true).contains("\\u{1b}[0;36m"));
    assert!(!draw(false).contains("\\u{1b}"));
}
