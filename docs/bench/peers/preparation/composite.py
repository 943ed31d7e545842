"""Preparation by the best parts that Python has, put together as well as we can: what an expert with an afternoon would write.

    composite.py CORPUS.jsonl TOKENIZER_DIR OUT.parquet [--seq-len 128] [--dupe-factor 1]

Sentences by blingfire, ids by nanotoken, pairs for next sentence prediction by the rules of BERT's create_pretraining_data (but for the random B, which comes from
any other document of the corpus), masks as transformers' collator draws them, a shuffle of all rows, Parquet by pyarrow. Only the choice of a row's segments is a loop in
Python, over sentences; whatever is done to each token is done by numpy. All ids are held in memory. What is timed begins when everything is imported. Prints a line of JSON.
"""

import argparse
import json
import os
import random
import time

import blingfire
import nanotoken
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

DOCUMENTS = 1000  # tokenized at a time
ROWS = 32_768  # of a row group


def tokenize(corpus, tokenizer):
    """All ids, where each sentence begins among them, and where each document begins among the sentences."""
    parts, lengths, documents = [], [], [0]

    def take(texts):
        sentences = []
        for text in texts:
            found = [sentence for sentence in blingfire.text_to_sentences(text).split("\n") if sentence]
            sentences += found
            documents.append(documents[-1] + len(found))
        ids = tokenizer.encode_batch(sentences, add_special_tokens=False)
        parts.append(ids.ids.astype(np.uint16))
        lengths.append(ids.lengths)

    texts = []
    with open(corpus, encoding="utf-8") as lines:
        for line in lines:
            texts.append(json.loads(line)["text"])
            if len(texts) == DOCUMENTS:
                take(texts)
                texts = []
    take(texts)
    starts = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
    return np.concatenate(parts), starts.tolist(), documents


def pairs(starts, documents, room, rng):
    """For each row: where A begins and ends, where B does, and whether B is random."""
    rows = []
    many = len(documents) - 1
    draw = rng.random
    for number in range(many):
        at, last = documents[number], documents[number + 1]
        first = at
        target = room if draw() > 0.1 else rng.randint(2, room)
        while at < last:
            at += 1
            if at < last and starts[at] - starts[first] < target:
                continue
            cut = first + 1 if at - first < 2 else first + 1 + int(draw() * (at - first - 1))
            a, b = starts[first], starts[cut]
            if (at - first == 1 or draw() < 0.5) and many > 1:
                other = int(draw() * (many - 1))
                other += other >= number
                begin, end = documents[other], documents[other + 1]
                begin += int(draw() * (end - begin))
                c = starts[begin]
                while begin < end and starts[begin] - c < target - (b - a):
                    begin += 1
                d, is_random, at = starts[begin], 1, cut
            else:
                c, d, is_random = b, starts[at], 0
            # The longer one is cut until both fit, at its beginning or its end.
            over = b - a + d - c - room
            if over > 0:
                longer = b - a - (d - c)
                of_a = min(max((over + longer) // 2, 0), over)
                head = int(draw() * (of_a + 1))
                a, b = a + head, b - (of_a - head)
                of_b = over - of_a
                head = int(draw() * (of_b + 1))
                c, d = c + head, d - (of_b - head)
            if b > a and d > c:
                rows.append((a, b, c, d, is_random))
            first = at
    return np.array(rows, dtype=np.int64).reshape(-1, 5)


def table(ids, rows, special, rng):
    """The rows as a table: [CLS] A [SEP] B [SEP], with masks."""
    cls, sep, mask, entries = special
    a, b, c, d, label = rows.T
    lengths = b - a + d - c + 3
    ends = np.cumsum(lengths)
    begins = ends - lengths
    out = np.empty(ends[-1], dtype=np.uint16)
    # Segments one after another, as ranges of `ids` and as ranges of `out`.
    sizes = np.stack([b - a, d - c], axis=1).ravel()
    sources = np.stack([a, c], axis=1).ravel()
    b_starts = begins + 2 + (b - a)
    targets = np.stack([begins + 1, b_starts], axis=1).ravel()
    within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    places = within + np.repeat(targets, sizes)
    out[places] = ids[within + np.repeat(sources, sizes)]
    out[begins] = cls
    out[b_starts - 1] = sep
    out[ends - 1] = sep
    chosen = places[rng.random(len(places), dtype=np.float32) < 0.15]
    labels = out[chosen]
    how = rng.random(len(chosen), dtype=np.float32)
    replaced = np.where(how < 0.8, mask, np.where(how < 0.9, rng.integers(0, entries, len(chosen)), labels))
    out[chosen] = replaced.astype(np.uint16)
    row_of = np.searchsorted(chosen, np.concatenate([[0], ends]))
    positions = chosen - np.repeat(begins, np.diff(row_of))

    def lists(offsets, values):
        return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(values.astype(np.uint16)))

    columns = {
        "input_ids": lists(np.concatenate([[0], ends]), out),
        "b_start": pa.array((b_starts - begins).astype(np.uint16)),
        "next_sentence_label": pa.array(label.astype(np.int8)),
        "masked_lm_positions": lists(row_of, positions),
        "masked_lm_labels": lists(row_of, labels),
    }
    return pa.table(columns)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("tokenizer")
    parser.add_argument("out")
    parser.add_argument("--seq-len", type=int, default=128)
    parser.add_argument("--dupe-factor", type=int, default=1)
    options = parser.parse_args()
    pa.set_cpu_count(1)
    clock, processor = time.perf_counter(), time.process_time()
    tokenizer = nanotoken.Tokenizer(options.tokenizer)
    with open(os.path.join(options.tokenizer, "vocab.txt"), encoding="utf-8") as lines:
        vocabulary = [line.rstrip("\n") for line in lines]
    special = (*(vocabulary.index(name) for name in ("[CLS]", "[SEP]", "[MASK]")), len(vocabulary))
    ids, starts, documents = tokenize(options.corpus, tokenizer)
    choose, rng = random.Random(0), np.random.default_rng(0)
    rows = np.concatenate([pairs(starts, documents, options.seq_len - 3, choose) for _ in range(options.dupe_factor)])
    rows = rows[rng.permutation(len(rows))]
    writer = None
    for start in range(0, len(rows), ROWS):
        part = table(ids, rows[start : start + ROWS], special, rng)
        writer = writer or pq.ParquetWriter(options.out, part.schema, use_dictionary=False, write_statistics=False)
        writer.write_table(part)
    if writer:
        writer.close()
    lengths = rows[:, 1] - rows[:, 0] + rows[:, 3] - rows[:, 2] + 3
    print(
        json.dumps(
            {
                "rows": len(rows),
                "tokens": int(lengths.sum()),
                "seconds": time.perf_counter() - clock,
                "processor_seconds": time.process_time() - processor,
            }
        )
    )


if __name__ == "__main__":
    main()
