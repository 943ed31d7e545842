//! Sentence embeddings: what they are, where they go, and what is refused.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[allow(dead_code, unreachable_pub)]
#[path = "finetune/support.rs"]
mod support;

use std::fs::{self, File};
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use cloze_task::embed::{EmbedOptions, Embedder, Pooling, Sink, Texts, export};
use cloze_train::{Build, EngineKind};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor;
use serde_json::json;
use support::{cpu, plain, texts};

fn options() -> EmbedOptions {
    EmbedOptions {
        pooling: None,
        normalize: None,
        max_length: None,
        batch_tokens: 64,
        build: cpu(),
    }
}

fn some_texts(n: usize) -> Vec<String> {
    texts(n, 3).map(|(text, ..)| text).collect()
}

fn embed(model: &Path, options: &EmbedOptions, texts: &[String]) -> Vec<Vec<f32>> {
    let mut embedder = Embedder::open(model, options).unwrap();
    embedder.embed(texts, &mut |_| ()).unwrap()
}

fn far(a: &[Vec<f32>], b: &[Vec<f32>]) -> f32 {
    assert_eq!(a.len(), b.len());
    let pairs = a.iter().flatten().zip(b.iter().flatten());
    pairs.map(|(x, y)| (x - y).abs()).fold(0.0, f32::max)
}

/// Texts are sorted and batched; their vectors are those that each has alone, in the order of the texts, whichever engine computes them.
#[test]
fn a_text_has_its_own_vector() {
    let folder = tempfile::tempdir().unwrap();
    let model = plain(folder.path());
    let texts = some_texts(40);
    let together = embed(&model, &options(), &texts);
    let alone: Vec<Vec<f32>> = (texts.iter())
        .map(|text| embed(&model, &options(), std::slice::from_ref(text)).remove(0))
        .collect();
    assert!(far(&together, &alone) < 1e-6);
    let reference = EmbedOptions {
        build: Build {
            engine: EngineKind::Reference,
            ..cpu()
        },
        ..options()
    };
    assert!(far(&together, &embed(&model, &reference, &texts)) < 1e-5);
    // Texts differ, and so do their vectors.
    assert!(far(&together[..1], &together[1..2]) > 1e-2);
    for vector in &together {
        let length: f32 = vector.iter().map(|x| x * x).sum();
        assert!((length - 1.0).abs() < 1e-5);
    }
    let mut counted = 0;
    let mut embedder = Embedder::open(&model, &options()).unwrap();
    embedder.embed(&texts, &mut |n| counted += n).unwrap();
    assert_eq!((counted, embedder.cut), (40, 0));
    assert!(
        embedder
            .embed(&[] as &[&str], &mut |_| ())
            .unwrap()
            .is_empty()
    );
}

#[test]
fn long_texts_are_cut_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let model = plain(folder.path());
    let short = EmbedOptions {
        max_length: Some(4),
        ..options()
    };
    let mut embedder = Embedder::open(&model, &short).unwrap();
    let vectors = embedder.embed(&["red dog cat", "red dog"], &mut |_| ());
    let vectors = vectors.unwrap();
    assert_eq!(vectors[0], vectors[1]);
    assert_eq!(embedder.cut, 1);
    // No more than the model has positions.
    assert_eq!(Embedder::open(&model, &options()).unwrap().max_length, 32);
    for length in [3, 33] {
        let odd = EmbedOptions {
            max_length: Some(length),
            ..options()
        };
        let why = Embedder::open(&model, &odd).err().unwrap().to_string();
        assert!(why.contains("--max-length"), "{why}");
    }
}

/// Of vectors that are no numbers none is nearer than another, and no figure is made of them.
#[test]
fn a_model_that_has_diverged_embeds_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let model = plain(folder.path());
    // All of its weights are numbers, but what the first norm makes of them is not.
    let path = model.join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    let tensors: serde_json::Value = serde_json::from_slice(&bytes[8..header]).unwrap();
    let offsets = &tensors["bert.embeddings.LayerNorm.weight"]["data_offsets"];
    let at = |i: usize| header + offsets[i].as_u64().unwrap() as usize;
    for value in bytes[at(0)..at(1)].chunks_exact_mut(4) {
        value.copy_from_slice(&3e38f32.to_le_bytes());
    }
    fs::write(&path, bytes).unwrap();
    let mut embedder = Embedder::open(&model, &options()).unwrap();
    let error = embedder.embed(&["red dog"], &mut |_| ()).unwrap_err();
    assert!(error.to_string().contains("not finite"), "{error}");
    assert!(error.hint().is_some());
}

/// What is exported says how it pools, and gives the same vectors.
#[test]
fn an_exported_folder_gives_the_same_vectors() {
    let folder = tempfile::tempdir().unwrap();
    let model = plain(folder.path());
    let texts = some_texts(5);
    for (i, (pooling, normalize, max_length)) in [
        (Pooling::Mean, true, 16),
        (Pooling::Cls, true, 32),
        (Pooling::Mean, false, 8),
    ]
    .into_iter()
    .enumerate()
    {
        let asked = EmbedOptions {
            pooling: Some(pooling),
            normalize: Some(normalize),
            max_length: Some(max_length),
            ..options()
        };
        let mut embedder = Embedder::open(&model, &asked).unwrap();
        let out = folder.path().join(format!("exported-{i}"));
        export(&mut embedder, &out).unwrap();
        let again = Embedder::open(&out, &options()).unwrap();
        assert_eq!(
            (again.pooling, again.normalize, again.max_length),
            (pooling, normalize, max_length)
        );
        let vectors = embedder.embed(&texts, &mut |_| ()).unwrap();
        assert_eq!(embed(&out, &options(), &texts), vectors);
        assert!(export(&mut embedder, &out).is_err());
    }
    // Another pooling is not silently taken for one of these.
    let config = folder.path().join("exported-0/1_Pooling/config.json");
    fs::write(config, r#"{"pooling_mode_max_tokens": true}"#).unwrap();
    let refused = Embedder::open(&folder.path().join("exported-0"), &options());
    let why = refused.err().unwrap().to_string();
    assert!(why.contains("another pooling"), "{why}");
}

/// Two windows, of which only the second has ids.
fn write(path: &Path, force: bool) -> cloze_task::Result<u64> {
    let mut sink = Sink::create(path, 2, force)?;
    sink.write(&[None, None], &[vec![1.0, 2.0], vec![3.0, 4.0]])?;
    sink.write(&[Some("a\"b")], &[vec![5.0, -6.5]])?;
    assert!(force || !path.exists());
    sink.finish()
}

const NUMBERS: [f32; 6] = [1.0, 2.0, 3.0, 4.0, 5.0, -6.5];

#[test]
fn vectors_are_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    assert_eq!(write(&path("v.npy"), false).unwrap(), 3);
    let bytes = fs::read(path("v.npy")).unwrap();
    assert!(String::from_utf8_lossy(&bytes[..128]).contains("'shape': (3, 2)"));
    let numbers = bytes[128..].as_chunks::<4>().0;
    assert!(numbers.iter().map(|b| f32::from_le_bytes(*b)).eq(NUMBERS));
    let ids = fs::read_to_string(path("v.npy.ids.jsonl")).unwrap();
    assert_eq!(ids, "null\nnull\n\"a\\\"b\"\n");

    write(&path("v.parquet"), false).unwrap();
    let file = SerializedFileReader::new(File::open(path("v.parquet")).unwrap()).unwrap();
    let rows: Vec<_> = file
        .get_row_iter(None)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert!(rows[0].get_string(0).is_err() && rows[2].get_string(0).unwrap() == "a\"b");
    assert!(format!("{:?}", rows[2].get_list(1).unwrap()).contains("-6.5"));

    write(&path("v.arrow"), false).unwrap();
    let file = File::open(path("v.arrow")).unwrap();
    let reader = arrow_ipc::reader::FileReader::try_new(file, None).unwrap();
    let mut read = Vec::new();
    for batch in reader {
        let batch = batch.unwrap();
        let lists = batch.column(1).as_fixed_size_list();
        read.extend_from_slice(lists.values().as_primitive::<Float32Type>().values());
        if batch.num_rows() == 1 {
            assert_eq!(batch.column(0).as_string::<i32>().value(0), "a\"b");
        }
    }
    assert_eq!(read, NUMBERS);

    // What is there stays, unless it is asked for; ids of a file that is replaced do not.
    for name in ["v.npy", "v.parquet", "v.arrow"] {
        let why = write(&path(name), false).unwrap_err().to_string();
        assert!(why.contains("exists already"), "{why}");
        write(&path(name), true).unwrap();
    }
    let mut sink = Sink::create(&path("v.npy"), 1, true).unwrap();
    sink.write(&[None], &[vec![1.0]]).unwrap();
    sink.finish().unwrap();
    assert!(!path("v.npy.ids.jsonl").exists());
    let why = Sink::create(&path("v.csv"), 2, false).err().unwrap();
    assert!(why.to_string().contains(".npy"), "{why}");
}

#[test]
fn texts_are_lines_or_objects() {
    let folder = tempfile::tempdir().unwrap();
    let read = |name: &str, bytes: &[u8]| -> Result<Vec<_>, String> {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let mut texts = Texts::open(&path, "text", "id").unwrap();
        let mut all = Vec::new();
        loop {
            let window = texts.window(2).map_err(|e| e.to_string())?;
            if window.is_empty() {
                return Ok(all);
            }
            all.extend(window.into_iter().map(|t| (t.id, t.text)));
        }
    };
    let line = |text: &str| (None, text.to_owned());
    // A byte order mark, Windows' line ends, an empty line, and no end of the last.
    let lines = read("t.txt", b"\xEF\xBB\xBFone\r\ntwo\n\nfour").unwrap();
    assert_eq!(lines, ["one", "two", "", "four"].map(line));
    let objects = [
        json!({"text": "x", "id": "a"}),
        json!({"text": "", "id": 7}),
        json!({"text": "z"}),
    ];
    let text: String = objects.iter().map(|o| format!("{o}\n\n")).collect();
    let some = |id: &str, text: &str| (Some(id.to_owned()), text.to_owned());
    assert_eq!(
        read("t.jsonl", text.as_bytes()).unwrap(),
        [some("a", "x"), some("7", ""), line("z")]
    );
    for (name, bytes, place, why) in [
        ("t.txt", &b"fine\nbad \xFF\n"[..], "line 2", "UTF-8"),
        (
            "t.jsonl",
            b"{\"text\": \"x\"}\n{\"text\": \n",
            "line 2",
            "JSON",
        ),
        ("t.jsonl", b"\n{\"body\": \"x\"}\n", "line 2", "\"text\""),
        ("t.jsonl", b"[1]\n", "line 1", "\"text\""),
        ("t.jsonl", b"{\"text\": 5}\n", "line 1", "\"text\""),
    ] {
        let said = read(name, bytes).unwrap_err();
        assert!(said.contains(place) && said.contains(why), "{said}");
    }
}
