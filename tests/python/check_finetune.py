#!/usr/bin/env python3
"""Compare `cloze finetune` with transformers, PyTorch, and the metrics of scikit-learn, scipy and seqeval, on a small task of each kind.

    check_finetune.py CLOZE MODEL_DIR WORK_DIR

For each kind: three steps on all rows at once, without dropout, against a loop in PyTorch that begins from the same weights (heads within 1e-4; on
average within 1e-4 of their way); then training with dropout, of which the folder must load without a missing or unexpected weight, its logits must be those in
predictions.jsonl (1e-4), and its metrics those that others compute from predictions.jsonl (1e-9; the loss, from logits in single precision, 1e-5).
"""
import csv
import importlib.util
import json
import pathlib
import random
import shutil
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

COLOURS, ANIMALS, PLACES = ["red", "green", "blue"], ["dog", "cat", "horse", "unbelievably"], ["Paris", "New York", "Ouagadougou"]
LENGTH, RATE, STEPS, DECAY = 24, 2e-4, 3, 0.01


def texts(n, seed):
    draw = random.Random(seed)
    for _ in range(n):
        colour, animal = draw.choice(COLOURS), draw.choice(ANIMALS)
        filler = " ".join(draw.choice(["the", "a", "very", "good", "old", "thing,", "(so)"]) for _ in range(draw.randint(0, 24)))
        # A fifth of the labels is wrong, so that no metric is 1.
        said = colour if draw.random() < 0.8 else draw.choice(COLOURS)
        yield draw, colour, animal, f"{said} {filler} {animal}"


def classification(n, seed):
    return [{"text": text, "label": colour} for _, colour, _, text in texts(n, seed)]


def pairs(n, seed):
    return [{"text": text, "text_pair": other, "label": int(colour == other.split()[0])}
            for draw, colour, _, text in texts(n, seed) for other in [f"{draw.choice(COLOURS)} is what it is {text[:draw.randint(0, 90)]}"]]


def regression(n, seed):
    return [{"text": text, "label": COLOURS.index(colour) + ANIMALS.index(animal) / 8} for _, colour, animal, text in texts(n, seed)]


def multi_label(n, seed):
    return [{"text": text, "label": [w for w in (colour, animal) if w not in ("red", "dog")]} for _, colour, animal, text in texts(n, seed)]


def words(n, seed):
    rows = []
    for draw, colour, animal, text in texts(n, seed):
        place = draw.choice(PLACES).split()
        tokens = text.split() + ["in"] + place + [""] * draw.randint(0, 1)
        first = ["B-COL"] if text.startswith(colour) else ["O"]
        tags = first + ["O"] * (len(text.split()) - 2) + ["B-ANI", "O", "B-LOC"] + ["I-LOC"] * (len(tokens) - len(text.split()) - 2)
        rows.append({"tokens": tokens, "tags": tags})
    return rows


KINDS = {"classification": (classification, "jsonl"), "pairs": (pairs, "csv"), "regression": (regression, "tsv"), "multi-label": (multi_label, "parquet"),
         "token-classification": (words, "parquet")}


def write(path, rows):
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    else:
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys(), delimiter="," if path.suffix == ".csv" else "\t")
            writer.writeheader()
            writer.writerows(rows)


def labels_of(kind, rows):
    if kind == "regression":
        return None
    values = [r.get("label", r.get("tags")) for r in rows]
    flat = {str(x) for v in values for x in (v if isinstance(v, list) else [v])}
    return sorted(flat)


def start(kind, model, labels, folder):
    """A folder with heads that both sides begin from."""
    torch.manual_seed(5)
    config = AutoConfig.from_pretrained(model)
    if labels is None:
        config.num_labels = 1
    else:
        config.id2label, config.label2id = dict(enumerate(labels)), {x: i for i, x in enumerate(labels)}
    config.problem_type = {"regression": "regression", "multi-label": "multi_label_classification"}.get(kind)
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    cls = AutoModelForTokenClassification if kind == "token-classification" else AutoModelForSequenceClassification
    net = cls.from_pretrained(model, config=config, dtype=torch.float32)
    with torch.no_grad():
        net.classifier.bias.normal_(std=0.1)
    net.save_pretrained(folder)
    AutoTokenizer.from_pretrained(model).save_pretrained(folder)
    return net


def encode(kind, tokenizer, rows):
    """Batch and, for words, where the first piece of each is."""
    if kind == "token-classification":
        batch = tokenizer([r["tokens"] for r in rows], is_split_into_words=True, truncation=True, max_length=LENGTH, padding=True, return_tensors="pt")
        firsts = []
        for i, row in enumerate(rows):
            ids = batch.word_ids(i)
            firsts.append([ids.index(w) if w in ids else None for w in range(len(row["tokens"]))])
        return batch, firsts
    second = [r["text_pair"] for r in rows] if "text_pair" in rows[0] else None
    return tokenizer([r["text"] for r in rows], second, truncation=True, max_length=LENGTH, padding=True, return_tensors="pt"), None


def goals(kind, rows, labels, batch, firsts):
    if kind == "regression":
        return torch.tensor([float(r["label"]) for r in rows])
    if kind == "multi-label":
        return torch.tensor([[float(x in r["label"]) for x in labels] for r in rows])
    if kind == "token-classification":
        out = torch.full(batch["input_ids"].shape, -100)
        for i, row in enumerate(rows):
            for tag, first in zip(row["tags"], firsts[i]):
                if first is not None:
                    out[i, first] = labels.index(tag)
        return out
    return torch.tensor([labels.index(str(r["label"])) for r in rows])


def train_in_torch(kind, net, rows, labels, tokenizer):
    batch, firsts = encode(kind, tokenizer, rows)
    batch["labels"] = goals(kind, rows, labels, batch, firsts)
    net.train()
    plain = [p for n, p in net.named_parameters() if n.endswith("bias") or "LayerNorm" in n]
    others = [p for n, p in net.named_parameters() if not (n.endswith("bias") or "LayerNorm" in n)]
    optimizer = torch.optim.AdamW([{"params": others, "weight_decay": DECAY}, {"params": plain, "weight_decay": 0.0}], lr=RATE, eps=1e-8)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = RATE * (STEPS - step) / STEPS
        loss = net(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()


def finetune(cloze, *words):
    line = [str(w) for w in (cloze, "finetune", *words, "--max-length", LENGTH, "--json")]
    return json.loads(subprocess.run(line, stdout=subprocess.PIPE, check=True).stdout)


def same_steps(kind, cloze, model, work, rows, labels):
    before = work / "start"
    net = start(kind, model, labels, before)
    first = {n: p.detach().clone() for n, p in net.named_parameters()}
    tokenizer = AutoTokenizer.from_pretrained(before)
    finetune(cloze, "--model", before, "--train", work / f"train{work.suffix}", "--out", work / "steps", "--epochs", STEPS, "--batch-size", len(rows),
             "--learning-rate", RATE, "--warmup-steps", 0, "--dropout", 0)
    train_in_torch(kind, net, rows, labels, tokenizer)
    ours = dict(type(net).from_pretrained(work / "steps").named_parameters())
    heads = [n for n in first if "classifier" in n or "pooler" in n]
    for name in [*heads, "bert.encoder.layer.0.output.dense.weight"]:
        theirs = dict(net.named_parameters())[name]
        off, way = (ours[name] - theirs).abs().max().item(), (theirs - first[name]).abs().max().item()
        # What an encoder's weight is moved by is divided by its own size, rounding too.
        most = 1e-4 if name in heads else 2 * RATE * STEPS
        assert off <= most and (off <= way / 10 or name not in heads), (kind, name, off, way)
        mean = (ours[name] - theirs).abs().mean().item() / (theirs - first[name]).abs().mean().item()
        assert mean <= 1e-4, (kind, name, mean)
        print(f"  {name}: off by {off:.1e} of {way:.1e}, on average {mean:.1e}")


def metrics_of_others(kind, said, labels):
    from scipy import stats
    from sklearn import metrics as m
    truth, guess = [p["label"] for p in said], [p["prediction"] for p in said]
    if kind == "regression":
        return {"pearson": stats.pearsonr(truth, guess)[0], "spearman": stats.spearmanr(truth, guess)[0], "mse": m.mean_squared_error(truth, guess)}
    if kind == "multi-label":
        t, g = ([[int(x in row) for x in labels] for row in rows] for rows in (truth, guess))
        return {"f1_micro": m.f1_score(t, g, average="micro", zero_division=0), "f1_macro": m.f1_score(t, g, average="macro", zero_division=0),
                "subset_accuracy": m.accuracy_score(t, g)}
    more = {}
    if kind == "token-classification":
        seen = [[(t, g) for t, g in zip(*both) if g is not None] for both in zip(truth, guess)]
        truth, guess = [[t for t, _ in s] for s in seen], [[g for _, g in s] for s in seen]
        if importlib.util.find_spec("seqeval"):
            from seqeval import metrics as s
            more = {"entity_f1": s.f1_score(truth, guess), "entity_precision": s.precision_score(truth, guess), "entity_recall": s.recall_score(truth, guess)}
        else:
            print("  skipped: entities; pip install seqeval to compare them")
        truth, guess = sum(truth, []), sum(guess, [])
    else:
        more = {"mcc": m.matthews_corrcoef(truth, guess)}
    return {"accuracy": m.accuracy_score(truth, guess), "f1_macro": m.f1_score(truth, guess, average="macro"), "f1_micro": m.f1_score(truth, guess, average="micro"), **more}


def same_answers(kind, cloze, model, work, test, labels):
    suffix, out = work.suffix, work / "trained"
    results = finetune(cloze, "--model", model, "--train", work / f"train{suffix}", "--dev", work / f"dev{suffix}", "--test", work / f"test{suffix}", "--out", out,
                       "--epochs", 2, "--batch-size", 8, "--learning-rate", 1e-4, "--seeds", 2)
    assert json.loads((out / "results.json").read_text()) == results
    cls = AutoModelForTokenClassification if kind == "token-classification" else AutoModelForSequenceClassification
    net, info = cls.from_pretrained(out, output_loading_info=True)
    assert not any(info[k] for k in ("missing_keys", "mismatched_keys", "unexpected_keys")), info
    assert type(net).__name__ in net.config.architectures
    tokenizer = AutoTokenizer.from_pretrained(out)
    batch, firsts = encode(kind, tokenizer, test)
    batch["labels"] = goals(kind, test, labels, batch, firsts)
    with torch.no_grad():
        answer = net.eval()(**batch)
    said = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert len(said) == len(test)
    worst = 0
    for i, p in enumerate(said):
        logits = answer.logits[i]
        if kind == "token-classification":
            assert [s is None for s in p["scores"]] == [f is None for f in firsts[i]], (i, p, firsts[i])
            logits = logits[[f for f in firsts[i] if f is not None]]
            found = [net.config.id2label[k] for k in logits.argmax(-1).tolist()]
            assert [x for x in p["prediction"] if x is not None] == found and p["label"] == test[i]["tags"]
        elif kind == "multi-label":
            assert p["prediction"] == [labels[k] for k, x in enumerate(logits.sigmoid()) if x >= 0.5] and p["label"] == sorted(test[i]["label"])
        elif kind != "regression":
            assert p["prediction"] == net.config.id2label[logits.argmax().item()] and p["label"] == str(test[i]["label"])
        ours = np.array([s for s in p["scores"] if s is not None])
        worst = max(worst, np.abs(ours - logits.numpy()).max())
    assert worst <= 1e-4, (kind, worst)
    kept = next(s for s in results["seeds"] if s["seed"] == results["kept_seed"])
    others = metrics_of_others(kind, said, labels)
    for name, value in others.items():
        assert abs(kept["test"][name] - value) <= 1e-9, (kind, name, kept["test"][name], value)
    assert abs(kept["test"]["loss"] - answer.loss.item()) <= 1e-5 * max(1, answer.loss.item()), (kept["test"]["loss"], answer.loss.item())
    for name, spread in results["test"].items():
        values = [s["test"][name] for s in results["seeds"]]
        assert np.isclose(spread["mean"], np.mean(values)) and np.isclose(spread["sd"], np.std(values, ddof=1), atol=1e-12), (name, spread, values)
    print(f"  logits off by {worst:.1e}; {({k: round(float(v), 4) for k, v in others.items()})}")


def main():
    cloze, model, root = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
    shutil.rmtree(root, ignore_errors=True)
    for kind, (make, suffix) in KINDS.items():
        print(kind, flush=True)
        work = root / f"{kind}.{suffix}"
        work.mkdir(parents=True)
        sets = {name: make(n, seed) for seed, (name, n) in enumerate({"train": 48, "dev": 24, "test": 40}.items())}
        for name, rows in sets.items():
            write(work / f"{name}.{suffix}", rows)
        labels = labels_of(kind, sets["train"])
        same_steps(kind, cloze, model, work, sets["train"], labels)
        same_answers(kind, cloze, model, work, sets["test"], labels)
    print("fine-tuning is as in PyTorch, transformers, scikit-learn, scipy and seqeval")


if __name__ == "__main__":
    main()
