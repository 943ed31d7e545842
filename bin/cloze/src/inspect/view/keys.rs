//! The viewer as keys change it.

use cloze_cli::format;
use cloze_shard::Split;
use cloze_shard::masking::{MaskUnit, Masker, MaskingRule};
use cloze_shard::random::{Key, Permutation, Stage};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::find::{Found, Search, Wanted};
use super::words::{Pattern, Words};
use crate::inspect::document::resolve;
use crate::inspect::sample::Preview;
use crate::inspect::{Opened, Refused};

/// What comes after a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    On,
    Quit,
    Suspend,
}

/// What is typed at the foot of the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    Row,
    Document,
    Text,
}

impl Ask {
    pub fn prompt(self) -> &'static str {
        match self {
            Self::Row => "go to row: ",
            Self::Document => "document (id, hash or #place): ",
            Self::Text => "/",
        }
    }
}

/// What keys mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    Rows,
    Help,
    Asking(Ask, String),
}

/// All that is seen and can be changed.
pub struct Viewer<'a> {
    pub opened: &'a Opened,
    pub words: Words,
    pub splits: Vec<(&'a str, &'a Split)>,
    pub split: usize,
    pub row: u64,
    pub mode: Mode,
    /// What there is to say, until the next key.
    pub message: Option<String>,
    pub wanted: Option<Wanted>,
    pub search: Option<Search>,
    pub show_ids: bool,
    pub show_masks: bool,
    pub colours: bool,
    pub preview: Preview,
    /// Lines of the row, or of the help, that are above the screen; the drawing says how many there may be, and how many are seen at a time.
    pub above: usize,
    pub most_above: usize,
    pub page: usize,
    drawn: u64,
}

impl<'a> Viewer<'a> {
    /// A viewer at the first row of a split, whose previews are those of the rule and the seed.
    pub fn new(
        opened: &'a Opened,
        split: &str,
        rule: MaskingRule,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let splits: Vec<_> = opened.dataset.splits().collect();
        let at = splits.iter().position(|(name, _)| *name == split);
        Ok(Self {
            opened,
            words: Words::new(&opened.vocabulary),
            split: at.unwrap_or(0),
            splits,
            row: 0,
            mode: Mode::Rows,
            message: None,
            wanted: None,
            search: None,
            show_ids: false,
            show_masks: false,
            colours: true,
            preview: Preview {
                masker: Masker::of(rule, &opened.vocabulary)?,
                seed,
                epoch: 0,
            },
            above: 0,
            most_above: 0,
            page: 1,
            drawn: 0,
        })
    }

    /// The split that is looked at; none in a dataset without any.
    pub fn here(&self) -> Option<&'a Split> {
        self.splits.get(self.split).map(|(_, split)| *split)
    }

    pub fn rows(&self) -> u64 {
        self.here().map_or(0, Split::rows)
    }

    /// Whether [`Viewer::look_on`] has something to do.
    pub fn is_looking(&self) -> bool {
        self.search.is_some()
    }

    /// Looks at some more rows for what is wanted.
    pub fn look_on(&mut self) {
        let (Some(split), Some(wanted)) = (self.here(), &self.wanted) else {
            self.search = None;
            return;
        };
        let Some(search) = &mut self.search else {
            return;
        };
        match search.go_on(split, wanted, &self.words) {
            Found::NotYet => return,
            Found::At(row) => {
                self.message = search.came_round(row).map(str::to_owned);
                self.go_to(row);
            }
            Found::Nowhere => {
                let (name, _) = self.splits[self.split];
                self.message = Some(format!("{} is in no row of {name}", wanted.name()));
            }
        }
        self.search = None;
    }

    fn go_to(&mut self, row: u64) {
        self.row = row.min(self.rows().saturating_sub(1));
        self.above = 0;
    }

    /// A key is pressed.
    pub fn press(&mut self, key: KeyEvent) -> Flow {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if control => return Flow::Quit,
            KeyCode::Char('z') if control => return Flow::Suspend,
            _ => {}
        }
        self.message = None;
        if self.search.take().is_some() && key.code == KeyCode::Esc {
            self.message = Some("the search was stopped".into());
            return Flow::On;
        }
        match std::mem::replace(&mut self.mode, Mode::Rows) {
            Mode::Asking(ask, text) => self.typed(ask, text, key.code, control),
            Mode::Help => {
                match key.code {
                    KeyCode::Down | KeyCode::Char('j') => self.scroll(1),
                    KeyCode::Up | KeyCode::Char('k') => self.scroll(-1),
                    KeyCode::PageDown | KeyCode::Char(' ') => self.scroll(self.page as isize),
                    KeyCode::PageUp => self.scroll(-(self.page as isize)),
                    _ => {
                        self.above = 0;
                        return Flow::On;
                    }
                }
                self.mode = Mode::Help;
            }
            Mode::Rows if control => {}
            Mode::Rows => return self.command(key.code),
        }
        Flow::On
    }

    fn scroll(&mut self, lines: isize) {
        self.above = self.above.saturating_add_signed(lines).min(self.most_above);
    }

    fn command(&mut self, key: KeyCode) -> Flow {
        let last = self.rows().saturating_sub(1);
        match key {
            KeyCode::Char('q') => return Flow::Quit,
            KeyCode::Right | KeyCode::PageDown | KeyCode::Char('l' | ' ') => {
                if self.row < last {
                    self.go_to(self.row + 1);
                } else {
                    self.say("this is the last row");
                }
            }
            KeyCode::Left | KeyCode::PageUp | KeyCode::Char('h') | KeyCode::Backspace => {
                match self.row.checked_sub(1) {
                    Some(row) => self.go_to(row),
                    None => self.say("this is the first row"),
                }
            }
            KeyCode::Down | KeyCode::Char('j') => self.scroll(1),
            KeyCode::Up | KeyCode::Char('k') => self.scroll(-1),
            KeyCode::Home => self.go_to(0),
            KeyCode::End | KeyCode::Char('G') => self.go_to(last),
            KeyCode::Char('r') if last > 0 => {
                let order = Permutation::new(Key::new(0, Stage::Sample), 0, 0, last + 1);
                self.go_to(order.at(self.drawn % (last + 1)));
                self.drawn += 1;
            }
            KeyCode::Tab | KeyCode::Char('s') if !self.splits.is_empty() => {
                self.split = (self.split + 1) % self.splits.len();
                self.go_to(0);
            }
            KeyCode::Char('i') => self.show_ids = !self.show_ids,
            KeyCode::Char('m') => self.show_masks = !self.show_masks,
            KeyCode::Char('+' | '=') => self.remask(|p| p.epoch = p.epoch.saturating_add(1)),
            KeyCode::Char('-') => self.remask(|p| p.epoch = p.epoch.saturating_sub(1)),
            KeyCode::Char('>') => self.remask(|p| p.seed = p.seed.saturating_add(1)),
            KeyCode::Char('<') => self.remask(|p| p.seed = p.seed.saturating_sub(1)),
            KeyCode::Char('u') => self.next_unit(),
            KeyCode::Char('?') => {
                self.above = 0;
                self.mode = Mode::Help;
            }
            KeyCode::Char('/') => self.ask(Ask::Text),
            KeyCode::Char('g') => self.ask(Ask::Row),
            KeyCode::Char('d') => self.ask(Ask::Document),
            KeyCode::Char('n') => self.find_next(true),
            KeyCode::Char('N') => self.find_next(false),
            KeyCode::Esc => self.wanted = None,
            _ => {}
        }
        Flow::On
    }

    fn say(&mut self, text: impl Into<String>) {
        self.message = Some(text.into());
    }

    fn ask(&mut self, ask: Ask) {
        self.mode = Mode::Asking(ask, String::new());
    }

    /// Changes what masks are drawn by, and shows them.
    fn remask(&mut self, change: impl FnOnce(&mut Preview)) {
        self.show_masks = true;
        change(&mut self.preview);
    }

    fn next_unit(&mut self) {
        self.show_masks = true;
        let rule = *self.preview.masker.rule();
        let unit = match rule.unit {
            MaskUnit::Token => MaskUnit::Word,
            MaskUnit::Word => MaskUnit::SPAN,
            MaskUnit::Span { .. } => MaskUnit::Token,
        };
        match Masker::of(MaskingRule { unit, ..rule }, &self.opened.vocabulary) {
            Ok(masker) => self.preview.masker = masker,
            Err(error) => self.say(error.to_string()),
        }
    }

    /// A key while something is typed.
    fn typed(&mut self, ask: Ask, mut text: String, key: KeyCode, control: bool) {
        match key {
            KeyCode::Esc => return,
            KeyCode::Enter => return self.answered(ask, text.trim()),
            // Nothing is left to take away.
            KeyCode::Backspace if text.pop().is_none() => return,
            KeyCode::Char('u') if control => text.clear(),
            KeyCode::Char(c) if !control && !c.is_control() => text.push(c),
            _ => {}
        }
        self.mode = Mode::Asking(ask, text);
    }

    fn answered(&mut self, ask: Ask, text: &str) {
        if text.is_empty() {
            return;
        }
        let wanted = match ask {
            Ask::Row => return self.go_to_row(text),
            Ask::Text => Wanted::Text(Pattern::new(text)),
            Ask::Document => match resolve(self.opened, text) {
                Ok(named) => {
                    let docs = named.iter().map(|n| n.record.doc).collect();
                    Wanted::Documents(docs, text.to_owned())
                }
                Err(Refused { hint, .. }) => {
                    return self.say(format!("no document {text:?}: {hint}"));
                }
            },
        };
        self.wanted = Some(wanted);
        self.search = Some(Search::new(self.row, true));
    }

    fn go_to_row(&mut self, text: &str) {
        let digits: String = text.chars().filter(|&c| c != ',' && c != '_').collect();
        match digits.parse::<u64>() {
            Ok(row) if row < self.rows() => self.go_to(row),
            _ => self.say(format!(
                "rows are 0 to {}, not {text:?}",
                format::count(self.rows().saturating_sub(1))
            )),
        }
    }

    fn find_next(&mut self, forward: bool) {
        if self.wanted.is_none() {
            return self.say("nothing to look for: / looks for words, d for a document");
        }
        self.search = Some(Search::beside(self.row, self.rows(), forward));
    }
}
