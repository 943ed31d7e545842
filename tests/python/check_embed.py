#!/usr/bin/env python3
"""Compare `cloze embed` with transformers, numpy, pyarrow and, where it is installed, sentence-transformers.

    check_embed.py CLOZE MODEL_DIR WORK_DIR

For mean and CLS pooling, normalised or not: vectors equal those of AutoModel with the pooling written out here (1e-5), files are read back by numpy and pyarrow,
and the exported folder gives the same vectors in Cloze (exactly), in AutoModel and in SentenceTransformer (1e-5). Retrieval figures are computed anew.
"""
import importlib.util
import json
import math
import pathlib
import random
import shutil
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import AutoModel, AutoTokenizer

WORDS = "red green blue dog cat horse unbelievably naïve Ouagadougou the a very (so) old thing, 北京 e-mail. 3.14".split()


def texts(n, seed):
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.choice([0, 1, 3, 9, 40]))) for _ in range(n)]


def cloze_embed(cloze, *words):
    subprocess.run([cloze, "embed", *map(str, words)], check=True)


def reference(folder, words, pooling, normalize, length):
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    vectors = []
    with torch.no_grad():
        for text in words:
            out = model(**tokenizer(text, truncation=True, max_length=length, return_tensors="pt")).last_hidden_state[0]
            vectors.append(out.mean(0) if pooling == "mean" else out[0])
    vectors = torch.stack(vectors)
    return (torch.nn.functional.normalize(vectors) if normalize else vectors).numpy()


def close(name, a, b, tolerance=1e-5):
    far = float(np.abs(np.asarray(a) - np.asarray(b)).max())
    assert a.shape == b.shape and far <= tolerance, f"{name}: {a.shape} {b.shape}, {far:.3g} apart"
    print(f"{name}: {a.shape[0]} vectors, at most {far:.1e} apart")


def retrieval(cloze, model, work):
    draw, docs = random.Random(5), texts(60, 3)
    corpus, queries = work / "docs.jsonl", work / "queries.jsonl"
    corpus.write_text("".join(json.dumps({"id": f"d{i}", "text": t}) + "\n" for i, t in enumerate(docs)))
    rows = [(docs[i][: len(docs[i]) // 2 + 1] or "red", {f"d{j}": draw.choice([1, 2, 3]) for j in {i, draw.randrange(60)}}) for i in range(20)]
    queries.write_text("".join(json.dumps({"query": q, "relevant": r}) + "\n" for q, r in rows))
    vectors = work / "docs.npy"
    found = subprocess.run([cloze, "embed", corpus, "--model", model, "--out", vectors, "--retrieval", queries, "--json"], check=True, capture_output=True)
    found = json.loads(found.stdout)["retrieval"]
    wanted = work / "queries.txt"
    wanted.write_text("".join(q + "\n" for q, _ in rows))
    cloze_embed(cloze, wanted, "--model", model, "--out", work / "queries.npy")
    scores = np.load(work / "queries.npy").astype(np.float64) @ np.load(vectors).astype(np.float64).T
    # Near ties, by equal texts, are in the order of the documents.
    order = np.argsort(-np.round(scores, 6), axis=1, kind="stable")
    recall, ndcg = {1: [], 5: [], 10: [], 100: []}, []
    for (_, relevant), row in zip(rows, order):
        gains = [relevant.get(f"d{j}", 0) for j in row]
        for k in recall:
            recall[k].append(sum(g > 0 for g in gains[:k]) / len(relevant))
        dcg = lambda g: sum(x / math.log2(2 + i) for i, x in enumerate(g[:10]))
        ndcg.append(dcg(gains) / dcg(sorted(relevant.values(), reverse=True)))
    for k, ours in found["recall"]:
        assert abs(ours - np.mean(recall[k])) < 0.011, (k, ours, np.mean(recall[k]))
    assert abs(found["ndcg_at_10"] - np.mean(ndcg)) < 0.01, (found["ndcg_at_10"], np.mean(ndcg))
    print(f"retrieval: recall@5 {np.mean(recall[5]):.3f}, nDCG@10 {np.mean(ndcg):.3f}, as computed anew")


def distilled(cloze, words, lines, work):
    """A DistilBERT has no token types: what is exported as a BERT must hold those that it was read with."""
    from transformers import DistilBertConfig, DistilBertModel
    vocab = AutoTokenizer.from_pretrained(sys.argv[2])
    folder, exported = work / "distil", work / "distil-exported"
    torch.manual_seed(3)
    DistilBertModel(DistilBertConfig(vocab_size=len(vocab), dim=64, n_layers=2, n_heads=4, hidden_dim=128, max_position_embeddings=128)).save_pretrained(folder)
    vocab.save_pretrained(folder)
    cloze_embed(cloze, lines, "--model", folder, "--out", work / "distil.npy", "--export", exported, "--pooling", "mean")
    close("DistilBERT, exported, in AutoModel", reference(exported, words, "mean", True, 128), np.load(work / "distil.npy"))


def main():
    cloze, model, work = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    words, lines = texts(50, 1), work / "texts.txt"
    lines.write_text("".join(t + "\n" for t in words), encoding="utf-8")
    for pooling, normalize, length in (("mean", True, 512), ("cls", True, 512), ("mean", False, 16)):
        name = f"{pooling}{', of length 1' if normalize else ''}, {length} tokens"
        how = ("--pooling", pooling, "--normalize", str(normalize).lower(), "--max-length", length)
        out, folder = work / f"{pooling}-{length}.npy", work / f"{pooling}-{length}"
        cloze_embed(cloze, lines, "--model", model, "--out", out, "--export", folder, *how)
        ours, theirs = np.load(out), reference(model, words, pooling, normalize, length)
        close(name, ours, theirs)
        cloze_embed(cloze, lines, "--model", folder, "--out", out.with_suffix(".parquet"))
        cloze_embed(cloze, lines, "--model", folder, "--out", out.with_suffix(".arrow"), "--jobs", 1)
        for table in (pq.read_table(out.with_suffix(".parquet")), pa.ipc.open_file(out.with_suffix(".arrow")).read_all()):
            close("  exported, in Cloze", np.array(table["embedding"].to_pylist(), dtype=np.float32), ours, 0.0)
            assert table["id"].null_count == len(words)
        close("  exported, in AutoModel", reference(folder, words, pooling, normalize, length), ours)
        if importlib.util.find_spec("sentence_transformers") is None:
            print("  skipped: sentence-transformers is not installed")
        else:
            from sentence_transformers import SentenceTransformer
            close("  exported, in SentenceTransformer", SentenceTransformer(str(folder), device="cpu").encode(words), ours)
    distilled(cloze, words, lines, work)
    retrieval(cloze, model, work)


if __name__ == "__main__":
    main()
