//! Inputs that lie elsewhere: the dataset is that of the same files on the disk, or there is none and an error says why.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use cloze_tests::server::{Bucket, Request, Response, Server};
use cloze_tests::{Place, Ran, document};

/// Nothing that this machine says of itself shall matter.
const PLAIN: [(&str, &str); 2] = [("NO_PROXY", "127.0.0.1"), ("no_proxy", "127.0.0.1")];

const OPTIONS: &str = "--tokenizer tokenizer --validation-fraction 0.1 --seq-len 32";

fn prepare(place: &Place, inputs: &str, out: &str, variables: &[(&str, &str)]) -> Ran {
    let variables = [&PLAIN, variables].concat();
    place.cloze_with(
        &format!("prepare {inputs} --out {out} {OPTIONS}"),
        &variables,
    )
}

/// Demands that two datasets are the same but for what their sources are called.
fn same(place: &Place, [a, b]: [&str; 2], named: &[(String, String)]) {
    let files = |dataset: &str| -> BTreeMap<_, _> { place.files(dataset).into_iter().collect() };
    let (mut left, mut right) = (files(a), files(b));
    let manifest = |files: &mut BTreeMap<std::path::PathBuf, Vec<u8>>| {
        String::from_utf8(files.remove(std::path::Path::new("manifest.json")).unwrap()).unwrap()
    };
    let (mut left_manifest, right_manifest) = (manifest(&mut left), manifest(&mut right));
    assert!(left.len() > 4 && left == right, "{a} {b}");
    for (url, file) in named {
        assert!(left_manifest.contains(url), "{url}: {left_manifest}");
        left_manifest = left_manifest.replace(url, file);
    }
    assert_eq!(left_manifest, right_manifest);
}

fn jsonl(documents: std::ops::Range<usize>) -> Vec<u8> {
    let line = |i| format!("{}\n", serde_json::json!({"id": i, "text": document(i)}));
    documents.map(line).collect::<String>().into_bytes()
}

/// The files of a corpus in every way that it is read, by name.
fn corpus() -> Vec<(&'static str, Vec<u8>)> {
    let lines = jsonl(0..60);
    let csv: String = (60..90)
        .map(|i| format!("{i},\"{}\"\n", document(i)))
        .collect();
    let texts: Vec<String> = (90..120).map(document).collect();
    vec![
        ("a.jsonl", lines.clone()),
        (
            "b.jsonl.zst",
            zstd::encode_all(&jsonl(120..200)[..], 1).unwrap(),
        ),
        ("c.csv", format!("id,text\n{csv}").into_bytes()),
        ("d.txt", texts.join("\n\u{c}\n").into_bytes()),
        ("e.html", format!("<p>{}</p>", document(7)).into_bytes()),
        ("empty.txt", Vec::new()),
    ]
}

fn serve(files: Vec<(&'static str, Vec<u8>)>) -> Server {
    let files: BTreeMap<String, Vec<u8>> = files
        .into_iter()
        .map(|(n, b)| (format!("/{n}"), b))
        .collect();
    Server::start(move |request| match files.get(&request.path()) {
        Some(bytes) => Response::part(request, bytes),
        None => Response::status(404),
    })
}

#[test]
fn from_a_web_server() {
    let place = Place::new();
    let server = serve(corpus());
    let mut named = Vec::new();
    for (name, bytes) in corpus() {
        place.write(&format!("there/{name}"), bytes);
        named.push((server.url(&format!("/{name}")), format!("there/{name}")));
    }
    let (urls, files): (Vec<_>, Vec<_>) = named.iter().cloned().unzip();
    let _ = prepare(&place, &files.join(" "), "disk", &[]).status(0);
    let _ = prepare(&place, &urls.join(" "), "web", &[]).status(0);
    same(&place, ["web", "disk"], &named);
    place.write("list", urls.join("\n"));
    let _ = prepare(&place, "--files-from list --jobs 1", "listed", &[]).status(0);
    same(&place, ["listed", "disk"], &named);

    // What the dataset was made of is named in the same ways again.
    let verify = |rest: &str| place.cloze_with(&format!("verify web {rest}"), &PLAIN);
    let _ = verify("--source there").status(0);
    let _ = verify("--files-from list").status(0);
    let _ = verify(&format!("--source {}", urls.join(" "))).status(0);
    let ran = verify(&format!("--source {}", urls[0])).status(1);
    assert!(ran.out().contains("is not in the source"), "{}", ran.out());
    let _ = place
        .cloze_with("inspect web --doc #0 --files-from list", &PLAIN)
        .status(0);
    // A vocabulary, too.
    let _ = place
        .cloze_with(&format!("vocab train {} --out vocabulary", urls[3]), &PLAIN)
        .status(0);
}

/// A server need not know HEAD, parts, tags, or times; what it must know is how long a thing is.
#[test]
fn servers_that_know_little() {
    let place = Place::new();
    place.write("there/a.jsonl", jsonl(0..60));
    let _ = prepare(&place, "there/a.jsonl", "disk", &[]).status(0);
    type Odd = fn(&Request, &[u8]) -> Response;
    let odd: [(&str, Odd); 4] = [
        ("no-head", |r, b| match r.method.as_str() {
            "HEAD" => Response::status(403),
            _ => Response::part(r, b),
        }),
        ("no-method", |r, b| match r.method.as_str() {
            "HEAD" => Response::status(405),
            _ => Response::part(r, b),
        }),
        ("no-parts", |_, b| Response::whole(b)),
        ("weak", |_, b| Response::whole(b).with("ETag", "W/\"1\"")),
    ];
    for (name, answer) in odd {
        let server = Server::start(move |request| answer(request, &jsonl(0..60)));
        let _ = prepare(&place, &server.url("/a.jsonl"), name, &[]).status(0);
        let named = [(server.url("/a.jsonl"), "there/a.jsonl".into())];
        same(&place, [name, "disk"], &named);
    }
    // How long it is may be said to nobody.
    let server = Server::start(|_| Response::whole(b"a river").without_length());
    let _ = prepare(&place, &server.url("/a.txt"), "none", &[])
        .status(2)
        .says(&["does not say how long it is", "hint: download it"]);
}

/// What a server sends to is read where it is a server's, too, and no file of this machine.
#[test]
fn sent_elsewhere() {
    let place = Place::new();
    place.write("there/a.jsonl", jsonl(0..60));
    let secret = format!("file://{}", place.path("there/a.jsonl").display());
    let server = Server::start(move |request| {
        let to = |place: &str| Response::status(302).with("Location", place);
        match request.path().as_str() {
            "/a.jsonl" => to("/real.jsonl"),
            "/real.jsonl" => Response::part(request, &jsonl(0..60)),
            "/round.jsonl" => to("/about.jsonl"),
            "/about.jsonl" => to("/round.jsonl"),
            _ => to(&secret),
        }
    });
    let _ = prepare(&place, &server.url("/a.jsonl"), "sent", &[]).status(0);
    for (path, says) in [
        ("/round.jsonl", "from one address to the next, without end"),
        ("/file.jsonl", "sends elsewhere, where nothing can be read"),
    ] {
        let _ = prepare(&place, &server.url(path), "none", &[])
            .status(2)
            .says(&[says, "hint: ", "curl"]);
    }
}

/// A list of files, or what asks who one is, is no text; nor is a dataset.
#[test]
fn pages_and_datasets_are_no_text() {
    let place = Place::new();
    let page = b"<html><title>Index of /</title><a href=a.txt>a.txt</a> <p>There is more.</html>";
    let server = Server::start(|request| {
        let kind = match request.path().as_str() {
            "/plain" => "text/plain",
            _ => "text/html; charset=utf-8",
        };
        Response::part(request, page).with("Content-Type", kind)
    });
    for path in ["/", "/folder", "/folder/", "/a.txt", "/a.txt.gz", "/a.json"] {
        let _ = prepare(&place, &server.url(path), "none", &[])
            .status(2)
            .says(&[
                "the server says that it is a page",
                "hint: ",
                "--files-from",
            ]);
    }
    for (number, line) in [
        "/plain",
        "/a.html",
        "/ --input-format html",
        "/a --input-format text",
    ]
    .iter()
    .enumerate()
    {
        let _ = prepare(&place, &server.url(line), &format!("out{number}"), &[]).status(0);
    }
    let keys = [
        "data/manifest.json",
        "data/documents.arrow",
        "data/tokenizer/vocab.txt",
    ];
    let objects = [(keys[0], &b"{}"[..]), (keys[1], b""), (keys[2], b"a\nb\n")];
    let bucket = Bucket::new(
        "corpora",
        &[&objects[..], &[("a.txt", b"Old river.")]].concat(),
    );
    let server = Server::start(move |request| bucket.answer(request));
    let variables = s3(&server);
    for input in ["s3://corpora/", "s3://corpora/data/"] {
        let _ = prepare(&place, input, "none", &as_str(&variables))
            .status(2)
            .says(&["s3://corpora/data: a dataset that cloze made", "hint: "]);
    }
}

/// What is bounded on the disk is bounded elsewhere.
#[test]
fn objects_that_lie() {
    let place = Place::new();
    // A footer that claims two thousand million row groups.
    let mut columns = b"PAR1\x49\xfc\xff\xff\xff\xff\x07".to_vec();
    let length = (columns.len() - 4) as u32;
    columns.extend(length.to_le_bytes());
    columns.extend(b"PAR1");
    let mut line = b"{\"text\": \"".to_vec();
    line.resize(257 << 20, b'x');
    line.extend(b"\"}\n{\"text\": \"quiet market walks.\"}\n");
    let line = zstd::encode_all(&line[..], 1).unwrap();
    place.write("a.parquet", &columns);
    place.write("a.jsonl.zst", &line);
    let server = serve(vec![("a.parquet", columns), ("a.jsonl.zst", line)]);
    for (name, says) in [
        (
            "a.parquet",
            "its footer is broken: a list claims more than there is",
        ),
        ("a.jsonl.zst", "line 1: longer than 256 MiB"),
    ] {
        for input in [name.to_owned(), server.url(&format!("/{name}"))] {
            let says = format!("{name}: {says}");
            let _ = prepare(&place, &input, "none", &[])
                .status(2)
                .says(&[&says]);
        }
    }
    let line = server.url("/a.jsonl.zst --on-bad-input skip --validation-fraction 0");
    let _ = place
        .cloze_with(
            &format!("prepare {line} --out skipped --tokenizer tokenizer"),
            &PLAIN,
        )
        .status(0);
}

/// What S3 asks for, as the environment says it.
fn s3(server: &Server) -> Vec<(&'static str, String)> {
    vec![
        ("AWS_ENDPOINT", format!("http://{}", server.at())),
        ("AWS_ALLOW_HTTP", "true".into()),
        ("AWS_ACCESS_KEY_ID", "AKIDPUBLIC".into()),
        ("AWS_SECRET_ACCESS_KEY", "THESECRETKEY".into()),
        ("AWS_REGION", "eu-test-1".into()),
    ]
}

fn as_str<'a>(variables: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    variables.iter().map(|(n, v)| (*n, v.as_str())).collect()
}

fn bucket() -> Bucket {
    let files = corpus();
    let mut objects: Vec<(String, &[u8])> = Vec::new();
    for (name, bytes) in &files {
        objects.push((format!("texts/{name}"), bytes));
    }
    let more = jsonl(500..510);
    objects.push(("texts/more words/ü (1).jsonl".into(), &more));
    objects.push(("texts/picture.png".into(), b"\x89PNG"));
    objects.push(("texts/more words".into(), b""));
    objects.push(("textsnot/a.txt".into(), b"Not below it."));
    let objects: Vec<(&str, &[u8])> = objects.iter().map(|(k, b)| (k.as_str(), *b)).collect();
    Bucket {
        page: 2,
        ..Bucket::new("corpora", &objects)
    }
}

#[test]
fn from_s3() {
    let place = Place::new();
    let bucket = bucket();
    for (key, bytes) in &bucket.objects {
        if key != "texts/more words" {
            place.write(&format!("disk/{key}"), bytes);
        }
    }
    let server = Server::start(move |request| bucket.answer(request));
    let variables = s3(&server);
    let variables = as_str(&variables);
    // A dataset from the bucket, and the same from the disk.
    let both = |s3: &str, disk: &str, out: &str, says: &str| {
        let ran = prepare(&place, s3, out, &variables).status(0);
        assert!(ran.err().contains(says), "{}", ran.err());
        let from_disk = format!("{out}-disk");
        let _ = prepare(&place, disk, &from_disk, &[]).status(0);
        let named = [("s3://corpora/".to_owned(), "disk/".to_owned())];
        same(&place, [out, &from_disk], &named);
    };
    let ignored = "1 file in the folders not read because of hidden or unknown names, or being pipes, such as s3://corpora/texts/picture.png";
    both("s3://corpora/texts/", "disk/texts/", "below", ignored);
    both("s3://corpora/texts", "disk/texts", "unslashed", ignored);
    both(
        "s3://corpora/texts/*.jsonl*",
        "disk/texts/*.jsonl*",
        "pattern",
        "",
    );
    both("s3://corpora/**/*.jsonl", "disk/**/*.jsonl", "deep", "");
    both(
        "s3://corpora/texts/d.txt s3://corpora/texts/a.jsonl",
        "disk/texts/d.txt disk/texts/a.jsonl",
        "two",
        "",
    );
    let seen = server.seen();
    let signed = |r: &Request| {
        r.header("authorization")
            .is_some_and(|a| a.contains("AKIDPUBLIC") && a.contains("eu-test-1"))
    };
    assert!(seen.iter().all(signed));
    let pages = seen
        .iter()
        .filter(|r| r.query("continuation-token").is_some());
    assert!(pages.count() > 3);
    // Sizes come with the list: nothing is asked about each object.
    let _ = prepare(&place, "s3://corpora/texts/*.jsonl*", "again", &variables).status(0);
    assert!(server.seen().iter().all(|r| r.method == "GET"));
    let _ = place
        .cloze_with("verify below --source s3://corpora/texts/", &variables)
        .status(0);
    for (path, bytes) in place.files("below") {
        let text = String::from_utf8_lossy(&bytes);
        assert!(
            !text.contains("SECRET") && !text.contains("AKID"),
            "{}",
            path.display()
        );
    }

    let wrong = |input: &str, says: &[&str]| {
        let _ = prepare(&place, input, "none", &variables)
            .status(2)
            .says(says)
            .says(&["hint: "]);
        assert!(!place.path("none").exists());
    };
    wrong(
        "s3://corpora/nothing/",
        &["s3://corpora/nothing/: no key begins with it"],
    );
    wrong("s3://corpora/nothing", &["there is no such object (404"]);
    wrong(
        "s3://corpora/texts/*.pdf",
        &["s3://corpora/texts/*.pdf: matches no object"],
    );
    wrong(
        "s3://corpora/texts/picture.png/",
        &["no key begins with it"],
    );
    wrong(
        "s3://corpora/texts/a.jsonl s3://corpora/texts/*",
        &["s3://corpora/texts/a.jsonl is given twice"],
    );
    wrong("s3://", &["not a whole address"]);
    wrong(
        "s3://user:word@corpora/a",
        &["s3://corpora/a: not a whole address"],
    );
    wrong(
        "ftp://host/a.txt",
        &["ftp://host/a.txt: not an address that is read"],
    );
    wrong("file:///tmp/a.txt", &["a file is named by its path"]);
    // Plain connections are made where they are allowed only.
    let tls: Vec<_> = variables
        .iter()
        .copied()
        .filter(|(n, _)| *n != "AWS_ALLOW_HTTP")
        .collect();
    let _ = prepare(&place, "s3://corpora/texts/", "none", &tls)
        .status(2)
        .says(&["AWS_ALLOW_HTTP=true"]);
}

#[test]
fn from_google() {
    let place = Place::new();
    let bucket = bucket();
    place.write("there/a.jsonl", &bucket.objects["texts/a.jsonl"]);
    let server = Server::start(move |request| bucket.answer(request));
    let account = serde_json::json!({"gcs_base_url": format!("http://{}", server.at()), "disable_oauth": true,
        "client_email": "", "private_key": "", "private_key_id": ""});
    place.write("account.json", account.to_string());
    let account = place.path("account.json").to_string_lossy().into_owned();
    let variables = [("GOOGLE_SERVICE_ACCOUNT", account.as_str())];
    let _ = prepare(&place, "there/a.jsonl", "disk", &[]).status(0);
    let named = [(
        "gs://corpora/texts/a.jsonl".to_owned(),
        "there/a.jsonl".to_owned(),
    )];
    for (input, out) in [
        ("gs://corpora/texts/a.jsonl", "one"),
        ("gs://corpora/texts/a.*", "some"),
    ] {
        let _ = prepare(&place, input, out, &variables).status(0);
        same(&place, [out, "disk"], &named);
    }
}

/// A Parquet file is read from its end, so it is copied first.
#[test]
fn columns() {
    let place = Place::new();
    let schema = parse_message_type("message m { required binary text (STRING); }").unwrap();
    let mut bytes = Vec::new();
    let mut file =
        SerializedFileWriter::new(&mut bytes, schema.into(), Default::default()).unwrap();
    let mut rows = file.next_row_group().unwrap();
    let mut column = rows.next_column().unwrap().unwrap();
    let texts: Vec<ByteArray> = (0..60).map(|i| document(i).into_bytes().into()).collect();
    let column_of = column.typed::<ByteArrayType>();
    let _ = column_of.write_batch(&texts, None, None).unwrap();
    column.close().unwrap();
    let _ = rows.close().unwrap();
    let _ = file.close().unwrap();
    place.write("there/texts.parquet", &bytes);
    let server = Server::start(move |request| Response::part(request, &bytes));
    let _ = prepare(&place, "there/texts.parquet", "disk", &[]).status(0);
    let _ = prepare(&place, &server.url("/texts.parquet"), "web", &[]).status(0);
    let named = [(server.url("/texts.parquet"), "there/texts.parquet".into())];
    same(&place, ["web", "disk"], &named);
    let gets = server
        .seen()
        .into_iter()
        .filter(|r| r.method == "GET")
        .count();
    assert_eq!(gets, 1, "it is read once");
}

/// What a server that has the corpus `a.jsonl` says to the `n`th request for its bytes.
fn faulty(answer: impl Fn(usize, &Request, &[u8]) -> Response + Send + Sync + 'static) -> Server {
    let asked = AtomicUsize::new(0);
    let bytes = jsonl(0..400);
    Server::start(move |request| match request.method.as_str() {
        "HEAD" => Response::part(request, &bytes),
        _ => answer(asked.fetch_add(1, Ordering::SeqCst), request, &bytes),
    })
}

#[test]
fn a_connection_that_breaks_is_gone_on_with() {
    let place = Place::new();
    place.write("there/a.jsonl", jsonl(0..400));
    let _ = prepare(&place, "there/a.jsonl", "disk", &[]).status(0);
    type Fault = fn(usize, &Request, &[u8]) -> Response;
    let faults: [(&str, Fault, &[&str]); 3] = [
        (
            "dies",
            |n, r, b| match n {
                0 => Response::part(r, b).dies_after(10_000),
                1 => Response::part(r, b).dies_after(0),
                2 => Response::part(r, b).dies_after(1),
                _ => Response::part(r, b),
            },
            &[
                "a.jsonl: after byte 10000: ",
                "after byte 10001: ",
                "going on from there",
            ],
        ),
        (
            "fails",
            |n, r, b| match n {
                0 => Response::status(500),
                1 => Response::status(503),
                _ => Response::part(r, b),
            },
            &["a.jsonl: after byte 0: the server failed", "500"],
        ),
        (
            "short",
            |n, r, b| match n {
                0 => Response::part(r, b).dies_after(b.len() - 1),
                _ => Response::part(r, b),
            },
            &["going on from there"],
        ),
    ];
    for (name, fault, says) in faults {
        let server = faulty(fault);
        let url = server.url("/a.jsonl");
        let _ = prepare(&place, &url, name, &[]).status(0).says(says);
        same(&place, [name, "disk"], &[(url, "there/a.jsonl".into())]);
        let seen = server.seen();
        let last = seen.last().unwrap();
        assert!(last.header("if-match").is_some(), "{last:?}");
        assert_eq!(last.header("range").is_some(), name != "fails", "{last:?}");
    }
}

#[test]
fn what_cannot_be_gone_on_with_is_an_error() {
    let place = Place::new();
    type Fault = fn(usize, &Request, &[u8]) -> Response;
    let faults: [(&str, Fault, &[&str]); 6] = [
        (
            "another object is there now",
            |n, r, b| match n {
                0 => Response::part(r, b).dies_after(5_000),
                _ => Response::part(r, &b[1..]),
            },
            &[
                "a.jsonl: after byte 5000: it changed while it was read",
                "run it again",
            ],
        ),
        (
            "another object, said by its tag only",
            |n, r, b| match n {
                0 => Response::part(r, b).dies_after(5_000),
                _ => Response::part(r, b).with("ETag", "\"other\""),
            },
            &["a.jsonl: after byte 5000: it changed while it was read"],
        ),
        (
            "no parts",
            |_, _, b| Response::whole(b).dies_after(5_000),
            &[
                "a.jsonl: after byte 5000: ",
                "does not give parts of it",
                "download it",
            ],
        ),
        (
            "no tag",
            |_, r, b| {
                Response::part(r, b)
                    .with("ETag", "W/\"weak\"")
                    .dies_after(5_000)
            },
            &["a.jsonl: after byte", "it changed"],
        ),
        (
            "gone",
            |n, r, b| match n {
                0 => Response::part(r, b).dies_after(5_000),
                _ => Response::status(404),
            },
            &["a.jsonl: after byte 5000: there is no such object (404"],
        ),
        (
            "forbidden",
            |_, _, _| Response::status(403),
            &[
                "a.jsonl: after byte 0: reading it is not allowed (403",
                "USER:PASSWORD",
            ],
        ),
    ];
    for (name, fault, says) in faults {
        let server = faulty(fault);
        // Nothing of a network is bad input that may be passed over.
        let line = format!("{} --on-bad-input skip", server.url("/a.jsonl"));
        let ran = prepare(&place, &line, "none", &[])
            .status(2)
            .says(says)
            .says(&["hint: "]);
        assert!(!place.path("none").exists(), "{name}: {}", ran.err());
    }
    // Without any tag nobody knows what the rest would be of.
    let bytes = jsonl(0..400);
    let server = Server::start(move |request| match request.method.as_str() {
        "HEAD" => Response::whole(&bytes),
        _ => Response::part(request, &bytes)
            .without("ETag")
            .dies_after(5_000),
    });
    let _ = prepare(&place, &server.url("/a.jsonl"), "none", &[])
        .status(2)
        .says(&["after byte 5000: ", "does not say (by an ETag)"]);
}

#[test]
fn what_cannot_be_reached_is_said_with_a_hint() {
    let place = Place::new();
    let server = Server::start(|request| match request.path().as_str() {
        "/busy.txt" => Response::status(503),
        "/private.txt" => Response::status(401),
        "/forbidden.txt" => Response::status(403),
        _ => Response::status(404),
    });
    let nobody = {
        let gone = Server::start(|_| Response::status(404));
        gone.url("/a.txt")
    };
    let cases: [(&str, &[&str]); 7] = [
        (
            &server.url("/no.txt"),
            &["/no.txt: there is no such object (404", "check the address"],
        ),
        (
            &server.url("/forbidden.txt"),
            &["/forbidden.txt: reading it is not allowed (403"],
        ),
        (&server.url("/private.txt"), &["(401"]),
        (
            &server.url("/busy.txt"),
            &["/busy.txt: the server failed (", "503"],
        ),
        (
            &nobody,
            &["a.txt: the connection is refused (", "check host and port"],
        ),
        (
            "http://no-such-host.invalid/a.txt",
            &[
                "http://no-such-host.invalid/a.txt: the server's name is not known (",
                "check the name of the host",
            ],
        ),
        (
            &server.url("/*.txt"),
            &[
                "/*.txt: a web server does not say what it has",
                "--files-from",
            ],
        ),
    ];
    // What may pass is tried again for a while, so all of them at the same time.
    std::thread::scope(|scope| {
        for (number, (input, says)) in cases.into_iter().enumerate() {
            let place = &place;
            scope.spawn(move || {
                let out = format!("none{number}");
                let ran = prepare(place, input, &out, &[]).status(2);
                let _ = ran.says(says).says(&["hint: "]);
                assert!(!place.path(&out).exists(), "{input}");
            });
        }
    });
    let refused = [
        ("AWS_ENDPOINT", nobody.trim_end_matches("/a.txt")),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_SKIP_SIGNATURE", "true"),
    ];
    let _ = prepare(&place, "s3://corpora/a.txt", "none", &refused)
        .status(2)
        .says(&[
            "s3://corpora/a.txt: the connection is refused (",
            "AWS_ENDPOINT",
        ]);
    let denied = Server::start(|_| Response::status(403));
    let denied = s3(&denied);
    let _ = prepare(&place, "s3://corpora/a/", "none", &as_str(&denied))
        .status(2)
        .says(&[
            "s3://corpora/a/: reading it is not allowed (403",
            "AWS_ACCESS_KEY_ID",
        ]);
}

/// Users, passwords and signatures are used and never shown or kept.
#[test]
fn secrets_are_nobodys_business() {
    let place = Place::new();
    let bytes = jsonl(0..60);
    place.write("there/a.jsonl", &bytes);
    let _ = prepare(&place, "there/a.jsonl", "disk", &[]).status(0);
    let server = Server::start(move |request| {
        let signed = request.query("X-Amz-Signature").as_deref() == Some("SECRET1 and more");
        let basic = request.header("authorization") == Some("Basic am9lOlNFQ1JFVDI=");
        match (signed || basic, request.method.as_str()) {
            (false, _) => Response::status(403),
            (true, "HEAD") if signed => Response::status(403),
            (true, _) => Response::part(request, &bytes),
        }
    });
    let query = server.url("/a.jsonl?X-Amz-Signature=SECRET1%20and+more&response=a/b");
    let user = server.url("/a.jsonl").replace("://", "://joe:SECRET2@");
    for (address, out) in [(&query, "query"), (&user, "user")] {
        let ran = prepare(
            &place,
            &format!("{address} --tokens {out}-tokens"),
            out,
            &[],
        )
        .status(0);
        same(
            &place,
            [out, "disk"],
            &[(server.url("/a.jsonl"), "there/a.jsonl".into())],
        );
        let kept = [place.files(out), place.files(&format!("{out}-tokens"))].concat();
        let printed = [ran.out(), ran.err()].map(String::into_bytes);
        for bytes in kept.into_iter().map(|(_, bytes)| bytes).chain(printed) {
            assert!(!String::from_utf8_lossy(&bytes).contains("SECRET"));
        }
    }
    let wrong = [
        server.url("/a.jsonl?X-Amz-Signature=SECRET3"),
        user.replace("SECRET2", "SECRET4"),
        query.replace("127.0.0.1", "no-such-host.invalid"),
        "https://joe:SECRET5@/a.jsonl?SECRET6".into(),
        "ftp://joe:SECRET7@host/a?SECRET8".into(),
    ];
    let options = ["--exclude", "--files-from"]
        .map(|option| format!("there/a.jsonl {option} {}", server.url("/a?SECRET9")));
    for address in wrong.into_iter().chain(options) {
        let ran = prepare(&place, &address, "none", &[])
            .status(2)
            .says(&["hint: "]);
        assert!(!ran.err().contains("SECRET"), "{}", ran.err());
    }
}

/// An object that is another one when work is gone on with is noticed; those that are the same are not read again.
#[test]
fn objects_that_change_between_runs() {
    let place = Place::new();
    let part = |first: usize| jsonl(first..first + 12_000);
    let objects: BTreeMap<String, Vec<u8>> =
        [("/a.jsonl", 0), ("/b.jsonl", 20_000), ("/c.jsonl", 40_000)]
            .map(|(name, first)| (name.to_owned(), part(first)))
            .into();
    let open = Arc::new(Mutex::new((objects, false)));
    let shared = open.clone();
    let server = Server::start(move |request| {
        let (objects, whole) = &*shared.lock().unwrap();
        match (request.path().as_str(), request.method.as_str(), whole) {
            ("/c.jsonl", "GET", false) => Response::status(403),
            (path, ..) => Response::part(request, &objects[path])
                .without("Last-Modified")
                .with("Last-Modified", "Mon, 01 Jan 2024 12:00:00 GMT"),
        }
    });
    let names = ["/a.jsonl", "/b.jsonl", "/c.jsonl"];
    let urls = names.map(|name| server.url(name)).join(" ");
    let stop = |out: &str| {
        open.lock().unwrap().1 = false;
        let line = format!("{urls} --save-every 1");
        let _ = prepare(&place, &line, out, &[])
            .status(2)
            .says(&["c.jsonl", "(403", "--resume"]);
        open.lock().unwrap().1 = true;
        let _ = server.seen();
    };
    let resumed = |out: &str, more: &str| {
        let line = format!("{urls} --save-every 1 --resume {more}");
        let _ = prepare(&place, &line, out, &[]).status(0);
        for name in names {
            place.write(&format!("there{name}"), &open.lock().unwrap().0[name]);
        }
        let disk = format!("{out}-disk");
        let _ = prepare(
            &place,
            "there/a.jsonl there/b.jsonl there/c.jsonl",
            &disk,
            &[],
        )
        .status(0);
        let named = names.map(|name| (server.url(name), format!("there{name}")));
        same(&place, [out, &disk], &named);
        let gets = |r: &Request| r.method == "GET" && r.path() == "/a.jsonl";
        server.seen().iter().filter(|r| gets(r)).count()
    };
    stop("same");
    assert_eq!(resumed("same", ""), 0, "what is read is not read again");
    // Nor is it where the dataset is whole: by what the server says, nothing changed since.
    let line = format!("{urls} --save-every 1 --resume");
    let _ = prepare(&place, &line, "same", &[])
        .status(0)
        .says(&["whole already"]);
    let gets = server.seen().iter().filter(|r| r.method == "GET").count();
    assert_eq!(gets, 0);
    stop("other");
    // As long as it was, and not the same.
    let first = open.lock().unwrap().0["/a.jsonl"].clone();
    let text = String::from_utf8(first)
        .unwrap()
        .replacen("iver", "ever", 500);
    open.lock()
        .unwrap()
        .0
        .insert("/a.jsonl".into(), text.into_bytes());
    let _ = prepare(&place, &line, "other", &[])
        .status(2)
        .says(&["holds tokens of other inputs", "a.jsonl holds other bytes"]);
    assert!(resumed("other", "--replace-tokens") > 0);
}
