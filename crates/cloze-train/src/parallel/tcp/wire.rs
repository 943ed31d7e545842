//! What is written to sockets. All numbers are little-endian.

use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::parallel::Terms;

/// Begins every connection.
const MAGIC: [u8; 8] = *b"cloze-dp";
/// Which protocol this is. The preamble, and that a refusal is a [`Reply::Refused`], never change.
pub(super) const VERSION: u32 = 2;
/// Bytes of a message, at most.
const LONGEST: usize = 1 << 20;

/// What a process says to rank 0.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Hello {
    pub rank: usize,
    pub world_size: usize,
    pub job: String,
    pub terms: Terms,
    /// Where it listens for the rank before it.
    pub port: u16,
}

/// What rank 0 says to it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    Welcome {
        /// Tells the connections of this run from all others.
        nonce: u64,
        /// Where each rank listens; no host for the one that rank 0 is on.
        listeners: Vec<(Option<String>, u16)>,
    },
    Refused {
        why: String,
    },
}

/// What a rank says to the one after it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Link {
    pub nonce: u64,
    pub rank: usize,
}

pub(super) fn write_preamble(to: &mut impl Write) -> io::Result<()> {
    to.write_all(&MAGIC)?;
    to.write_all(&VERSION.to_le_bytes())
}

/// The version that the other side speaks.
pub(super) fn read_preamble(from: &mut impl Read) -> io::Result<u32> {
    let mut magic = [0; 8];
    from.read_exact(&mut magic)?;
    if magic != MAGIC {
        return Err(invalid("it is not cloze-train that is there"));
    }
    read_u32(from)
}

pub(super) fn write_message(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    let mut bytes = (text.len() as u32).to_le_bytes().to_vec();
    bytes.extend(text);
    to.write_all(&bytes)
}

pub(super) fn read_message<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<T> {
    let len = read_u32(from)? as usize;
    if len > LONGEST {
        return Err(invalid("a message is too long"));
    }
    let mut text = vec![0; len];
    from.read_exact(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

/// What goes over the connections to rank 0 while a run goes on.
#[derive(Debug)]
pub(super) enum Control {
    /// The process lives.
    Alive,
    /// It is done, and leaves.
    Bye,
    /// `rank` is gone or has failed.
    Failed { rank: usize, why: String },
}

impl Control {
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let mut bytes = Vec::new();
        match self {
            Self::Alive => bytes.push(0),
            Self::Bye => bytes.push(1),
            Self::Failed { rank, why } => {
                bytes.push(2);
                bytes.extend((*rank as u32).to_le_bytes());
                bytes.extend((why.len() as u32).to_le_bytes());
                bytes.extend(why.as_bytes());
            }
        }
        to.write_all(&bytes)
    }

    pub fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut kind = [0];
        from.read_exact(&mut kind)?;
        match kind[0] {
            0 => Ok(Self::Alive),
            1 => Ok(Self::Bye),
            2 => {
                let rank = read_u32(from)? as usize;
                let len = read_u32(from)? as usize;
                if len > LONGEST {
                    return Err(invalid("a message is too long"));
                }
                let mut why = vec![0; len];
                from.read_exact(&mut why)?;
                let why = String::from_utf8_lossy(&why).into_owned();
                Ok(Self::Failed { rank, why })
            }
            _ => Err(invalid("what it sent is no message")),
        }
    }
}

/// What is done together, so that two ranks that do different things notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub kind: Kind,
    /// Calls before it.
    pub number: u64,
    /// Elements.
    pub len: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Sum,
    SumF64,
    Barrier,
    Broadcast { root: u32 },
}

impl Call {
    const BYTES: usize = 21;

    pub fn write(self, to: &mut impl Write) -> io::Result<()> {
        let (kind, root) = match self.kind {
            Kind::Sum => (0, 0),
            Kind::SumF64 => (1, 0),
            Kind::Barrier => (2, 0),
            Kind::Broadcast { root } => (3, root),
        };
        let mut bytes = [0; Self::BYTES];
        bytes[0] = kind;
        bytes[1..5].copy_from_slice(&root.to_le_bytes());
        bytes[5..13].copy_from_slice(&self.number.to_le_bytes());
        bytes[13..].copy_from_slice(&self.len.to_le_bytes());
        to.write_all(&bytes)
    }

    pub fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut kind = [0];
        from.read_exact(&mut kind)?;
        let root = read_u32(from)?;
        let mut number = [0; 8];
        from.read_exact(&mut number)?;
        let mut len = [0; 8];
        from.read_exact(&mut len)?;
        let kind = match kind[0] {
            0 => Kind::Sum,
            1 => Kind::SumF64,
            2 => Kind::Barrier,
            3 => Kind::Broadcast { root },
            _ => return Err(invalid("what it sent is no call")),
        };
        Ok(Self {
            kind,
            number: u64::from_le_bytes(number),
            len: u64::from_le_bytes(len),
        })
    }
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kind, number, len } = self;
        match kind {
            Kind::Sum => write!(f, "call {number}, a sum of {len} numbers"),
            Kind::SumF64 => write!(f, "call {number}, a sum of {len} double numbers"),
            Kind::Barrier => write!(f, "call {number}, a barrier"),
            Kind::Broadcast { root } => {
                write!(f, "call {number}, {len} bytes of rank {root}")
            }
        }
    }
}

/// A number that is summed.
pub(super) trait Element: Copy + Send {
    const BYTES: usize;
    fn put(self, bytes: &mut [u8]);
    fn take(bytes: &[u8]) -> Self;
    fn plus(self, other: Self) -> Self;
}

macro_rules! element {
    ($type:ty) => {
        impl Element for $type {
            const BYTES: usize = size_of::<$type>();
            fn put(self, bytes: &mut [u8]) {
                bytes.copy_from_slice(&self.to_le_bytes());
            }
            fn take(bytes: &[u8]) -> Self {
                let mut own = [0; size_of::<$type>()];
                own.copy_from_slice(bytes);
                Self::from_le_bytes(own)
            }
            fn plus(self, other: Self) -> Self {
                self + other
            }
        }
    };
}

element!(f32);
element!(f64);

fn read_u32(from: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    from.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
