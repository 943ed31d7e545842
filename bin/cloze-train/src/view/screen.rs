//! A panel that stays below lines of text, on a terminal that is otherwise left alone.
//!
//! The cursor rests in the first column of the row below the panel, and every place is told relative to it. So the terminal is never asked where
//! its cursor is (it would answer to standard input, which would have to be read raw), nothing has to be put back at the end, and scrollback, copying and
//! Ctrl-C work as in a log.

use std::io::{self, Write};

use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier};

/// A row of a panel: what is written, and the columns that it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    text: String,
    width: u16,
}

/// Writes to a terminal.
pub struct Screen<W> {
    out: W,
    /// Columns of each row of the panel that is shown.
    shown: Vec<u16>,
}

impl<W: Write> Screen<W> {
    pub fn new(out: W) -> Self {
        Self {
            out,
            shown: Vec::new(),
        }
    }

    /// Leaves the panel that is shown where it is: others have written since.
    pub fn forget(&mut self) {
        self.shown.clear();
    }

    /// Whether no panel is shown.
    pub fn is_blank(&self) -> bool {
        self.shown.is_empty()
    }

    /// Writes `lines` in place of the panel, and below them `panel`, on a terminal of so many columns.
    pub fn paint(&mut self, lines: &[String], panel: &[Row], columns: u16) -> io::Result<()> {
        // In one piece, if the terminal knows how.
        let mut text = String::from("\x1b[?2026h\r");
        match self.rows(columns) {
            0 => {}
            up => text += &format!("\x1b[{up}A"),
        }
        if !lines.is_empty() {
            text += "\x1b[J";
        }
        for line in lines.iter().flat_map(|line| line.split('\n')) {
            text += line;
            text += "\r\n";
        }
        for row in panel {
            text += "\x1b[2K";
            text += &row.text;
            text += "\r\n";
        }
        text += "\x1b[J\x1b[?2026l";
        self.shown = panel.iter().map(|row| row.width).collect();
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// Rows that the panel takes now: a terminal that has become narrower has broken rows that were wider.
    fn rows(&self, columns: u16) -> u64 {
        let columns = columns.max(1);
        let of = |&width: &u16| u64::from(width.div_ceil(columns).max(1));
        self.shown.iter().map(of).sum()
    }
}

/// The rows of `buffer` as they are written, without what is blank at their ends.
pub fn rows(buffer: &Buffer) -> Vec<Row> {
    let area = buffer.area;
    (area.top()..area.bottom())
        .map(|y| {
            let last = (area.left()..area.right())
                .rev()
                .find(|&x| buffer[(x, y)].symbol() != " ");
            let width = last.map_or(0, |x| x + 1 - area.left());
            let mut text = String::new();
            let mut now = String::new();
            for x in area.left()..area.left() + width {
                let cell = &buffer[(x, y)];
                let wanted = codes(cell.fg, cell.modifier);
                if wanted != now {
                    text += &format!("\x1b[0{wanted}m");
                    now = wanted;
                }
                text += cell.symbol();
            }
            if !now.is_empty() {
                text += "\x1b[0m";
            }
            Row { text, width }
        })
        .collect()
}

/// What a style adds to none. A panel has no other styles.
fn codes(colour: Color, modifier: Modifier) -> String {
    let mut codes = String::new();
    if modifier.contains(Modifier::BOLD) {
        codes += ";1";
    }
    if modifier.contains(Modifier::DIM) {
        codes += ";2";
    }
    codes += match colour {
        Color::Green => ";32",
        Color::Yellow => ";33",
        Color::Cyan => ";36",
        _ => "",
    };
    codes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As much of a terminal as is written to. It does not scroll.
    #[derive(Default)]
    struct Paper {
        rows: Vec<Vec<char>>,
        x: usize,
        y: usize,
    }

    impl Paper {
        fn code(&mut self, number: &str, code: char) {
            match (number, code) {
                (n, 'A') => self.y -= n.parse::<usize>().expect("rows"),
                ("", 'J') => {
                    self.rows.truncate(self.y + 1);
                    self.row().clear();
                    assert_eq!(self.x, 0, "what is before the cursor stays");
                }
                ("2", 'K') => self.row().clear(),
                ("?2026", 'h' | 'l') => {}
                _ => panic!("{number:?} {code:?}"),
            }
        }

        fn row(&mut self) -> &mut Vec<char> {
            if self.rows.len() <= self.y {
                self.rows.resize(self.y + 1, Vec::new());
            }
            &mut self.rows[self.y]
        }

        fn text(&self) -> String {
            let rows: Vec<String> = self.rows.iter().map(|r| r.iter().collect()).collect();
            rows.join("\n")
        }
    }

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let text = std::str::from_utf8(bytes).expect("text");
            let mut chars = text.chars();
            while let Some(c) = chars.next() {
                match c {
                    '\r' => self.x = 0,
                    '\n' => self.y += 1,
                    '\x1b' => {
                        assert_eq!(chars.next(), Some('['));
                        let mut number = String::new();
                        let code = chars.by_ref().find(|c| {
                            number.push(*c);
                            c.is_alphabetic()
                        });
                        number.pop();
                        self.code(&number, code.expect("a code"));
                    }
                    c => {
                        let x = self.x;
                        let row = self.row();
                        row.resize(row.len().max(x + 1), ' ');
                        row[x] = c;
                        self.x += 1;
                    }
                }
            }
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn panel(rows: &[&str]) -> Vec<Row> {
        let row = |text: &&str| Row {
            text: (*text).to_owned(),
            width: text.chars().count() as u16,
        };
        rows.iter().map(row).collect()
    }

    fn lines(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|&line| line.to_owned()).collect()
    }

    #[test]
    fn lines_go_above_the_panel() {
        let mut screen = Screen::new(Paper::default());
        let mut paint = |text: &[&str], rows: &[&str]| {
            screen.paint(&lines(text), &panel(rows), 40).expect("paper");
            screen.out.text()
        };
        assert_eq!(paint(&["one"], &[]), "one\n");
        assert_eq!(
            paint(&[], &["long gauge", "figures"]),
            "one\nlong gauge\nfigures\n"
        );
        assert_eq!(paint(&[], &["gauge", "f"]), "one\ngauge\nf\n");
        assert_eq!(
            paint(&["two\nthree"], &["g", "f"]),
            "one\ntwo\nthree\ng\nf\n"
        );
        assert_eq!(paint(&[], &["g"]), "one\ntwo\nthree\ng\n");
        assert_eq!(paint(&["end"], &[]), "one\ntwo\nthree\nend\n");
    }

    #[test]
    fn what_others_wrote_stays() {
        let mut screen = Screen::new(Paper::default());
        screen.paint(&[], &panel(&["gauge"]), 40).expect("paper");
        write!(screen.out, "$ \r\n").expect("paper");
        screen.forget();
        screen.paint(&[], &panel(&["gauge"]), 40).expect("paper");
        assert_eq!(screen.out.text(), "gauge\n$ \ngauge\n");
    }

    #[test]
    fn broken_rows_are_counted() {
        let mut screen = Screen::new(Vec::new());
        let rows = panel(&["a row of 20 columns.", "", "10 columns"]);
        screen.paint(&[], &rows, 20).expect("memory");
        let up: Vec<u64> = [40, 20, 19, 10, 7, 1].map(|c| screen.rows(c)).into();
        assert_eq!(up, [3, 3, 4, 4, 6, 31]);
    }
}
