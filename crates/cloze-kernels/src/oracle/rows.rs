//! Rows as they are sent, unpacked and masked.

use super::Bench;
use crate::dropout::block;
use crate::ops::{Kind, LONGEST_MASKED, Masks, NONE, Ops, Unpack};

impl<O: Ops> Bench<O> {
    fn get_words(&mut self, view: crate::View) -> Vec<u32> {
        let mut words = vec![0; view.len()];
        self.ops.download_words(view, &mut words).unwrap();
        words
    }

    fn same_words(&mut self, view: crate::View, expected: &[u32], what: &str) {
        let found = self.get_words(view);
        let wrong = found.iter().zip(expected).filter(|(a, b)| a != b).count();
        self.count(what, wrong + found.len().abs_diff(expected.len()));
    }

    /// Unpacking and masking, of rows that are empty, all special, or longer than a block has threads.
    pub fn rows(&mut self) {
        for (lengths, rate, narrow) in [
            (&[1usize, 2, 3][..], 0.15, true),
            (&[130, 7, 0, 300, 5], 0.15, true),
            (&[128, 128, 64, 0, 0], 0.4, false),
            (&[40, 9], 1.0, true),
            (&[LONGEST_MASKED, 64], 0.15, true),
        ] {
            self.rows_case(lengths, rate, narrow);
            self.clear();
        }
    }

    fn rows_case(&mut self, lengths: &[usize], rate: f64, narrow: bool) {
        let what = format!("rows {lengths:?}, {rate}, narrow {narrow}");
        let special = [0u32, 3, 4, 9, NONE, NONE];
        let tokens: usize = lengths.iter().sum();
        let room = tokens + 5;
        let mut cu = vec![0u32];
        lengths
            .iter()
            .for_each(|n| cu.push(cu[cu.len() - 1] + *n as u32));
        let mut ids = self.below(40, tokens);
        // The last row of some holds nothing that may be predicted.
        if let Some(&few @ 1..6) = lengths.last() {
            ids[tokens - few..].fill(special[1]);
        }
        let b: Vec<u32> = lengths.iter().map(|n| n.div_ceil(2) as u32).collect();
        let numbers: Vec<u32> = (0..2 * lengths.len() as u32).map(|i| i * 7_919).collect();
        let epoch = 11;
        let plain = |id: u32| !special.contains(&id);
        // Straight from the definition: Floyd's sampling by places in a list.
        let (key, replacements) = ([5, 6], 36);
        let draw = |row: usize, i: usize| {
            block(
                key,
                [numbers[2 * row], numbers[2 * row + 1], epoch, i as u32],
            )
        };
        let (mut masked, mut starts) = (ids.clone(), vec![0u32]);
        let (mut positions, mut labels) = (Vec::new(), Vec::new());
        for (row, &n) in lengths.iter().enumerate() {
            let first = cu[row] as usize;
            let may: Vec<usize> = (0..n).filter(|&i| plain(ids[first + i])).collect();
            let count = ((rate * may.len() as f64).round() as usize)
                .max(1)
                .min(may.len());
            let mut order: Vec<usize> = Vec::new();
            for t in 0..count {
                let among = may.len() - count + t + 1;
                let share = f64::from(draw(row, t)[0]) / 4_294_967_296.0;
                let picked = may[(share * among as f64) as usize];
                order.push(match order.contains(&picked) {
                    true => may[among - 1],
                    false => picked,
                });
            }
            order.sort_unstable();
            for (number, i) in order.into_iter().enumerate() {
                let [_, action, pick, _] = draw(row, number);
                positions.push((first + i) as u32);
                labels.push(ids[first + i]);
                let share = f64::from(action) / 4_294_967_296.0;
                if share < 0.8 {
                    masked[first + i] = 4;
                } else if share < 0.9 {
                    let others: Vec<u32> = (0..40).filter(|&id| plain(id)).collect();
                    let at = f64::from(pick) / 4_294_967_296.0 * f64::from(replacements);
                    masked[first + i] = others[at as usize];
                }
            }
            starts.push(positions.len() as u32);
        }
        let wire: Vec<u32> = match narrow {
            true => ids
                .chunks(2)
                .map(|p| p[0] | p.get(1).unwrap_or(&0) << 16)
                .collect(),
            false => ids.clone(),
        };
        let mut filled = vec![77; if narrow { room.div_ceil(2) } else { room }];
        filled[..wire.len()].copy_from_slice(&wire);
        let unpack = Unpack {
            wire: self.put_words(&filled),
            narrow,
            cu_seqlens: self.put_words(&cu),
            b_start: self.put_words(&b),
            input_ids: self.room(Kind::Word, room),
            token_type_ids: self.room(Kind::Word, room),
            position_ids: self.room(Kind::Word, room),
        };
        self.ops
            .upload_words(unpack.input_ids, &vec![9; room])
            .unwrap();
        self.ops.unpack(&unpack).unwrap();
        let (mut types, mut at) = (vec![0; room], vec![0; room]);
        for (row, &n) in lengths.iter().enumerate() {
            for i in 0..n {
                let t = cu[row] as usize + i;
                (types[t], at[t]) = (u32::from(i as u32 >= b[row]), i as u32);
            }
        }
        let padded = |mut ids: Vec<u32>, with| {
            ids.resize(room, with);
            ids
        };
        self.same_words(unpack.input_ids, &padded(ids, 0), &format!("{what}, ids"));
        self.same_words(unpack.token_type_ids, &types, &format!("{what}, segments"));
        self.same_words(unpack.position_ids, &at, &format!("{what}, indices"));
        let masks = Masks {
            input_ids: unpack.input_ids,
            cu_seqlens: unpack.cu_seqlens,
            numbers: self.put_words(&numbers),
            starts: self.put_words(&starts),
            epoch: self.put_words(&[epoch]),
            special: self.put_words(&special),
            key,
            mask_id: 4,
            replacements,
            mask_below: (0.8f64 * 4_294_967_296.0).ceil() as u64,
            random_below: (0.9f64 * 4_294_967_296.0).ceil() as u64,
            // Also of a room that was made for longer rows than any that can be masked.
            longest: match narrow {
                true => lengths.iter().copied().max().unwrap_or(0) + 3,
                false => 8 * LONGEST_MASKED,
            },
            positions: self.room(Kind::Word, room),
            labels: self.room(Kind::Word, room),
        };
        self.ops.mask(&masks).unwrap();
        self.same_words(
            masks.input_ids,
            &padded(masked, 0),
            &format!("{what}, masked"),
        );
        self.same_words(
            masks.positions,
            &padded(positions, NONE),
            &format!("{what}, places"),
        );
        self.same_words(
            masks.labels,
            &padded(labels, NONE),
            &format!("{what}, labels"),
        );
    }
}
