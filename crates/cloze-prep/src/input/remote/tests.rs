//! Fetching by parts, and what becomes of it when a network is at its worst.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cloze_tests::server::{Bucket, Request, Response, Server};

use super::fetch::{Manner, Piece};
use super::reader::Reader;
use super::{Address, Found, Object, Scheme, Stores};
use crate::input::tests::compressed;
use crate::input::{InputError, InputOptions, InputPlan, OnBadInput, SourceReader};
use crate::{Config, Progress, Silent, Stage};

const PART: usize = 1_000;

fn manner() -> Manner {
    Manner {
        part: PART as u64,
        ahead: 3,
        queue: 1,
        patience: [Duration::from_millis(500); 2],
        wait: [Duration::from_millis(5), Duration::from_millis(200)],
        stall: Duration::from_millis(700),
        quiet: Duration::from_millis(50),
    }
}

fn address(text: &str) -> Address {
    Address::of(Path::new(text)).unwrap().unwrap()
}

fn look_up(text: &str, variables: &[(&str, &str)]) -> Result<Vec<Object>, InputError> {
    let variables = variables.iter().map(|(n, v)| ((*n).into(), (*v).into()));
    let stores = Stores::with(variables, manner());
    let mut found = Vec::new();
    for one in stores.look_up(&[address(text)], &Silent)? {
        match one {
            Found::Named(objects) | Found::Below(_, objects) => found.extend(objects),
        }
    }
    Ok(found)
}

fn read(object: &Object) -> Result<Vec<u8>, InputError> {
    let mut bytes = Vec::new();
    let read = object.open(&Silent).read_to_end(&mut bytes);
    read.map(|_| bytes).map_err(|e| e.downcast().unwrap())
}

/// Bytes of which no two places look alike.
fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|i| (i * i / 7 + i) as u8).collect()
}

/// A server of `bytes`, that answers to the `n`th request for any of them as `answer` says.
fn server(
    bytes: Vec<u8>,
    answer: impl Fn(usize, &Request, &[u8]) -> Response + Send + Sync + 'static,
) -> Server {
    let asked = AtomicUsize::new(0);
    Server::start(move |request| match request.method.as_str() {
        "HEAD" => Response::part(request, &bytes),
        _ => answer(asked.fetch_add(1, Ordering::SeqCst), request, &bytes),
    })
}

fn ranges(server: &Server) -> Vec<Option<String>> {
    let gets = server.seen().into_iter().filter(|r| r.method == "GET");
    gets.map(|r| r.header("range").map(str::to_owned)).collect()
}

/// What a person is told.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Progress for Told {
    fn begin(&self, _: Stage, _: u64) {}
    fn advance(&self, _: u64) {}
    fn count(&self, _: u64, _: u64) {}
    fn end(&self) {}
    fn say(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
}

#[test]
fn objects_of_every_size_are_whole() {
    for size in [
        0,
        1,
        PART - 1,
        PART,
        PART + 1,
        2 * PART,
        10 * PART,
        10 * PART + 7,
    ] {
        let server = server(bytes(size), |_, r, b| Response::part(r, b));
        let [object] = &look_up(&server.url("/a"), &[]).unwrap()[..] else {
            panic!("one object");
        };
        assert_eq!(object.bytes(), size as u64);
        assert!(read(object).unwrap() == bytes(size), "{size}");
        let asked = ranges(&server);
        let parts = if size <= PART {
            usize::from(size > 0)
        } else {
            size.div_ceil(PART)
        };
        assert_eq!(asked.len(), parts, "{size} {asked:?}");
        assert_eq!(asked.iter().all(Option::is_none), size <= PART);
        // In pieces of any length.
        let mut reader = object.open(&Silent);
        let mut again = Vec::new();
        let mut buffer = [0; 300];
        for wanted in (1..300).cycle() {
            let n = reader.read(&mut buffer[..wanted]).unwrap();
            if n == 0 {
                break;
            }
            again.extend_from_slice(&buffer[..n]);
        }
        assert!(again == bytes(size), "{size}");
        assert_eq!(reader.read(&mut buffer).unwrap(), 0);
    }
}

/// Faults in every order of every kind: the bytes are right, or there is an error.
#[test]
fn no_fault_makes_other_bytes() {
    let all = bytes(6 * PART + 10);
    let (mut whole, mut failed) = (0, 0);
    for case in 0..60_usize {
        let draw = move |n: usize, of: usize| {
            let mixed = (case * 1_000 + n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (mixed >> 40) % of
        };
        let server = server(all.clone(), move |n, request, bytes| match draw(n, 9) {
            0 => Response::part(request, bytes).dies_after(draw(n + 500, PART)),
            1 => Response::status(500),
            2 => Response::part(request, bytes).dies_after(0),
            3 if case % 3 == 0 => Response::part(request, &bytes[1..]),
            4 if case % 5 == 0 => Response::whole(bytes),
            _ => Response::part(request, bytes),
        });
        let objects = look_up(&server.url("/a"), &[]).unwrap();
        match read(&objects[0]) {
            Ok(found) => {
                assert!(found == all, "{case}");
                whole += 1;
            }
            Err(error) => {
                assert!(error.to_string().contains(": after byte "), "{error}");
                failed += 1;
            }
        }
    }
    assert!(whole > 20 && failed > 3, "{whole} {failed}");
}

#[test]
fn a_part_that_breaks_is_gone_on_with_where_it_broke() {
    let server = server(bytes(3 * PART), |_, r, b| {
        let part = Response::part(r, b);
        match r.header("range") {
            Some("bytes=1000-1999") => part.dies_after(400),
            Some("bytes=1400-1999") => part.dies_after(1),
            _ => part,
        }
    });
    let object = &look_up(&server.url("/a"), &[]).unwrap()[0];
    let told = Told(Mutex::default());
    let mut found = Vec::new();
    let _ = object.open(&told).read_to_end(&mut found).unwrap();
    assert!(found == bytes(3 * PART));
    let asked: Vec<String> = ranges(&server).into_iter().flatten().collect();
    assert!(asked.contains(&"bytes=1401-1999".into()), "{asked:?}");
    let told = told.0.into_inner().unwrap();
    let [first, second] = &told[..] else {
        panic!("{told:?}");
    };
    assert!(
        first.contains("/a: after byte 1400: ") && second.contains("1401"),
        "{told:?}"
    );
}

#[test]
fn the_rest_of_another_object_is_never_taken() {
    let all = bytes(PART);
    let part = |r: &Request, b: &[u8]| Response::part(r, b).dies_after(PART / 2);
    // A server that does not know If-Match, and has another object of the same size.
    let other = server(all.clone(), move |n, r, b| match n {
        0 => part(r, b),
        _ => Response::part(r, b).with("ETag", "\"other\""),
    });
    let untagged = |weak: bool| {
        let all = all.clone();
        Server::start(move |r| {
            let answer = match (r.method.as_str(), r.header("range")) {
                ("GET", None) => part(r, &all),
                _ => Response::part(r, &all),
            };
            match weak {
                true => answer.with("ETag", "W/\"1\""),
                false => answer.without("ETag"),
            }
        })
    };
    let (weak, none) = (untagged(true), untagged(false));
    for (server, says) in [
        (&other, "it changed"),
        (&weak, "by an ETag"),
        (&none, "by an ETag"),
    ] {
        let object = &look_up(&server.url("/a"), &[]).unwrap()[0];
        let error = read(object).unwrap_err().to_string();
        let place = format!("/a: after byte {}: ", PART / 2);
        assert!(error.contains(&place) && error.contains(says), "{error}");
    }
    let seen = other.seen();
    let mut gets = seen.iter().filter(|r| r.method == "GET");
    assert!(gets.all(|r| r.header("if-match").is_some()));
}

/// Whoever fetches says why it ends before the end; if it says nothing at all, that is no end either.
#[test]
fn silence_is_no_end() {
    let server = server(bytes(500), |_, r, b| Response::part(r, b));
    let object = &look_up(&server.url("/a"), &[]).unwrap()[0];
    let (to, pieces) = tokio::sync::mpsc::channel(1);
    to.blocking_send(Piece::Bytes(bytes(499).into())).unwrap();
    drop(to);
    let mut found = Vec::new();
    let error = Reader::of(object, pieces, &Silent).read_to_end(&mut found);
    assert_eq!(found.len(), 499);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("after byte 499"), "{error}");
}

/// A server that says that there is more than it gives, or nothing at all for long, is waited for only so long.
#[test]
fn patience_ends() {
    let short = server(bytes(500), |_, r, b| match r.header("range") {
        None => Response::part(r, b).dies_after(300),
        Some(_) => Response::part(r, b).dies_after(0),
    });
    let silent = server(bytes(500), |_, r, b| {
        std::thread::sleep(Duration::from_secs(3));
        Response::part(r, b)
    });
    let cases = [
        (&short, "after byte 300: "),
        (
            &silent,
            "after byte 0: nothing arrived for 1 seconds; tried once",
        ),
    ];
    for (server, says) in cases {
        let object = &look_up(&server.url("/a"), &[]).unwrap()[0];
        let started = Instant::now();
        let error = read(object).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert!(error.hint().is_some());
        assert!(started.elapsed() < Duration::from_millis(2_500));
        // An error stays one.
        let mut reader = object.open(&Silent);
        let mut rest = Vec::new();
        assert!(reader.read_to_end(&mut rest).is_err());
        assert!(reader.read(&mut [0; 8]).is_err());
    }
}

/// A server that takes the connection and says nothing is given up, and a person knows what is waited for, and for how long.
#[test]
fn a_server_that_says_nothing_is_told_of_and_given_up() {
    let silent = Server::start(|r| {
        std::thread::sleep(Duration::from_secs(3));
        Response::part(r, b"text")
    });
    let failing = Server::start(|_| Response::status(500));
    let urls = [silent.url("/a?KEY"), silent.url("/b")];
    let addresses: Vec<Address> = urls.iter().map(|url| address(url)).collect();
    let stores = Stores::with([], manner());
    let (told, started) = (Told::default(), Instant::now());
    let error = stores.look_up(&addresses, &told).err().unwrap().to_string();
    assert!(started.elapsed() < Duration::from_millis(2_500));
    let says = "/a: the server does not answer: nothing came for 1 seconds; tried once";
    assert!(error.ends_with(says), "{error}");
    let told = told.0.into_inner().unwrap();
    let [told] = &told[..] else {
        panic!("once: {told:?}");
    };
    let says = "/a: waiting for the server to answer, 1 seconds at most";
    assert!(told.ends_with(says), "{told}");
    let error = look_up(&failing.url("/a"), &[]).unwrap_err().to_string();
    assert!(
        error.contains("; tried ") && error.contains(" times in "),
        "{error}"
    );
}

/// Only a few parts are held, however large the object and however slowly it is read.
#[test]
fn memory_is_bounded() {
    let server = server(bytes(100 * PART), |_, r, b| Response::part(r, b));
    let object = &look_up(&server.url("/a"), &[]).unwrap()[0];
    let mut reader = object.open(&Silent);
    reader.read_exact(&mut [0; 10]).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let asked = ranges(&server).len();
    // One that is read, one that waits, one that is to wait, and those under way.
    assert!((3..=7).contains(&asked), "{asked}");
    drop(reader);
    std::thread::sleep(Duration::from_millis(200));
    assert!(ranges(&server).len() <= 1, "nobody wants the rest");
}

#[test]
fn a_list_that_breaks_off_goes_on_after_its_last_key() {
    let keys: Vec<String> = (0..10).map(|i| format!("p/{i}.txt")).collect();
    let objects: Vec<(&str, &[u8])> = keys.iter().map(|k| (k.as_str(), &b"a"[..])).collect();
    let bucket = Bucket {
        page: 3,
        ..Bucket::new("b", &objects)
    };
    let asked = AtomicUsize::new(0);
    let server = Server::start(move |r| match asked.fetch_add(1, Ordering::SeqCst) {
        0 | 2 => Response::status(500),
        _ => bucket.answer(r),
    });
    let endpoint = server.url("");
    let variables = [
        ("AWS_ENDPOINT", endpoint.as_str()),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_SKIP_SIGNATURE", "true"),
    ];
    let found = look_up("s3://b/p/", &variables).unwrap();
    let found: Vec<&str> = found.iter().map(Object::given).collect();
    let expected: Vec<String> = keys.iter().map(|k| format!("s3://b/{k}")).collect();
    assert_eq!(found, expected);
    let seen = server.seen();
    assert!(seen.iter().any(|r| r.query("start-after").is_some()));
    assert!(seen.iter().all(|r| r.header("authorization").is_none()));
}

/// However much a server says, and in whatever bytes, instead of an object: its status is what counts.
#[test]
fn what_a_server_says_is_bounded() {
    for (body, dies) in [
        (b"\xff\xfe no text".repeat(10), None),
        (b"x".repeat(64 << 20), None),
        (b"half".repeat(100), Some(7)),
    ] {
        let server = Server::start(move |_| {
            let refusal = Response::refusal(403, &body);
            match dies {
                Some(bytes) => refusal.dies_after(bytes),
                None => refusal,
            }
        });
        let error = look_up(&server.url("/a"), &[]).unwrap_err().to_string();
        assert!(
            error.ends_with("reading it is not allowed (403)"),
            "{error}"
        );
    }
}

/// A server may lead elsewhere, with secrets that nobody gave.
#[test]
fn where_it_leads_is_not_told() {
    let server = Server::start(|request| {
        let there = format!(
            "http://joe:SECRET@{}/b?SECRET",
            request.header("host").unwrap()
        );
        Response::status(302).with("Location", &there)
    });
    let error = look_up(&server.url("/a"), &[]).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("SECRET"), "{error}");
    let lost = |said: &str| super::why::without_addresses(said);
    assert_eq!(
        lost("no (https://joe:pw@h:1/a?sig=x/y@z) at s3://b/k, <a href=\"http://h?q\">b</a>?"),
        "no (https://h:1/a at s3://b/k, <a href=\"http://h\">b</a>?"
    );
}

#[test]
fn addresses() {
    let shown = |text: &str| address(text).shown().to_string_lossy().into_owned();
    for (given, expected) in [
        ("https://h/a/b.txt", "https://h/a/b.txt"),
        ("HTTPS://h:1/a", "https://h:1/a"),
        ("http://me:pass@h/a?sig=1/2@3#x", "http://h/a"),
        ("http://a@b@h?x", "http://h"),
        ("http://h/a@b", "http://h/a@b"),
        ("s3://b/a?b#c@d", "s3://b/a?b#c@d"),
        ("gs://b", "gs://b"),
    ] {
        assert_eq!(shown(given), expected);
    }
    assert_eq!(address("s3://b/p/x").bucket(), ("b", "p/x"));
    assert_eq!(address("gs://b").bucket(), ("b", ""));
    assert_eq!(address("gs://b/p").with_key("q r").given(), "gs://b/q r");
    assert_eq!(address("S3://b/p").scheme, Scheme::S3);
    for path in ["a.txt", "dir/a:b", "C:\\texts", "://x", "a b://c", "-"] {
        assert!(Address::of(Path::new(path)).unwrap().is_none(), "{path}");
    }
    for wrong in [
        "s3://",
        "s3:///k",
        "https://",
        "https:///a",
        "http://h/a b",
        "ftp://h/a",
        "s3a://b/k",
        "file:///a",
        "s3://u:p@b/k",
    ] {
        let error = Address::of(Path::new(wrong)).unwrap_err();
        assert!(
            error.hint().is_some() && !error.to_string().contains("u:p"),
            "{error}"
        );
    }
}

/// Where a network fails, what was arriving makes no difference: it is the network's error, and never skipped as bad input.
#[test]
fn every_compression_reads_once_and_fails_as_the_network_does() {
    let line = |i: usize| format!("{{\"text\": \"Text {i} of {}.\"}}\n", i * i % 977);
    let text: String = (0..4_000).map(line).collect();
    let config = Config {
        on_bad_input: OnBadInput::Skip,
        ..Config::default()
    };
    let plain = ("jsonl".to_owned(), text.clone().into_bytes());
    let packed = compressed(text.as_bytes()).map(|(e, b)| (format!("jsonl.{e}"), b));
    for (ending, bytes) in packed.into_iter().chain([plain]) {
        for broken in [false, true] {
            let packed = bytes.clone();
            let server = Server::start(move |r| match (r.method.as_str(), broken) {
                ("GET", true) => Response::whole(&packed).dies_after(packed.len() * 3 / 4),
                _ => Response::part(r, &packed),
            });
            let input = PathBuf::from(server.url(&format!("/a.{ending}")));
            let plan = InputPlan::resolve(&[input], &InputOptions::of(&config)).unwrap();
            let mut reader = SourceReader::open(&plan.sources[0], 0, &plan.options, &Silent);
            let mut documents = 0;
            let error = loop {
                match reader.next_document() {
                    Ok(Some(_)) => documents += 1,
                    Ok(None) => break None,
                    Err(error) => break Some(error),
                }
            };
            if broken {
                let error = error.unwrap();
                let at = (bytes.len() * 3 / 4) as u64;
                let is =
                    matches!(&error, InputError::Remote { byte: Some(byte), .. } if *byte == at);
                assert!(is, "{ending}: {error}");
                continue;
            }
            assert!(error.is_none() && documents == 4_000, "{ending}: {error:?}");
            let record = reader.finish().unwrap();
            assert_eq!(record.bytes, bytes.len() as u64);
            assert_eq!(record.blake3, blake3::hash(&bytes).to_hex().to_string());
            assert_eq!(ranges(&server).len(), 1, "{ending}");
        }
    }
}
