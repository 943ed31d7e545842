//! Files of `torch.save`: a dictionary of tensors, read without running anything.
//!
//! Since PyTorch 1.6 a file is a zip archive: `data.pkl` says which tensors there are, `data/N` are the numbers of storages. Before, it was five pickles
//! (a magic number, a version, the machine's sizes, the tensors, the names of storages), then the storages.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io::{Cursor, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::pickle::{self, Global, Id, Kind, Object, Objects, Refused};
use super::source::{Raw, Values};
use crate::{Error, Result};

/// An open file.
#[derive(Debug)]
pub struct TorchFile {
    path: PathBuf,
    bytes: Vec<u8>,
    tensors: BTreeMap<String, Tensor>,
}

/// Where a tensor's numbers are.
#[derive(Clone, Debug)]
struct Tensor {
    kind: Kind,
    /// Of its storage, in the file.
    storage: Range<usize>,
    /// In numbers, as are the strides.
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

/// Storages by their keys: where they are in the file, and how many numbers they have where the file says.
type Storages = HashMap<String, Range<usize>>;

impl TorchFile {
    /// Opens `path`.
    pub fn open(path: &Path) -> Result<Self> {
        cloze_shard::regular_file(path)?;
        let bytes = fs::read(path).map_err(cloze_shard::Error::io(path))?;
        let fail = |why: String| Error::Checkpoint {
            path: path.into(),
            why,
        };
        let refused = |refused| match refused {
            Refused::Broken { at, why } => fail(format!("byte {at} of its pickle: {why}")),
            Refused::Import(name) => Error::Import {
                path: path.into(),
                name,
            },
        };
        let (objects, storages) = if bytes.starts_with(b"PK") {
            zipped(&bytes, &fail, &refused)?
        } else {
            legacy(&bytes, &fail, &refused)?
        };
        let tensors = tensors(&objects, &storages).map_err(fail)?;
        Ok(Self {
            path: path.into(),
            bytes,
            tensors,
        })
    }

    /// All tensors, in the order of their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The shape of a tensor.
    pub fn shape(&self, name: &str) -> Result<&[usize]> {
        Ok(&self.find(name)?.shape)
    }

    /// Reads a tensor as it is.
    pub fn raw(&self, name: &str) -> Result<Raw<'_>> {
        let tensor = self.find(name)?;
        let mut bytes =
            Vec::with_capacity(tensor.shape.iter().product::<usize>() * tensor.kind.bytes());
        tensor.each(&self.bytes[tensor.storage.clone()], |number| {
            bytes.extend_from_slice(number);
            Some(())
        });
        Ok(Raw {
            dtype: tensor.kind.dtype(),
            shape: tensor.shape.clone(),
            bytes: bytes.into(),
        })
    }

    fn find(&self, name: &str) -> Result<&Tensor> {
        self.tensors.get(name).ok_or_else(|| Error::Checkpoint {
            path: self.path.clone(),
            why: format!("has no tensor {name}"),
        })
    }

    /// Reads a tensor in single precision: F64 is rounded, F16 and BF16 are widened.
    pub fn read(&self, name: &str) -> Result<Values> {
        let fail = |why: String| Error::Checkpoint {
            path: self.path.clone(),
            why,
        };
        let tensor = self.find(name)?;
        let data = &self.bytes[tensor.storage.clone()];
        let values = tensor.values(data).ok_or_else(|| {
            fail(format!(
                "{name} is of type {:?}; F64, F32, F16 and BF16 are read",
                tensor.kind
            ))
        })?;
        let shape = tensor.shape.clone();
        Ok(Values { shape, values })
    }
}

impl Tensor {
    fn values(&self, data: &[u8]) -> Option<Vec<f32>> {
        let half = |b: &[u8]| u16::from_le_bytes([b[0], b[1]]);
        let one = |number: &[u8]| match (self.kind, number) {
            (Kind::F32, &[a, b, c, d]) => Some(f32::from_le_bytes([a, b, c, d])),
            (Kind::F64, &[a, b, c, d, e, f, g, h]) => {
                Some(f64::from_le_bytes([a, b, c, d, e, f, g, h]) as f32)
            }
            (Kind::F16, b) => Some(half::f16::from_bits(half(b)).to_f32()),
            (Kind::Bf16, b) => Some(half::bf16::from_bits(half(b)).to_f32()),
            _ => None,
        };
        let mut values = Vec::with_capacity(self.shape.iter().product());
        self.each(data, |number| {
            values.push(one(number)?);
            Some(())
        })?;
        Some(values)
    }

    /// Tells every number's bytes, the last dimension fastest, until `tell` says no.
    fn each(&self, data: &[u8], mut tell: impl FnMut(&[u8]) -> Option<()>) -> Option<()> {
        let at = |i: usize| &data[i * self.kind.bytes()..(i + 1) * self.kind.bytes()];
        let mut index = vec![0; self.shape.len()];
        let mut place = self.offset;
        for _ in 0..self.shape.iter().product() {
            tell(at(place))?;
            // The next place: the last dimension goes fastest.
            for d in (0..index.len()).rev() {
                index[d] += 1;
                place += self.strides[d];
                if index[d] < self.shape[d] {
                    break;
                }
                place -= index[d] * self.strides[d];
                index[d] = 0;
            }
        }
        Some(())
    }
}

fn zipped(
    bytes: &[u8],
    fail: &dyn Fn(String) -> Error,
    refused: &dyn Fn(Refused) -> Error,
) -> Result<(Objects, Storages)> {
    let broken = |e: zip::result::ZipError| fail(format!("not a whole zip archive: {e}"));
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).map_err(broken)?;
    let (mut pickled, mut storages) = (None, Storages::new());
    for number in 0..archive.len() {
        let mut entry = archive.by_index(number).map_err(broken)?;
        let name = entry.name().map_err(broken)?.into_owned();
        let stored = entry.compression() == zip::CompressionMethod::Stored;
        let start = entry.data_start().unwrap_or(u64::MAX) as usize;
        let range = start..start.saturating_add(entry.size() as usize);
        if !stored || range.end > bytes.len() {
            return Err(fail(format!(
                "{name} is compressed or cut short, which no file of torch.save is"
            )));
        }
        let inner = name
            .split_once('/')
            .map_or(name.as_str(), |(_, inner)| inner);
        match inner {
            "data.pkl" => pickled = Some(bytes[range].to_vec()),
            "byteorder" => {
                let mut order = String::new();
                let read = entry.by_ref().take(16).read_to_string(&mut order);
                if read.is_err() || order.trim() != "little" {
                    return Err(fail("its numbers are not little-endian".into()));
                }
            }
            _ => {
                if let Some(key) = inner.strip_prefix("data/") {
                    storages.insert(key.to_owned(), range);
                }
            }
        }
    }
    let pickled =
        pickled.ok_or_else(|| fail("has no data.pkl: not a file of torch.save".into()))?;
    let (objects, _) = pickle::read(&pickled).map_err(refused)?;
    Ok((objects, storages))
}

/// What the first pickle of a file of old stands for: a number of ten bytes.
const MAGIC: [u8; 15] = [
    0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.',
];

fn legacy(
    bytes: &[u8],
    fail: &dyn Fn(String) -> Error,
    refused: &dyn Fn(Refused) -> Error,
) -> Result<(Objects, Storages)> {
    if !bytes.starts_with(&MAGIC) {
        return Err(fail("not a file of torch.save".into()));
    }
    let mut at = MAGIC.len();
    let mut next = || {
        let (objects, length) = pickle::read(&bytes[at..]).map_err(refused)?;
        at += length;
        Ok::<_, Error>(objects)
    };
    let (_version, _sizes, objects, keys) = (next()?, next()?, next()?, next()?);
    let sizes = kinds(&objects);
    let Object::List(list) = keys.get(keys.root) else {
        return Err(fail("does not say which storages it has".into()));
    };
    let mut storages = Storages::new();
    for &key in list {
        let short = || fail(format!("is cut short: {} bytes", bytes.len()));
        let key = keys
            .text(key)
            .ok_or_else(|| fail("a storage has no name".into()))?;
        let head = bytes.get(at..at.saturating_add(8)).ok_or_else(short)?;
        let mut count = [0; 8];
        count.copy_from_slice(head);
        let kind = sizes.get(key).copied();
        let kind = kind.ok_or_else(|| fail(format!("no tensor has the storage {key}")))?;
        let length = usize::try_from(u64::from_le_bytes(count)).ok();
        let end = length
            .and_then(|n| n.checked_mul(kind.bytes()))
            .and_then(|n| n.checked_add(at + 8))
            .filter(|&end| end <= bytes.len())
            .ok_or_else(short)?;
        storages.insert(key.into(), at + 8..end);
        at = end;
    }
    Ok((objects, storages))
}

/// What the numbers of each storage are.
fn kinds(objects: &Objects) -> HashMap<String, Kind> {
    let mut kinds = HashMap::new();
    for object in objects.all() {
        if let Object::Persistent(named) = object
            && let Some((kind, key)) = storage(objects, *named)
        {
            kinds.insert(key.to_owned(), kind);
        }
    }
    kinds
}

/// Kind and key of a storage, of what a pickle calls it: `("storage", class, key, location, numbers)`.
fn storage(objects: &Objects, named: Id) -> Option<(Kind, &str)> {
    let parts = objects.tuple(named)?;
    let (word, class, key) = (parts.first()?, parts.get(1)?, parts.get(2)?);
    let Object::Global(Global::Storage(kind)) = objects.get(*class) else {
        return None;
    };
    // A view of another storage, in files of old.
    let view = parts
        .get(5)
        .is_some_and(|&v| *objects.get(v) != Object::None);
    let key = objects.text(*key).filter(|key| key.len() <= LONGEST_NAME)?;
    (objects.text(*word)? == "storage" && !view).then_some((*kind, key))
}

/// Bytes of the name of a tensor, or of a storage. A pickle may name one any number of times.
const LONGEST_NAME: usize = 1 << 12;

/// What the dictionary of tensors is called in a file that holds more.
const INNER: [&str; 2] = ["state_dict", "model"];

/// The tensors of the dictionary that a file stands for, or of one in it that has some: of [`INNER`], else the first.
fn tensors(
    objects: &Objects,
    storages: &Storages,
) -> std::result::Result<BTreeMap<String, Tensor>, String> {
    let Object::Dict(outer) = objects.get(objects.root) else {
        return Err("stands for no dictionary of tensors".into());
    };
    let has_tensors = |dict: &[(Id, Id)]| dict.iter().any(|(_, v)| call(objects, *v).is_some());
    let mut dict = outer;
    if !has_tensors(outer) {
        // Each is looked through once: a pickle may name the same one any number of times.
        let mut seen = HashSet::new();
        let mut inner: Vec<(Id, &Vec<(Id, Id)>)> = Vec::new();
        for &(name, value) in outer {
            match objects.get(value) {
                Object::Dict(dict) if seen.insert(value) && has_tensors(dict) => {
                    inner.push((name, dict));
                }
                _ => {}
            }
        }
        let called = |wanted: &str| inner.iter().find(|(n, _)| objects.text(*n) == Some(wanted));
        let found = INNER.iter().find_map(|name| called(name));
        let found = found.or(inner.first()).map(|&(_, dict)| dict);
        dict = found.ok_or("stands for no dictionary of tensors")?;
    }
    let mut tensors = BTreeMap::new();
    for &(name, value) in dict {
        let (Some(name), Some(arguments)) = (objects.text(name), call(objects, value)) else {
            continue;
        };
        if name.len() > LONGEST_NAME {
            return Err(format!("has a tensor whose name has {} bytes", name.len()));
        }
        let tensor = tensor(objects, arguments, storages).map_err(|why| format!("{name} {why}"))?;
        tensors.insert(name.to_owned(), tensor);
    }
    Ok(tensors)
}

/// What a tensor, or a parameter that is one, is made of.
fn call(objects: &Objects, id: Id) -> Option<&[Id]> {
    match objects.get(id) {
        Object::Call(Global::RebuildTensor, arguments) => objects.tuple(*arguments),
        Object::Call(Global::RebuildParameter, arguments) => {
            let inner = *objects.tuple(*arguments)?.first()?;
            match objects.get(inner) {
                Object::Call(Global::RebuildTensor, arguments) => objects.tuple(*arguments),
                _ => None,
            }
        }
        _ => None,
    }
}

fn tensor(
    objects: &Objects,
    arguments: &[Id],
    storages: &Storages,
) -> std::result::Result<Tensor, String> {
    let odd = || "is not made as tensors are".to_owned();
    let [from, offset, shape, strides, ..] = *arguments else {
        return Err(odd());
    };
    let Object::Persistent(named) = *objects.get(from) else {
        return Err(odd());
    };
    let (kind, key) = storage(objects, named).ok_or_else(odd)?;
    let range = storages.get(key).cloned();
    let range = range.ok_or_else(|| format!("lies in storage {key}, which is not in the file"))?;
    let offset = objects.size(offset).ok_or_else(odd)?;
    let shape = objects.sizes(shape).ok_or_else(odd)?;
    let strides = objects.sizes(strides).ok_or_else(odd)?;
    if shape.len() != strides.len() {
        return Err(odd());
    }
    let there = range.len() / kind.bytes();
    let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    // The place of its last number.
    let last = shape.iter().zip(&strides).try_fold(offset, |at, (&d, &s)| {
        at.checked_add(d.saturating_sub(1).checked_mul(s)?)
    });
    match (count, last) {
        (Some(0), _) => {}
        (Some(count), Some(last)) if last < there && count <= there => {}
        _ => {
            return Err(format!(
                "of shape {shape:?} does not fit into storage {key}, which has {there} numbers"
            ));
        }
    }
    Ok(Tensor {
        kind,
        storage: range,
        offset,
        shape,
        strides,
    })
}
