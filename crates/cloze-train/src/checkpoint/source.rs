//! The tensors of a Hugging Face folder, in whichever files they are.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};

use super::WEIGHTS;
use super::torch::TorchFile;
use crate::{Error, Result};

/// Files that hold weights, in the order in which they are looked for: as transformers does.
const NAMES: [&str; 4] = [
    WEIGHTS,
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

/// Open files.
pub struct Source {
    /// What is named in errors: the only file, or the index.
    path: PathBuf,
    files: Vec<File>,
    /// Tensors by name, with the number of their file.
    tensors: BTreeMap<String, usize>,
}

enum File {
    Safetensors { path: PathBuf, bytes: Vec<u8> },
    Torch(TorchFile),
}

/// A tensor, in single precision.
#[derive(Clone, Debug, PartialEq)]
pub struct Values {
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// Its numbers, the last dimension fastest.
    pub values: Vec<f32>,
}

/// A tensor as it lies in a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Raw<'a> {
    /// What its numbers are.
    pub dtype: Dtype,
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// Its numbers, the last dimension fastest.
    pub bytes: Cow<'a, [u8]>,
}

impl Source {
    /// Opens the weights of `folder`.
    pub fn open(folder: &Path) -> Result<Self> {
        let found = NAMES.iter().find(|name| folder.join(name).exists());
        let Some(name) = found else {
            // As of the file that is wanted most.
            let path = folder.join(WEIGHTS);
            let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(cloze_shard::Error::io(&path)(missing).into());
        };
        let path = folder.join(name);
        if name.ends_with(".index.json") {
            return Self::of_index(folder, path);
        }
        let file = File::open(&path)?;
        let tensors = file.names()?.into_iter().map(|name| (name, 0)).collect();
        Ok(Self {
            path,
            files: vec![file],
            tensors,
        })
    }

    fn of_index(folder: &Path, path: PathBuf) -> Result<Self> {
        let fail = |why: String| Error::Checkpoint {
            path: path.clone(),
            why,
        };
        let text = fs::read_to_string(&path).map_err(cloze_shard::Error::io(&path))?;
        let index: serde_json::Value =
            serde_json::from_str(&text).map_err(|e| fail(format!("broken JSON: {e}")))?;
        let map = index["weight_map"].as_object();
        let map = map.ok_or_else(|| fail("has no weight_map".into()))?;
        let (mut files, mut numbers, mut tensors) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        for (tensor, file) in map {
            let file = file.as_str().unwrap_or_default();
            let inside = Path::new(file).file_name() == Some(file.as_ref());
            if !inside {
                return Err(fail(format!(
                    "says that {tensor} is in {file:?}, which is no file of this folder"
                )));
            }
            let number = match numbers.get(file) {
                Some(&number) => number,
                None => {
                    files.push(File::open(&folder.join(file))?);
                    numbers.insert(file.to_owned(), files.len() - 1);
                    files.len() - 1
                }
            };
            tensors.insert(tensor.clone(), number);
        }
        Ok(Self {
            path,
            files,
            tensors,
        })
    }

    /// The file, or the index of several.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All tensors, in the order of their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Reads a tensor; F32, F16 and BF16 are widened, F64 is rounded.
    pub fn read(&self, name: &str) -> Result<Values> {
        self.file(name)?.read(name)
    }

    /// Reads a tensor as it is.
    pub fn raw(&self, name: &str) -> Result<Raw<'_>> {
        self.file(name)?.raw(name)
    }

    fn file(&self, name: &str) -> Result<&File> {
        let file = self.tensors.get(name).map(|&number| &self.files[number]);
        file.ok_or_else(|| Error::Checkpoint {
            path: self.path.clone(),
            why: format!("has no tensor {name}"),
        })
    }
}

impl File {
    fn open(path: &Path) -> Result<Self> {
        if path.extension().is_some_and(|e| e == "bin") {
            return Ok(Self::Torch(TorchFile::open(path)?));
        }
        let bytes = fs::read(path).map_err(cloze_shard::Error::io(path))?;
        let file = Self::Safetensors {
            path: path.into(),
            bytes,
        };
        file.names().map(|_| file)
    }

    fn names(&self) -> Result<Vec<String>> {
        Ok(match self {
            Self::Torch(file) => file.names().map(str::to_owned).collect(),
            Self::Safetensors { path, bytes } => {
                let tensors = deserialize(path, bytes)?;
                tensors.names().into_iter().map(str::to_owned).collect()
            }
        })
    }

    fn raw(&self, name: &str) -> Result<Raw<'_>> {
        let (path, bytes) = match self {
            Self::Torch(file) => return file.raw(name),
            Self::Safetensors { path, bytes } => (path, bytes),
        };
        let tensors = deserialize(path, bytes)?;
        let view = tensors.tensor(name).map_err(|e| Error::Checkpoint {
            path: path.clone(),
            why: e.to_string(),
        })?;
        Ok(Raw {
            dtype: view.dtype(),
            shape: view.shape().to_vec(),
            bytes: Cow::Borrowed(view.data()),
        })
    }

    fn read(&self, name: &str) -> Result<Values> {
        let (path, bytes) = match self {
            Self::Torch(file) => return file.read(name),
            Self::Safetensors { path, bytes } => (path, bytes),
        };
        let fail = |why: String| Error::Checkpoint {
            path: path.clone(),
            why,
        };
        let tensors = deserialize(path, bytes)?;
        let view = tensors.tensor(name).map_err(|e| fail(e.to_string()))?;
        let values = widen(view.dtype(), view.data()).ok_or_else(|| {
            let dtype = view.dtype();
            fail(format!(
                "{name} is of type {dtype:?}; F32, F16 and BF16 are read"
            ))
        })?;
        let shape = view.shape().to_vec();
        Ok(Values { shape, values })
    }
}

fn deserialize<'b>(path: &Path, bytes: &'b [u8]) -> Result<SafeTensors<'b>> {
    SafeTensors::deserialize(bytes).map_err(|e| Error::Checkpoint {
        path: path.into(),
        why: format!("not a whole safetensors file: {e}"),
    })
}

fn widen(dtype: Dtype, data: &[u8]) -> Option<Vec<f32>> {
    let halves = || {
        data.as_chunks::<2>()
            .0
            .iter()
            .map(|b| u16::from_le_bytes(*b))
    };
    Some(match dtype {
        Dtype::F32 => {
            let words = data.as_chunks::<4>().0.iter();
            words.map(|b| f32::from_le_bytes(*b)).collect()
        }
        Dtype::F16 => halves().map(|b| half::f16::from_bits(b).to_f32()).collect(),
        Dtype::BF16 => halves()
            .map(|b| half::bf16::from_bits(b).to_f32())
            .collect(),
        _ => return None,
    })
}
