//! A corpus that nobody wrote: documents about made-up places of work, from a small grammar.
//!
//! Every document keeps to one topic, with names of its own, and tells what happens in an order that makes sense: there is
//! something to predict, and a next sentence can be told from a random one.

use std::fmt::Write;
use std::fs;
use std::path::Path;

const DOCUMENTS: usize = 2_400;

struct Topic {
    name: &'static str,
    people: [&'static str; 4],
    things: [&'static str; 6],
    acts: [&'static str; 5],
    places: [&'static str; 4],
    qualities: [&'static str; 5],
}

const TOPICS: [Topic; 8] = [
    Topic {
        name: "bakery",
        people: ["baker", "apprentice", "miller", "customer"],
        things: ["dough", "loaf", "oven", "flour", "crust", "yeast"],
        acts: ["kneads", "bakes", "weighs", "slices", "cools"],
        places: ["kitchen", "shop", "pantry", "courtyard"],
        qualities: ["warm", "golden", "crisp", "sour", "fresh"],
    },
    Topic {
        name: "harbour",
        people: ["captain", "sailor", "pilot", "docker"],
        things: ["anchor", "cargo", "rope", "ferry", "crane", "chart"],
        acts: ["loads", "moors", "unloads", "steers", "signals"],
        places: ["quay", "deck", "lighthouse", "channel"],
        qualities: ["salty", "heavy", "rusty", "foggy", "deep"],
    },
    Topic {
        name: "network",
        people: ["operator", "engineer", "administrator", "caller"],
        things: ["packet", "router", "cable", "server", "address", "queue"],
        acts: ["routes", "drops", "forwards", "counts", "encrypts"],
        places: ["rack", "backbone", "office", "gateway"],
        qualities: ["slow", "redundant", "public", "lossy", "remote"],
    },
    Topic {
        name: "garden",
        people: ["gardener", "neighbour", "botanist", "child"],
        things: ["seed", "rose", "spade", "hedge", "apple", "compost"],
        acts: ["plants", "waters", "prunes", "picks", "digs"],
        places: ["greenhouse", "orchard", "lawn", "pond"],
        qualities: ["green", "ripe", "shady", "thorny", "muddy"],
    },
    Topic {
        name: "court",
        people: ["judge", "lawyer", "witness", "clerk"],
        things: [
            "contract", "verdict", "appeal", "statute", "claim", "evidence",
        ],
        acts: ["reads", "dismisses", "signs", "quotes", "questions"],
        places: ["courtroom", "archive", "chamber", "hall"],
        qualities: ["lawful", "disputed", "binding", "sealed", "lengthy"],
    },
    Topic {
        name: "clinic",
        people: ["doctor", "nurse", "patient", "surgeon"],
        things: ["dose", "bandage", "fever", "scan", "vaccine", "pulse"],
        acts: ["measures", "treats", "records", "injects", "checks"],
        places: ["ward", "laboratory", "corridor", "pharmacy"],
        qualities: ["sterile", "acute", "mild", "chronic", "careful"],
    },
    Topic {
        name: "orchestra",
        people: ["conductor", "violinist", "singer", "composer"],
        things: ["melody", "score", "drum", "string", "tempo", "chord"],
        acts: ["plays", "rehearses", "tunes", "repeats", "conducts"],
        places: ["stage", "balcony", "studio", "pit"],
        qualities: ["loud", "slow", "bright", "solemn", "hushed"],
    },
    Topic {
        name: "mine",
        people: ["miner", "foreman", "geologist", "driver"],
        things: ["ore", "lamp", "shaft", "cart", "drill", "copper"],
        acts: ["digs", "hauls", "blasts", "sorts", "inspects"],
        places: ["tunnel", "pit head", "depot", "gallery"],
        qualities: ["dark", "dusty", "narrow", "rich", "deep"],
    },
];

const NAMES: [&str; 12] = [
    "Ada", "Bruno", "Clara", "Dario", "Edith", "Felix", "Greta", "Hugo", "Irma", "Jonas", "Karla",
    "Leo",
];

/// A multiplicative generator of 64 bits (Lehmer), enough for made-up text.
pub struct Dice(u128);

impl Dice {
    pub fn new(seed: u64) -> Self {
        let mut dice = Self(u128::from(seed) << 1 | 1);
        for _ in 0..64 {
            dice.below(2);
        }
        dice
    }

    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(0xda94_2042_e4dd_58b5);
        (((self.0 >> 64) * n as u128) >> 64) as usize
    }

    pub fn pick<'a>(&mut self, items: &[&'a str]) -> &'a str {
        items[self.below(items.len())]
    }
}

/// Writes the corpus: half of the topics as one text file each, half as JSONL. Documents and bytes.
pub fn write(folder: &Path) -> std::io::Result<(usize, usize)> {
    fs::create_dir_all(folder)?;
    let mut dice = Dice::new(0x5eed_c10e);
    let mut files: Vec<String> = vec![String::new(); TOPICS.len()];
    for i in 0..DOCUMENTS {
        let topic = i % TOPICS.len();
        let text = document(&TOPICS[topic], &mut dice);
        if topic.is_multiple_of(2) {
            let separator = if files[topic].is_empty() {
                ""
            } else {
                "\u{c}\n"
            };
            files[topic] = format!("{}{separator}{text}\n", std::mem::take(&mut files[topic]));
        } else {
            let id = format!("{}-{i}", TOPICS[topic].name);
            files[topic].push_str(&format!(
                "{}\n",
                serde_json::json!({"id": id, "text": text})
            ));
        }
    }
    let mut bytes = 0;
    for (topic, text) in TOPICS.iter().zip(files) {
        let kind = if text.starts_with('{') {
            "jsonl"
        } else {
            "txt"
        };
        bytes += text.len();
        fs::write(folder.join(format!("{}.{kind}", topic.name)), text)?;
    }
    Ok((DOCUMENTS, bytes))
}

fn document(t: &Topic, dice: &mut Dice) -> String {
    let (name, other) = (dice.pick(&NAMES), dice.pick(&NAMES));
    let (role, helper) = (dice.pick(&t.people), dice.pick(&t.people));
    let place = dice.pick(&t.places);
    let mut thing = dice.pick(&t.things);
    let mut text = format!(
        "{name} is a {role} who works in the {} near the {place}.",
        t.name
    );
    let sentences = 3 + dice.below(14);
    for i in 0..sentences {
        let (act, quality) = (dice.pick(&t.acts), dice.pick(&t.qualities));
        let next = dice.pick(&t.things);
        text.push_str(if i % 5 == 4 { "\n\n" } else { " " });
        // Writing to a string cannot fail.
        let _ = match dice.below(7) {
            0 => write!(
                text,
                "Every morning the {role} {act} the {thing} in the {place}."
            ),
            1 => write!(text, "The {thing} is {quality}, so {name} {act} it again."),
            2 => write!(
                text,
                "When the {thing} is ready, the {helper} {act} the {next}."
            ),
            3 => write!(
                text,
                "{name} asks {other}, the {helper}, for a {quality} {next}."
            ),
            4 => write!(
                text,
                "Dr. {other} says that a {quality} {thing} is better than a new {next}."
            ),
            5 => write!(
                text,
                "In the {place}, nobody {act} the {next} before the {thing}."
            ),
            _ => write!(
                text,
                "At {} p.m. {name} and {other} leave the {place} with the {thing}.",
                3 + dice.below(6)
            ),
        };
        thing = next;
    }
    text
}
