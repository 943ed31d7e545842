"""Times near-duplicate detection by datasketch, on one thread: the peer of `examples/dedup_bench.rs`.

    python dedup_datasketch.py CORPUS.jsonl [--documents 8000] [--threshold 0.8]

Shingles are runs of 5 lowercased words, signatures have 128 places, bands are those that datasketch chooses. The first document stays. Prints MB of text a
second of time on the core, of signatures (the best of two rounds) and of looking up and inserting, and how many documents go.
"""

import argparse
import json
import re
import time

import datasketch


def shingles(text):
    words = re.findall(r"[^\W_]+", text.lower())
    length = min(5, len(words))
    return {" ".join(words[i : i + length]).encode() for i in range(len(words) - length + 1)} if words else set()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("corpus")
    parser.add_argument("--documents", type=int, default=8000)
    parser.add_argument("--threshold", type=float, default=0.8)
    arguments = parser.parse_args()
    with open(arguments.corpus, encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line, _ in zip(lines, range(arguments.documents))]
    megabytes = sum(len(text.encode()) for text in texts) / 1e6

    best = float("inf")
    for _ in range(2):
        start, signatures = time.thread_time(), []
        for text in texts:
            signature = datasketch.MinHash(num_perm=128)
            signature.update_batch(shingles(text))
            signatures.append(signature)
        best = min(best, time.thread_time() - start)

    start, dropped = time.thread_time(), 0
    index = datasketch.MinHashLSH(threshold=arguments.threshold, num_perm=128)
    for number, signature in enumerate(signatures):
        if index.query(signature):
            dropped += 1
        else:
            index.insert(number, signature)
    deciding = time.thread_time() - start
    print(
        json.dumps(
            {
                "datasketch": datasketch.__version__,
                "bands": [index.b, index.r],
                "signatures_mb_s": round(megabytes / best, 2),
                "deciding_mb_s": round(megabytes / deciding, 1),
                "documents": len(texts),
                "dropped": dropped,
            }
        )
    )


if __name__ == "__main__":
    main()
