"""Times PyTorch's pre-training step on rows of a Cloze dataset: the peer of `cloze pretrain`.

    python pytorch_step.py DATASET --model minilm|base|CONFIG.json --form plain|tuned|sorted|compiled --dtype f32|bf16 --rows 32 --steps 8

Forms:
  plain     BertForPreTraining as it is: the MLM head on every token, dynamic padding, AdamW (what transformers' Trainer runs).
  tuned     the head on the masked positions only, scaled-dot-product attention, fused AdamW, padding to the batch's longest row.
  sorted    as tuned, with rows of similar length in a batch, so that there is little padding.
  compiled  as sorted, under torch.compile.
Prints one JSON line: real tokens (padding not counted), seconds of each timed step, the last loss.
"""

import argparse
import glob
import json
import random
import time

import pyarrow as pa
import torch
from transformers import BertConfig, BertForPreTraining

SHAPES = {
    "minilm": dict(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536),
    "base": dict(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072),
    "large": dict(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096),
}


def rows_of(dataset, wanted, shortest):
    """`wanted` rows from the front of the train split, no shorter than `shortest`: (ids, b_start, label)."""
    rows = []
    for path in sorted(glob.glob(f"{dataset}/train/*.arrow")):
        with pa.memory_map(path) as source:
            reader = pa.ipc.open_file(source)
            for i in range(reader.num_record_batches):
                batch = reader.get_batch(i)
                names = ["input_ids", "b_start", "next_sentence_label"]
                for ids, b, label in zip(*(batch.column(batch.schema.get_field_index(n)).to_pylist() for n in names)):
                    if len(ids) >= shortest:
                        rows.append((ids, b, label))
                    if len(rows) == wanted:
                        return rows
    return rows


def batches(rows, size, by_length, masks, mask_id, vocab_size):
    """Padded batches, masked 80/10/10 at 15 %: as a collator would make them, but ahead of the clock."""
    if by_length:
        rows = sorted(rows, key=lambda r: len(r[0]))
    groups = [rows[i : i + size] for i in range(0, len(rows) - size + 1, size)]
    masks.shuffle(groups)
    made = []
    for group in groups:
        longest = max(len(ids) for ids, _, _ in group)
        input_ids = torch.zeros(size, longest, dtype=torch.long)
        types, attention = torch.zeros_like(input_ids), torch.zeros_like(input_ids)
        labels = torch.full_like(input_ids, -100)
        next_label = torch.full((size,), -100)
        for r, (ids, b, label) in enumerate(group):
            n = len(ids)
            input_ids[r, :n] = torch.tensor(ids)
            types[r, b:n] = 1
            attention[r, :n] = 1
            if label is not None:
                next_label[r] = label
            candidates = [p for p in range(1, n - 1) if p != b - 1]
            for p in masks.sample(candidates, max(1, round(0.15 * len(candidates)))):
                labels[r, p] = input_ids[r, p]
                dice = masks.random()
                if dice < 0.8:
                    input_ids[r, p] = mask_id
                elif dice < 0.9:
                    input_ids[r, p] = masks.randrange(vocab_size)
        made.append((input_ids, types, attention, labels, next_label))
    return made


class Sparse(torch.nn.Module):
    """BertForPreTraining with the MLM head on the masked positions only."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, types, attention, positions, targets, next_label):
        hidden, pooled = self.model.bert(input_ids, attention_mask=attention, token_type_ids=types, return_dict=False)[:2]
        picked = hidden.reshape(-1, hidden.shape[-1])[positions]
        logits = self.model.cls.predictions(picked)
        mlm = torch.nn.functional.cross_entropy(logits.float(), targets)
        nsp = torch.nn.functional.cross_entropy(self.model.cls.seq_relationship(pooled).float(), next_label)
        return mlm + nsp


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--form", choices=["plain", "tuned", "sorted", "compiled"], default="tuned")
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--rows", type=int, default=32, help="rows a batch")
    parser.add_argument("--shortest", type=int, default=0, help="take rows of at least so many tokens only")
    parser.add_argument("--steps", type=int, default=8, help="timed steps")
    parser.add_argument("--warmup", type=int, default=2, help="steps before the clock")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    manifest = json.load(open(f"{options.dataset}/manifest.json"))
    vocab_size = manifest["tokenizer"]["vocab_size"]
    mask_id = manifest["tokenizer"]["special_tokens"]["mask"]
    if options.model in SHAPES:
        config = BertConfig(vocab_size=vocab_size, max_position_embeddings=512, **SHAPES[options.model])
    else:
        config = BertConfig.from_json_file(options.model)
    config._attn_implementation = "sdpa"
    device = torch.device(options.device)
    model = BertForPreTraining(config).to(device).train()
    tuned = options.form != "plain"
    no_decay = [p for n, p in model.named_parameters() if n.endswith("bias") or "LayerNorm" in n]
    decay = [p for n, p in model.named_parameters() if not (n.endswith("bias") or "LayerNorm" in n)]
    groups = [{"params": decay, "weight_decay": 0.01}, {"params": no_decay, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-4, fused=True if tuned else None)
    step_model = Sparse(model) if tuned else model
    if options.form == "compiled":
        step_model = torch.compile(step_model, dynamic=options.shortest == 0)
    rows = rows_of(options.dataset, options.rows * (options.steps + options.warmup), options.shortest)
    made = batches(rows, options.rows, options.form in ("sorted", "compiled"), random.Random(0), mask_id, vocab_size)
    made = [tuple(t.to(device) for t in b) for b in made]
    autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=options.dtype == "bf16")
    seconds, tokens, loss = [], [], None
    for i, (input_ids, types, attention, labels, next_label) in enumerate(made):
        if device.type == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        with autocast:
            if tuned:
                flat = labels.reshape(-1)
                positions = (flat >= 0).nonzero(as_tuple=True)[0]
                loss = step_model(input_ids, types, attention, positions, flat[positions], next_label)
            else:
                loss = model(
                    input_ids=input_ids, token_type_ids=types, attention_mask=attention, labels=labels, next_sentence_label=next_label
                ).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        value = loss.item()
        if i >= options.warmup:
            seconds.append(time.perf_counter() - started)
            tokens.append(int(attention.sum()))
    print(json.dumps({"peer": f"pytorch {options.form}", "dtype": options.dtype, "torch": torch.__version__, "tokens": tokens,
                      "seconds": seconds, "tokens_per_second": sum(tokens) / sum(seconds), "loss": value}))


if __name__ == "__main__":
    main()
