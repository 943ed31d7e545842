//! `cloze embed`

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::builder::RangedU64ValueParser;
use clap::{Args, ValueEnum};
use cloze_cli::progress::{Unit, Work};
use cloze_cli::{Status, format, table};
use cloze_task::embed::{
    EmbedOptions, Embedder, Pooling, Retrieval, Sink, Texts, export, measure, place_queries,
    places, read_queries,
};
use cloze_train::{Build, DeviceChoice};

use crate::cli::{EngineArg, PrecisionArg};

/// Turn texts into vectors: sentence embeddings
///
/// Texts are lines of a file, or objects of JSONL. Each becomes the mean of what the encoder says of its tokens, or what it says of [CLS]. A further
/// pre-trained BERT gives passable vectors, one that was trained for similarity good ones; --retrieval says how good on your own texts.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  cloze embed texts.jsonl --model run/model --out vectors.npy
  cloze embed docs.jsonl --id-field id --model run/model --out vectors.parquet --retrieval queries.jsonl
  cloze embed --model run/model --export sentence-model/        a folder that sentence-transformers loads")]
pub struct EmbedArgs {
    /// Texts: JSONL by its name, else a text a line; - for standard input
    #[arg(required_unless_present = "export")]
    pub texts: Option<PathBuf>,
    /// The model: a Hugging Face folder, or its name on the Hub
    #[arg(long, value_name = "HF_DIR")]
    pub model: PathBuf,
    /// File of vectors: .npy (ids beside it, in FILE.ids.jsonl) or .parquet or .arrow (columns id, embedding)
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Replace a file that is there
    #[arg(long)]
    pub force: bool,
    /// Write a folder that sentence-transformers loads, and that gives the same vectors
    #[arg(long, value_name = "DIR")]
    pub export: Option<PathBuf>,
    /// Queries to look the texts up by: lines of {"query": "…", "relevant": [ids]}, or of {"relevant": {id: gain}}
    #[arg(long, value_name = "FILE", requires = "texts")]
    pub retrieval: Option<PathBuf>,
    /// Field of the text
    #[arg(long, default_value = "text", value_name = "FIELD")]
    pub text_field: String,
    /// Field of the id [default: id]
    #[arg(long, value_name = "FIELD")]
    pub id_field: Option<String>,
    /// How tokens become one vector [default: as the model's folder says, else mean]
    #[arg(long, value_enum)]
    pub pooling: Option<PoolingArg>,
    /// Whether vectors are made to have the length 1 [default: as the model's folder says, else true]
    #[arg(long, value_name = "true|false")]
    pub normalize: Option<bool>,
    /// Most tokens of a text; what is longer is cut, and counted [default: as the model's folder says, else 512]
    #[arg(long, value_name = "TOKENS")]
    pub max_length: Option<usize>,
    /// Most tokens that are computed at a time
    #[arg(long, default_value_t = 4_096, value_name = "TOKENS")]
    pub batch_tokens: usize,
    /// What does the arithmetic
    #[arg(long, value_enum, default_value = "native")]
    pub engine: EngineArg,
    /// Where it is done: auto, cpu, cuda, or cuda:N for one of several GPUs; auto says what it took and why
    #[arg(long, default_value_t = DeviceChoice::Auto)]
    pub device: DeviceChoice,
    /// How products are computed [default: bf16 on a GPU, f32 on the CPU]
    #[arg(long, value_enum)]
    pub precision: Option<PrecisionArg>,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=1024))]
    pub jobs: Option<usize>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

/// How tokens become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PoolingArg {
    /// The mean over all tokens
    Mean,
    /// The first token
    Cls,
}

/// Texts that are read, sorted by length and computed at a time.
const WINDOW: usize = 8_192;

pub fn run(args: &EmbedArgs) -> anyhow::Result<Status> {
    if args.out.is_none() && args.export.is_none() && args.retrieval.is_none() {
        bail!("nothing to do: give --out FILE, --export DIR or --retrieval QUERIES");
    }
    crate::start_threads(args.jobs)?;
    let options = EmbedOptions {
        pooling: args.pooling.map(|p| match p {
            PoolingArg::Mean => Pooling::Mean,
            PoolingArg::Cls => Pooling::Cls,
        }),
        normalize: args.normalize,
        max_length: args.max_length,
        batch_tokens: args.batch_tokens,
        build: Build {
            engine: args.engine.into(),
            device: args.device,
            precision: args.precision.map(Into::into),
            ..Build::default()
        },
    };
    let out = args.out.clone();
    cloze_cli::when_stopped(move || {
        let partials = out.iter().flat_map(|out| Sink::partials(out));
        let removed = partials.filter(|partial| std::fs::remove_file(partial).is_ok());
        match removed.count() > 0 {
            true => "the vectors up to here were removed".into(),
            false => "nothing is left half done".into(),
        }
    })?;
    // What is wrong with the queries is said before all texts are embedded.
    let asked = args.retrieval.as_deref().map(read_queries).transpose()?;
    let mut embedder = Embedder::open(&crate::hub::model(&args.model)?, &options)?;
    let mut err = std::io::stderr();
    writeln!(err, "device   {}", embedder.describe())?;
    let how = match embedder.pooling {
        Pooling::Mean => "the mean of all tokens",
        Pooling::Cls => "[CLS]",
    };
    let unit = if embedder.normalize {
        ", of length 1"
    } else {
        ""
    };
    writeln!(
        err,
        "vectors  {} numbers, {how}{unit}; texts of up to {} tokens",
        embedder.dimension(),
        format::count(embedder.max_length as u64)
    )?;
    if let Some(folder) = &args.export {
        export(&mut embedder, folder)?;
        writeln!(err, "exported {}", folder.display())?;
    }
    let Some(texts) = &args.texts else {
        return Ok(Status::Done);
    };
    let mut sink = match &args.out {
        Some(out) => Some(Sink::create(out, embedder.dimension(), args.force)?),
        None => None,
    };
    let asked_id = args.id_field.as_deref();
    let mut reader = Texts::open(texts, &args.text_field, asked_id.unwrap_or("id"))?;
    if let Some(name) = asked_id.filter(|_| !reader.has_fields()) {
        return Err(crate::Hinted {
            why: format!(
                "{}: a text a line, and lines have no field {name:?}",
                texts.display()
            ),
            hint: "leave out --id-field, or give JSONL by its name".into(),
        }
        .into());
    }
    let mut with_id = 0u64;
    let (mut ids, mut kept) = (Vec::new(), Vec::new());
    let mut count = 0u64;
    let bar = Work::begin("embed", Unit::Things("texts"), lines(texts)?);
    loop {
        let window = reader.window(WINDOW)?;
        if window.is_empty() {
            break;
        }
        let words: Vec<&str> = window.iter().map(|t| t.text.as_str()).collect();
        let vectors = embedder.embed(&words, &mut |n| bar.advance(n))?;
        count += vectors.len() as u64;
        with_id += window.iter().filter(|t| t.id.is_some()).count() as u64;
        if let Some(sink) = &mut sink {
            let ids: Vec<Option<&str>> = window.iter().map(|t| t.id.as_deref()).collect();
            sink.write(&ids, &vectors)?;
        }
        if args.retrieval.is_some() {
            ids.extend(window.into_iter().map(|t| t.id));
            kept.extend(vectors);
        }
    }
    bar.end();
    if count == 0 {
        return Err(crate::Hinted {
            why: format!("{}: holds no text", texts.display()),
            hint: "give JSONL by its name, or a text a line".into(),
        }
        .into());
    }
    if let Some(sink) = sink {
        sink.finish()?;
    }
    if let Some(name) = asked_id.filter(|_| with_id == 0) {
        writeln!(
            err,
            "warning: no text has the field {name:?}, which --id-field names, so there are no ids; the first has [{}]",
            reader.names().join(", ")
        )?;
    }
    let mut out = std::io::stdout().lock();
    if embedder.cut > 0 {
        writeln!(
            err,
            "{} texts were longer than {} tokens and were cut",
            format::count(embedder.cut),
            embedder.max_length
        )?;
    }
    let found = match args.retrieval.as_deref().zip(asked) {
        Some((path, asked)) => {
            let queries = place_queries(path, asked, &places(texts, &ids)?)?;
            let words: Vec<&str> = queries.iter().map(|q| q.text.as_str()).collect();
            let vectors = embedder.embed(&words, &mut |_| ())?;
            Some(measure(&queries, &vectors, &kept))
        }
        None => None,
    };
    if args.json {
        let json = serde_json::json!({
            "texts": count, "dimension": embedder.dimension(), "cut": embedder.cut, "retrieval": found
        });
        writeln!(out, "{json}")?;
        return Ok(Status::Done);
    }
    if let Some(path) = &args.out {
        writeln!(out, "{}: {} vectors", path.display(), format::count(count))?;
    }
    if let Some(found) = found {
        write!(out, "{}", as_text(&found))?;
    }
    Ok(Status::Done)
}

/// About how many texts there are, for a progress bar: not known of standard input.
fn lines(texts: &Path) -> std::io::Result<u64> {
    if texts == Path::new("-") {
        return Ok(0);
    }
    let (mut file, mut part, mut count) = (File::open(texts)?, vec![0; 1 << 20], 0);
    loop {
        match file.read(&mut part)? {
            0 => return Ok(count),
            n => count += part[..n].iter().filter(|&&b| b == b'\n').count() as u64,
        }
    }
}

fn as_text(found: &Retrieval) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for (k, recall) in &found.recall {
        rows.push(vec![format!("recall@{k}"), format!("{recall:.4}")]);
    }
    rows.push(vec!["nDCG@10".into(), format!("{:.4}", found.ndcg_at_10)]);
    rows.push(vec!["MRR@10".into(), format!("{:.4}", found.mrr_at_10)]);
    let queries = format::count(found.queries as u64);
    let documents = format::count(found.documents as u64);
    let head = format!("{queries} queries, {documents} texts");
    table(&[&head, ""], &rows)
}
