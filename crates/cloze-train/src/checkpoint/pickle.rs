//! As much of Python's pickles as a file of tensors needs (PEP 307, PEP 3154; what the operations do is in Python's own `pickletools`).
//!
//! Nothing is run. Objects are kept in a list and named by their place in it: so what is remembered is shared and never copied, and nothing here calls itself.
//! What a pickle asks to import must be among [`Global`]; all else is refused by name.

use std::collections::HashMap;

use safetensors::Dtype;

/// The place of an object in [`Objects`].
pub type Id = usize;

/// What a pickle may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Global {
    /// `collections.OrderedDict`
    OrderedDict,
    /// `torch._utils._rebuild_tensor` and `_rebuild_tensor_v2`
    RebuildTensor,
    /// `torch._utils._rebuild_parameter`
    RebuildParameter,
    /// `torch.FloatStorage` and so on.
    Storage(Kind),
    /// `torch.float32` and so on, `torch.Size`: of no use here.
    Other,
}

/// What numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    F64,
    F32,
    F16,
    Bf16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

impl Kind {
    /// Bytes of a number.
    pub fn bytes(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// The same in safetensors.
    pub fn dtype(self) -> Dtype {
        match self {
            Self::F64 => Dtype::F64,
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::BF16,
            Self::I64 => Dtype::I64,
            Self::I32 => Dtype::I32,
            Self::I16 => Dtype::I16,
            Self::I8 => Dtype::I8,
            Self::U8 => Dtype::U8,
            Self::Bool => Dtype::BOOL,
        }
    }
}

/// What a pickle makes.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    None,
    Bool,
    Int(i64),
    /// A number that is none of the above.
    Number,
    Text(String),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    /// What the file holds beside the pickle.
    Persistent(Id),
    /// What a function would have made of a tuple.
    Call(Global, Id),
}

/// All objects of a pickle, and the one that it stands for.
#[derive(Debug)]
pub struct Objects {
    objects: Vec<Object>,
    pub root: Id,
}

impl Objects {
    pub fn get(&self, id: Id) -> &Object {
        &self.objects[id]
    }

    pub fn all(&self) -> &[Object] {
        &self.objects
    }

    pub fn tuple(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Object::Tuple(items) => Some(items),
            _ => None,
        }
    }

    pub fn text(&self, id: Id) -> Option<&str> {
        match self.get(id) {
            Object::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn size(&self, id: Id) -> Option<usize> {
        match self.get(id) {
            Object::Int(n) => usize::try_from(*n).ok(),
            _ => None,
        }
    }

    /// Sizes, or strides, of not too many dimensions: a pickle may name the same ones any number of times.
    pub fn sizes(&self, id: Id) -> Option<Vec<usize>> {
        let items = self
            .tuple(id)
            .filter(|items| items.len() <= MOST_DIMENSIONS)?;
        items.iter().map(|&id| self.size(id)).collect()
    }
}

/// Dimensions of a tensor.
const MOST_DIMENSIONS: usize = 8;

/// Objects that a pickle may make: far more than the tensors of any model need.
const MOST_OBJECTS: usize = 1 << 22;

/// Why a pickle was not read.
#[derive(Debug, PartialEq)]
pub enum Refused {
    /// It is no whole pickle, or one that no tensors come in; the place is in bytes from its start.
    Broken { at: usize, why: String },
    /// It asks to import this.
    Import(String),
}

/// Reads one pickle at the beginning of `bytes`; how many bytes it has.
pub fn read(bytes: &[u8]) -> Result<(Objects, usize), Refused> {
    let mut machine = Machine {
        bytes,
        at: 0,
        objects: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    loop {
        let at = machine.at;
        if machine.objects.len() > MOST_OBJECTS {
            let why = format!("it makes more than {MOST_OBJECTS} objects");
            return Err(Refused::Broken { at, why });
        }
        let done = machine.operation().map_err(|stopped| match stopped {
            Stopped::Why(why) => Refused::Broken { at, why },
            Stopped::Import(name) => Refused::Import(name),
        })?;
        if done {
            let root = machine.pop().map_err(|_| Refused::Broken {
                at,
                why: "it stands for nothing".into(),
            })?;
            let objects = machine.objects;
            return Ok((Objects { objects, root }, machine.at));
        }
    }
}

struct Machine<'b> {
    bytes: &'b [u8],
    at: usize,
    objects: Vec<Object>,
    stack: Vec<Id>,
    /// Lengths of the stack when marks were set.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

enum Stopped {
    Why(String),
    Import(String),
}

impl From<&str> for Stopped {
    fn from(why: &str) -> Self {
        Self::Why(why.into())
    }
}

type Done<T> = Result<T, Stopped>;

impl<'b> Machine<'b> {
    fn take(&mut self, n: usize) -> Done<&'b [u8]> {
        let end = self.at.checked_add(n).filter(|&e| e <= self.bytes.len());
        let end = end.ok_or("it ends too early")?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    /// A number of `n` bytes, at most 8, little-endian.
    fn number(&mut self, n: usize) -> Done<u64> {
        let bytes = self.take(n)?;
        Ok(bytes.iter().rev().fold(0, |x, &b| x << 8 | u64::from(b)))
    }

    fn length(&mut self, n: usize) -> Done<usize> {
        let length = self.number(n)?;
        usize::try_from(length).map_err(|_| "it ends too early".into())
    }

    fn line(&mut self) -> Done<String> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().take(1 << 10).position(|&b| b == b'\n');
        let line = self.take(end.ok_or("a name does not end")?)?;
        self.at += 1;
        Ok(String::from_utf8_lossy(line).trim_end_matches('\r').into())
    }

    fn text(&mut self, length: usize) -> Done<()> {
        let bytes = self.take(length)?;
        let text = String::from_utf8_lossy(bytes).into_owned();
        self.push(Object::Text(text));
        Ok(())
    }

    fn push(&mut self, object: Object) {
        self.objects.push(object);
        self.stack.push(self.objects.len() - 1);
    }

    fn pop(&mut self) -> Done<Id> {
        let bottom = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= bottom {
            return Err("the stack is empty".into());
        }
        self.stack.pop().ok_or_else(|| "the stack is empty".into())
    }

    fn last(&self) -> Done<Id> {
        let last = self.stack.last().copied();
        last.ok_or_else(|| "the stack is empty".into())
    }

    fn until_mark(&mut self) -> Done<Vec<Id>> {
        let mark = self.marks.pop().ok_or("there is no mark")?;
        if mark > self.stack.len() {
            return Err("a mark is above the stack".into());
        }
        Ok(self.stack.split_off(mark))
    }

    fn tuple(&mut self, n: usize) -> Done<()> {
        let mut items = Vec::with_capacity(n);
        for _ in 0..n {
            items.push(self.pop()?);
        }
        items.reverse();
        self.push(Object::Tuple(items));
        Ok(())
    }

    fn remember(&mut self, key: u64) -> Done<()> {
        self.memo.insert(key, self.last()?);
        Ok(())
    }

    fn recall(&mut self, key: u64) -> Done<()> {
        let id = self.memo.get(&key).copied();
        self.stack
            .push(id.ok_or("it recalls what it never remembered")?);
        Ok(())
    }

    fn append(&mut self, items: Vec<Id>) -> Done<()> {
        let list = self.last()?;
        match &mut self.objects[list] {
            Object::List(list) => list.extend(items),
            _ => return Err("it appends to what is no list".into()),
        }
        Ok(())
    }

    fn set(&mut self, items: &[Id]) -> Done<()> {
        let dict = self.last()?;
        let (pairs, rest) = items.as_chunks::<2>();
        match &mut self.objects[dict] {
            Object::Dict(dict) if rest.is_empty() => {
                dict.extend(pairs.iter().map(|&[key, value]| (key, value)));
            }
            // Options of a class that is not known: of no use here.
            Object::Call(..) => {}
            _ => return Err("it sets items of what is no dictionary".into()),
        }
        Ok(())
    }

    fn call(&mut self) -> Done<()> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let Object::Global(global) = self.objects[function] else {
            return Err("it calls what is no function".into());
        };
        self.push(match global {
            Global::OrderedDict => Object::Dict(Vec::new()),
            global => Object::Call(global, arguments),
        });
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) -> Done<()> {
        let known = known(module, name);
        let known = known.ok_or_else(|| Stopped::Import(format!("{module}.{name}")))?;
        self.push(Object::Global(known));
        Ok(())
    }

    /// Does one operation; whether it was the last.
    fn operation(&mut self) -> Done<bool> {
        match self.take(1)?[0] {
            0x80 => drop(self.take(1)?),
            0x95 => drop(self.take(8)?),
            b'.' => return Ok(true),
            b'0' => drop(self.pop()?),
            b'(' => self.marks.push(self.stack.len()),
            b'N' => self.push(Object::None),
            0x88 | 0x89 => self.push(Object::Bool),
            b'K' => {
                let n = self.number(1)?;
                self.push(Object::Int(n as i64));
            }
            b'M' => {
                let n = self.number(2)?;
                self.push(Object::Int(n as i64));
            }
            b'J' => {
                let n = self.number(4)? as u32 as i32;
                self.push(Object::Int(n.into()));
            }
            0x8a => {
                let n = self.length(1)?;
                let bytes = self.take(n)?;
                let value = match *bytes {
                    [] => Object::Int(0),
                    [.., top] if n <= 8 => {
                        let fill = if top >= 0x80 { u64::MAX } else { 0 };
                        let value = bytes.iter().rev().fold(fill, |x, &b| x << 8 | u64::from(b));
                        Object::Int(value as i64)
                    }
                    _ => Object::Number,
                };
                self.push(value);
            }
            b'G' => {
                self.take(8)?;
                self.push(Object::Number);
            }
            b'X' | b'T' | b'B' => {
                let n = self.length(4)?;
                self.text(n)?;
            }
            0x8c | b'U' | b'C' => {
                let n = self.length(1)?;
                self.text(n)?;
            }
            0x8d | 0x8e => {
                let n = self.length(8)?;
                self.text(n)?;
            }
            b')' => self.push(Object::Tuple(Vec::new())),
            0x85 => self.tuple(1)?,
            0x86 => self.tuple(2)?,
            0x87 => self.tuple(3)?,
            b't' => {
                let items = self.until_mark()?;
                self.push(Object::Tuple(items));
            }
            b']' => self.push(Object::List(Vec::new())),
            b'l' => {
                let items = self.until_mark()?;
                self.push(Object::List(items));
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' => {
                let items = self.until_mark()?;
                self.append(items)?;
            }
            b'}' => self.push(Object::Dict(Vec::new())),
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(&[key, value])?;
            }
            b'u' => {
                let items = self.until_mark()?;
                self.set(&items)?;
            }
            b'q' => {
                let key = self.number(1)?;
                self.remember(key)?;
            }
            b'r' => {
                let key = self.number(4)?;
                self.remember(key)?;
            }
            0x94 => self.remember(self.memo.len() as u64)?,
            b'h' => {
                let key = self.number(1)?;
                self.recall(key)?;
            }
            b'j' => {
                let key = self.number(4)?;
                self.recall(key)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(&module, &name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let text = |id: Id| match &self.objects[id] {
                    Object::Text(text) => Ok(text.clone()),
                    _ => Err(Stopped::from("it imports what has no name")),
                };
                let (module, name) = (text(module)?, text(name)?);
                self.global(&module, &name)?;
            }
            b'R' | 0x81 => self.call()?,
            b'Q' => {
                let id = self.pop()?;
                self.push(Object::Persistent(id));
            }
            // What an object is given beyond what it was made of: hooks and metadata of a dictionary of tensors.
            b'b' => drop(self.pop()?),
            other => {
                return Err(Stopped::Why(format!(
                    "operation {other:#04x} is none that tensors need"
                )));
            }
        }
        Ok(false)
    }
}

fn known(module: &str, name: &str) -> Option<Global> {
    Some(match (module, name) {
        ("collections", "OrderedDict") => Global::OrderedDict,
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Global::RebuildTensor,
        ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
        ("torch", "DoubleStorage") => Global::Storage(Kind::F64),
        ("torch", "FloatStorage") => Global::Storage(Kind::F32),
        ("torch", "HalfStorage") => Global::Storage(Kind::F16),
        ("torch", "BFloat16Storage") => Global::Storage(Kind::Bf16),
        ("torch", "LongStorage") => Global::Storage(Kind::I64),
        ("torch", "IntStorage") => Global::Storage(Kind::I32),
        ("torch", "ShortStorage") => Global::Storage(Kind::I16),
        ("torch", "CharStorage") => Global::Storage(Kind::I8),
        ("torch", "ByteStorage") => Global::Storage(Kind::U8),
        ("torch", "BoolStorage") => Global::Storage(Kind::Bool),
        ("torch", "Size" | "device") => Global::Other,
        ("torch", dtype) if DTYPES.contains(&dtype) => Global::Other,
        _ => return None,
    })
}

const DTYPES: [&str; 10] = [
    "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool",
];
