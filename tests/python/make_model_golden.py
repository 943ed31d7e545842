#!/usr/bin/env python3
"""Make fixtures/golden/*.safetensors: what PyTorch and transformers say of small BERTs.

    python tests/python/make_model_golden.py fixtures/golden

Each file holds the configuration (in its metadata), the weights, a batch, the losses, the gradient of every
parameter, and losses and parameters along 20 steps of PyTorch's AdamW with clipping, decay groups, warmup and
linear decay, dropout off. Needs torch and transformers; the tests that read the files need neither.
"""
import json
import pathlib
import sys

import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertForPreTraining

CASES = {
    # name: (config, row lengths, labels (-100 = one segment), scale of the weights)
    "small": (dict(vocab_size=61, hidden_size=24, num_attention_heads=3, intermediate_size=40, num_hidden_layers=2,
                   max_position_embeddings=24, hidden_act="gelu"), [3, 24, 9, 17], [1, 0, -100, 1], 0.15),
    "tanh": (dict(vocab_size=37, hidden_size=32, num_attention_heads=1, intermediate_size=24, num_hidden_layers=1,
                  max_position_embeddings=20, hidden_act="gelu_new"), [20, 5], [0, 1], 0.1),
    # Large weights: softmax and GELU saturate, and most of the gradient goes through few places.
    "steep": (dict(vocab_size=29, hidden_size=16, num_attention_heads=2, intermediate_size=48, num_hidden_layers=2,
                   max_position_embeddings=16, hidden_act="gelu"), [16, 6, 11], [0, 1, 0], 0.7),
    # No row has a second segment: the pooler and its head get no gradient.
    "unlabelled": (dict(vocab_size=29, hidden_size=16, num_attention_heads=4, intermediate_size=16, num_hidden_layers=1,
                        max_position_embeddings=12, hidden_act="gelu"), [12, 4], [-100, -100], 0.2),
}
STEPS, WARMUP, PEAK, DECAY, CLIP = 20, 5, 5e-3, 0.1, 1.0


def rate(step: int) -> float:
    return PEAK * step / WARMUP if step <= WARMUP else PEAK * (STEPS - step + 1) / (STEPS - WARMUP)


def losses(model, batch):
    """The loss of transformers; its mean over no labelled row is NaN, so each part is computed where it exists."""
    out = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"],
                token_type_ids=batch["token_type_ids"])
    flat = torch.nn.functional.cross_entropy
    mlm = flat(out.prediction_logits.flatten(0, 1), batch["labels"].flatten(), ignore_index=-100)
    total, nsp = mlm, torch.tensor(float("nan"))
    if (batch["next"] >= 0).any():
        nsp = flat(out.seq_relationship_logits, batch["next"], ignore_index=-100)
        total = mlm + nsp
    if not (batch["next"] < 0).any():
        full = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"],
                     token_type_ids=batch["token_type_ids"], labels=batch["labels"], next_sentence_label=batch["next"])
        assert torch.allclose(full.loss, total), (full.loss, total)
    return total, mlm, nsp


def make(name, settings, lengths, labels, scale, out):
    torch.manual_seed(sum(map(ord, name)))
    config = BertConfig(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, type_vocab_size=2, pad_token_id=0,
                        attn_implementation="eager", **settings)
    model = BertForPreTraining(config).train()
    with torch.no_grad():
        for key, p in model.named_parameters():
            p.copy_(torch.randn_like(p) * scale + (1.0 if key.endswith("LayerNorm.weight") else 0.0))
    rows, longest = len(lengths), max(lengths)
    ids = torch.zeros(rows, longest, dtype=torch.long)
    types, mask = torch.zeros_like(ids), torch.zeros_like(ids)
    targets = torch.full_like(ids, -100)
    for r, n in enumerate(lengths):
        ids[r, :n] = torch.randint(5, config.vocab_size, (n,))
        mask[r, :n] = 1
        if labels[r] >= 0:
            types[r, n // 2:n] = 1
        places = torch.randperm(n)[: max(1, n // 4)]
        targets[r, places] = torch.randint(5, config.vocab_size, (len(places),))
    batch = dict(input_ids=ids, token_type_ids=types, attention_mask=mask, labels=targets, next=torch.tensor(labels))
    names = [k for k, _ in model.named_parameters()]
    file = {f"weights/{k}": p.detach().clone() for k, p in model.named_parameters()}
    total, mlm, nsp = losses(model, batch)
    total.backward()
    for k, p in model.named_parameters():
        if p.grad is not None:
            file[f"gradients/{k}"] = p.grad.clone()
    file["losses"] = torch.stack([mlm, nsp]).detach()
    decay = [p for k, p in model.named_parameters() if not (k.endswith("bias") or "LayerNorm" in k)]
    plain = [p for k, p in model.named_parameters() if k.endswith("bias") or "LayerNorm" in k]
    optimizer = torch.optim.AdamW([dict(params=decay, weight_decay=DECAY), dict(params=plain, weight_decay=0.0)],
                                  lr=PEAK, betas=(0.9, 0.999), eps=1e-8)
    track, norms = [], []
    for step in range(1, STEPS + 1):
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        optimizer.zero_grad(set_to_none=True)
        total, _, _ = losses(model, batch)
        total.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP))
        optimizer.step()
        track.append(total.detach())
    for k, p in model.named_parameters():
        file[f"after/{k}"] = p.detach().clone()
    file["track/losses"], file["track/norms"] = torch.stack(track), torch.stack(norms)
    for k, v in batch.items():
        file[f"batch/{k}"] = v.to(torch.int32)
    for k in list(file):
        file[k] = file[k].contiguous()
    text = json.dumps({**settings, "type_vocab_size": 2, "model_type": "bert", "layer_norm_eps": config.layer_norm_eps})
    meta = {"config": text, "lengths": json.dumps(lengths), "names": json.dumps(names),
            "steps": json.dumps(dict(steps=STEPS, warmup=WARMUP, peak=PEAK, decay=DECAY, clip=CLIP))}
    save_file(file, out / f"{name}.safetensors", metadata=meta)
    print(name, [round(x, 4) for x in file["losses"].tolist()], "->", round(track[-1].item(), 4))


def main():
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for name, case in CASES.items():
        make(name, *case, out)


if __name__ == "__main__":
    main()
