//! The panel below the log: how far the run is, its loss curve, and its figures.

use std::time::Duration;

use cloze_cli::format;
use cloze_train::record::{Record, StepRecord, ValidationRecord};
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, HorizontalAlignment, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Chart, Dataset, GraphType, LineGauge, Widget};

use super::curve::{Curve, Smooth, axis, label};

/// Columns and rows from which there is room for everything.
const WIDE: (u16, u16) = (72, 15);

/// Columns of the figures beside the curve.
const FIGURES: u16 = 36;

/// What is known of a run. Times are since its first step in this process.
#[derive(Debug, Default)]
pub struct Panel {
    steps: u64,
    /// Of a run that ends by the clock.
    hours: Option<f64>,
    first_step: u64,
    step: u64,
    /// When `step` was logged.
    at: Duration,
    last: Option<StepRecord>,
    smooth: Smooth,
    curve: Curve,
    validation: Option<ValidationRecord>,
    validated: Curve,
    best: Option<(u64, f64)>,
    skipped: u64,
    /// Of this process; evaluations and checkpoints take no time here.
    tokens: f64,
    seconds: f64,
}

/// How far a run is told of, beside its step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Steps are made.
    Runs,
    /// It stops after the step that is under way.
    Stops,
    /// No step will be made.
    Over,
}

impl Panel {
    /// Of a run of so many steps that goes on after `first_step`, from what its log says.
    pub fn new(steps: u64, first_step: u64, before: impl Iterator<Item = Record>) -> Self {
        let mut panel = Self {
            steps,
            first_step,
            step: first_step,
            ..Self::default()
        };
        for record in before {
            match record {
                Record::Train(r) => panel.draw_on(r.step, r.mlm_loss),
                Record::Skipped(r) => panel.skipped = r.skipped_total,
                Record::Validation(r) => panel.validation(r),
            }
        }
        panel
    }

    /// The same panel, of a run that ends when so many hours are over.
    pub fn by_the_clock(mut self, hours: Option<f64>) -> Self {
        self.hours = hours;
        self
    }

    fn draw_on(&mut self, step: u64, loss: f64) {
        let smooth = self.smooth.push(loss).filter(|_| loss.is_finite());
        if let Some(mean) = smooth {
            self.curve.push(step, mean);
        }
    }

    /// A logged step.
    pub fn step(&mut self, record: StepRecord, at: Duration) {
        self.draw_on(record.step, record.mlm_loss);
        let seconds = record.step_seconds * record.step.saturating_sub(self.step) as f64;
        if (seconds * record.tokens_per_second).is_finite() {
            self.seconds += seconds;
            self.tokens += seconds * record.tokens_per_second;
        }
        self.step = record.step;
        self.at = at;
        self.last = Some(record);
    }

    /// An evaluation.
    pub fn validation(&mut self, record: ValidationRecord) {
        if let Some(loss) = record.report.mlm_loss {
            self.validated.push(record.step, loss);
            // What it began with is no checkpoint's.
            if record.step > 0 && loss.is_finite() && self.best.is_none_or(|(_, best)| loss < best)
            {
                self.best = Some((record.step, loss));
            }
        }
        self.validation = Some(record);
    }

    /// Steps of the run that were not made.
    pub fn skipped(&mut self, step: u64, total: u64) {
        self.skipped = total;
        self.step = self.step.max(step);
    }

    fn left(&self, now: Duration) -> Option<Duration> {
        if self.hours.is_some() {
            let left = self.last.as_ref()?.seconds_left;
            let since = now.saturating_sub(self.at).as_secs_f64();
            return Duration::try_from_secs_f64((left - since).max(0.0)).ok();
        }
        let done = self.step.checked_sub(self.first_step).filter(|&n| n > 0)?;
        let each = self.at.as_secs_f64() / done as f64;
        let left = each * self.steps.saturating_sub(self.step) as f64;
        let since = now.saturating_sub(self.at).as_secs_f64();
        Some(Duration::from_secs_f64((left - since).clamp(0.0, 1e9)))
    }

    /// The rows that it takes on a terminal of that size; none where there is no room.
    pub fn height(columns: u16, rows: u16) -> u16 {
        match (columns, rows) {
            (c, r) if c >= WIDE.0 && r >= WIDE.1 => 12,
            (c, r) if c >= 40 && r >= WIDE.1 => 11,
            (c, r) if c >= 30 && r >= 8 => 4,
            (c, r) if c >= 10 && r >= 3 => 1,
            _ => 0,
        }
    }

    /// Draws it, with colours or without, into `area` of that height, or of any other.
    pub fn draw(&self, now: Duration, stage: Stage, style: bool, area: Rect, buf: &mut Buffer) {
        if area.is_empty() {
            return;
        }
        let paint = Paint { style };
        let [top, rest] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area);
        self.gauge(now, stage, paint, top, buf);
        if area.width >= WIDE.0 && rest.height >= 8 {
            let [left, _, right] = Layout::horizontal([
                Constraint::Min(20),
                Constraint::Length(2),
                Constraint::Length(FIGURES),
            ])
            .areas(rest);
            self.chart(paint, left, buf);
            for (row, (name, value)) in right.rows().zip(self.figures()) {
                let name = Span::styled(format!("{name:<10} "), paint.dim());
                Line::from(vec![name, Span::raw(value)]).render(row, buf);
            }
            return;
        }
        let few = rest.height.min(3);
        let [upper, lower] =
            Layout::vertical([Constraint::Min(0), Constraint::Length(few)]).areas(rest);
        if upper.height >= 4 {
            self.chart(paint, upper, buf);
        }
        self.in_short(paint, lower, buf);
    }

    fn gauge(&self, now: Duration, stage: Stage, paint: Paint, area: Rect, buf: &mut Buffer) {
        let ratio = match (self.hours, self.steps) {
            (Some(hours), _) => {
                let left = self.left(now).map_or(0.0, |left| left.as_secs_f64());
                let over = 1.0 - left / (3_600.0 * hours);
                // Nothing is known before the first step.
                self.last.as_ref().map_or(0.0, |_| over.clamp(0.0, 1.0))
            }
            (None, 0) => 1.0,
            (None, steps) => (self.step as f64 / steps as f64).clamp(0.0, 1.0),
        };
        let steps = match self.hours {
            Some(_) => format::counted(self.step, "step"),
            None => format!(
                "{} of {}",
                format::count(self.step),
                format::count(self.steps)
            ),
        };
        let left = format!("{steps}  {:.0} %", (100.0 * ratio).floor());
        let time = format::duration(now);
        let rest = match stage {
            Stage::Runs => self
                .left(now)
                .map_or(String::new(), |t| format!("{} left", format::duration(t))),
            Stage::Stops => "stops after this step".to_owned(),
            Stage::Over => String::new(),
        };
        let epoch = self.last.as_ref().map(|r| format!("epoch {}", r.epoch));
        let join = |parts: &[&str]| -> String {
            let parts: Vec<&str> = parts.iter().copied().filter(|p| !p.is_empty()).collect();
            parts.join(", ")
        };
        let all = join(&[epoch.as_deref().unwrap_or_default(), &time, &rest]);
        let short = if rest.is_empty() { &time } else { &rest };
        let width = usize::from(area.width);
        let used = left.chars().count() + 1;
        let fitting = [all.as_str(), short.as_str(), ""]
            .into_iter()
            .find(|right| used + 10 + right.chars().count() + 2 <= width);
        let Some(right) = fitting else {
            Line::raw(left).render(area, buf);
            return;
        };
        let right_width = match right.chars().count() {
            0 => 0,
            n => n as u16 + 1,
        };
        let [bar, text] =
            Layout::horizontal([Constraint::Min(0), Constraint::Length(right_width)]).areas(area);
        LineGauge::default()
            .label(Line::styled(left, paint.bold()))
            .ratio(ratio)
            .filled_symbol("━")
            .unfilled_symbol("─")
            .filled_style(paint.colour(Color::Green))
            .unfilled_style(paint.dim())
            .render(bar, buf);
        Line::raw(format!(" {right}")).render(text, buf);
    }

    fn chart(&self, paint: Paint, area: Rect, buf: &mut Buffer) {
        let [title, area] =
            Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area);
        let line = paint.colour(Color::Cyan);
        let dots = paint.colour(Color::Yellow);
        Line::from(vec![
            Span::styled("mlm loss  ", paint.bold()),
            Span::styled("⠒⠒", line),
            Span::raw(" training, smoothed  "),
            Span::styled("•", dots),
            Span::raw(" validation"),
        ])
        .render(title, buf);
        let (trained, validated) = (self.curve.points(), self.validated.points());
        let points = || trained.iter().chain(&validated);
        if points().next().is_none() || area.height < 2 || area.width < 16 {
            return;
        }
        let [low, high] = axis(points().map(|p| p.1));
        let start = points().map(|p| p.0).fold(f64::INFINITY, f64::min);
        let end = points().map(|p| p.0).fold(start + 1.0, f64::max);
        let at = |y: f64| label(y, high - low);
        let shape = match trained.len() {
            1 => GraphType::Scatter,
            _ => GraphType::Line,
        };
        let sets = vec![
            Dataset::default()
                .data(&trained)
                .marker(Marker::Braille)
                .graph_type(shape)
                .style(line),
            Dataset::default()
                .data(&validated)
                .marker(Marker::Dot)
                .graph_type(GraphType::Scatter)
                .style(dots),
        ];
        let vertical = Axis::default()
            .bounds([low, high])
            .labels([at(low), at(low + (high - low) / 2.0), at(high)])
            .labels_alignment(HorizontalAlignment::Right)
            .style(paint.dim());
        let mut horizontal = Axis::default().bounds([start, end]).style(paint.dim());
        if area.height >= 5 {
            horizontal = horizontal.labels([
                format::count(start as u64),
                format!("step {}", format::count(end as u64)),
            ]);
        }
        Chart::new(sets)
            .x_axis(horizontal)
            .y_axis(vertical)
            .legend_position(None)
            .render(area, buf);
    }

    /// Names and values, the most telling first.
    fn figures(&self) -> Vec<(&'static str, String)> {
        let last = self.last.as_ref();
        let of = |f: &dyn Fn(&StepRecord) -> Option<String>| {
            last.and_then(f).unwrap_or_else(|| "–".to_owned())
        };
        let report = self.validation.as_ref().map(|v| &v.report);
        let seen = |loss: Option<f64>, right: Option<f64>| match (loss, right) {
            (Some(loss), Some(right)) => {
                format!("{}, {} right", number(loss, 4), format::percent(right))
            }
            _ => "–".to_owned(),
        };
        let step = |step: u64| format!("at step {}", format::count(step));
        let order = last.is_some_and(|r| r.sop_loss.is_some());
        let [pair, valid_pair] = match order {
            true => ["sop", "valid. sop"],
            false => ["nsp", "valid. nsp"],
        };
        let average = match self.seconds > 0.0 {
            true => format!(", mean {}", format::short(self.tokens / self.seconds)),
            false => String::new(),
        };
        vec![
            (
                "mlm",
                of(&|r| {
                    let mean = self
                        .smooth
                        .mean()
                        .map_or(String::new(), |m| format!(", smoothed {}", number(m, 4)));
                    Some(format!("{}{mean}", number(r.mlm_loss, 4)))
                }),
            ),
            (
                pair,
                of(&|r| r.nsp_loss.or(r.sop_loss).map(|x| number(x, 4))),
            ),
            (
                "valid. mlm",
                seen(
                    report.and_then(|r| r.mlm_loss),
                    report.and_then(|r| r.mlm_accuracy),
                ),
            ),
            (
                valid_pair,
                seen(
                    report.and_then(|r| r.pair_loss()),
                    report.and_then(|r| r.nsp_accuracy.or(r.sop_accuracy)),
                ),
            ),
            (
                "best mlm",
                self.best.map_or_else(
                    || "–".to_owned(),
                    |(at, loss)| format!("{} {}", number(loss, 4), step(at)),
                ),
            ),
            ("rate", of(&|r| Some(format!("{:.2e}", r.learning_rate)))),
            ("norm", of(&|r| Some(number(r.grad_norm, 2)))),
            (
                "tokens/s",
                of(&|r| Some(format!("{}{average}", format::short(r.tokens_per_second)))),
            ),
            ("tokens", of(&|r| Some(format::short(r.tokens as f64)))),
            (
                "data wait",
                of(&|r| Some(format::percent(r.data_wait_fraction))),
            ),
            ("skipped", format::counted(self.skipped, "step")),
        ]
    }

    /// As many figures as there is room for, side by side.
    fn in_short(&self, paint: Paint, area: Rect, buf: &mut Buffer) {
        let mut parts = Vec::new();
        if let Some(r) = &self.last {
            parts.push(("mlm", number(r.mlm_loss, 4)));
            parts.extend(r.nsp_loss.map(|x| ("nsp", number(x, 4))));
            parts.extend(r.sop_loss.map(|x| ("sop", number(x, 4))));
        }
        let loss = self.validation.as_ref().and_then(|v| v.report.mlm_loss);
        parts.extend(loss.map(|x| ("valid.", number(x, 4))));
        if let Some(r) = &self.last {
            parts.push(("tokens/s", format::short(r.tokens_per_second)));
        }
        if self.skipped > 0 {
            parts.push(("skipped", format::count(self.skipped)));
        }
        if let Some(r) = &self.last {
            parts.push(("rate", format!("{:.2e}", r.learning_rate)));
            parts.push(("norm", number(r.grad_norm, 2)));
            parts.push(("wait", format::percent(r.data_wait_fraction)));
        }
        let mut parts = parts.into_iter().peekable();
        for row in area.rows() {
            let mut room = usize::from(row.width);
            let mut spans = Vec::new();
            while let Some((name, value)) = parts
                .next_if(|(name, value)| name.chars().count() + 1 + value.chars().count() <= room)
            {
                room = room.saturating_sub(name.chars().count() + 4 + value.chars().count());
                spans.push(Span::styled(format!("{name} "), paint.dim()));
                spans.push(Span::raw(format!("{value}   ")));
            }
            Line::from(spans).render(row, buf);
        }
    }
}

/// A number in few columns, whatever its size.
fn number(x: f64, digits: usize) -> String {
    if x.is_finite() && x.abs() >= 1e5 {
        format!("{x:.2e}")
    } else {
        format!("{x:.digits$}")
    }
}

/// Styles, or none.
#[derive(Clone, Copy)]
struct Paint {
    style: bool,
}

impl Paint {
    fn colour(self, colour: Color) -> Style {
        match self.style {
            true => Style::new().fg(colour),
            false => Style::new(),
        }
    }

    fn modified(self, modifier: Modifier) -> Style {
        match self.style {
            true => Style::new().add_modifier(modifier),
            false => Style::new(),
        }
    }

    fn dim(self) -> Style {
        self.modified(Modifier::DIM)
    }

    fn bold(self) -> Style {
        self.modified(Modifier::BOLD)
    }
}

#[cfg(test)]
#[path = "panel_tests.rs"]
mod tests;
