//! Bytes of an object by ranges: a connection that breaks is gone on with, if it is certain that the bytes are those of the same object.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use object_store::path::Path as Key;
use object_store::{GetOptions, GetResult, ObjectMeta, ObjectStore};
use tokio::sync::mpsc::Sender;
use tokio::time::timeout;

use super::Address;
use super::store::Engine;
use super::why::Why;

/// How objects are fetched.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Bytes that one request asks for.
    pub part: u64,
    /// Requests at a time, for one object.
    pub ahead: usize,
    /// Pieces that wait to be read.
    pub queue: usize,
    /// How long it is tried again where nothing arrives: when an object is looked up, and when it is read.
    pub patience: [Duration; 2],
    /// The first and the longest wait before it is tried again.
    pub wait: [Duration; 2],
    /// How long one waits for the next bytes.
    pub stall: Duration,
    /// How long one waits for an answer before a person is told.
    pub quiet: Duration,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            part: 8 << 20,
            ahead: 4,
            queue: 2,
            patience: [Duration::from_secs(5), Duration::from_secs(120)],
            wait: [Duration::from_millis(200), Duration::from_secs(10)],
            stall: Duration::from_secs(30),
            quiet: Duration::from_secs(4),
        }
    }
}

const LESS: &str = "the server sends less than it says that there is";
const MORE: &str = "the server sends more than it says that there is";

/// Bytes of a piece of what comes in one answer.
const PIECE: usize = 1 << 20;

/// An object that was found.
#[derive(Clone, Debug)]
pub struct Object {
    pub(super) what: Arc<What>,
    pub(super) engine: Arc<Engine>,
}

impl PartialEq for Object {
    fn eq(&self, other: &Self) -> bool {
        let of = |o: &Self| {
            (
                o.what.address.clone(),
                o.what.bytes,
                o.what.etag.clone(),
                o.what.modified,
            )
        };
        of(self) == of(other)
    }
}

impl Eq for Object {}

/// What is known of an object, and where it is.
#[derive(Debug)]
pub struct What {
    pub address: Address,
    pub path: PathBuf,
    pub store: Arc<dyn ObjectStore>,
    pub key: Key,
    pub bytes: u64,
    pub etag: Option<String>,
    pub modified: u64,
    /// The server says that it is a page.
    pub page: bool,
    pub manner: Manner,
}

/// What is handed on.
#[derive(Debug)]
pub enum Piece {
    Bytes(Bytes),
    /// The connection broke after so many bytes of the object, and is gone on with.
    Broke(Why, u64),
    Failed(Why, u64),
}

/// Trying again, while that makes sense.
pub struct Again {
    patience: Duration,
    since: Instant,
    wait: Duration,
    waits: [Duration; 2],
    /// How often it was tried.
    tries: u32,
}

impl Again {
    /// Where nothing was heard yet.
    pub fn looking(manner: &Manner) -> Self {
        Self::new(manner.patience[0], manner.wait)
    }

    /// Where something is read.
    fn reading(manner: &Manner) -> Self {
        Self::new(manner.patience[1], manner.wait)
    }

    fn new(patience: Duration, waits: [Duration; 2]) -> Self {
        Self {
            patience,
            since: Instant::now(),
            wait: waits[0],
            waits,
            tries: 0,
        }
    }

    /// Something arrived.
    pub fn arrived(&mut self) {
        *self = Self::new(self.patience, self.waits);
    }

    /// Waits before the next try, or gives up.
    pub async fn wait(&mut self, mut why: Why) -> Result<(), Why> {
        self.tries += 1;
        let since = self.since.elapsed();
        if !why.passes {
            return Err(why);
        }
        if since + self.wait > self.patience {
            why.why.push_str(&match self.tries {
                1 => "; tried once".to_owned(),
                n => format!("; tried {n} times in {:.0} seconds", since.as_secs_f64()),
            });
            return Err(why);
        }
        tokio::time::sleep(self.wait).await;
        self.wait = (self.wait * 2).min(self.waits[1]);
        Ok(())
    }
}

/// The reader is gone: nobody wants the rest.
struct Unwanted;

/// Where bytes of a range go.
enum To<'a> {
    Part(&'a mut Vec<u8>, &'a mut Vec<(Why, u64)>),
    Reader(&'a Sender<Piece>, BytesMut),
}

impl To<'_> {
    async fn push(&mut self, bytes: Bytes) -> Result<(), Unwanted> {
        match self {
            Self::Part(part, _) => part.extend_from_slice(&bytes),
            Self::Reader(to, piece) => {
                piece.extend_from_slice(&bytes);
                if piece.len() >= PIECE {
                    let whole = piece.split().freeze();
                    to.send(Piece::Bytes(whole)).await.map_err(|_| Unwanted)?;
                }
            }
        }
        Ok(())
    }

    async fn broke(&mut self, why: &Why, byte: u64) -> Result<(), Unwanted> {
        match self {
            Self::Part(_, broke) => broke.push((why.clone(), byte)),
            Self::Reader(to, piece) => {
                let whole = piece.split().freeze();
                to.send(Piece::Bytes(whole)).await.map_err(|_| Unwanted)?;
                let broke = Piece::Broke(why.clone(), byte);
                to.send(broke).await.map_err(|_| Unwanted)?;
            }
        }
        Ok(())
    }

    async fn end(self) -> Result<(), Unwanted> {
        match self {
            Self::Part(..) => Ok(()),
            Self::Reader(to, piece) => {
                let last = Piece::Bytes(piece.freeze());
                to.send(last).await.map_err(|_| Unwanted)
            }
        }
    }
}

/// A part, and where the connection broke on the way.
type Part = Result<(Vec<u8>, Vec<(Why, u64)>), (Why, u64)>;

impl What {
    /// Sends all bytes of it, or why not.
    pub async fn send(self: Arc<Self>, to: Sender<Piece>) {
        let failed = match self.clone().send_all(&to).await {
            Err(failed) => failed,
            Ok(()) => return,
        };
        // Nobody listens, where the reader is gone.
        let _ = to.send(Piece::Failed(failed.0, failed.1)).await;
    }

    async fn send_all(self: Arc<Self>, to: &Sender<Piece>) -> Result<(), (Why, u64)> {
        // Without a tag nobody knows whether two answers are of the same object.
        if self.tag().is_none() || self.bytes <= self.manner.part {
            return self.whole(to).await;
        }
        let (size, part) = (self.bytes, self.manner.part);
        let first = match self.part(0..part).await {
            Err((why, 0)) if why.whole_only => return self.whole(to).await,
            first => first,
        };
        if hand_on(first, to).await?.is_err() {
            return Ok(());
        }
        let rest = (1..size.div_ceil(part)).map(|i| i * part..size.min((i + 1) * part));
        let started = rest.map(|range| {
            let what = self.clone();
            Task(tokio::spawn(async move { what.part(range).await }))
        });
        let mut parts = stream::iter(started).buffered(self.manner.ahead);
        while let Some(part) = parts.next().await {
            if hand_on(part, to).await?.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// All of it, by one request, if it does not break.
    async fn whole(&self, to: &Sender<Piece>) -> Result<(), (Why, u64)> {
        let to = To::Reader(to, BytesMut::new());
        self.range(0..self.bytes, to).await
    }

    async fn part(&self, range: Range<u64>) -> Part {
        let size = usize::try_from(range.end - range.start).unwrap_or_default();
        let (mut part, mut broke) = (Vec::with_capacity(size), Vec::new());
        self.range(range, To::Part(&mut part, &mut broke)).await?;
        Ok((part, broke))
    }

    /// Bytes of `range`, in order. A failure says after which byte of the object it was.
    async fn range(&self, range: Range<u64>, mut to: To<'_>) -> Result<(), (Why, u64)> {
        let mut at = range.start;
        let mut again = Again::reading(&self.manner);
        let mut broke: Option<String> = None;
        while at < range.end {
            let mut why = match self.ask(at..range.end).await {
                Err(why) => why,
                Ok(answer) => {
                    let mut bytes = answer.into_stream();
                    loop {
                        let some = match timeout(self.manner.stall, bytes.next()).await {
                            Ok(Some(Ok(some))) => some,
                            Ok(Some(Err(e))) => break Why::of(&e, &self.address),
                            Ok(None) => break Why::passing(LESS),
                            Err(_) => break self.silent(),
                        };
                        at += some.len() as u64;
                        if at > range.end {
                            return Err((Why::new(MORE, super::why::DOWNLOAD), range.end));
                        }
                        again.arrived();
                        if to.push(some).await.is_err() {
                            return Ok(());
                        }
                        if at == range.end {
                            // The reader that is gone misses nothing.
                            let _ = to.end().await;
                            return Ok(());
                        }
                    }
                }
            };
            if let Some(before) = broke.take().filter(|_| why.whole_only) {
                why.why = format!(
                    "{before}, and {}, by which it could be gone on with",
                    why.why
                );
            }
            broke = Some(why.why.clone());
            // What was asked for from its beginning can be asked for again; the middle of it only where it is certain that it is the same.
            if at > range.start && self.tag().is_none() {
                let why = Why::new(
                    format!(
                        "{}, of {}, and the server does not say (by an ETag) whether the rest would be of the same object",
                        why.why, self.bytes
                    ),
                    super::why::DOWNLOAD,
                );
                return Err((why, at));
            }
            again.wait(why.clone()).await.map_err(|why| (why, at))?;
            if to.broke(&why, at).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn ask(&self, range: Range<u64>) -> Result<GetResult, Why> {
        let all = range == (0..self.bytes);
        let options = GetOptions {
            if_match: self.tag().map(str::to_owned),
            range: (!all).then(|| range.clone().into()),
            ..GetOptions::default()
        };
        let answer = timeout(self.manner.stall, self.store.get_opts(&self.key, options)).await;
        let answer = answer.map_err(|_| self.silent())?;
        let answer = answer.map_err(|e| Why::of(&e, &self.address))?;
        match self.is_same(&answer.meta) && answer.range == range {
            true => Ok(answer),
            false => Err(Why::changed()),
        }
    }

    fn silent(&self) -> Why {
        let seconds = self.manner.stall.as_secs_f64();
        Why::passing(format!("nothing arrived for {seconds:.0} seconds"))
    }

    /// The tag, if equal tags mean equal bytes.
    fn tag(&self) -> Option<&str> {
        self.etag.as_deref().filter(|tag| !tag.starts_with("W/"))
    }

    fn is_same(&self, now: &ObjectMeta) -> bool {
        let bare = |tag: &str| tag.trim_start_matches("W/").trim_matches('"').to_owned();
        let (then, modified) = (self.etag.as_deref(), modified(now));
        self.bytes == now.size
            && match (then, now.e_tag.as_deref()) {
                (Some(then), Some(now)) => bare(then) == bare(now),
                _ => self.modified == 0 || modified == 0 || self.modified == modified,
            }
    }
}

/// Nanoseconds since 1970; 0 where it is not known.
pub fn modified(meta: &ObjectMeta) -> u64 {
    let time = meta.last_modified.timestamp_nanos_opt();
    time.and_then(|t| u64::try_from(t).ok()).unwrap_or(0)
}

async fn hand_on(part: Part, to: &Sender<Piece>) -> Result<Result<(), Unwanted>, (Why, u64)> {
    let (bytes, broke) = part?;
    for (why, byte) in broke {
        if to.send(Piece::Broke(why, byte)).await.is_err() {
            return Ok(Err(Unwanted));
        }
    }
    let sent = to.send(Piece::Bytes(bytes.into())).await;
    Ok(sent.map_err(|_| Unwanted))
}

/// A part on its way, which is given up when nobody waits for it.
struct Task(tokio::task::JoinHandle<Part>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Future for Task {
    type Output = Part;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Part> {
        let done = std::pin::Pin::new(&mut self.0).poll(context);
        done.map(|done| done.unwrap_or_else(|e| Err((Why::passing(e.to_string()), 0))))
    }
}
