//! Encoders by turns: one that a thread is done with keeps its memory, and what it learned, for the next.

use std::sync::Arc;

use cloze_text::{Encoder, Room, Tokenizer};

use crate::spare::Spare;

/// Memory for encoders.
pub type Rooms = Arc<Spare<Room>>;

/// Has threads of the pool, where there are several, take memory for so many encoders, which nobody waits for. What is not begun when the result is dropped is left undone.
pub fn rooms(wanted: usize) -> Rooms {
    let rooms = Rooms::default();
    // Alone, a thread would only do first what it has to do anyway.
    let wanted = if rayon::current_num_threads() > 1 {
        wanted
    } else {
        0
    };
    for _ in 0..wanted {
        let rooms = Arc::downgrade(&rooms);
        rayon::spawn(move || {
            if let Some(rooms) = rooms.upgrade() {
                rooms.give(Room::new());
            }
        });
    }
    rooms
}

/// A tokenizer, and those of its encoders that no thread has now.
pub struct Encoders<'a> {
    pub tokenizer: &'a Tokenizer,
    spare: Spare<Encoder<'a>>,
    rooms: Rooms,
}

impl<'a> Encoders<'a> {
    /// None yet.
    pub fn new(tokenizer: &'a Tokenizer) -> Self {
        Self::in_rooms(tokenizer, Rooms::default())
    }

    /// None yet; as long as there is room, they are made there.
    pub fn in_rooms(tokenizer: &'a Tokenizer, rooms: Rooms) -> Self {
        Self {
            tokenizer,
            spare: Spare::default(),
            rooms,
        }
    }

    /// Works with one that nobody else has meanwhile.
    pub fn with<R>(&self, work: impl FnOnce(&mut Encoder<'a>) -> R) -> R {
        let spare = self.spare.take();
        let new = || self.tokenizer.encoder_in(self.rooms.take());
        let mut encoder = spare.unwrap_or_else(new);
        let result = work(&mut encoder);
        self.spare.give(encoder);
        result
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// Alone, a thread takes memory when it needs it; of several, each finds some, and encodes in it as in other.
    #[test]
    fn rooms_are_made_by_other_threads() {
        let tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "##b"];
        let tokenizer = Tokenizer::from_tokens(&tokens, cloze_text::Settings::default()).unwrap();
        let encode = |encoder: &mut Encoder<'_>| {
            let mut ids: Vec<u32> = Vec::new();
            encoder.encode_into("ab a c ab", &mut ids).unwrap();
            ids
        };
        for (threads, made) in [(1, 0), (2, 3)] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let pool = pool.build().unwrap();
            let rooms = pool.install(|| rooms(3));
            // Alone, a thread does first what it was asked for before.
            pool.install(|| ());
            let until = Instant::now() + Duration::from_secs(30);
            while rooms.count() < made && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(rooms.count(), made);
            let encoders = Encoders::in_rooms(&tokenizer, Arc::clone(&rooms));
            let ids = encoders.with(|a| encoders.with(|b| [encode(a), encode(b)]));
            assert_eq!(ids, [vec![5, 6, 5, 1, 5, 6], vec![5, 6, 5, 1, 5, 6]]);
            assert_eq!(rooms.count(), made.saturating_sub(2));
        }
    }
}
