//! Arrays as `numpy.save` writes them, of one dimension and whole numbers: LDDL's masked positions.

/// Reads an array of positions.
pub fn positions(bytes: &[u8]) -> Result<Vec<u16>, String> {
    let broken = |why: &str| format!("masked_lm_positions: {why}");
    let rest = bytes.strip_prefix(b"\x93NUMPY");
    let rest = rest.ok_or_else(|| broken("not an array of NumPy"))?;
    let short = || broken("the array is cut short");
    let (version, rest) = rest.split_first_chunk::<2>().ok_or_else(short)?;
    let (length, rest) = match version[0] {
        1 => {
            let (length, rest) = rest.split_first_chunk::<2>().ok_or_else(short)?;
            (usize::from(u16::from_le_bytes(*length)), rest)
        }
        2 | 3 => {
            let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
            (u32::from_le_bytes(*length) as usize, rest)
        }
        other => return Err(broken(&format!("version {other} of NumPy's format"))),
    };
    let (header, data) = rest.split_at_checked(length).ok_or_else(short)?;
    let header = std::str::from_utf8(header).map_err(|_| broken("its header is no text"))?;
    let after = |key: &str| header.split_once(key).map(|(_, rest)| rest.trim_start());
    let descr = after("'descr':").and_then(|d| d.split('\'').nth(1));
    let (width, signed) = match descr {
        Some("|u1") => (1, false),
        Some("|i1") => (1, true),
        Some("<u2") => (2, false),
        Some("<i2") => (2, true),
        Some("<u4") => (4, false),
        Some("<i4") => (4, true),
        Some("<u8") => (8, false),
        Some("<i8") => (8, true),
        other => return Err(broken(&format!("numbers of type {other:?}"))),
    };
    let shape = after("'shape':").and_then(|s| s.strip_prefix('('));
    let shape = shape.and_then(|s| s.split_once(')'));
    let count = shape.and_then(|(shape, _)| shape.trim().strip_suffix(','));
    let count = count.and_then(|count| count.trim().parse::<usize>().ok());
    if count.and_then(|n| n.checked_mul(width)) != Some(data.len()) {
        return Err(broken("its shape is not that of what it holds"));
    }
    let number = |bytes: &[u8]| {
        let mut wide = [0; 8];
        wide[..width].copy_from_slice(bytes);
        let value = u64::from_le_bytes(wide);
        let negative = signed && bytes[width - 1] & 0x80 != 0;
        (!negative)
            .then_some(value)
            .and_then(|v| u16::try_from(v).ok())
            .ok_or_else(|| broken("a position outside of any row"))
    };
    data.chunks_exact(width).map(number).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn array(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let header =
            format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
        let length = (header.len() as u16).to_le_bytes();
        [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), data].concat()
    }

    #[test]
    fn arrays_are_read_or_refused() {
        let read = |descr: &str, shape: &str, data: &[u8]| positions(&array(descr, shape, data));
        assert_eq!(read("<u2", "(2,)", &[1, 0, 44, 1]), Ok(vec![1, 300]));
        assert_eq!(read("|u1", "(3,)", &[1, 2, 255]), Ok(vec![1, 2, 255]));
        let eight = 70u64.to_le_bytes();
        assert_eq!(read("<i8", "(1,)", &eight), Ok(vec![70]));
        assert_eq!(
            read("<f8", "(0,)", &[]).map_err(|e| e.contains("<f8")),
            Err(true)
        );
        assert_eq!(read("<u2", "(0,)", &[]), Ok(vec![]));
        for (descr, shape, data) in [
            ("<u2", "(2,)", &[1, 0][..]),
            ("<u2", "(1, 1)", &[1, 0]),
            ("<u2", "(18446744073709551615,)", &[1, 0]),
            ("<i2", "(1,)", &[0, 0x80]),
            ("<u4", "(1,)", &[0, 0, 1, 0]),
            (">u2", "(1,)", &[0, 1]),
        ] {
            assert!(read(descr, shape, data).is_err(), "{descr} {shape}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(cut in 0usize..90, at in 0usize..90, change: u8) {
            let mut bytes = array("<u2", "(2,)", &[1, 0, 44, 1]);
            let at = at.min(bytes.len() - 1);
            bytes[at] ^= change;
            bytes.truncate(cut);
            let _ = positions(&bytes);
        }
    }
}
