//! Whatever is too long, too large or lies about it is cut or refused within bounds.

use super::*;

/// A document of any size is read in bounded memory: a text is cut after a line or a word, and other forms are refused.
#[test]
fn what_is_too_long_is_cut_or_refused() {
    let folder = Folder::new();
    let plain = InputOptions::of(&Config::default());
    for (line, count) in [
        ("some words of a line\n", 7_000_000),
        ("wörter ohne Ende ", 8_000_000),
        ("é", 70_000_000),
    ] {
        let text = line.repeat(count);
        let file = folder.write("long.txt", &text);
        let (documents, cut, _, _) = read(&file, &plain).unwrap();
        assert!(
            cut > 0 && documents.len() as u64 == cut + 1,
            "{cut} {}",
            documents.len()
        );
        let pieces: Vec<&str> = documents.iter().map(|d| d.text.as_str()).collect();
        assert!(pieces.concat() == text, "nothing is lost");
        assert!(pieces.iter().all(|p| p.len() <= LONGEST_TEXT + line.len()));
        let last = line.chars().last().unwrap();
        assert!(
            pieces.iter().all(|p| p.ends_with(last)),
            "cut after a line, or a word"
        );
        fs::remove_file(file).unwrap();
    }
    let long = format!(
        "{{\"id\": 1, \"text\": \"{}\"}}\n",
        "x".repeat(crate::input::MOST)
    );
    let row = "{\"id\": 2, \"text\": \"short\"}\n";
    let file = folder.write("long.jsonl", [row, &long, row].concat());
    let error = read(&file, &options()).unwrap_err();
    assert!(
        error.to_string().contains("line 2: longer than 256 MiB"),
        "{error}"
    );
    let mut skip = options();
    skip.on_bad_input = OnBadInput::Skip;
    let (documents, _, skipped, _) = read(&file, &skip).unwrap();
    assert_eq!((documents.len(), skipped["too long"]), (2, 1));
    fs::remove_file(file).unwrap();
    // A quotation mark that is not closed makes all that follows one cell.
    let open = format!(
        "id,text\n1,a\n2,\"{}",
        "3,b\n".repeat(crate::input::MOST / 4 + (1 << 20))
    );
    let file = folder.write("open.csv", open);
    let error = read(&file, &options()).unwrap_err();
    assert!(error.to_string().contains("longer than 256 MiB"), "{error}");
    let (documents, _, skipped, _) = read(&file, &skip).unwrap();
    assert_eq!((documents.len(), skipped["too long"]), (1, 1));
}

#[test]
fn a_decompression_bomb_is_stopped() {
    let folder = Folder::new();
    let mut bomb = zstd::Encoder::new(Vec::new(), 1).unwrap();
    let part = vec![b'a'; 1 << 20];
    for _ in 0..1_100 {
        bomb.write_all(&part).unwrap();
    }
    let file = folder.write("bomb.txt.zst", bomb.finish().unwrap());
    let error = read(&file, &InputOptions::of(&Config::default())).unwrap_err();
    assert!(
        error.to_string().contains("more than 200 times its size"),
        "{error}"
    );
    let hint = error.hint().unwrap();
    assert!(hint.contains("decompress it"), "{hint}");
}

/// A row of nothing but commas takes memory, too: a place for each cell.
#[test]
fn a_row_of_too_many_cells_is_refused() {
    let folder = Folder::new();
    let commas = ",".repeat(17 << 20);
    let file = folder.write("wide.csv", ["id,text\n1,a\n", &commas, "\n2,b\n"].concat());
    let error = read(&file, &options()).unwrap_err();
    assert!(error.to_string().contains("longer than 256 MiB"), "{error}");
    let file = folder.write("header.csv", &commas);
    let error = read(&file, &options()).unwrap_err();
    assert!(error.to_string().contains("longer than 256 MiB"), "{error}");
    // Commas of a text are no cells, but there are never as many.
    let text = "one, two, ".repeat(1 << 20);
    let file = folder.write("text.csv", format!("id,text\n1,\"{text}\"\n"));
    assert_eq!(pairs(&file, &options()), [(Some("1".into()), text)]);
}

/// Of what is kept of a line of JSON there is a limit; what is not asked for is looked at as before.
#[test]
fn lines_of_json_that_hold_much() {
    let folder = Folder::new();
    let mut kept = options();
    kept.meta_fields = vec!["a".into()];
    let line = |a: &str| format!("{{\"a\": {a}, \"id\": 1, \"text\": \"t\", \"b\": {a}}}\n");
    let many = format!("[{}0]", "0,".repeat(1 << 20));
    let long = format!("\"{}\"", "x".repeat(1 << 20));
    let file = folder.write(
        "a.jsonl",
        [line(&many), line(&long), line("[1, {\"c\": null}]")].concat(),
    );
    assert_eq!(pairs(&file, &options()).len(), 3);
    let error = read(&file, &kept).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("line 1: what is to be kept beside the text is longer than 1 MiB"),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("--meta-field"));
    kept.on_bad_input = OnBadInput::Skip;
    let (documents, _, skipped, _) = read(&file, &kept).unwrap();
    assert_eq!((documents.len(), skipped.values().sum::<u64>()), (1, 2));
    assert_eq!(
        documents[0].meta.as_deref(),
        Some("{\"a\":[1,{\"c\":null}]}")
    );
    let file = folder.write("id.jsonl", format!("{{\"id\": {long}, \"text\": \"t\"}}\n"));
    assert!(read(&file, &options()).is_err());
    // Broken is broken, asked for or not.
    for bad in [
        "[1,]",
        "1e999",
        "\"\\ud800\"",
        "nul",
        "{\"x\" 1}",
        &"[".repeat(200),
    ] {
        let file = folder.write(
            "bad.jsonl",
            format!("{{\"id\": 1, \"text\": \"t\", \"other\": {bad}}}\n"),
        );
        let error = read(&file, &options()).unwrap_err();
        assert!(
            error.to_string().contains("line 1: broken JSON at column"),
            "{error}"
        );
    }
    let deep = format!(
        "{{\"id\": 1, \"text\": \"t\", \"other\": {}{}}}\n",
        "[".repeat(100),
        "]".repeat(100)
    );
    assert_eq!(
        pairs(&folder.write("deep.jsonl", deep), &options()).len(),
        1
    );
    // The last of two counts; a name may be all that is asked for.
    let twice = "{\"text\": 7, \"id\": \"a\", \"text\": \"t\", \"id\": 2}\n{\"text\": \"t\", \"id\": 1, \"text\": 7}\n";
    let file = folder.write("twice.jsonl", twice);
    let error = read(&file, &options()).unwrap_err();
    assert!(
        error.to_string().ends_with("line 2: \"text\" is not text"),
        "{error}"
    );
    kept.meta_fields = vec!["text".into(), "id".into(), "id".into()];
    let (documents, ..) = read(&file, &kept).unwrap();
    let found = (documents[0].id.as_deref(), documents[0].meta.as_deref());
    assert_eq!(found, (Some("2"), Some("{\"text\":\"t\",\"id\":2}")));
}

/// Whatever a file of Parquet claims, it is refused before anything makes room for it.
#[test]
fn a_parquet_file_whose_footer_lies() {
    let folder = Folder::new();
    let whole = parquet_of(true, false);
    let tail = whole.len() - 8;
    let length = u32::from_le_bytes(*whole[tail..].first_chunk().unwrap()) as usize;
    let footer = |footer: &[u8]| {
        let length = (footer.len() as u32).to_le_bytes();
        [&whole[..tail - length_of(&whole)], footer, &length, b"PAR1"].concat()
    };
    fn length_of(whole: &[u8]) -> usize {
        u32::from_le_bytes(*whole[whole.len() - 8..].first_chunk().unwrap()) as usize
    }
    let theirs = &whole[tail - length..tail];
    let file = folder.write("a.parquet", footer(theirs));
    assert_eq!(pairs(&file, &options()), expected());
    // Two thousand million row groups, and a schema of a hundred thousand levels.
    let groups = [
        &[0x49, 0xFC, 0xFF, 0xFF, 0xFF, 0xFF, 0x07, 0x1C][..],
        theirs,
    ]
    .concat();
    let levels = [
        vec![0x29, 0xFC, 0xA0, 0x8D, 0x06],
        [0x48, 1, b'a', 0x15, 2, 0].repeat(100_000),
        vec![0],
    ]
    .concat();
    for (bad, says) in [(groups, "claims more than there is"), (levels, "levels")] {
        let file = folder.write("bad.parquet", footer(&bad));
        let error = read(&file, &options()).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert!(error.hint().is_some());
    }
}

/// A small page whose tree would be large, or is laid out for ever.
#[test]
fn a_page_that_grows_is_read_as_it_is() {
    let folder = Folder::new();
    let options = InputOptions::of(&Config::default());
    let words = |page: String| {
        let file = folder.write("a.html", page);
        let text = pairs(&file, &options)[0].1.clone();
        text.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let begun = std::time::Instant::now();
    let many =
        |count: usize, piece: &dyn Fn(usize) -> String| (0..count).map(piece).collect::<String>();
    // Each paragraph opens all formatting before it anew.
    let page = many(20_000, &|i| format!("<p><b id={i}><font size={i}>w{i}"));
    assert_eq!(words(page).len(), 20_000);
    for nested in [
        "<div>",
        "<ul><li>",
        "<dl><dd><li>",
        "<blockquote>",
        "<table><tr><td>",
        "<pre>",
        "<custom>",
    ] {
        let page = nested.repeat(20_000) + "deep <p>down";
        assert_eq!(words(page), ["deep", "down"], "{nested}");
    }
    let page = "<table><tr><td colspan=1000000000>one<td rowspan=4000000000>two</table>three";
    assert_eq!(words(page.into()), ["one", "two", "three"]);
    // What is closed is not deep, nor is what ends where the next begins.
    let page = many(5_000, &|i| {
        format!("<ul><li>a<li>b{i}</ul><dl><dt>c<dd>d</dl><div>e</div>")
    });
    let found = pairs(&folder.write("b.html", page), &options)[0].1.clone();
    assert_eq!(
        found.lines().filter(|l| !l.trim().is_empty()).count(),
        25_000
    );
    let found = words("<p>a &lt;b&gt; &amp;amp; <del>gone</del> <s>struck</s> <img src='y' alt='a \"x\" > &lt;'> <script>if (a < b) {}</script><style>p</style><xmp>x</xmp>end".into());
    assert_eq!(
        found,
        [
            "a", "<b>", "&amp;", "gone", "struck", "a", "\"x\"", ">", "<", "xend"
        ]
    );
    assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
    let file = folder.write("c.html", "<p>".repeat(1_000_001));
    let error = read(&file, &options).unwrap_err();
    assert!(
        error.to_string().contains("page 1: has over 1000000 tags"),
        "{error}"
    );
    assert!(error.hint().is_some());
    let file = folder.write("d.html", "x".repeat((64 << 20) + 1));
    let error = read(&file, &options).unwrap_err();
    assert!(
        error.to_string().contains("page 1: is longer than 64 MiB"),
        "{error}"
    );
}
