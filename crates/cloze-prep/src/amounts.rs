//! How much text the sources hold, and what it comes to in tokens: by the sizes of the files, or by a sample of what is in them.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::input::{
    Compression, Document, Encoding, Format, InputOptions, InputPlan, OnBadInput, Source,
    SourceReader,
};
use crate::progress::{Progress, Stage};
use crate::tokenize::{Encoders, TokenizeReport, measure};
use crate::{Config, Result};

/// What sources hold, about.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Amounts {
    /// Bytes of text.
    pub text: f64,
    pub tokens: f64,
    pub sentences: f64,
    pub documents: f64,
}

/// Text in a file that is compressed, for each byte of it on the disk.
const RATIO: f64 = 3.5;
/// Bytes of English text a token, and a sentence; a document is taken for some 2,000.
const ENGLISH: Amounts = Amounts {
    text: 1.0,
    tokens: 1.0 / 4.2,
    sentences: 1.0 / 100.0,
    documents: 1.0 / 2_000.0,
};

/// Places that are looked at in large files of a kind, and in small ones.
const PLACES: [u64; 2] = [4, 32];
/// Under so many bytes a file is small.
const SMALL: u64 = 64 << 10;
/// Bytes that are read at a place. Of bzip2, a block alone may be as long.
const READ: u64 = 256 << 10;
const READ_BZIP2: u64 = 1 << 20;
/// Bytes that are read at a time: what was read and not used is counted as if it was.
const STEP: usize = 8 << 10;
/// Bytes of text after which a place was looked at enough.
const ENOUGH: usize = 1 << 20;
/// Bytes that are tokenized of a document at most, and about how many of a group that has many.
const TOKENIZED: usize = 64 << 10;
const ALL_TOKENIZED: usize = 256 << 10;

impl Amounts {
    /// By sizes alone: the truth may be half of it, or twice as much where text compresses well.
    pub fn guess(plan: &InputPlan) -> Self {
        ENGLISH.scaled(plan.sources.iter().map(text_by_size).sum())
    }

    /// What was counted.
    pub fn counted(report: &TokenizeReport) -> Self {
        let [text, tokens, sentences, documents] = report.amounts().map(|n| n as f64);
        Self {
            text,
            tokens,
            sentences,
            documents,
        }
    }

    /// By a sample, and whether it was taken all over the text; `None` where there is no text in it. What cannot be read is not told: that is for those who
    /// read all.
    pub fn sampled(
        plan: &InputPlan,
        encoders: &Encoders<'_>,
        config: &Config,
    ) -> Result<Option<(Self, bool)>> {
        let options = InputOptions {
            // What a text has up to where the sample ends is kept.
            on_bad_input: OnBadInput::Skip,
            ..plan.options.clone()
        };
        let (mut all, mut left, mut all_over) = (Self::default(), 0.0, true);
        for group in groups(&plan.sources) {
            let (mut documents, mut read) = (Vec::new(), 0);
            let places = places(&group, &options);
            for place in &places {
                read += place.read(&options, &mut documents);
            }
            all_over &= are_all_over(&places, &group);
            let found: usize = documents.iter().map(|d| d.text.len()).sum();
            if found == 0 {
                left += group.iter().map(|source| text_by_size(source)).sum::<f64>();
                all_over = false;
                continue;
            }
            let size: f64 = group.iter().map(|source| source.bytes as f64).sum();
            let share = found as f64 / documents.len() as f64;
            for document in &mut documents {
                let end = document.text.floor_char_boundary(TOKENIZED);
                document.text.truncate(end);
            }
            // Some of them, spread over the places.
            let bytes: usize = documents.iter().map(|d| d.text.len()).sum();
            let step = (bytes / ALL_TOKENIZED).clamp(1, 1 + documents.len() / 8);
            let mut documents: Vec<Document> = documents.into_iter().step_by(step).collect();
            let [text, tokens, sentences] =
                measure(&mut documents, encoders, config)?.map(|n| n as f64);
            let of_group = Self {
                text,
                tokens,
                sentences,
                documents: text / share,
            };
            all = all.and(of_group.scaled(found as f64 / read.max(1) as f64 * size));
        }
        let of_left = if all.text > 0.0 { all } else { ENGLISH }.scaled(left);
        Ok((all.text > 0.0).then(|| (all.and(of_left), all_over)))
    }

    /// As it is in so many bytes of text.
    fn scaled(self, text: f64) -> Self {
        let by = text / self.text;
        Self {
            text,
            tokens: self.tokens * by,
            sentences: self.sentences * by,
            documents: self.documents * by,
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            text: self.text + other.text,
            tokens: self.tokens + other.tokens,
            sentences: self.sentences + other.sentences,
            documents: self.documents + other.documents,
        }
    }
}

fn text_by_size(source: &Source) -> f64 {
    // Parquet is compressed, as far as one knows.
    let is_plain = source.compression == Compression::None && source.format != Format::Parquet;
    source.bytes as f64 * if is_plain { 1.0 } else { RATIO }
}

/// Files whose bytes say alike of their text.
fn groups(sources: &[Source]) -> Vec<Vec<&Source>> {
    let mut groups: Vec<Vec<&Source>> = Vec::new();
    for source in sources.iter().filter(|s| s.bytes > 0) {
        let kind = |s: &Source| (s.format, s.compression, s.object.is_some());
        match groups.iter_mut().find(|g| kind(g[0]) == kind(source)) {
            Some(group) => group.push(source),
            None => groups.push(vec![source]),
        }
    }
    groups
}

/// Where a sample is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place<'a> {
    source: &'a Source,
    /// The first line that is read begins after it.
    byte: u64,
}

/// How many places a group is looked at in.
fn wanted(group: &[&Source]) -> u64 {
    let size: u64 = group.iter().map(|source| source.bytes).sum();
    PLACES[usize::from(size / (group.len() as u64) < SMALL)]
}

/// Whether the places say something of all of the group: they are as many as were wanted, or in each of its files, which are read whole.
fn are_all_over(places: &[Place<'_>], group: &[&Source]) -> bool {
    let is_whole = |s: &&Source| s.compression == Compression::None && s.bytes <= READ;
    places.len() as u64 == wanted(group)
        || (places.len() == group.len() && group.iter().all(is_whole))
}

/// Places that are spread evenly over the bytes of a group.
fn places<'a>(group: &[&'a Source], options: &InputOptions) -> Vec<Place<'a>> {
    let size: u64 = group.iter().map(|source| source.bytes).sum();
    // An object is asked for once, when it is read.
    if group.iter().any(|source| source.object.is_some()) {
        return Vec::new();
    }
    let many = wanted(group);
    let (mut sources, mut before) = (group.iter().copied().peekable(), 0);
    let mut places: Vec<Place<'a>> = Vec::new();
    for i in 0..many {
        let byte = size / (2 * many) * (2 * i + 1);
        while let Some(source) = sources.next_if(|s| before + s.bytes <= byte) {
            before += source.bytes;
        }
        let Some(&source) = sources.peek() else {
            break;
        };
        let lines = matches!(source.format, Format::Text | Format::JsonLines)
            && source.compression == Compression::None
            && options.encoding == Encoding::Named(encoding_rs::UTF_8);
        let byte = if lines && source.bytes > many * READ {
            (byte - before).min(source.bytes - READ)
        } else {
            0
        };
        let place = Place { source, byte };
        if places.last() != Some(&place) {
            places.push(place);
        }
    }
    places
}

impl Place<'_> {
    /// Appends the documents that are here; how many bytes of the file they took.
    fn read(&self, options: &InputOptions, documents: &mut Vec<Document>) -> u64 {
        let source = self.source;
        let counted = Counted::default();
        let mut reader = match source.format {
            Format::Parquet => SourceReader::open(source, 0, options, &counted),
            _ => match self.open() {
                Ok(from) => SourceReader::of(source, 0, options, &counted, from),
                Err(_) => return 0,
            },
        };
        let mut text = 0;
        while text < ENOUGH
            && let Ok(Some(document)) = reader.next_document()
        {
            text += document.text.len();
            documents.push(document);
        }
        counted.0.load(Ordering::Relaxed)
    }

    fn open(&self) -> std::io::Result<Box<dyn Read>> {
        let mut file = File::open(&self.source.path)?;
        let most = match self.source.compression {
            Compression::Bzip2 => READ_BZIP2,
            _ => READ,
        };
        if self.byte == 0 {
            return Ok(Box::new(InSteps(file).take(most)));
        }
        file.seek(SeekFrom::Start(self.byte))?;
        let mut reader = BufReader::with_capacity(STEP, file).take(most);
        let _ = reader.skip_until(b'\n')?;
        Ok(Box::new(InSteps(reader)))
    }
}

/// Gives no more than [`STEP`] at a time.
struct InSteps<R>(R);

impl<R: Read> Read for InSteps<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = buffer.len().min(STEP);
        self.0.read(&mut buffer[..most])
    }
}

/// Counts the bytes that were read.
#[derive(Default)]
struct Counted(AtomicU64);

impl Progress for Counted {
    fn begin(&self, _: Stage, _: u64) {}
    fn advance(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }
    fn count(&self, _: u64, _: u64) {}
    fn end(&self) {}
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::path::Path;

    use cloze_text::Tokenizer;

    use super::*;

    /// Names and bytes.
    type Files = Vec<(String, Vec<u8>)>;

    /// Lines of JSON of documents of `words` words each, some `bytes` together.
    fn lines(bytes: usize, words: usize, seed: u64) -> String {
        let all = [
            "the", "river", "keeps", "winter.", "A", "bridge", "of", "stone.",
        ];
        let (mut text, mut state) = (String::new(), seed);
        while text.len() < bytes {
            let mut document = String::new();
            for _ in 0..words {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                document += all[(state >> 61) as usize];
                document.push(' ');
            }
            text += &format!("{{\"id\": \"{state:020}\", \"text\": \"{document}\"}}\n");
        }
        text
    }

    /// The texts of such lines in row groups of 500.
    fn parquet(lines: &str) -> Vec<u8> {
        use parquet::data_type::{ByteArray, ByteArrayType};
        use parquet::file::{properties::WriterProperties, writer::SerializedFileWriter};

        let schema = "message m { required binary text (STRING); }";
        let schema = parquet::schema::parser::parse_message_type(schema).unwrap();
        let properties = WriterProperties::builder().set_dictionary_enabled(false);
        let mut file =
            SerializedFileWriter::new(Vec::new(), schema.into(), properties.build().into())
                .unwrap();
        let texts: Vec<ByteArray> = (lines.lines())
            .map(|line| ByteArray::from(line.split('"').nth(7).unwrap()))
            .collect();
        for texts in texts.chunks(500) {
            let mut rows = file.next_row_group().unwrap();
            let mut column = rows.next_column().unwrap().unwrap();
            let to = column.typed::<ByteArrayType>();
            to.write_batch(texts, None, None).unwrap();
            column.close().unwrap();
            rows.close().unwrap();
        }
        file.into_inner().unwrap()
    }

    fn tokenizer(folder: &Path) -> Tokenizer {
        let words = "[PAD] [UNK] [CLS] [SEP] [MASK] the river keeps winter a bridge of stone .";
        fs::write(folder.join("vocab.txt"), words.replace(' ', "\n")).unwrap();
        Tokenizer::open(folder).unwrap()
    }

    /// What a sample says is what is there, in files of every kind, large and small.
    #[test]
    fn a_sample_says_what_all_of_it_says() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("model");
        fs::create_dir(&model).unwrap();
        let tokenizer = tokenizer(&model);
        let encoders = Encoders::new(&tokenizer);
        let text = folder.path().join("text");
        fs::create_dir(&text).unwrap();
        let gzip = |bytes: &[u8]| {
            let mut file = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            file.write_all(bytes).unwrap();
            file.finish().unwrap()
        };
        let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
        let [_, _, xz, bz2] = crate::input::tests::compressed(lines(4_000_000, 50, 8).as_bytes());
        let csv = {
            let mut writer = csv::Writer::from_writer(Vec::new());
            writer.write_record(["id", "text"]).unwrap();
            for line in lines(3_000_000, 40, 9).lines() {
                let cells: Vec<&str> = line.split('"').collect();
                writer.write_record([cells[3], cells[7]]).unwrap();
            }
            writer.into_inner().unwrap()
        };
        let pure = |words| {
            let lines = lines(3_000_000, words, 7);
            let found = |l: &str| l.split('"').nth(7).unwrap().to_owned();
            lines.lines().map(found).collect::<Vec<_>>().join("\n\x0c")
        };
        // Documents at the beginning are short, those after it long: places all over say so.
        let mixed = lines(1_000_000, 20, 1) + &lines(3_000_000, 2_000, 2);
        let cases: Vec<(&str, bool, Files)> = vec![
            (
                "lines",
                true,
                vec![("a.jsonl".into(), mixed.clone().into())],
            ),
            (
                "gzip",
                false,
                vec![(
                    "a.jsonl.gz".into(),
                    gzip(&lines(4_000_000, 50, 3).into_bytes()),
                )],
            ),
            (
                "zstd",
                false,
                vec![(
                    "a.jsonl.zst".into(),
                    zstd(&lines(4_000_000, 50, 4).into_bytes()),
                )],
            ),
            ("xz", false, vec![("a.jsonl.xz".into(), xz.1)]),
            ("bzip2", false, vec![("a.jsonl.bz2".into(), bz2.1)]),
            ("csv", false, vec![("a.csv".into(), csv)]),
            (
                "parquet",
                false,
                vec![("a.parquet".into(), parquet(&lines(4_000_000, 50, 10)))],
            ),
            ("text", true, vec![("a.txt".into(), pure(300).into())]),
            (
                "small files",
                true,
                (0..200)
                    .map(|i| {
                        (
                            format!("{i}.jsonl"),
                            lines(5_000 + 40 * i, 30, i as u64).into(),
                        )
                    })
                    .collect(),
            ),
            (
                "two kinds",
                false,
                vec![
                    ("a.jsonl".into(), lines(2_000_000, 60, 5).into()),
                    ("b.txt.gz".into(), gzip(pure(1_000).as_bytes())),
                ],
            ),
        ];
        let config = Config::default();
        for (name, spread, files) in cases {
            fs::remove_dir_all(&text).unwrap();
            fs::create_dir(&text).unwrap();
            for (file, bytes) in &files {
                fs::write(text.join(file), bytes).unwrap();
            }
            let plan = InputPlan::resolve(std::slice::from_ref(&text), &InputOptions::of(&config))
                .unwrap();
            let (sampled, all_over) = Amounts::sampled(&plan, &encoders, &config)
                .unwrap()
                .unwrap();
            assert_eq!(all_over, spread, "{name}");
            let mut documents = Vec::new();
            for source in &plan.sources {
                let mut reader = SourceReader::open(source, 0, &plan.options, &crate::Silent);
                while let Some(document) = reader.next_document().unwrap() {
                    documents.push(document);
                }
            }
            let of_all = measure(&mut documents, &encoders, &config).unwrap();
            let found = [
                sampled.text,
                sampled.tokens,
                sampled.sentences,
                sampled.documents,
            ];
            let truth = [of_all[0], of_all[1], of_all[2], documents.len() as u64];
            for (what, (found, truth)) in ["text", "tokens", "sentences"]
                .iter()
                .zip(found.iter().zip(truth))
            {
                let ratio = found / truth as f64;
                assert!((0.85..1.15).contains(&ratio), "{name}: {what} {ratio}");
            }
            let ratio = found[3] / truth[3] as f64;
            assert!((0.6..1.6).contains(&ratio), "{name}: documents {ratio}");
        }
    }

    /// Files that hold no text for a while, or cannot be read, are for those who read all.
    #[test]
    fn without_text_there_is_no_sample() {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = tokenizer(folder.path());
        let encoders = Encoders::new(&tokenizer);
        let config = Config::default();
        let file = folder.path().join("a.jsonl");
        for bytes in [
            &b"not json at all\n"[..],
            b"{\"text\": \"\"}\n",
            b"\xff\xfe\xff",
        ] {
            fs::write(&file, bytes).unwrap();
            let plan = InputPlan::resolve(std::slice::from_ref(&file), &InputOptions::of(&config))
                .unwrap();
            assert_eq!(Amounts::sampled(&plan, &encoders, &config).unwrap(), None);
        }
    }
}
