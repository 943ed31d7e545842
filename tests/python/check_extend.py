#!/usr/bin/env python3
"""Models with the words of a corpus, made by `cloze vocab extend`, as transformers sees them.

    check_extend.py CLOZE ENCODE_LINES MODEL_DIR WORK_DIR

MODEL_DIR gives the vocabulary; the weights are random, of BERT (tied and untied, padded, single and half precision, one file or several, safetensors or pickle) and of
DistilBERT. Folders load without a key too few or too many; rows of new words are the means of those of their pieces, computed anew; every other number is what it
was; texts of old tokens alone have the logits that they had; ids are those of `tokenizers` and of the rules of WordPiece.
"""
import json
import pathlib
import shutil
import subprocess
import sys

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import (AutoModelForMaskedLM, AutoTokenizer, BertConfig, BertForMaskedLM, BertForPreTraining, DistilBertConfig, DistilBertForMaskedLM)

HERE = pathlib.Path(__file__).parent
SMALL = dict(hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96, max_position_embeddings=128)
WORDS = 150


def corpus(path):
    import pydoc_data.topics as topics
    docs = [{"body": v} for _, v in sorted(topics.topics.items())]
    docs += [{"body": "naïve Kübel 😀 😀 İstanbul, 北京 \u2603\u2603 kube-proxy etcd kubelet kubelets x" + "y" * 120}] * 20
    path.write_text("".join(json.dumps(d, ensure_ascii=False) + "\n" for d in docs), encoding="utf-8")
    return [d["body"] for d in docs]


def spread(model):
    torch.manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.1)
    return model.eval()


def models(tokens):
    bert = lambda size=tokens, **more: BertConfig(vocab_size=size, **SMALL, **more)
    yield "pretraining", spread(BertForPreTraining(bert())), {}
    yield "masked-lm", spread(BertForMaskedLM(bert())), {}
    yield "untied", spread(BertForMaskedLM(bert(tie_word_embeddings=False))), {}
    yield "padded-a-little", spread(BertForMaskedLM(bert(tokens + 6))), {}
    yield "padded-a-lot", spread(BertForMaskedLM(bert(tokens + 500))), {}
    yield "half", spread(BertForMaskedLM(bert())).half(), {}
    yield "sharded", spread(BertForMaskedLM(bert())), {"max_shard_size": "2MB"}
    yield "pickle", spread(BertForMaskedLM(bert())), {"pickle": True}
    yield "distilbert", spread(DistilBertForMaskedLM(DistilBertConfig(vocab_size=tokens, dim=48, n_layers=2, n_heads=4, hidden_dim=96, max_position_embeddings=128))), {}


def save(model, folder, source, how):
    if how.pop("pickle", False):
        folder.mkdir()
        model.config.architectures = [type(model).__name__]
        model.config.save_pretrained(folder)
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    else:
        model.save_pretrained(folder, **how)
    assert how == {} or len(list(folder.glob("*.safetensors"))) > 1
    for file in ("vocab.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        if (source / file).exists():
            shutil.copy(source / file, folder)


def pieces(word, vocab):
    """The rules of WordPiece."""
    found, start = [], 0
    while start < len(word):
        ends = (e for e in range(len(word), start, -1) if ("##" if start else "") + word[start:e] in vocab)
        end = next(ends, None)
        if end is None:
            return [vocab["[UNK]"]]
        found.append(vocab[("##" if start else "") + word[start:end]])
        start = end
    return found


def load(kind, folder):
    model, info = kind.from_pretrained(folder, output_loading_info=True)
    wrong = {name: keys for name, keys in info.items() if keys}
    assert not wrong, (folder, wrong)
    return model.eval()


def tables(model):
    """What has a row for each token, by the names of the module."""
    ends = ("word_embeddings.weight", "predictions.bias", "decoder.weight", "decoder.bias", "vocab_projector.weight", "vocab_projector.bias")
    return {n for n in model.state_dict() if n.endswith(ends)}


def check_model(name, model, source, out, new_words, texts):
    old = json.loads((source / "tokenizer.json").read_text())["model"]["vocab"]
    first = len(old)
    config = json.loads((out / "config.json").read_text())
    rows = max(model.config.vocab_size, first + len(new_words))
    assert config["vocab_size"] == rows, (name, config["vocab_size"], rows)
    now = load(type(model), out).to(next(model.parameters()).dtype)
    if name != "pretraining":
        # It has no place for an NSP head.
        assert type(load(AutoModelForMaskedLM, out)) is type(model)
    parts = [pieces(w, old) for w in new_words]
    before, after = model.state_dict(), now.state_dict()
    assert before.keys() == after.keys()
    grown = tables(model)
    assert len(grown) >= 3
    for key, then in before.items():
        if key not in grown:
            assert torch.equal(then, after[key]), (name, key)
            continue
        assert after[key].shape[0] == rows and after[key].dtype == then.dtype
        assert torch.equal(after[key][:first], then[:first]), (name, key)
        means = torch.stack([then[p].double().mean(0) for p in parts]).to(then.dtype)
        left = first + len(parts)
        assert torch.equal(after[key][first:left], means), (name, key)
        assert torch.equal(after[key][left:], then[left:rows]), (name, key)
    if name == "half":
        # transformers may widen what it loads; the file must not have.
        kinds = {t.dtype for t in load_file(out / "model.safetensors").values()}
        assert kinds == {torch.float16}, kinds
    elif name == "untied":
        assert not torch.equal(after["bert.embeddings.word_embeddings.weight"], after["cls.predictions.decoder.weight"])
    # Texts of old tokens: the columns of old tokens are what they were.
    tokenizer, far = AutoTokenizer.from_pretrained(out), 0.0
    for text in texts:
        ids = tokenizer(text, return_tensors="pt", truncation=True, max_length=100).input_ids
        assert int(ids.max()) < first
        with torch.no_grad():
            a, b = model(input_ids=ids), now(input_ids=ids)
        a, b = (o.logits if hasattr(o, "logits") else o.prediction_logits for o in (a, b))
        a, b = a[..., :first].float(), b[..., :first].float()
        far = max(far, ((a - b).abs().max() / a.abs().max()).item())
    assert far < (1e-2 if name == "half" else 1e-6), (name, far)
    print(f"{name}: {len(grown)} tables of {model.config.vocab_size} → {rows} rows, old logits at most {far:.1e} apart")


def check_ids(out, source, new_words, texts):
    tokenizer = AutoTokenizer.from_pretrained(out)
    fast = Tokenizer.from_file(str(out / "tokenizer.json"))
    old = json.loads((source / "tokenizer.json").read_text())["model"]["vocab"]
    vocab = {**old, **{w: len(old) + i for i, w in enumerate(new_words)}}
    assert fast.get_vocab() == vocab and tokenizer.get_vocab() == vocab
    lines = (out / "vocab.txt").read_text(encoding="utf-8").split("\n")[:-1]
    assert {t: i for i, t in enumerate(lines)} == vocab
    # Ordinary entries: none is a token of its own that is cut out of longer words.
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert sorted(tokenizer.added_tokens_decoder) == sorted(old[t] for t in special)
    fast.no_truncation()
    fast.no_padding()
    used, begun = set(), 0
    for text in texts:
        words = [w for w, _ in fast.pre_tokenizer.pre_tokenize_str(fast.normalizer.normalize_str(text))]
        expected = [i for w in words for i in (pieces(w, vocab) if len(w) <= 100 else [vocab["[UNK]"]])]
        theirs = fast.encode(text, add_special_tokens=False).ids
        assert theirs == expected, text[:80]
        assert tokenizer(text, add_special_tokens=False, truncation=False).input_ids == expected
        used |= set(expected)
        begun += sum(a >= len(old) and lines[b].startswith("##") for a, b in zip(expected, expected[1:]))
    assert all(vocab[w] in used for w in new_words) and begun > 0
    print(f"ids: {len(texts)} texts as the rules of WordPiece have them; {len(new_words)} new words all occur, {begun} times with ## pieces after them")


def check_added(source, folder, out, extend):
    """A tokenizer that has a token of its own already."""
    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.add_tokens(["[E1]"])
    tokens = len(tokenizer)
    spread(BertForMaskedLM(BertConfig(vocab_size=tokens, **SMALL))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    extend(folder, out)
    text = "the [E1] kubelet of kubelets"
    old, new = tokenizer(text).input_ids, AutoTokenizer.from_pretrained(out)(text).input_ids
    fast = Tokenizer.from_file(str(out / "tokenizer.json"))
    fast.no_truncation()
    fast.no_padding()
    lines = (out / "vocab.txt").read_text(encoding="utf-8").split("\n")
    assert tokens - 1 in old and lines[tokens - 1] == "[E1]"
    kubelet, theirs = lines.index("kubelet"), fast.encode(text).ids
    assert kubelet >= tokens and new == theirs and new[2:4] == [tokens - 1, kubelet] and new[:3] == old[:3], (old, new, theirs)
    load(BertForMaskedLM, out)
    print(f"added: [E1] stays {tokens - 1}, kubelet is {kubelet}")


def main():
    cloze, encode, source, work = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3]), pathlib.Path(sys.argv[4])
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    field = work / "field.jsonl"
    texts = corpus(field)
    lines = work / "texts.jsonl"
    lines.write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    extend = lambda model, out, *more: subprocess.run([cloze, "vocab", "extend", field, "--text-field", "body", "--model", model, "--out", out, "--words", str(WORDS),
                                                       "--min-count", "3", *more], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    tokens = len(json.loads((source / "tokenizer.json").read_text())["model"]["vocab"])
    plain = ["Nothing is lost.", "a", "The cat sat on the [MASK] and looked at every one of the others for quite a while."]
    for number, (name, model, how) in enumerate(models(tokens)):
        folder, out = work / name, work / f"{name}-extended"
        save(model, folder, source, how)
        extend(folder, out)
        files = sorted(p.name for p in out.iterdir())
        assert files == ["config.json", "model.safetensors", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"], files
        new_words = (out / "vocab.txt").read_text(encoding="utf-8").split("\n")[tokens:-1]
        assert len(new_words) == WORDS and "kubelet" in new_words and "😀" in new_words, new_words
        check_model(name, model, source, out, new_words, plain)
        if number == 0:
            check_ids(out, source, new_words, texts)
            subprocess.run([sys.executable, HERE / "check_tokens.py", encode, out], check=True)
            subprocess.run([sys.executable, HERE / "check_tokens.py", encode, out, lines], check=True)
            extend(folder, work / "one-thread", "--jobs", "1")
            for path in out.iterdir():
                assert path.read_bytes() == (work / "one-thread" / path.name).read_bytes(), path
        shutil.rmtree(folder)
        shutil.rmtree(out)
    check_added(source, work / "added", work / "added-extended", extend)


if __name__ == "__main__":
    main()
