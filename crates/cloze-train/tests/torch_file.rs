//! Files of `torch.save`, written here by hand: both formats, tensors that lie oddly, and files that are hostile or damaged.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::Write;
use std::path::Path;

use cloze_train::checkpoint::TorchFile;
use cloze_train::{Error, Result};

/// A tensor in a storage.
struct Tensor {
    name: &'static str,
    storage: usize,
    offset: usize,
    shape: &'static [usize],
    strides: &'static [usize],
    /// Whether it is a parameter.
    wrapped: bool,
}

struct Storage {
    class: &'static str,
    bytes: Vec<u8>,
    count: usize,
}

fn storages() -> Vec<Storage> {
    let numbers: Vec<f32> = (0..24).map(|i| i as f32 / 8.0 - 1.0).collect();
    let of = |class, bytes: Vec<u8>, count| Storage {
        class,
        bytes,
        count,
    };
    let bytes = |f: &dyn Fn(f32) -> Vec<u8>| numbers.iter().flat_map(|&x| f(x)).collect();
    vec![
        of("FloatStorage", bytes(&|x| x.to_le_bytes().into()), 24),
        of(
            "DoubleStorage",
            bytes(&|x| f64::from(x).to_le_bytes().into()),
            24,
        ),
        of(
            "HalfStorage",
            bytes(&|x| half::f16::from_f32(x).to_le_bytes().into()),
            24,
        ),
        of(
            "BFloat16Storage",
            bytes(&|x| half::bf16::from_f32(x).to_le_bytes().into()),
            24,
        ),
        of(
            "LongStorage",
            (0..3u64).flat_map(u64::to_le_bytes).collect(),
            3,
        ),
    ]
}

const fn tensor(
    name: &'static str,
    storage: usize,
    offset: usize,
    shape: &'static [usize],
    strides: &'static [usize],
) -> Tensor {
    Tensor {
        name,
        storage,
        offset,
        shape,
        strides,
        wrapped: false,
    }
}

fn tensors() -> Vec<Tensor> {
    vec![
        tensor("plain", 0, 0, &[4, 6], &[6, 1]),
        tensor("part", 0, 6, &[2, 6], &[6, 1]),
        tensor("turned", 0, 0, &[6, 4], &[1, 6]),
        tensor("every other", 0, 1, &[3, 2, 2], &[8, 4, 2]),
        tensor("number", 0, 23, &[], &[]),
        tensor("nothing", 0, 0, &[0, 5], &[5, 1]),
        tensor("double", 1, 0, &[24], &[1]),
        tensor("half", 2, 0, &[24], &[1]),
        tensor("brain", 3, 0, &[24], &[1]),
        tensor("ids", 4, 0, &[1, 3], &[3, 1]),
        Tensor {
            wrapped: true,
            ..tensor("parameter", 0, 0, &[24], &[1])
        },
    ]
}

/// Writes pickles.
#[derive(Default)]
struct Pickle(Vec<u8>);

impl Pickle {
    fn new() -> Self {
        Self(vec![0x80, 2])
    }
    fn global(mut self, module: &str, name: &str) -> Self {
        self.0.extend(format!("c{module}\n{name}\n").bytes());
        self
    }
    fn text(mut self, text: &str) -> Self {
        self.0.push(b'X');
        self.0.extend((text.len() as u32).to_le_bytes());
        self.0.extend(text.bytes());
        self
    }
    fn int(mut self, n: usize) -> Self {
        self.0.push(b'J');
        self.0.extend((n as u32).to_le_bytes());
        self
    }
    fn ints(self, list: &[usize]) -> Self {
        list.iter().fold(self.op(b'('), |p, &n| p.int(n)).op(b't')
    }
    fn op(mut self, op: u8) -> Self {
        self.0.push(op);
        self
    }
    /// The dictionary of all tensors; it is remembered before it is filled, as Python does.
    fn dict(self, tensors: &[Tensor], storages: &[Storage]) -> Self {
        let mut p = self.op(b'}').op(b'q').op(0).op(b'(');
        for t in tensors {
            p = p.text(t.name);
            if t.wrapped {
                p = p.global("torch._utils", "_rebuild_parameter").op(b'(');
            }
            let storage = &storages[t.storage];
            p = p
                .global("torch._utils", "_rebuild_tensor_v2")
                .op(b'(')
                .op(b'(');
            p = p.text("storage").global("torch", storage.class);
            p = p
                .text(&t.storage.to_string())
                .text("cpu")
                .int(storage.count);
            p = p
                .op(b't')
                .op(b'Q')
                .int(t.offset)
                .ints(t.shape)
                .ints(t.strides);
            p = p
                .op(0x89)
                .global("collections", "OrderedDict")
                .op(b')')
                .op(b'R');
            p = p.op(b't').op(b'R');
            if t.wrapped {
                p = p
                    .op(0x88)
                    .global("collections", "OrderedDict")
                    .op(b')')
                    .op(b'R');
                p = p.op(b't').op(b'R');
            }
        }
        p.op(b'u')
    }
    fn end(self) -> Vec<u8> {
        self.op(b'.').0
    }
}

fn zipped(pickle: &[u8], storages: &[Storage]) -> Vec<u8> {
    zipped_as("little", pickle, storages)
}

fn zipped_as(order: &str, pickle: &[u8], storages: &[Storage]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut put = |name: &str, bytes: &[u8]| {
        zip.start_file(format!("model/{name}"), options).unwrap();
        zip.write_all(bytes).unwrap();
    };
    put("data.pkl", pickle);
    put("byteorder", order.as_bytes());
    for (number, storage) in storages.iter().enumerate() {
        put(&format!("data/{number}"), &storage.bytes);
    }
    put("version", b"3\n");
    zip.finish().unwrap().into_inner()
}

fn legacy(pickle: &[u8], storages: &[Storage]) -> Vec<u8> {
    let magic = [
        0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19,
    ];
    let mut bytes = [&[0x80, 2][..], &magic, b"."].concat();
    bytes.extend(Pickle::new().int(1001).end());
    bytes.extend(
        Pickle::new()
            .op(b'}')
            .text("little_endian")
            .op(0x88)
            .op(b's')
            .end(),
    );
    bytes.extend(pickle);
    let keys = (0..storages.len()).fold(Pickle::new().op(b']').op(b'('), |p, n| {
        p.text(&n.to_string())
    });
    bytes.extend(keys.op(b'e').end());
    for storage in storages {
        bytes.extend((storage.count as u64).to_le_bytes());
        bytes.extend(&storage.bytes);
    }
    bytes
}

fn whole() -> [Vec<u8>; 2] {
    let storages = storages();
    let pickle = Pickle::new().dict(&tensors(), &storages).end();
    [zipped(&pickle, &storages), legacy(&pickle, &storages)]
}

fn open(folder: &Path, bytes: &[u8]) -> Result<TorchFile> {
    let path = folder.join("pytorch_model.bin");
    fs::write(&path, bytes).unwrap();
    TorchFile::open(&path)
}

#[test]
fn tensors_are_read_however_they_lie() {
    let folder = tempfile::tempdir().unwrap();
    let numbers: Vec<f32> = (0..24).map(|i| i as f32 / 8.0 - 1.0).collect();
    let storages = storages();
    for bytes in whole() {
        let file = open(folder.path(), &bytes).unwrap();
        assert_eq!(file.names().count(), 11);
        for t in tensors() {
            let raw = file.raw(t.name).unwrap();
            let storage = &storages[t.storage];
            let size = storage.bytes.len() / storage.count;
            // From the definition: the place of an index is the offset and the sum of index times stride.
            let count: usize = t.shape.iter().product();
            let places = (0..count).map(|mut i| {
                let mut place = t.offset;
                for (size, stride) in t.shape.iter().zip(t.strides).rev() {
                    place += i % size * stride;
                    i /= size;
                }
                place
            });
            let places: Vec<usize> = places.collect();
            let bytes = places
                .iter()
                .flat_map(|p| &storage.bytes[p * size..][..size]);
            assert_eq!(raw.bytes.to_vec(), bytes.copied().collect::<Vec<_>>());
            assert_eq!(raw.shape, t.shape, "{}", t.name);
            let read = file.read(t.name);
            if t.name == "ids" {
                let why = read.err().unwrap().to_string();
                assert!(why.contains("ids is of type I64"), "{why}");
                continue;
            }
            let read = read.unwrap();
            assert_eq!(read.shape, t.shape, "{}", t.name);
            let expected: Vec<f32> = places.iter().map(|&p| numbers[p]).collect();
            assert_eq!(read.values, expected, "{}", t.name);
        }
    }
}

#[test]
fn the_dictionary_may_be_in_another() {
    let folder = tempfile::tempdir().unwrap();
    let storages = storages();
    let pickle = Pickle::new()
        .op(b'}')
        .op(b'(')
        .text("epoch")
        .int(3)
        .text("state_dict");
    let pickle = pickle.dict(&tensors(), &storages).op(b'u').end();
    for bytes in [zipped(&pickle, &storages), legacy(&pickle, &storages)] {
        assert_eq!(open(folder.path(), &bytes).unwrap().names().count(), 11);
    }
    let none = Pickle::new().op(b'}').text("epoch").int(3).op(b's').end();
    for bytes in [zipped(&none, &[]), legacy(&none, &[])] {
        let why = open(folder.path(), &bytes).unwrap_err().to_string();
        assert!(why.contains("no dictionary of tensors"), "{why}");
    }
}

#[test]
fn of_several_dictionaries_the_model_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let (storages, average) = (storages(), [tensor("plain", 0, 1, &[1], &[1])]);
    let pickle = Pickle::new().op(b'}').op(b'(').text("ema");
    let pickle = pickle.dict(&average, &storages[..1]).text("state_dict");
    let pickle = pickle.dict(&tensors(), &storages).op(b'u').end();
    for bytes in [zipped(&pickle, &storages), legacy(&pickle, &storages)] {
        assert_eq!(open(folder.path(), &bytes).unwrap().names().count(), 11);
    }
}

/// A state dict of torch has metadata, set after it is made.
#[test]
fn metadata_of_the_dictionary_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let storages = storages();
    let pickle = Pickle::new().dict(&tensors(), &storages);
    let pickle = pickle.op(b'}').text("_metadata").op(b'}').op(b's').op(b'b');
    let pickle = pickle.end();
    for bytes in [zipped(&pickle, &storages), legacy(&pickle, &storages)] {
        assert_eq!(open(folder.path(), &bytes).unwrap().names().count(), 11);
    }
}

/// One dictionary named without end is looked through once: else this takes hours.
#[test]
fn what_is_named_often_is_read_once() {
    let folder = tempfile::tempdir().unwrap();
    let often = |recall: &[u8]| recall.repeat(1 << 20);
    let inner = [b"\x80\x02Nq\x000}q\x01(", &often(b"h\0h\0")[..], b"u0"].concat();
    let pickle = [&inner[..], b"}(", &often(b"h\0h\x01"), b"u."].concat();
    let why = open(folder.path(), &zipped(&pickle, &[])).unwrap_err();
    assert!(
        why.to_string().contains("no dictionary of tensors"),
        "{why}"
    );
}

#[test]
fn numbers_that_are_not_little_endian_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let pickle = Pickle::new().dict(&tensors(), &storages()).end();
    let why = open(folder.path(), &zipped_as("big", &pickle, &storages())).unwrap_err();
    assert!(why.to_string().contains("little-endian"), "{why}");
}

/// What lies below a mark is not taken from above it.
#[test]
fn marks_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    for pickle in [&b"\x80\x02N(0t."[..], b"\x80\x02N((0tt.", b"\x80\x02t."] {
        let why = open(folder.path(), &zipped(pickle, &[])).unwrap_err();
        assert!(why.to_string().contains("of its pickle"), "{why}");
    }
}

#[test]
fn nothing_is_run() {
    let folder = tempfile::tempdir().unwrap();
    for (module, name) in [("posix", "system"), ("builtins", "eval"), ("torch", "load")] {
        let direct = Pickle::new()
            .global(module, name)
            .text("true")
            .op(0x85)
            .op(b'R')
            .end();
        // By a name that lies on the stack.
        let stacked = Pickle::new()
            .text(module)
            .text(name)
            .op(0x93)
            .op(b')')
            .op(b'R')
            .end();
        for pickle in [direct, stacked] {
            for bytes in [zipped(&pickle, &[]), legacy(&pickle, &[])] {
                let error = open(folder.path(), &bytes).unwrap_err();
                assert!(matches!(error, Error::Import { .. }), "{error}");
                assert!(error.to_string().contains(&format!("{module}.{name}")));
                assert!(error.hint().is_some());
            }
        }
    }
}

#[test]
fn tensors_that_lie_beyond_their_storage_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        tensor("long", 0, 0, &[25], &[1]),
        tensor("late", 0, 20, &[5], &[1]),
        tensor("wide", 0, 0, &[2, 2], &[23, 1]),
        // One number many times: all memory.
        tensor("repeated", 0, 0, &[1 << 20, 1 << 11], &[0, 0]),
        tensor("vast", 0, 0, &[1 << 31, 1 << 31, 1 << 31], &[1, 1, 1]),
        tensor("far", 0, 0, &[2], &[(1 << 31) - 1]),
        tensor("uneven", 0, 0, &[2, 2], &[1]),
    ];
    for case in cases {
        let name = case.name;
        let pickle = Pickle::new().dict(&[case], &storages()).end();
        for bytes in [
            zipped(&pickle, &storages()),
            legacy(&pickle, &storages()[..1]),
        ] {
            let error = open(folder.path(), &bytes);
            let why = error.map(|_| name).unwrap_err().to_string();
            assert!(why.contains(name), "{why}");
        }
    }
    // A storage that is not there.
    let pickle = Pickle::new().dict(&tensors(), &storages()).end();
    let why = open(folder.path(), &zipped(&pickle, &storages()[..2]));
    let why = why.unwrap_err().to_string();
    assert!(why.contains("storage 2, which is not in the file"), "{why}");
}

/// Whatever is changed or missing: an error or a file, never a panic.
#[test]
fn damage_is_an_error_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for bytes in whole() {
        let look = |bytes: &[u8]| {
            if let Ok(file) = open(folder.path(), bytes) {
                for name in file.names() {
                    let _ = file.read(name);
                }
                return true;
            }
            false
        };
        let step = if cfg!(debug_assertions) { 3 } else { 1 };
        for at in (0..bytes.len()).step_by(step) {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << (at % 8);
            look(&bad);
            assert!(!look(&bytes[..at]), "cut at {at} of {}", bytes.len());
        }
    }
    // A pickle that makes objects without end.
    let many = [vec![0x80, 2], vec![b'N'; 5 << 20], vec![b'.']].concat();
    let why = open(folder.path(), &zipped(&many, &[]))
        .unwrap_err()
        .to_string();
    assert!(why.contains("more than"), "{why}");
}
