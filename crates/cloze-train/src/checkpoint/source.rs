//! The tensors of a Hugging Face folder, in whichever files they are.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensors};

use super::WEIGHTS;
use super::torch::TorchFile;
use crate::config::LONGEST_JSON;
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
    Safetensors(Safetensors),
    Torch(TorchFile),
}

/// A safetensors file.
struct Safetensors {
    path: PathBuf,
    bytes: Vec<u8>,
    /// Bytes before the tensors.
    head: usize,
    /// What its header says, which is read once.
    header: Metadata,
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
            return Err(Error::Checkpoint {
                path: folder.into(),
                why: format!("holds no weights: there is none of {}", NAMES.join(", ")),
            });
        };
        let path = folder.join(name);
        if name.ends_with(".index.json") {
            return Self::of_index(folder, path);
        }
        let file = File::open(&path)?;
        let tensors = file.names().into_iter().map(|name| (name, 0)).collect();
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
        let text = cloze_shard::read_small(&path, LONGEST_JSON)?;
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

    /// The shape of a tensor.
    pub fn shape(&self, name: &str) -> Result<&[usize]> {
        self.file(name)?.shape(name)
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
        match path.extension().is_some_and(|e| e == "bin") {
            true => TorchFile::open(path).map(Self::Torch),
            false => Safetensors::open(path).map(Self::Safetensors),
        }
    }

    fn names(&self) -> Vec<String> {
        match self {
            Self::Torch(file) => file.names().map(str::to_owned).collect(),
            Self::Safetensors(file) => file.header.offset_keys(),
        }
    }

    fn shape(&self, name: &str) -> Result<&[usize]> {
        match self {
            Self::Torch(file) => file.shape(name),
            Self::Safetensors(file) => Ok(&file.find(name)?.0.shape),
        }
    }

    fn raw(&self, name: &str) -> Result<Raw<'_>> {
        match self {
            Self::Torch(file) => file.raw(name),
            Self::Safetensors(file) => file.raw(name),
        }
    }

    fn read(&self, name: &str) -> Result<Values> {
        match self {
            Self::Torch(file) => file.read(name),
            Self::Safetensors(file) => file.read(name),
        }
    }
}

impl Safetensors {
    fn open(path: &Path) -> Result<Self> {
        cloze_shard::regular_file(path)?;
        let bytes = fs::read(path).map_err(cloze_shard::Error::io(path))?;
        let fail = |why: &str| Error::Checkpoint {
            path: path.into(),
            why: format!("not a whole safetensors file: {why}"),
        };
        // The library adds up what a header says, which may be too much.
        let read = catch_unwind(|| SafeTensors::read_metadata(&bytes));
        let read = read.map_err(|_| fail("its header is broken"))?;
        let (length, header) = read.map_err(|e| fail(&e.to_string()))?;
        Ok(Self {
            path: path.into(),
            head: size_of::<u64>() + length,
            bytes,
            header,
        })
    }

    fn fail(&self, why: String) -> Error {
        Error::Checkpoint {
            path: self.path.clone(),
            why,
        }
    }

    /// What the header says of a tensor, and its bytes.
    fn find(&self, name: &str) -> Result<(&TensorInfo, &[u8])> {
        let info = self.header.info(name);
        let info = info.ok_or_else(|| self.fail(format!("has no tensor {name}")))?;
        let (start, end) = info.data_offsets;
        let data = self.bytes.get(self.head..).and_then(|d| d.get(start..end));
        let data = data.ok_or_else(|| self.fail(format!("{name} lies outside of the file")))?;
        Ok((info, data))
    }

    fn raw(&self, name: &str) -> Result<Raw<'_>> {
        let (info, data) = self.find(name)?;
        Ok(Raw {
            dtype: info.dtype,
            shape: info.shape.clone(),
            bytes: Cow::Borrowed(data),
        })
    }

    fn read(&self, name: &str) -> Result<Values> {
        let (info, data) = self.find(name)?;
        let (dtype, shape) = (info.dtype, info.shape.clone());
        let values = widen(dtype, data).ok_or_else(|| {
            self.fail(format!(
                "{name} is of type {dtype:?}; F32, F16 and BF16 are read"
            ))
        })?;
        Ok(Values { shape, values })
    }
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
