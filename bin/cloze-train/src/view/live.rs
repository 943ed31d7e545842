//! The live view: the observer hands what it is told to a thread, which writes to the terminal. A terminal that is slow, or held by Ctrl-S, holds
//! the thread and not the run.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Stderr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, TryLockError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cloze_train::parallel::World;
use cloze_train::record::{Record, SkipRecord, StepRecord, ValidationRecord};
use cloze_train::{Begun, Observer};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use rustix::process::getpgrp;
use rustix::termios::{tcgetpgrp, tcgetwinsize};
use signal_hook::consts::SIGCONT;

use super::View;
use super::panel::{Panel, Stage};
use super::plain::Plain;
use super::screen::{Screen, rows};
use crate::stop::Stop;

/// Least time between two drawings; sizes are looked at as often.
const FRAME: Duration = Duration::from_millis(200);

/// Time after which clocks are drawn anew.
const TICK: Duration = Duration::from_secs(1);

/// Time between lines about a step.
const LINE: Duration = Duration::from_secs(60);

/// The log in the run folder.
const LOG: &str = "train.jsonl";

/// What may wait for a terminal that is held; more is not shown.
const WAITING: usize = 1_024;

/// What the thread is told.
enum Event {
    Line(String),
    Begin(Box<Panel>),
    Step(Box<StepRecord>, Duration),
    Validation(Box<ValidationRecord>),
    Skipped(u64, u64),
}

/// Takes lines of the log.
type Sink = Box<dyn FnMut(&str)>;

/// The observer.
pub struct Live<'a> {
    plain: Plain<'a, Sink>,
    steps: u64,
    hours: Option<f64>,
    run: PathBuf,
    line: Option<Instant>,
    /// Gone when the thread shall end.
    events: Option<SyncSender<Event>>,
    painter: Option<JoinHandle<()>>,
}

impl<'a> Live<'a> {
    /// Shows a run of so many steps, or hours, in folder `run`.
    pub fn new(
        (steps, hours): (u64, Option<f64>),
        style: bool,
        run: &Path,
        stop: &'a Stop,
    ) -> io::Result<Self> {
        let (events, receive) = sync_channel(WAITING);
        let painter = Painter {
            screen: Screen::new(io::stderr()),
            style,
            stop: stop.clone(),
            continued: Arc::default(),
            panicked: Arc::default(),
            panel: None,
            lines: Vec::new(),
            began: Instant::now(),
        };
        signal_hook::flag::register(SIGCONT, Arc::clone(&painter.continued))?;
        on_panic(Arc::clone(&painter.panicked));
        let painter = std::thread::Builder::new()
            .name("view".into())
            .spawn(move || painter.run(&receive))?;
        let send = events.clone();
        let sink = move |text: &str| {
            let _ = send.try_send(Event::Line(text.to_owned()));
        };
        Ok(Self {
            plain: Plain::new(steps, style, stop, Box::new(sink)),
            steps,
            hours,
            run: run.to_owned(),
            line: None,
            events: Some(events),
            painter: Some(painter),
        })
    }

    fn tell(&self, event: Event) {
        if let Some(events) = &self.events {
            let _ = events.try_send(event);
        }
    }
}

impl View for Live<'_> {
    fn elapsed(&self) -> Duration {
        self.plain.elapsed()
    }
}

impl Drop for Live<'_> {
    fn drop(&mut self) {
        // The thread ends when nobody can tell it anything.
        self.plain.replace_sink(Box::new(|_| {}));
        self.events = None;
        if let Some(painter) = self.painter.take() {
            let _ = painter.join();
        }
    }
}

impl Observer for Live<'_> {
    fn on_meeting(&mut self, world: &World, time: Duration) {
        self.plain.on_meeting(world, time);
    }

    fn on_met(&mut self) {
        self.plain.on_met();
    }

    fn on_start(&mut self, begun: &Begun<'_>) {
        self.plain.on_start(begun);
        let before = logged(&self.run, begun.step);
        let panel = Panel::new(self.steps, begun.step, before).by_the_clock(self.hours);
        self.tell(Event::Begin(Box::new(panel)));
    }

    fn on_step(&mut self, record: &StepRecord) {
        // The panel has it; a line now and then stays when the panel is gone.
        let last = *self.line.get_or_insert_with(Instant::now);
        if last.elapsed() >= LINE {
            self.plain.on_step(record);
            self.line = Some(Instant::now());
        }
        self.tell(Event::Step(Box::new(record.clone()), self.elapsed()));
    }

    fn on_validation(&mut self, record: &ValidationRecord) {
        self.plain.on_validation(record);
        self.tell(Event::Validation(Box::new(record.clone())));
    }

    fn on_skipped(&mut self, record: &SkipRecord) {
        self.plain.on_skipped(record);
        self.tell(Event::Skipped(record.step, record.skipped_total));
    }

    fn on_checkpoint(&mut self, path: &Path) {
        self.plain.on_checkpoint(path);
    }

    fn should_stop(&mut self, step: u64) -> bool {
        self.plain.should_stop(step)
    }
}

/// What the log of a run says of the steps up to `step`.
fn logged(run: &Path, step: u64) -> impl Iterator<Item = Record> {
    let file = File::open(run.join(LOG)).ok();
    let lines = file
        .filter(|_| step > 0)
        .into_iter()
        .flat_map(|file| BufReader::new(file).lines().map_while(Result::ok));
    lines
        .filter_map(|line| serde_json::from_str::<Record>(&line).ok())
        .filter(move |record| record.step() <= step)
}

/// Keeps the panel from being drawn over what is said of a panic.
fn on_panic(panicked: Arc<Mutex<bool>>) {
    let then = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        // Not for long: it may be the drawing that has panicked.
        for _ in 0..30 {
            match panicked.try_lock() {
                Ok(mut panicked) => *panicked = true,
                Err(TryLockError::Poisoned(_)) => {}
                Err(TryLockError::WouldBlock) => {
                    std::thread::sleep(Duration::from_millis(10));
                    continue;
                }
            }
            break;
        }
        then(info);
    }));
}

/// The thread.
struct Painter {
    screen: Screen<Stderr>,
    style: bool,
    stop: Stop,
    /// The process was stopped, and goes on: a shell may have written.
    continued: Arc<AtomicBool>,
    /// Held while something is written.
    panicked: Arc<Mutex<bool>>,
    panel: Option<Box<Panel>>,
    lines: Vec<String>,
    began: Instant,
}

impl Painter {
    fn run(mut self, events: &Receiver<Event>) {
        let mut drawn = Instant::now();
        let mut shown = (size(), false);
        let mut fresh = false;
        loop {
            let wait = match fresh {
                true => FRAME.saturating_sub(drawn.elapsed()),
                false => FRAME,
            };
            match events.recv_timeout(wait) {
                Ok(event) => {
                    self.hear(event);
                    fresh = true;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if drawn.elapsed() < FRAME {
                continue;
            }
            let now = (size(), self.stop.asked());
            if fresh || now != shown || drawn.elapsed() >= TICK {
                self.paint(now.0, if now.1 { Stage::Stops } else { Stage::Runs });
                (drawn, shown, fresh) = (Instant::now(), now, false);
            }
        }
        self.paint(size(), Stage::Over);
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Line(line) => self.lines.push(line),
            Event::Begin(panel) => {
                self.panel = Some(panel);
                self.began = Instant::now();
            }
            Event::Step(record, at) => {
                if let Some(panel) = &mut self.panel {
                    panel.step(*record, at);
                }
            }
            Event::Validation(record) => {
                if let Some(panel) = &mut self.panel {
                    panel.validation(*record);
                }
            }
            Event::Skipped(step, total) => {
                if let Some(panel) = &mut self.panel {
                    panel.skipped(step, total);
                }
            }
        }
    }

    fn paint(&mut self, (columns, height): (u16, u16), stage: Stage) {
        let Ok(panicked) = self.panicked.lock() else {
            return;
        };
        let foreground = foreground();
        if *panicked || !foreground || self.continued.swap(false, Ordering::Relaxed) {
            self.screen.forget();
        }
        let panel = self.panel.as_ref().filter(|_| !*panicked && foreground);
        let rows = panel.map_or_else(Vec::new, |panel| {
            let area = Rect::new(0, 0, columns, Panel::height(columns, height));
            let mut buffer = Buffer::empty(area);
            panel.draw(self.began.elapsed(), stage, self.style, area, &mut buffer);
            rows(&buffer)
        });
        if rows.is_empty() && self.lines.is_empty() && self.screen.is_blank() {
            return;
        }
        let lines = std::mem::take(&mut self.lines);
        // A view that cannot be shown is not worth stopping for.
        let _ = self.screen.paint(&lines, &rows, columns);
    }
}

/// Columns and rows of the terminal; what is usual where it does not say.
fn size() -> (u16, u16) {
    match tcgetwinsize(io::stderr()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col, size.ws_row),
        _ => (80, 24),
    }
}

/// Whether the terminal is ours, and not that of a shell which has us in the background.
fn foreground() -> bool {
    // A terminal that controls nobody is everybody's.
    tcgetpgrp(io::stderr()).map_or(true, |group| group == getpgrp())
}
