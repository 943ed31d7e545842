//! What lies elsewhere is read as the same files on the disk are.

use super::*;

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
    let ignored = "1 file in the folders not read because of hidden or unknown names, or being pipes (.png 1), such as s3://corpora/texts/picture.png";
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
