//! A small HTTP server on loopback that says what a test wants it to say.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET`, `HEAD`.
    pub method: String,
    /// Path and query, as they came.
    pub target: String,
    headers: Vec<(String, String)>,
}

impl Request {
    /// The path, decoded.
    #[must_use]
    pub fn path(&self) -> String {
        decoded(self.target.split('?').next().unwrap_or_default())
    }

    /// A value of the query, decoded.
    #[must_use]
    pub fn query(&self, name: &str) -> Option<String> {
        let (_, query) = self.target.split_once('?')?;
        let pairs = query
            .split('&')
            .map(|p| p.split_once('=').unwrap_or((p, "")));
        let (_, value) = pairs.into_iter().find(|(n, _)| *n == name)?;
        Some(decoded(&value.replace('+', " ")))
    }

    /// A header, by its name in small letters.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The bytes of `all` that are asked for.
    fn range(&self, all: usize) -> Option<Range<usize>> {
        let (from, to) = self
            .header("range")?
            .strip_prefix("bytes=")?
            .split_once('-')?;
        let from: usize = from.parse().ok()?;
        let to = to.parse().map_or(all, |last: usize| all.min(last + 1));
        Some(from..to)
    }

    fn read(from: &mut impl BufRead) -> Option<Self> {
        let mut line = || {
            let mut line = String::new();
            let n = from.read_line(&mut line).ok()?;
            (n > 0).then(|| line.trim_end().to_owned())
        };
        let first = line()?;
        let mut words = first.split(' ');
        let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        let mut headers = Vec::new();
        loop {
            let header = line()?;
            if header.is_empty() {
                break;
            }
            let (name, value) = header.split_once(':')?;
            headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
        Some(Self {
            method,
            target,
            headers,
        })
    }
}

/// What is answered.
#[derive(Clone, Debug)]
pub struct Response {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    dies_after: Option<usize>,
    sized: bool,
}

impl Response {
    /// A status, with a body that says it.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: format!("status {status}").into_bytes(),
            dies_after: None,
            sized: true,
        }
    }

    /// A status, with a body.
    #[must_use]
    pub fn refusal(status: u16, body: &[u8]) -> Self {
        Self {
            body: body.into(),
            ..Self::status(status)
        }
    }

    /// A body, whole.
    #[must_use]
    pub fn whole(body: &[u8]) -> Self {
        Self {
            status: 200,
            body: body.into(),
            ..Self::status(200)
        }
    }

    /// The part of `bytes` that is asked for, if they are still those that `If-Match` names.
    #[must_use]
    pub fn part(request: &Request, bytes: &[u8]) -> Self {
        let tag = etag(bytes);
        if request.header("if-match").is_some_and(|asked| asked != tag) {
            return Self::status(412);
        }
        let answer = match request.range(bytes.len()) {
            None => Self::whole(bytes),
            Some(range) if range.start >= range.end => {
                Self::status(416).with("Content-Range", &format!("bytes */{}", bytes.len()))
            }
            Some(range) => {
                let (from, last, all) = (range.start, range.end - 1, bytes.len());
                let mut part = Self::whole(&bytes[range]);
                part.status = 206;
                part.with("Content-Range", &format!("bytes {from}-{last}/{all}"))
            }
        };
        answer
            .with("ETag", &tag)
            .with("Last-Modified", "Wed, 01 Jul 2026 12:00:00 GMT")
    }

    /// With a header, instead of one of the same name.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self = self.without(name);
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Without a header.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(n, _)| n != name);
        self
    }

    /// The connection ends after so many bytes of the body, whatever its length was said to be.
    #[must_use]
    pub fn dies_after(mut self, bytes: usize) -> Self {
        self.dies_after = Some(bytes);
        self
    }

    /// How long the body is shows at its end, by the end of the connection.
    #[must_use]
    pub fn without_length(mut self) -> Self {
        self.sized = false;
        self.dies_after(usize::MAX)
    }

    /// Whether the connection can be used again.
    fn write(&self, method: &str, to: &mut TcpStream) -> std::io::Result<bool> {
        let mut head = format!("HTTP/1.1 {} Said\r\n", self.status);
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if self.sized && !self.headers.iter().any(|(n, _)| n == "Content-Length") {
            let _ = write!(head, "Content-Length: {}\r\n", self.body.len());
        }
        to.write_all(head.as_bytes())?;
        to.write_all(b"\r\n")?;
        if method == "HEAD" {
            return Ok(self.sized);
        }
        let given = self.dies_after.unwrap_or(self.body.len());
        to.write_all(&self.body[..given.min(self.body.len())])?;
        to.flush()?;
        if self.dies_after.is_some() {
            to.shutdown(Shutdown::Both)?;
        }
        Ok(self.dies_after.is_none())
    }
}

/// A server, until it is dropped.
pub struct Server {
    at: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Answers as `answer` says, on a port of its own.
    ///
    /// # Panics
    /// Where no port can be had.
    #[must_use]
    pub fn start(answer: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("an address");
        let seen: Arc<Mutex<Vec<Request>>> = Arc::default();
        let stopped = Arc::new(AtomicBool::new(false));
        let answer = Arc::new(answer);
        let (all, ended) = (seen.clone(), stopped.clone());
        let thread = std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                if ended.load(Ordering::SeqCst) {
                    break;
                }
                let (answer, all) = (answer.clone(), all.clone());
                // A connection that breaks is no concern of the server's.
                std::thread::spawn(move || serve(connection, &*answer, &all));
            }
        });
        Self {
            at,
            seen,
            stopped,
            thread: Some(thread),
        }
    }

    /// The address of a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.at)
    }

    /// Host and port.
    #[must_use]
    pub fn at(&self) -> SocketAddr {
        self.at
    }

    /// What was asked for since the last time that this was.
    ///
    /// # Panics
    /// Where an answer panicked.
    #[must_use]
    pub fn seen(&self) -> Vec<Request> {
        std::mem::take(&mut *self.seen.lock().expect("no answer panicked"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the thread, which waits for a connection.
        let _ = TcpStream::connect(self.at);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    mut connection: TcpStream,
    answer: &(dyn Fn(&Request) -> Response + Send + Sync),
    seen: &Mutex<Vec<Request>>,
) -> Option<()> {
    let mut reader = BufReader::new(connection.try_clone().ok()?);
    loop {
        let request = Request::read(&mut reader)?;
        if let Ok(mut seen) = seen.lock() {
            seen.push(request.clone());
        }
        let goes_on = answer(&request).write(&request.method, &mut connection);
        if !goes_on.ok()? {
            return None;
        }
    }
}

/// Objects by key, as S3 shows them to those who ask by paths: `/BUCKET/KEY`, and lists of version 2.
#[derive(Clone, Debug, Default)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// What is in it.
    pub objects: BTreeMap<String, Vec<u8>>,
    /// Most keys of one answer to a list.
    pub page: usize,
}

impl Bucket {
    /// A bucket.
    #[must_use]
    pub fn new(name: &str, objects: &[(&str, &[u8])]) -> Self {
        let objects = objects
            .iter()
            .map(|(key, bytes)| ((*key).into(), (*bytes).into()));
        Self {
            name: name.into(),
            objects: objects.collect(),
            page: 1_000,
        }
    }

    /// Its answer.
    #[must_use]
    pub fn answer(&self, request: &Request) -> Response {
        let path = request.path();
        let Some(rest) = path.strip_prefix(&format!("/{}", self.name)) else {
            return Response::status(404);
        };
        match rest.strip_prefix('/').unwrap_or(rest) {
            "" => self.list(request),
            key => match self.objects.get(key) {
                Some(bytes) => Response::part(request, bytes),
                None => Response {
                    body: b"<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>".into(),
                    ..Response::status(404)
                },
            },
        }
    }

    fn list(&self, request: &Request) -> Response {
        let asked = |name: &str| request.query(name).unwrap_or_default();
        let prefix = asked("prefix");
        let after = asked("continuation-token").max(asked("start-after"));
        let mut keys = self
            .objects
            .iter()
            .filter(|(key, _)| key.starts_with(&prefix) && **key > after);
        let page: Vec<_> = keys.by_ref().take(self.page).collect();
        let mut xml = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult><Name>{}</Name><IsTruncated>{}</IsTruncated>",
            self.name,
            keys.next().is_some()
        );
        for (key, bytes) in &page {
            let (tag, size) = (etag(bytes), bytes.len());
            let _ = write!(
                xml,
                "<Contents><Key>{key}</Key><LastModified>2026-07-01T12:00:00.000Z</LastModified><ETag>{tag}</ETag><Size>{size}</Size></Contents>"
            );
        }
        if let Some((last, _)) = page.last() {
            let _ = write!(xml, "<NextContinuationToken>{last}</NextContinuationToken>");
        }
        xml.push_str("</ListBucketResult>");
        Response::whole(xml.as_bytes()).with("Content-Type", "application/xml")
    }
}

/// A strong tag of what `bytes` are.
#[must_use]
pub fn etag(bytes: &[u8]) -> String {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    format!("\"{:016x}\"", bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix))
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let code = std::str::from_utf8(after.get(..2).unwrap_or_default());
        let code = code.ok().and_then(|c| u8::from_str_radix(c, 16).ok());
        match (first, code) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            (first, _) => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
