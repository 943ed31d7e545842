//! A row, or the help, as lines of a width.

use std::ops::Range;

use cloze_cli::visible;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use super::find::Wanted;
use super::keys::Viewer;
use crate::inspect::sample::{Decoded, Segment, Token};

/// Columns that segments are set in by.
const INDENT: usize = 2;

/// A piece of text that is not broken, unless it is longer than a line.
struct Piece {
    text: String,
    style: Style,
    /// Whether it goes on with the piece before it.
    joins: bool,
}

/// The colour of a segment.
fn colour(name: &str) -> Color {
    match name {
        "A" => Color::Cyan,
        _ => Color::Magenta,
    }
}

impl Viewer<'_> {
    fn style(&self, colour: Color) -> Style {
        match self.colours {
            true => Style::new().fg(colour),
            false => Style::new(),
        }
    }

    /// A row's segments, with where they come from.
    pub fn row_lines(&self, row: &Decoded, width: usize) -> Vec<Line<'static>> {
        let mut lines = Vec::new();
        for segment in &row.segments {
            if !lines.is_empty() {
                lines.push(Line::default());
            }
            let of = segment.origin.as_deref();
            let of = of.unwrap_or("origin not in the table of documents");
            let bold = self
                .style(colour(segment.name))
                .add_modifier(Modifier::BOLD);
            let sought = matches!(&self.wanted, Some(Wanted::Documents(docs, _)) if docs.contains(&segment.doc));
            let quiet = match sought {
                true => Style::new().add_modifier(Modifier::REVERSED),
                false => Style::new().add_modifier(Modifier::DIM),
            };
            let mut head = words_of(segment.name, bold);
            head.extend(words_of(
                &format!(
                    "{} · sentence {} · doc {:016x}",
                    visible(of),
                    segment.sentence,
                    segment.doc
                ),
                quiet,
            ));
            lines.extend(wrap(head, width, 0));
            lines.extend(wrap(self.pieces(segment), width, INDENT));
        }
        lines
    }

    fn pieces(&self, segment: &Segment) -> Vec<Piece> {
        let sought = self.sought(segment);
        let special = self.opened.vocabulary.special();
        let plain = self.style(colour(segment.name));
        let each = segment.tokens.iter().zip(sought);
        each.map(|(token, sought)| {
            let word = self.words.get(token.id);
            let mut style = plain;
            let text = match (token.seen, self.show_ids) {
                (None, false) => word.text.clone(),
                (None, true) => word.name.clone(),
                (Some(_), _) => {
                    let (text, colour) = self.hidden(token, special.mask);
                    style = self.style(colour).add_modifier(Modifier::BOLD);
                    text
                }
            };
            if special.is_frame(token.id) {
                style = style.add_modifier(Modifier::DIM);
            }
            if sought {
                style = style.add_modifier(Modifier::REVERSED);
            }
            Piece {
                text: match self.show_ids {
                    true => format!("{text}·{}", token.id),
                    false => text,
                },
                style,
                joins: word.continues && !self.show_ids,
            }
        })
        .collect()
    }

    /// A token that is predicted: `{it}` behind `[MASK]`, `{it→other}` behind a random one, `{it=}` where it can be seen.
    fn hidden(&self, token: &Token, mask: u32) -> (String, Color) {
        let word = self.words.get(token.id);
        let text = match self.show_ids {
            true => &word.name,
            false => &word.text,
        };
        match token.seen {
            Some(seen) if seen == mask => (format!("{{{text}}}"), Color::Green),
            Some(seen) if seen == token.id => (format!("{{{text}=}}"), Color::Yellow),
            Some(seen) => {
                let other = &self.words.get(seen).name;
                (format!("{{{text}→{other}}}"), Color::Red)
            }
            None => (text.clone(), Color::Reset),
        }
    }

    /// Of each token whether it is part of what is looked for.
    fn sought(&self, segment: &Segment) -> Vec<bool> {
        let Some(Wanted::Text(pattern)) = &self.wanted else {
            return vec![false; segment.tokens.len()];
        };
        let (mut text, mut places) = (String::new(), Vec::new());
        let ids = segment.tokens.iter().map(|t| t.id);
        self.words.write(ids, &mut text, &mut places);
        let found = pattern.places(&text);
        let meet = |a: &Range<usize>, b: &Range<usize>| a.start < b.end && b.start < a.end;
        places
            .iter()
            .map(|place| found.iter().any(|f| meet(f, place)))
            .collect()
    }
}

/// What keys do.
const HELP: [(&str, &str); 17] = [
    ("→ l space PgDn", "next row"),
    ("← h ⌫ PgUp", "row before"),
    ("↓ j, ↑ k", "scroll"),
    ("Home, End G", "first row, last row"),
    ("g", "go to a row by its number"),
    ("r", "a row at random"),
    ("s Tab", "next split"),
    ("/", "look for words; any case, also part of a word"),
    ("d", "look for a document: id, hash or #place"),
    ("n, N", "next, previous row of what was looked for"),
    ("Esc", "stop looking; forget what was looked for"),
    ("m", "masks: {hidden} {real→random} {kept=}"),
    ("+, -", "masks of the next epoch, of the one before"),
    ("> <", "masks of another seed"),
    ("u", "masks by tokens, words, spans"),
    ("i", "ids of tokens"),
    ("q Ctrl-C", "quit (Ctrl-Z: later)"),
];

/// The help.
pub fn help(width: usize) -> Vec<Line<'static>> {
    const KEYS: usize = 16;
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let mut lines = Vec::new();
    for (keys, what) in HELP {
        let mut what = wrap(words_of(what, Style::new()), width, KEYS + 1).into_iter();
        if let Some(mut first) = what.next() {
            first.spans[0] = Span::styled(format!("{keys:<KEYS$} "), bold);
            lines.push(first);
        }
        lines.extend(what);
    }
    lines.push(Line::default());
    let more = "Masks are those that cloze pretrain draws for this dataset alone with that seed and epoch; where shards hold masks, those are shown.";
    lines.extend(wrap(words_of(more, Style::new()), width, 0));
    lines
}

fn words_of(text: &str, style: Style) -> Vec<Piece> {
    let piece = |word: &str| Piece {
        text: word.to_owned(),
        style,
        joins: false,
    };
    text.split(' ').map(piece).collect()
}

/// Pieces in lines of `width` columns, set in by `indent`; a word that is longer is broken.
fn wrap(pieces: Vec<Piece>, width: usize, indent: usize) -> Vec<Line<'static>> {
    let indent = indent.min(width / 2);
    let room = (width - indent).max(1);
    let begin = || vec![Span::raw(" ".repeat(indent))];
    let (mut lines, mut line, mut used) = (Vec::new(), begin(), 0);
    let mut pieces = pieces.into_iter().peekable();
    while let Some(piece) = pieces.next() {
        let mut word = vec![Span::styled(piece.text, piece.style)];
        while let Some(next) = pieces.next_if(|p| p.joins) {
            word.push(Span::styled(next.text, next.style));
        }
        let long: usize = word.iter().map(Span::width).sum();
        if used > 0 && used + 1 + long > room {
            lines.push(Line::from(std::mem::replace(&mut line, begin())));
            used = 0;
        }
        if used > 0 {
            line.push(Span::raw(" "));
            used += 1;
        }
        if used + long <= room {
            line.extend(word);
            used += long;
            continue;
        }
        for span in word {
            for c in span.content.chars() {
                let letter = Span::styled(c.to_string(), span.style);
                let columns = letter.width();
                if used > 0 && used + columns > room {
                    lines.push(Line::from(std::mem::replace(&mut line, begin())));
                    used = 0;
                }
                line.push(letter);
                used += columns;
            }
        }
    }
    lines.push(Line::from(line));
    lines
}
