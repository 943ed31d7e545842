//! Dropout masks: 0, or 1/(1−p), as a function of (seed, step, site, place).
//!
//! A place is a token and a feature, or a row's query, head and key: how rows are laid out for the arithmetic plays no part.

use candle_core::{Device, Result, Tensor};
use cloze_shard::random::{Key, Stage};
use rayon::prelude::*;

use crate::engine::Dropout;

/// The site of a head that is computed outside of the engines: beyond those of any encoder.
const HEAD_SITE: u64 = (1 << 12) - 1;

/// The mask of a head's input `[rows, features]`: 0 with probability `p`, else 1/(1−p).
#[must_use]
pub fn head_mask(dropout: &Dropout, p: f64, rows: usize, features: usize) -> Vec<f32> {
    let draw = Dropper::new(dropout, 0).draw(HEAD_SITE, p);
    let mut mask = vec![0f32; rows * features];
    let each = mask.chunks_mut(features.max(1)).zip(0..);
    each.for_each(|(mask, row)| draw.fill(0, row, mask));
    mask
}

/// Hands out the masks of one forward pass; sites are numbered in the order they are asked for.
pub struct Dropper {
    key: Key,
    step: u64,
    first_token: u32,
    site: u64,
    hidden: f64,
    attention: f64,
}

impl Dropper {
    pub fn new(dropout: &Dropout, first_token: u32) -> Self {
        let key = Key::new(dropout.seed, Stage::Dropout);
        Self {
            key,
            step: dropout.step,
            first_token,
            site: 0,
            hidden: dropout.hidden,
            attention: dropout.attention,
        }
    }

    /// Drops features of `x: [T, H]`.
    pub fn hidden(&mut self, x: &Tensor) -> Result<Tensor> {
        let site = self.next_site();
        if self.hidden == 0.0 {
            return Ok(x.clone());
        }
        let (tokens, features) = x.dims2()?;
        let mut mask = vec![0f32; tokens * features];
        let draw = self.draw(site, self.hidden);
        mask.par_chunks_mut(features)
            .enumerate()
            .for_each(|(token, mask)| draw.fill(0, token as u32, mask));
        x * Tensor::from_vec(mask, (tokens, features), &Device::Cpu)?
    }

    /// Drops attention weights: `x: [B, heads, L, L]`, of which each row's own `[heads, n, n]` counts.
    pub fn attention(&mut self, x: &Tensor, spans: &[(usize, usize)]) -> Result<Tensor> {
        let site = self.next_site();
        if self.attention == 0.0 {
            return Ok(x.clone());
        }
        let (_, heads, longest, _) = x.dims4()?;
        let mut mask = vec![0f32; spans.len() * heads * longest * longest];
        let draw = self.draw(site, self.attention);
        mask.par_chunks_mut(longest * longest)
            .enumerate()
            .for_each(|(i, mask)| {
                let (row, head) = (i / heads, i % heads);
                let (start, length) = spans[row];
                for query in 0..length {
                    let mask = &mut mask[query * longest..][..length];
                    draw.fill(head as u64, (start + query) as u32, mask);
                }
            });
        x * Tensor::from_vec(mask, x.shape(), &Device::Cpu)?
    }

    fn next_site(&mut self) -> u64 {
        self.site += 1;
        self.site
    }

    fn draw(&self, site: u64, p: f64) -> Draw {
        let below = (p * 65_536.0).round();
        Draw {
            key: self.key,
            place: self.step << 24 | site << 12,
            below: below as u32,
            kept: (65_536.0 / (65_536.0 - below)) as f32,
            first_token: self.first_token,
        }
    }
}

struct Draw {
    key: Key,
    place: u64,
    below: u32,
    kept: f32,
    first_token: u32,
}

impl Draw {
    /// The mask of the features, or keys, of one token.
    fn fill(&self, head: u64, token: u32, mask: &mut [f32]) {
        // `cloze_kernels::dropout` says which draw is whose, and computes sixteen blocks at a time; here it is one at a time.
        for (feature, mask) in mask.iter_mut().enumerate() {
            let (chunk, j, l) = (feature / 128, feature % 128 / 16, feature % 16);
            let words = self.key.block(
                self.place | head,
                self.first_token + token,
                (chunk * 16 + l) as u32,
            );
            let draw = words[j / 2] >> (16 * (j % 2)) & 0xFFFF;
            *mask = if draw < self.below { 0.0 } else { self.kept };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dropout(step: u64) -> Dropout {
        Dropout {
            seed: 9,
            step,
            hidden: 0.3,
            attention: 0.2,
        }
    }

    #[test]
    fn keeps_the_mean_and_repeats_for_a_key() {
        let ones = Tensor::ones((400, 50), candle_core::DType::F32, &Device::Cpu).unwrap();
        let drop = |step| {
            Dropper::new(&dropout(step), 0)
                .hidden(&ones)
                .unwrap()
                .to_vec2::<f32>()
                .unwrap()
                .concat()
        };
        let (a, b, c) = (drop(1), drop(1), drop(2));
        assert!(a == b && a != c);
        // Another site of the same step drops others.
        let mut dropper = Dropper::new(&dropout(1), 0);
        let mut site = || {
            dropper
                .hidden(&ones)
                .unwrap()
                .to_vec2::<f32>()
                .unwrap()
                .concat()
        };
        assert!(site() == a && site() != a);
        let zeros = a.iter().filter(|&&x| x == 0.0).count() as f64 / 20_000.0;
        assert!(
            (zeros - 0.3).abs() < 4.0 * (0.3f64 * 0.7 / 20_000.0).sqrt(),
            "{zeros}"
        );
        assert!(a.iter().all(|&x| x == 0.0 || (x - 1.0 / 0.7).abs() < 2e-5));
    }

    #[test]
    fn a_row_drops_the_same_whatever_it_is_padded_to() {
        let drop = |longest: usize| {
            let ones = Tensor::ones(
                (1, 2, longest, longest),
                candle_core::DType::F32,
                &Device::Cpu,
            )
            .unwrap();
            let x = Dropper::new(&dropout(1), 0)
                .attention(&ones, &[(7, 5)])
                .unwrap();
            x.narrow(2, 0, 5)
                .unwrap()
                .narrow(3, 0, 5)
                .unwrap()
                .flatten_all()
                .unwrap()
                .to_vec1::<f32>()
                .unwrap()
        };
        assert_eq!(drop(5), drop(9));
    }
}
