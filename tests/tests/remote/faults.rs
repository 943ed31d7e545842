//! What breaks is gone on with, or is an error that says why; what is secret is nobody's business.

use super::*;

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
