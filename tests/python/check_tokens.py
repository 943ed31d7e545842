#!/usr/bin/env python3
"""Compare token ids with Hugging Face's tokenizers, text by text.

    check_tokens.py ENCODE_LINES TOKENIZER_DIR [CORPUS.jsonl]

Without a corpus the texts are random Unicode strings of all planes and awkward ones. Exits 1 on the first difference.
"""
import json
import random
import subprocess
import sys
import unicodedata

from tokenizers import Tokenizer
from transformers import AutoTokenizer

AWKWARD = [
    "", " ", "\t\n\r", "[SEP] a [MASK] b [CLS]", "x" * 99, "x" * 100, "x" * 101, "é" * 100, "e\u0301" * 60, "naïve café ÅNGSTRÖM",
    "中文字符and英文", "한국어 조합 \u1112\u1161\u11ab", "日本語カタカナひらがな", "İstanbul ıI", "ß ẞ ﬁ ﬀ", "a\u200bb\ufeffc\u00adx",
    "\u0000a\u0007b\ufffdc", "a\u2028b\u2029c\u0085d\u000be\u000cf", "don't e-mail@x.org $5.00 50% ½ ² №", "👩‍👩‍👧‍👦 🇩🇪 👍🏽",
    "\U0002070e \U0002f800 \U000e0041 \U0010fffd", "\u0378\u0379 \ue000", "ÀÁÂ ǅ ǆ ŉ ΐ", "שלום עליכם مرحبا हिन्दी ไทย", "ΣΑΣ ς σ", "##ing ##", "[UNK] [unused1]",
]


def random_text(rng):
    planes = [(0x20, 0x7E)] * 6 + [(0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x5FF), (0x600, 0x109F), (0x1100, 0x11FF), (0x1E00, 0x206F),
              (0x2E80, 0x33FF), (0x3400, 0x9FFF), (0xAC00, 0xD7A3), (0xF900, 0xFFFD), (0x10000, 0x1FFFF), (0x20000, 0x3FFFF), (0xE0000, 0x10FFFF),
              (0x00, 0x1F)]
    out = []
    for _ in range(rng.randint(0, 60)):
        low, high = rng.choice(planes)
        out.append(chr(rng.randint(low, high)))
        if rng.random() < 0.15:
            out.append(" ")
    return "".join(out)


def main():
    encode, folder = sys.argv[1], sys.argv[2]
    if len(sys.argv) > 3:
        with open(sys.argv[3], encoding="utf-8") as lines:
            texts = [json.loads(line)["text"] for line in lines]
    else:
        rng = random.Random(17)
        texts = AWKWARD + [random_text(rng) for _ in range(100_000)]
        texts = [t for t in texts if not any(unicodedata.category(c) == "Cs" for c in t)]
    try:
        theirs = Tokenizer.from_file(f"{folder}/tokenizer.json")
    except Exception:
        theirs = AutoTokenizer.from_pretrained(folder)._tokenizer
    theirs.no_truncation()
    theirs.no_padding()
    theirs.encode_special_tokens = True
    lines = "".join(json.dumps(t) + "\n" for t in texts)
    ours = subprocess.run([encode, folder], input=lines.encode(), stdout=subprocess.PIPE, check=True).stdout.splitlines()
    assert len(ours) == len(texts), (len(ours), len(texts))
    tokens = 0
    for start in range(0, len(texts), 4096):
        for i, encoding in enumerate(theirs.encode_batch(texts[start:start + 4096], add_special_tokens=False), start):
            if json.loads(ours[i]) != encoding.ids:
                sys.exit(f"{folder}: text {i} {texts[i]!r}\n  ours   {ours[i].decode()}\n  theirs {encoding.ids}")
            tokens += len(encoding.ids)
    print(f"{folder}: {len(texts)} texts, {tokens} tokens, all ids equal")


if __name__ == "__main__":
    main()
