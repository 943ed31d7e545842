//! `tf.train.Example`, as much of it as rows need: features by name, of whole numbers or of floats.
//!
//! Protocol Buffers frame everything by lengths inside of what was read already, so nothing is allocated that is longer than that.

/// What a field holds.
enum Value<'a> {
    Varint(u64),
    Fixed32([u8; 4]),
    Fixed64,
    Bytes(&'a [u8]),
}

/// A feature's values.
#[derive(Clone, Debug, PartialEq)]
pub enum Feature {
    /// Whole numbers.
    Ints(Vec<i64>),
    /// Floats.
    Floats(Vec<f32>),
    /// Anything else, of which rows hold nothing.
    Other,
}

/// The fields of a message, in order.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Result<u64, String> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first().ok_or("a number is cut short")?;
            self.0 = rest;
            let part = u64::from(byte & 0x7F);
            // Of the tenth byte, one bit is left.
            if shift == 63 && part > 1 {
                break;
            }
            value |= part << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("a number is longer than 64 bits".into())
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (taken, rest) = self.0.split_first_chunk().ok_or("a field is cut short")?;
        self.0 = rest;
        Ok(*taken)
    }

    fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, String> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => self.take::<8>().map(|_| Value::Fixed64)?,
            2 => {
                let length = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
                let split = self.0.split_at_checked(length);
                let (bytes, rest) = split.ok_or("a field is longer than its message")?;
                self.0 = rest;
                Value::Bytes(bytes)
            }
            5 => Value::Fixed32(self.take()?),
            other => return Err(format!("a field of wire type {other}")),
        };
        Ok(Some((tag >> 3, value)))
    }
}

/// Calls `each` with the name and values of every feature of an Example.
pub fn features(
    example: &[u8],
    each: &mut dyn FnMut(&str, Feature) -> Result<(), String>,
) -> Result<(), String> {
    let mut fields = Fields(example);
    while let Some((number, value)) = fields.next()? {
        let (1, Value::Bytes(all)) = (number, value) else {
            continue;
        };
        let mut entries = Fields(all);
        while let Some((number, value)) = entries.next()? {
            if let (1, Value::Bytes(entry)) = (number, value) {
                let (name, feature) = map_entry(entry)?;
                each(name, feature)?;
            }
        }
    }
    Ok(())
}

fn map_entry(entry: &[u8]) -> Result<(&str, Feature), String> {
    let (mut name, mut feature) = ("", Feature::Other);
    let mut fields = Fields(entry);
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (1, Value::Bytes(bytes)) => {
                name = std::str::from_utf8(bytes).map_err(|_| "a feature's name is no text")?;
            }
            (2, Value::Bytes(bytes)) => feature = self::feature(bytes)?,
            _ => {}
        }
    }
    Ok((name, feature))
}

fn feature(bytes: &[u8]) -> Result<Feature, String> {
    let mut feature = Feature::Other;
    let mut fields = Fields(bytes);
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (2, Value::Bytes(list)) => feature = Feature::Floats(floats(list)?),
            (3, Value::Bytes(list)) => feature = Feature::Ints(ints(list)?),
            _ => {}
        }
    }
    Ok(feature)
}

/// Values one after the other in one field, or each in its own.
fn ints(list: &[u8]) -> Result<Vec<i64>, String> {
    let mut values = Vec::new();
    let mut fields = Fields(list);
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (1, Value::Varint(value)) => values.push(value as i64),
            (1, Value::Bytes(packed)) => {
                let mut packed = Fields(packed);
                while !packed.0.is_empty() {
                    values.push(packed.varint()? as i64);
                }
            }
            _ => {}
        }
    }
    Ok(values)
}

fn floats(list: &[u8]) -> Result<Vec<f32>, String> {
    let mut values = Vec::new();
    let mut fields = Fields(list);
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (1, Value::Fixed32(value)) => values.push(f32::from_le_bytes(value)),
            (1, Value::Bytes(packed)) => {
                let mut packed = Fields(packed);
                while !packed.0.is_empty() {
                    values.push(f32::from_le_bytes(packed.take()?));
                }
            }
            _ => {}
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_any_length() {
        let read = |bytes: &[u8]| Fields(bytes).varint();
        assert_eq!(read(&[0x96, 0x01]), Ok(150));
        let most = [[0xFF; 9].as_slice(), &[0x01]].concat();
        assert_eq!(read(&most), Ok(u64::MAX));
        let over = [[0xFF; 9].as_slice(), &[0x02]].concat();
        assert!(read(&over).is_err_and(|e| e.contains("64 bits")));
        assert!(read(&[0x80; 11]).is_err_and(|e| e.contains("64 bits")));
        assert!(read(&[0x80; 3]).is_err_and(|e| e.contains("cut short")));
    }

    #[test]
    fn wire_types_that_are_none_are_refused() {
        let mut none = |_: &str, _: Feature| Ok(());
        // Groups, which are no more, and numbers that never were.
        for tag in [0x0B, 0x0C, 0x0E, 0x0F] {
            assert!(features(&[tag], &mut none).is_err());
        }
        assert_eq!(features(&[0x11, 0, 0, 0, 0, 0, 0, 0, 0], &mut none), Ok(()));
    }
}
