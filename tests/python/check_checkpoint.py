#!/usr/bin/env python3
"""Load a checkpoint in transformers: no weight missing, none unexpected; optionally compare losses with `cloze eval`.

    check_checkpoint.py MODEL_DIR [DATASET CLOZE]

With a dataset that has static masks, the losses that transformers computes on its validation rows must be those that
`cloze eval --json` prints, to 1e-4 (single precision, another order of sums).
"""
import json
import math
import subprocess
import sys
import tempfile

import pyarrow as pa
import torch
from safetensors import safe_open
from transformers import AutoTokenizer, BertForMaskedLM, BertForPreTraining


# A BertForMaskedLM has no pooler and no NSP head, so it has no place for these four of any BertForPreTraining checkpoint,
# transformers' own included.
NSP_ONLY = {"bert.pooler.dense.weight", "bert.pooler.dense.bias", "cls.seq_relationship.weight", "cls.seq_relationship.bias"}


def load(cls, folder, no_place=frozenset()):
    model, info = cls.from_pretrained(folder, output_loading_info=True)
    for kind in ("missing_keys", "mismatched_keys"):
        assert not info[kind], (cls.__name__, kind, info[kind])
    assert set(info["unexpected_keys"]) <= no_place, (cls.__name__, info["unexpected_keys"])
    return model.eval()


def same_as_theirs(model, folder):
    """The file holds the names that transformers itself writes for this model, and no others."""
    with tempfile.TemporaryDirectory() as own:
        model.save_pretrained(own)
        names = [set(safe_open(f"{f}/model.safetensors", "pt").keys()) for f in (folder, own)]
    assert names[0] == names[1], names[0] ^ names[1]


def compare(model, dataset, cloze):
    line = [cloze, "eval", dataset, "--model", str(model.name_or_path), "--split", "validation", "--json"]
    ours = json.loads(subprocess.run(line, stdout=subprocess.PIPE, check=True).stdout)
    mlm = nsp = masked = labelled = hits = 0
    with pa.memory_map(f"{dataset}/validation/part-00000.arrow") as source:
        rows = pa.ipc.open_file(source).read_all().to_pylist()
    for row in rows:
        ids = torch.tensor([row["input_ids"]], dtype=torch.long)
        types = (torch.arange(ids.shape[1]) >= row["b_start"]).long()[None]
        with torch.no_grad():
            out = model(input_ids=ids, token_type_ids=types)
        places = torch.tensor(row["masked_lm_positions"], dtype=torch.long)
        labels = torch.tensor(row["masked_lm_labels"], dtype=torch.long)
        mlm += torch.nn.functional.cross_entropy(out.prediction_logits[0, places], labels, reduction="sum").item()
        masked += len(labels)
        if row["next_sentence_label"] is not None:
            label = torch.tensor([row["next_sentence_label"]])
            nsp += torch.nn.functional.cross_entropy(out.seq_relationship_logits, label).item()
            hits += int(out.seq_relationship_logits.argmax().item() == label.item())
            labelled += 1
    theirs = {"mlm_loss": mlm / masked, "nsp_loss": nsp / labelled, "nsp_accuracy": hits / labelled, "perplexity": math.exp(mlm / masked)}
    for name, value in theirs.items():
        assert abs(ours[name] - value) <= 1e-4 * max(1.0, abs(value)), (name, ours[name], value)
    assert (ours["rows"], ours["masked_tokens"]) == (len(rows), masked)
    print(f"{dataset}: {len(rows)} rows, losses as in transformers: {theirs}")


def main():
    folder = sys.argv[1]
    model = load(BertForPreTraining, folder)
    same_as_theirs(model, folder)
    load(BertForMaskedLM, folder, NSP_ONLY)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.mask_token == "[MASK]" and len(tokenizer) <= model.config.vocab_size
    decoder = model.cls.predictions.decoder.weight
    assert decoder.data_ptr() == model.bert.embeddings.word_embeddings.weight.data_ptr(), "the decoder is tied"
    print(f"{folder}: loads as BertForPreTraining, BertForMaskedLM and AutoTokenizer, nothing missing, nothing unexpected")
    if len(sys.argv) > 2:
        compare(model, sys.argv[2], sys.argv[3])


if __name__ == "__main__":
    main()
