//! Reports as one self-contained HTML page.
//!
//! A [`Page`] is a title, a lead that says what came out, and sections of tables, lists, [charts](chart) and texts. It needs no script and nothing from
//! elsewhere, reads on a phone and on paper, in light and dark, and the same calls give the same bytes. Whatever is put in is escaped.

pub mod chart;
mod escape;
mod scale;

pub use escape::escape;

/// A page, as it grows.
#[derive(Clone, Debug)]
pub struct Page {
    title: String,
    lead: String,
    contents: Vec<String>,
    body: String,
    /// Whether a section is open.
    open: bool,
}

/// Text with pieces that stand out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The text.
    pub text: String,
    /// How it stands out.
    pub kind: Kind,
    /// What is said of it: when pointed at, and to those who listen.
    pub note: String,
}

/// How a piece of text stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Not at all.
    Plain,
    /// Quietly: frames and separators.
    Faint,
    /// As the first of two parts.
    First,
    /// As the second of two parts.
    Second,
    /// As something hidden.
    Hidden,
    /// As something right.
    Right,
    /// As something wrong.
    Wrong,
}

impl Kind {
    fn class(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Faint => "faint",
            Self::First => "first",
            Self::Second => "second",
            Self::Hidden => "hidden",
            Self::Right => "right",
            Self::Wrong => "wrong",
        }
    }
}

impl Piece {
    /// A piece without a note.
    #[must_use]
    pub fn new(text: impl Into<String>, kind: Kind) -> Self {
        Self {
            text: text.into(),
            kind,
            note: String::new(),
        }
    }
}

impl Page {
    /// A page with this title; `lead` is what a reader in a hurry takes away.
    #[must_use]
    pub fn new(title: &str, lead: &str) -> Self {
        Self {
            title: title.into(),
            lead: lead.into(),
            contents: Vec::new(),
            body: String::new(),
            open: false,
        }
    }

    /// Begins a section.
    pub fn section(&mut self, title: &str) {
        self.close();
        self.contents.push(title.into());
        self.open = true;
        let number = self.contents.len();
        self.body += &format!("<section id=\"s{number}\">\n<h2>{}</h2>\n", escape(title));
    }

    fn close(&mut self) {
        if self.open {
            self.body += "</section>\n";
        }
        self.open = false;
    }

    /// A paragraph.
    pub fn paragraph(&mut self, text: &str) {
        self.body += &format!("<p>{}</p>\n", escape(text));
    }

    /// A remark, smaller.
    pub fn remark(&mut self, text: &str) {
        self.body += &format!("<p class=\"remark\">{}</p>\n", escape(text));
    }

    /// A heading in a section.
    pub fn heading(&mut self, text: &str) {
        self.body += &format!("<h3>{}</h3>\n", escape(text));
    }

    /// Figures that matter most, each with what it is.
    pub fn figures(&mut self, figures: &[(&str, String)]) {
        self.body += "<dl class=\"figures\">\n";
        for (name, value) in figures {
            self.body += &format!(
                "<div><dt>{}</dt><dd>{}</dd></div>\n",
                escape(name),
                escape(value)
            );
        }
        self.body += "</dl>\n";
    }

    /// Names with their values.
    pub fn pairs<K: AsRef<str>, V: AsRef<str>>(&mut self, pairs: impl IntoIterator<Item = (K, V)>) {
        self.body += "<div class=\"wide\"><table class=\"pairs\">\n";
        for (name, value) in pairs {
            let (name, value) = (escape(name.as_ref()), escape(value.as_ref()));
            self.body += &format!("<tr><th scope=\"row\">{name}</th><td>{value}</td></tr>\n");
        }
        self.body += "</table></div>\n";
    }

    /// A table. Cells that are numbers stand to the right.
    pub fn table<T: AsRef<str>>(&mut self, header: &[&str], rows: &[Vec<T>]) {
        self.body += "<div class=\"wide\"><table>\n<thead><tr>";
        for (i, name) in header.iter().enumerate() {
            let numbers = !rows.is_empty()
                && rows
                    .iter()
                    .filter_map(|row| row.get(i))
                    .all(|cell| is_number(cell.as_ref()));
            let class = if numbers { " class=\"n\"" } else { "" };
            self.body += &format!("<th scope=\"col\"{class}>{}</th>", escape(name));
        }
        self.body += "</tr></thead>\n<tbody>\n";
        for row in rows {
            self.body += "<tr>";
            for cell in row {
                let class = if is_number(cell.as_ref()) {
                    " class=\"n\""
                } else {
                    ""
                };
                self.body += &format!("<td{class}>{}</td>", escape(cell.as_ref()));
            }
            self.body += "</tr>\n";
        }
        self.body += "</tbody></table></div>\n";
    }

    /// A chart.
    pub fn chart(&mut self, chart: &impl chart::Chart) {
        self.body += &chart.figure();
    }

    /// Charts side by side, where there is room.
    pub fn charts(&mut self, charts: &[&dyn chart::Chart]) {
        self.body += "<div class=\"charts\">\n";
        for chart in charts {
            self.body += &chart.figure();
        }
        self.body += "</div>\n";
    }

    /// A text of pieces, under a heading of its own.
    pub fn sample(&mut self, heading: &str, pieces: &[Piece]) {
        self.body += "<div class=\"sample\">";
        if !heading.is_empty() {
            self.body += &format!("<p class=\"of\">{}</p>", escape(heading));
        }
        self.body += "<p>";
        for piece in pieces {
            let text = escape(&piece.text);
            let title = match piece.note.as_str() {
                "" => String::new(),
                note => format!(" title=\"{}\"", escape(note)),
            };
            self.body += &match piece.kind {
                Kind::Plain if title.is_empty() => text,
                kind => format!("<span class=\"{}\"{title}>{text}</span>", kind.class()),
            };
        }
        self.body += "</p></div>\n";
    }

    /// Something long that is shown when it is asked for; in print, always. What `fill` adds is inside.
    pub fn details(&mut self, summary: &str, fill: impl FnOnce(&mut Self)) {
        self.body += &format!("<details><summary>{}</summary>\n", escape(summary));
        fill(self);
        self.body += "</details>\n";
    }

    /// Text as it is, in letters of one width.
    pub fn verbatim(&mut self, text: &str) {
        self.body += &format!("<pre>{}</pre>\n", escape(text));
    }

    /// The page.
    #[must_use]
    pub fn html(mut self) -> String {
        self.close();
        let (title, lead) = (escape(&self.title), escape(&self.lead));
        let mut contents = String::new();
        if self.contents.len() > 2 {
            contents += "<nav aria-label=\"Contents\">";
            for (title, number) in self.contents.iter().zip(1..) {
                contents += &format!("<a href=\"#s{number}\">{}</a> ", escape(title));
            }
            contents += "</nav>\n";
        }
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
             <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<header>\n<h1>{title}</h1>\n\
             <p class=\"lead\">{lead}</p>\n{contents}</header>\n{}</main>\n</body>\n</html>\n",
            self.body
        )
    }
}

/// Whether a cell holds a number, maybe with a unit, or stands for one that is missing.
fn is_number(cell: &str) -> bool {
    let mut characters = cell
        .trim()
        .trim_start_matches(['+', '-', '−', '±', '<', '≈'])
        .chars();
    match characters.next() {
        None => false,
        Some('–') => characters.next().is_none(),
        Some(first) => {
            first.is_ascii_digit()
                && cell.chars().filter(|c| c.is_alphabetic()).count() <= 6
                && !cell.contains('/')
        }
    }
}

const STYLE: &str = include_str!("style.css");

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "<script>alert('x')</script> & \"q\" \u{2028}\u{1b}[31m\u{202e}";

    #[test]
    fn whatever_is_put_in_is_text() {
        let mut page = Page::new(HOSTILE, HOSTILE);
        page.section(HOSTILE);
        page.paragraph(HOSTILE);
        page.remark(HOSTILE);
        page.heading(HOSTILE);
        page.figures(&[(HOSTILE, HOSTILE.into())]);
        page.pairs([(HOSTILE, HOSTILE)]);
        page.table(&[HOSTILE], &[vec![HOSTILE]]);
        let piece = Piece {
            note: HOSTILE.into(),
            ..Piece::new(HOSTILE, Kind::Hidden)
        };
        page.sample(HOSTILE, &[Piece::new(HOSTILE, Kind::Plain), piece]);
        page.details(HOSTILE, |page| page.verbatim(HOSTILE));
        let html = page.html();
        assert!(!html.contains("<script") && !html.contains("\"q\""));
        assert!(!html.contains(['\u{1b}', '\u{202e}', '\u{2028}']));
        assert_eq!(html.matches("&lt;script&gt;").count(), 19);
        let body = &html[html.find("<body>").unwrap()..html.find("</html>").unwrap()];
        roxmltree::Document::parse(body).unwrap();
    }

    #[test]
    fn nothing_comes_from_elsewhere() {
        let html = Page::new("t", "l").html();
        for outside in ["http:", "https:", "src=", "url(", "@import", "<script"] {
            assert!(!html.contains(outside), "{outside}");
        }
    }

    #[test]
    fn numbers_stand_to_the_right() {
        for number in [
            "1", "-0.5", "12,345", "3.2 %", "14.6 MB", "–", "±0.1", "1.5e-9",
        ] {
            assert!(is_number(number), "{number}");
        }
        for text in [
            "",
            "mlm",
            "1f3a9c00ddee",
            "– or not",
            "3 of the documents here",
            "2026/corpus",
        ] {
            assert!(!is_number(text), "{text}");
        }
    }
}
