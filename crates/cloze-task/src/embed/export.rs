//! A folder that `sentence-transformers` loads, and that gives the same vectors.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use cloze_shard::atomic;
use cloze_train::checkpoint::{CONFIG, WEIGHTS};
use cloze_train::parameters::Layout;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, serialize};
use serde_json::{Value, json};

use super::{Embedder, Pooling};
use crate::{Error, Result};

/// Writes `out`, which must not exist yet; it appears whole.
pub fn export(embedder: &mut Embedder, out: &Path) -> Result<()> {
    if out.exists() {
        return Err(Error::Taken {
            path: out.into(),
            why: "exists already".into(),
            option: "--export",
        });
    }
    let partial = PathBuf::from(format!("{}.partial", out.display()));
    if partial.exists() {
        fs::remove_dir_all(&partial).map_err(cloze_shard::Error::io(&partial))?;
    }
    let steps = if embedder.normalize { 3 } else { 2 };
    for folder in ["1_Pooling", "2_Normalize"].into_iter().take(steps - 1) {
        let folder = partial.join(folder);
        fs::create_dir_all(&folder).map_err(cloze_shard::Error::io(&folder))?;
    }
    let put = |name: &str, bytes: &[u8]| atomic::write(&partial.join(name), bytes);
    let text = |value: Value| format!("{value:#}\n").into_bytes();
    let step = |i: usize, path: &str, kind: &str| json!({"idx": i, "name": i.to_string(), "path": path, "type": format!("sentence_transformers.models.{kind}")});
    let all = [
        step(0, "", "Transformer"),
        step(1, "1_Pooling", "Pooling"),
        step(2, "2_Normalize", "Normalize"),
    ];
    put("modules.json", &text(json!(all[..steps])))?;
    let mean = embedder.pooling == Pooling::Mean;
    let pooling = json!({
        "word_embedding_dimension": embedder.dimension(), "pooling_mode_cls_token": !mean, "pooling_mode_mean_tokens": mean,
        "pooling_mode_max_tokens": false, "pooling_mode_mean_sqrt_len_tokens": false
    });
    put("1_Pooling/config.json", &text(pooling))?;
    let length = json!({"max_seq_length": embedder.max_length, "do_lower_case": false});
    put("sentence_bert_config.json", &text(length))?;
    put(
        "config_sentence_transformers.json",
        &text(json!({"prompts": {}, "default_prompt_name": null, "similarity_fn_name": "cosine"})),
    )?;
    let mut raw = embedder.config().raw.clone();
    raw.insert("architectures".into(), json!(["BertModel"]));
    // Google's own files have none.
    raw.insert("model_type".into(), json!("bert"));
    for name in ["torch_dtype", "dtype"] {
        if let Some(dtype) = raw.get_mut(name) {
            *dtype = "float32".into();
        }
    }
    put(CONFIG, &text(Value::Object(raw)))?;
    for (name, bytes) in embedder.model.tokenizer.files() {
        put(name, bytes)?;
    }
    put(WEIGHTS, &weights(embedder, &partial)?)?;
    atomic::sync_folder(&partial)?;
    fs::rename(&partial, out).map_err(cloze_shard::Error::io(out))?;
    Ok(())
}

/// The tensors of `BertModel`, by its names. A pooler that the model did not have is left out.
fn weights(embedder: &mut Embedder, path: &Path) -> Result<Vec<u8>> {
    let parameters = embedder.model.engine.parameters()?;
    let layout = Layout::new(embedder.config());
    let made = &embedder.model.report.initialised;
    let left_out = |name: &String| name.starts_with("bert.pooler.") && made.contains(name);
    let own = layout.parameters().iter().filter_map(|p| {
        let name = p.name.strip_prefix("bert.")?;
        let bytes = parameters[p.range()].iter().flat_map(|v| v.to_le_bytes());
        (!left_out(&p.name)).then(|| (name, p.shape.clone(), bytes.collect::<Vec<u8>>()))
    });
    let own: Vec<_> = own.collect();
    let fail = |e: safetensors::SafeTensorError| Error::Model {
        path: path.join(WEIGHTS),
        why: e.to_string(),
        hint: "this is a mistake in the program".into(),
    };
    let views = own.iter().map(|(name, shape, bytes)| {
        Ok((*name, TensorView::new(Dtype::F32, shape.clone(), bytes)?))
    });
    let views = views.collect::<Result<Vec<_>, _>>().map_err(fail)?;
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    serialize(views, Some(format)).map_err(fail)
}
