//! Writes cases to begin with: `seeds FOLDER` makes `FOLDER/TARGET/…` for each target.

use std::path::Path;
use std::{env, fs, io};

use cloze_fuzz::place::{KINDS, Place, SHARDS};

/// Sentences of several languages, with what rules look at.
const TEXTS: [&str; 12] = [
    "The river is old. Dr. Smith crossed it at 5 p.m. on 3 May (see Fig. 3, p. 12). \"Who?\" he said. He left.",
    "1. First item\n2. Second item\n\n- a dash\n- another\n\n# A title\n===\nText... and more.",
    "Die Straße führt am 3. Oktober über die Brücke, z. B. nach Köln. Dr. Müller sagt: „Nein!“ Er geht.",
    "Où est la gare ? « Là-bas », dit M. Dupont. L’été arrive… Enfin !",
    "¿Dónde está el Sr. García? ¡Aquí! Él dijo que no.",
    "Предложения разделяются точками. Т. е. это второе. «Да», — сказал он.",
    "これは文です。「はい。」と言った。次の文です！",
    "他来了，我走了，天黑。真的吗？是的！",
    "यह एक वाक्य है। यह दूसरा है।",
    "هذه جملة. هل هذه جملة؟ نعم!",
    "İstanbul ISTANBUL ı ſ ß ẞ ﬁ \u{1112}\u{1161}\u{11ab} 한국어 e\u{301}\u{323} \u{200b}\u{feff}\u{fffd}\u{0}x\u{7f}",
    "internationalisations unable abcxyz zz00 [SEP] ##ing a.b.c don't $5 ~j 👍\u{200d}👩 \u{10ffff}",
];

struct Corpus<'a> {
    folder: &'a Path,
    number: usize,
}

impl Corpus<'_> {
    fn put(&mut self, target: &str, parts: &[&[u8]]) -> io::Result<()> {
        let folder = self.folder.join(target);
        fs::create_dir_all(&folder)?;
        self.number += 1;
        fs::write(
            folder.join(format!("seed-{:04}", self.number)),
            parts.concat(),
        )
    }
}

fn main() -> io::Result<()> {
    let folder = env::args().nth(1).unwrap_or_else(|| "seeds".into());
    let mut corpus = Corpus {
        folder: Path::new(&folder),
        number: 0,
    };
    for kind in 0..KINDS {
        let place = Place::new(kind);
        let data = place.path();
        for (first, file) in [
            (kind + KINDS, SHARDS[0]),
            (kind + KINDS, SHARDS[1]),
            (kind, "documents.arrow"),
        ] {
            corpus.put("shard", &[&[first], &fs::read(data.join(file))?])?;
        }
        corpus.put(
            "manifest",
            &[&[2 * kind], &fs::read(data.join("manifest.json"))?],
        )?;
    }
    let mut state = 1u32;
    let mut drawn = |count: usize| -> Vec<u8> {
        let next = |state: &mut u32| {
            *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (*state >> 24) as u8
        };
        (0..count).map(|_| next(&mut state)).collect()
    };
    for i in 0..40u8 {
        corpus.put("manifest", &[&[2 * (i % 8) + 1], &drawn(40)])?;
        corpus.put("pairing", &[&drawn(60 + usize::from(i) * 12)])?;
        corpus.put("sentences", &[&drawn(3), &[1], &drawn(usize::from(i) * 3)])?;
        corpus.put("tokens", &[&[i, i / 3], &[1], &drawn(usize::from(i) * 3)])?;
        corpus.put(
            "tokens",
            &[
                &[5 + i % 3, i],
                &[30 + i],
                &drawn(30 + usize::from(i)),
                &[1],
                &drawn(20),
            ],
        )?;
    }
    for (i, text) in (0u8..).zip(TEXTS) {
        for language in 0..40 {
            corpus.put(
                "sentences",
                &[&[6 * language + i, 20, 5, 0], text.as_bytes()],
            )?;
        }
        for vocabulary in 0..5 {
            corpus.put(
                "tokens",
                &[&[vocabulary, i + vocabulary, 0], text.as_bytes()],
            )?;
        }
        inputs(&mut corpus, i, text)?;
    }
    Ok(())
}

fn inputs(corpus: &mut Corpus<'_>, i: u8, text: &str) -> io::Result<()> {
    let line = |id: &str| {
        format!(
            "{}\n",
            serde_json::json!({"id": id, "m": [1, null], "text": text})
        )
    };
    let json = line("a")
        + "\n{\"text\": 7}\n{\"id\": 5, \"text\": \"x\\u00e9\\ud83d\\ude00\"}\n"
        + &line("b");
    let cells = format!(
        "id,text,m\n1,\"{}\",x\n2,b\n3,\"c\"\"d\",\n",
        text.replace('"', "\"\"")
    );
    let tabs = format!(
        "text\tid\tm\n{}\t1\t2\nb\t2\t\n",
        text.replace(['\n', '\t'], " ")
    );
    let page = format!(
        "<html><head><meta charset=\"utf-8\"><title>t</title></head><body><h1>a</h1><p>{text}<table><tr><td>x</td></tr></table><ul><li>b</ul></body>"
    );
    let plain = format!("{text}\n\u{c}\n{text}\n\n{text}\u{c}");
    let all = [plain.as_str(), &plain, &plain, &json, &cells, &tabs, &page];
    for (format, content) in (0u8..).zip(all) {
        for flags in [i, i | 7, 0xC0 | i << 3, 0x80 | 0x47 | i << 3] {
            let encoding = if flags & 0x40 == 0 { 31 } else { i };
            corpus.put(
                "input",
                &[&[format, flags, encoding, i], content.as_bytes()],
            )?;
        }
        for encoding in [1, 3, 4, 6, 10, 12] {
            corpus.put(
                "input",
                &[&[format, i & 7, encoding, i], content.as_bytes()],
            )?;
        }
    }
    Ok(())
}
