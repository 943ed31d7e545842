//! What is seen of the viewer.

use cloze_cli::{format, visible};
use cloze_shard::manifest::Masking;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::keys::{Mode, Viewer};
use super::page;
use crate::inspect::sample::{self, Decoded};
use crate::inspect::summary;

/// Draws everything, and tells the viewer how far it can be scrolled.
pub fn draw(viewer: &mut Viewer<'_>, frame: &mut Frame<'_>) {
    let area = frame.area();
    if area.width < 10 || area.height < 4 {
        frame.render_widget(Paragraph::new("too small"), area);
        return;
    }
    let decoded = viewer.decoded();
    let facts = viewer.facts(decoded.as_ref());
    let rest = Constraint::Min(0);
    let [top, about, body, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length((facts.len() as u16).min(area.height - 3)),
        rest,
        Constraint::Length(1),
    ])
    .areas(area);
    let reversed = Style::new().add_modifier(Modifier::REVERSED);
    frame.render_widget(Paragraph::new(viewer.title(top.width)).style(reversed), top);
    frame.render_widget(Paragraph::new(facts), about);

    let width = usize::from(body.width);
    let lines = match (&viewer.mode, &decoded) {
        (Mode::Help, _) => page::help(width),
        (_, Some(row)) => viewer.row_lines(row, width),
        (_, None) => vec![Line::raw("no rows")],
    };
    let height = usize::from(body.height);
    viewer.page = height.saturating_sub(1).max(1);
    viewer.most_above = lines.len().saturating_sub(height);
    viewer.above = viewer.above.min(viewer.most_above);
    let below = viewer.most_above - viewer.above;
    let shown: Vec<Line<'_>> = lines.into_iter().skip(viewer.above).take(height).collect();
    frame.render_widget(Paragraph::new(shown), body);
    foot_line(viewer, below, foot, frame);
}

/// The last line: what is typed, said or searched, else the keys; and what is below.
fn foot_line(viewer: &Viewer<'_>, below: usize, area: Rect, frame: &mut Frame<'_>) {
    let quiet = Style::new().add_modifier(Modifier::DIM);
    let more = match (viewer.above, below) {
        (0, 0) => String::new(),
        (above, 0) => format!(" ↑{above}"),
        (0, below) => format!(" ↓{below}"),
        (above, below) => format!(" ↑{above} ↓{below}"),
    };
    let room = Span::raw(more.as_str()).width() as u16;
    let [left, right] =
        Layout::horizontal([Constraint::Min(0), Constraint::Length(room)]).areas(area);
    let line = match (&viewer.mode, &viewer.search, &viewer.message) {
        (Mode::Asking(ask, text), ..) => {
            let prompt = ask.prompt();
            let text = visible(text).into_owned();
            // Of what is too long, the end is seen.
            let columns = usize::from(left.width).saturating_sub(prompt.chars().count() + 1);
            let skip = text.chars().count().saturating_sub(columns);
            let seen: String = text.chars().skip(skip).collect();
            let place = Span::raw(format!("{prompt}{seen}")).width() as u16;
            frame.set_cursor_position((left.x + place.min(left.width.saturating_sub(1)), left.y));
            Line::from(vec![prompt.into(), seen.into()])
        }
        (_, Some(search), _) => {
            let share = viewer.here().map_or(0.0, |split| search.share(split));
            let what = viewer.wanted.as_ref().map(|w| w.name()).unwrap_or_default();
            let share = format::percent(share);
            Line::raw(format!(
                "looking for {} … {share}  Esc: stop",
                visible(&what)
            ))
        }
        (_, _, Some(message)) => {
            let bold = Style::new().add_modifier(Modifier::BOLD);
            Line::styled(visible(message).into_owned(), bold)
        }
        (Mode::Help, ..) => Line::styled("any other key: back to the rows", quiet),
        (Mode::Rows, ..) => Line::styled(keys(usize::from(left.width)), quiet),
    };
    frame.render_widget(Paragraph::new(line), left);
    frame.render_widget(Paragraph::new(more), right);
}

/// As many keys as there is room for.
fn keys(width: usize) -> String {
    const KEYS: [&str; 10] = [
        "? help",
        "q quit",
        "←→ row",
        "/ search",
        "n next",
        "m masks",
        "i ids",
        "g row",
        "d document",
        "s split",
    ];
    let mut line = String::new();
    for key in KEYS {
        let longer = format!("{line}{}{key}", if line.is_empty() { "" } else { "  " });
        if longer.chars().count() > width {
            break;
        }
        line = longer;
    }
    line
}

impl Viewer<'_> {
    fn decoded(&self) -> Option<Decoded> {
        let split = self.here().filter(|split| split.rows() > 0)?;
        let preview = self.show_masks.then_some(&self.preview);
        let mut row = sample::decode(self.opened, split, self.row, preview);
        if !self.show_masks {
            for token in row.segments.iter_mut().flat_map(|s| &mut s.tokens) {
                token.seen = None;
            }
        }
        Some(row)
    }

    fn title(&self, width: u16) -> Line<'static> {
        let name = self.splits.get(self.split).map_or("", |(name, _)| name);
        let rows = format::count(self.rows());
        let place = format!(
            " {} · row {} of {rows} ",
            visible(name),
            format::count(self.row)
        );
        let path = self.opened.dataset.path().display().to_string();
        let path = visible(&path).into_owned();
        let room = usize::from(width).saturating_sub(Span::raw(place.as_str()).width() + 1);
        // Of a long path, the end says most.
        let skip = path.chars().count().saturating_sub(room);
        let path: String = path.chars().skip(skip).collect();
        Line::raw(format!("{place}{path:>room$} "))
    }

    fn facts(&self, row: Option<&Decoded>) -> Vec<Line<'static>> {
        let Some(row) = row else {
            return Vec::new();
        };
        let manifest = self.opened.dataset.manifest();
        let label = sample::label(row.label, manifest.objective);
        let mut facts = vec![Line::raw(format!(
            "{label} · {} tokens · {}",
            row.tokens,
            visible(&row.shard)
        ))];
        if self.show_masks {
            let masks = match manifest.masking {
                Masking::Static { rule } => format!("as stored: {}", summary::masks(&rule)),
                Masking::Dynamic => format!(
                    "seed {} · epoch {} · {}",
                    self.preview.seed,
                    self.preview.epoch,
                    summary::masks(self.preview.masker.rule())
                ),
            };
            let hidden = row.segments.iter().flat_map(|s| &s.tokens);
            let hidden = hidden.filter(|t| t.seen.is_some()).count();
            facts.push(Line::raw(format!("masks: {hidden} tokens · {masks}")));
        }
        facts.push(Line::default());
        facts
    }
}
