#!/usr/bin/env python3
"""Models that are a BERT up to names compute what they are: DistilBERT and RoBERTa, as transformers writes them, go through a step of `cloze pretrain`
of which the rate is too small to change a bit, and the folder that comes out has the logits of the model that went in (1e-5, single precision).

    check_families.py CLOZE MODEL_DIR DATASET WORK_DIR

MODEL_DIR gives the vocabulary of DATASET; the weights are random, and larger than those a model begins with, so that each one matters.
"""
import pathlib
import shutil
import subprocess
import sys

import torch
from transformers import (AutoTokenizer, BertForMaskedLM, DistilBertConfig, DistilBertForMaskedLM, RobertaConfig, RobertaForMaskedLM)


def spread(model):
    torch.manual_seed(1)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.add_(torch.randn_like(p) * (0.05 if "norm" in name.lower() or p.dim() == 1 else 0.15))
    return model.eval()


def models(vocab):
    yield "distilbert", spread(DistilBertForMaskedLM(DistilBertConfig(vocab_size=vocab, dim=64, n_layers=2, n_heads=4, hidden_dim=128, max_position_embeddings=128)))
    yield "roberta", spread(RobertaForMaskedLM(RobertaConfig(vocab_size=vocab, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128,
                                                             max_position_embeddings=130, type_vocab_size=1, pad_token_id=1, layer_norm_eps=1e-5)))


def main():
    cloze, source, data, work = sys.argv[1], *map(pathlib.Path, sys.argv[2:5])
    shutil.rmtree(work, ignore_errors=True)
    tokenizer = AutoTokenizer.from_pretrained(source)
    texts = ["Nothing is lost.", "a", "the cat sat on the [MASK] and looked at every one of the others for quite a while, " * 3]
    for name, model in models(len(tokenizer)):
        folder, run = work / name, work / f"{name}-run"
        model.save_pretrained(folder)
        for file in ("vocab.txt", "tokenizer.json", "tokenizer_config.json"):
            if (source / file).exists():
                shutil.copy(source / file, folder)
        subprocess.run([cloze, "pretrain", data, "--init", folder, "--out", run, "--objective", "mlm", "--steps", "1", "--batch-tokens", "256", "--learning-rate", "1e-30",
                        "--weight-decay", "0", "--eval-rows", "4", "--precision", "f32"], check=True, stdout=subprocess.DEVNULL)
        ours = BertForMaskedLM.from_pretrained(run / "model").eval()
        far, scale = 0.0, 0.0
        for text in texts:
            ids = tokenizer(text, return_tensors="pt", truncation=True, max_length=80).input_ids
            # RoBERTa takes ids of its padding token, 1 here, for padding; no text above has it.
            with torch.no_grad():
                a, b = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits, ours(input_ids=ids).logits
            far, scale = max(far, (a - b).abs().max().item()), max(scale, a.abs().max().item())
        assert scale > 1 and far < 1e-5 * scale, (name, far, scale)
        print(f"{name}: logits of up to {scale:.1f}, at most {far:.1e} from those of the BERT that it became")


if __name__ == "__main__":
    main()
