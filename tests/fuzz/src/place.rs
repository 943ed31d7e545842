//! A dataset of a few rows in a folder of its own, whose files are exchanged for what a stranger may give; and all that can be read of one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, str};

use cloze_shard::documents::{self, DocumentRecord};
use cloze_shard::manifest::{
    FileRecord, Manifest, Masking, Objective, SplitRecord, TokenizerRecord,
};
use cloze_shard::masking::MaskingRule;
use cloze_shard::row::Masks;
use cloze_shard::rules::RowRules;
use cloze_shard::schema::IdType;
use cloze_shard::verify::verify;
use cloze_shard::{Dataset, NextSentenceLabel, Row, ShardWriter, Vocabulary, atomic};

/// The shards.
pub const SHARDS: [&str; 2] = ["train/part-00000.arrow", "validation/part-00000.arrow"];
/// A whole shard that lies beside the dataset, where none of its files may be.
pub const OUTSIDE: &str = "outside.arrow";

/// Datasets of every kind.
pub const KINDS: u8 = 3;

/// A folder with a dataset, and what it says of itself.
pub struct Place {
    folder: tempfile::TempDir,
    pub manifest: Manifest,
}

impl Place {
    /// The dataset of a kind: dynamic masks; static ones, and metadata of documents; ids of 32 bits.
    pub fn new(kind: u8) -> Self {
        let memory = Path::new("/dev/shm");
        let folder = match memory.is_dir() {
            true => tempfile::tempdir_in(memory),
            false => tempfile::tempdir(),
        };
        let folder = folder.expect("a folder");
        let data = folder.path().join("data");
        for name in ["tokenizer", "train", "validation"] {
            fs::create_dir_all(data.join(name)).expect("a folder");
        }
        let words = (5..40).map(|i| {
            if i % 3 == 0 {
                format!("##{i}")
            } else {
                format!("w{i}")
            }
        });
        let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(str::to_owned);
        let tokens: Vec<String> = special.into_iter().chain(words).collect();
        let file = |path: &str| {
            let written = atomic::digest(&data.join(path)).expect("it was written");
            FileRecord {
                path: path.into(),
                bytes: written.bytes,
                blake3: written.blake3,
            }
        };
        fs::write(data.join("tokenizer/vocab.txt"), tokens.join("\n")).expect("a file");
        let vocabulary = Vocabulary::new(tokens, None).expect("it has the special tokens");
        let mut tokenizer = TokenizerRecord::new(&vocabulary, vec![file("tokenizer/vocab.txt")]);
        if kind == 2 {
            tokenizer.id_type = IdType::UInt32;
        }
        let masked = kind == 1;
        let rules = RowRules::new(vocabulary.len(), vocabulary.special(), 32, masked);
        let shard = |name: &str, rows: u32| {
            let path = data.join(name);
            let mut writer = ShardWriter::create(&path, tokenizer.id_type, masked, rules.clone())
                .expect("a shard");
            (0..rows).for_each(|i| writer.push(&row(i, masked).view()).expect("a row"));
            SplitRecord::new(vec![writer.finish(name).expect("a shard")], 7)
        };
        let splits = BTreeMap::from([
            ("train".into(), shard(SHARDS[0], 9)),
            ("validation".into(), shard(SHARDS[1], 2)),
        ]);
        fs::copy(data.join(SHARDS[0]), folder.path().join(OUTSIDE)).expect("a file");
        let metadata = if masked {
            vec!["year".to_owned()]
        } else {
            vec![]
        };
        documents::write(
            &data.join(documents::FILE_NAME),
            masked,
            (0..7).map(|i| document(i, masked)),
        )
        .expect("a table");
        let masking = match masked {
            true => Masking::Static {
                rule: MaskingRule::default(),
            },
            false => Masking::Dynamic,
        };
        let manifest = Manifest {
            format: Manifest::format_name(),
            format_version: Manifest::version_of(Objective::Nsp, &masking, &metadata),
            created_by: "a test".into(),
            objective: Objective::Nsp,
            max_seq_length: 32,
            masking,
            seed: 1,
            tokenizer,
            config: serde_json::json!({"seq_len": 32, "pairing": "cloze"}),
            sources: vec![],
            counts: BTreeMap::from([("documents".into(), 7)]),
            metadata,
            documents: file(documents::FILE_NAME),
            splits,
        };
        let place = Self { folder, manifest };
        place.write(&place.manifest);
        assert!(place.read(), "it is whole");
        place
    }

    /// The dataset's folder.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Writes a manifest.
    pub fn write(&self, manifest: &Manifest) {
        let text = serde_json::to_vec(manifest).expect("plain values");
        fs::write(self.path().join("manifest.json"), text).expect("a file");
    }

    /// [`read`], of the dataset.
    pub fn read(&self) -> bool {
        read(&self.path())
    }
}

fn row(i: u32, masked: bool) -> Row {
    let (a, b) = (1 + i % 5, i % 4);
    let mut input_ids = vec![2];
    input_ids.extend((0..a).map(|j| 5 + (i + j) % 35));
    input_ids.push(3);
    let b_start = input_ids.len() as u16;
    if b > 0 {
        input_ids.extend((0..b).map(|j| 6 + (i * j) % 34));
        input_ids.push(3);
    }
    let random = b > 0 && i.is_multiple_of(2);
    let label = if random {
        NextSentenceLabel::NotNext
    } else {
        NextSentenceLabel::IsNext
    };
    let masks = masked.then(|| {
        let labels = vec![std::mem::replace(&mut input_ids[1], 4)];
        Masks {
            positions: vec![1],
            labels,
        }
    });
    Row {
        input_ids,
        b_start,
        next_sentence_label: (b > 0).then_some(label),
        doc_a: i64::from(i % 7),
        doc_b: i64::from(i % 7) + i64::from(random),
        sentence_a: i % 3,
        sentence_b: i % 3,
        masks,
    }
}

fn document(i: u64, metadata: bool) -> DocumentRecord {
    DocumentRecord {
        doc: i as i64,
        source: 0,
        index: i,
        id: i.is_multiple_of(2).then(|| format!("d{i}")),
        meta: (metadata && i.is_multiple_of(3)).then(|| format!("{{\"year\":{i}}}")),
        sentences: 3,
        tokens: 20,
    }
}

/// Reads all that can be read of a dataset, or finds that it is none: whether there was something to read.
///
/// What is opened is whole: `verify` looks at no less than `open`, and no file is read that the folder does not hold.
pub fn read(path: &Path) -> bool {
    let opened = Dataset::open(path);
    let Ok(report) = verify(path, &mut |_| ()) else {
        assert!(opened.is_err());
        return false;
    };
    let Ok(dataset) = opened else {
        assert!(!report.is_clean());
        return false;
    };
    let manifest = dataset.manifest();
    let leaves = |record: &&FileRecord| {
        record.path.starts_with('/') || record.path.split('/').any(|part| part == "..")
    };
    let shards = manifest
        .splits
        .values()
        .flat_map(|s| &s.shards)
        .map(|s| &s.file);
    assert_eq!(shards.clone().find(leaves), None);
    let rest = manifest.tokenizer.files.iter().chain([&manifest.documents]);
    assert!(!rest.clone().any(|record| leaves(&record)) || !report.is_clean());
    let mut sum = 0u64;
    for (_, split) in dataset.splits() {
        let total: u64 = split.shards().iter().map(cloze_shard::Shard::rows).sum();
        assert_eq!(split.rows(), total);
        for (number, row) in (0..).zip(split.iter()) {
            assert_eq!(row.len(), split.row_len(number));
            assert_eq!(row.to_row(), split.row(number).to_row());
            assert!(!row.is_empty() && usize::from(row.b_start) <= row.len());
            split.prefetch(number);
            sum += row.input_ids.iter().map(u64::from).sum::<u64>();
            sum += row.segment_a().len() as u64 + row.segment_b().len() as u64;
            sum += row.original_ids().len() as u64;
        }
        let lengths: u64 = manifest
            .splits
            .values()
            .flat_map(|s| s.lengths())
            .map(|(_, rows)| rows)
            .sum();
        assert!(lengths >= split.rows());
    }
    let _ = dataset.check_tokenizer();
    if let Ok(documents) = dataset.documents() {
        assert_eq!(documents.len(), documents.iter().count());
        assert_eq!(documents.len(), documents.hashes().count());
        for (place, document) in (0..).zip(documents.iter()).take(100) {
            assert_eq!(documents.get(place).as_ref(), Some(&document));
            assert!(documents.find(document.doc).contains(&document));
            assert!(
                document
                    .id
                    .as_deref()
                    .is_none_or(|id| documents.find_id(id).contains(&place))
            );
        }
        sum += documents.len() as u64;
    } else {
        assert!(!report.is_clean());
    }
    sum > 0
}
