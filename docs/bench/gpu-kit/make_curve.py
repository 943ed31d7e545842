#!/usr/bin/env python3
"""Make curve.safetensors: the losses of 200 steps of PyTorch in single precision on eight batches, dropout off.

    python make_curve.py FILE

The format is that of `cloze_train::golden`; the model has heads of 64 features and rows of 5 to 128 tokens. Needs torch and transformers.
"""
import json
import sys

import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertForPreTraining

STEPS, WARMUP, PEAK, DECAY, CLIP = 200, 20, 2e-4, 0.01, 1.0
SETTINGS = dict(vocab_size=1000, hidden_size=128, num_attention_heads=2, intermediate_size=512, num_hidden_layers=2, max_position_embeddings=128,
                hidden_act="gelu")


def rate(step):
    return PEAK * step / WARMUP if step <= WARMUP else PEAK * (STEPS - step + 1) / (STEPS - WARMUP)


def batch_of(lengths):
    rows, longest = len(lengths), max(lengths)
    ids, types, mask = (torch.zeros(rows, longest, dtype=torch.long) for _ in range(3))
    labels = torch.full((rows, longest), -100)
    for r, n in enumerate(lengths):
        start = int(torch.randint(0, 900, (1,)))
        ids[r, :n] = 5 + (start + torch.arange(n) * (1 + r % 3)) % 990
        mask[r, :n] = 1
        types[r, n // 2 : n] = 1
        places = torch.randperm(n)[: max(1, n // 6)]
        labels[r, places] = ids[r, places]
        ids[r, places] = 4
    return dict(input_ids=ids, token_type_ids=types, attention_mask=mask, labels=labels, next=torch.arange(rows) % 2)


def main():
    torch.manual_seed(1)
    torch.set_num_threads(2)
    config = BertConfig(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, type_vocab_size=2, pad_token_id=0, attn_implementation="eager", **SETTINGS)
    model = BertForPreTraining(config).train()
    file = {f"weights/{k}": p.detach().clone() for k, p in model.named_parameters()}
    lengths = [[int(n) for n in torch.randint(5, 129, (12,))] for _ in range(8)]
    made = [batch_of(n) for n in lengths]
    named = list(model.named_parameters())
    plain = lambda k: k.endswith("bias") or "LayerNorm" in k
    groups = [dict(params=[p for k, p in named if not plain(k)], weight_decay=DECAY), dict(params=[p for k, p in named if plain(k)], weight_decay=0.0)]
    optimizer = torch.optim.AdamW(groups, lr=PEAK, betas=(0.9, 0.999), eps=1e-8)
    losses, norms = [], []
    for step in range(1, STEPS + 1):
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        b = made[(step - 1) % len(made)]
        optimizer.zero_grad(set_to_none=True)
        loss = model(input_ids=b["input_ids"], attention_mask=b["attention_mask"], token_type_ids=b["token_type_ids"], labels=b["labels"],
                     next_sentence_label=b["next"]).loss
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP))
        optimizer.step()
        losses.append(loss.detach())
    file["track/losses"], file["track/norms"] = torch.stack(losses), torch.stack(norms)
    for i, b in enumerate(made):
        for k, v in b.items():
            if k != "attention_mask":
                file[f"batch/{i}/{k}"] = v.to(torch.int32)
    text = json.dumps({**SETTINGS, "type_vocab_size": 2, "model_type": "bert", "layer_norm_eps": config.layer_norm_eps})
    steps = json.dumps(dict(steps=STEPS, warmup=WARMUP, peak=PEAK, decay=DECAY, clip=CLIP))
    save_file({k: v.contiguous() for k, v in file.items()}, sys.argv[1], metadata={"config": text, "lengths": json.dumps(lengths), "steps": steps})
    print(f"loss {losses[0]:.4f} -> {losses[-1]:.4f}")


if __name__ == "__main__":
    main()
