"""PyTorch's pre-training on rows of a Cloze dataset, resident: a burst of steps for each line read from standard input.

    python pytorch_gpu.py DATASET --form trainer|compiled|tuned --model base --tokens 65536 --seconds 5 [--device cpu]

Forms:
  trainer   transformers' Trainer as people run it: bf16, its own collator and loader, rows padded to the longest that is allowed, dense MLM head.
  compiled  torch.compile, scaled-dot-product attention, fused AdamW, bf16 autocast, batches made ahead on the device; padded, dense head.
  tuned     as compiled, with the head on the masked positions only (a fixed number), the vocabulary padded to a multiple of 64, rows of similar
            length in a batch (lengths 32, 64, ...), and one CUDA graph for each length that holds the whole step, optimizer included.

Prints one line of JSON when it is ready and one a burst: real tokens a second (padding not counted), milliseconds a step, peak memory.
"""

import argparse
import json
import random
import sys
import time

import torch
from pytorch_step import SHAPES, Sparse, batches, rows_of
from transformers import BertConfig, BertForPreTraining

SHAPES = {**SHAPES, "tiny": dict(hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=512)}


def say(**line):
    print(json.dumps(line), flush=True)


def model_of(options, vocab_size):
    config = BertConfig(vocab_size=vocab_size, max_position_embeddings=512, **SHAPES[options.model])
    config._attn_implementation = "sdpa"
    return BertForPreTraining(config).to(options.device).train()


def optimizer_of(model, device, capturable):
    plain = [p for n, p in model.named_parameters() if n.endswith("bias") or "LayerNorm" in n]
    decay = [p for n, p in model.named_parameters() if not (n.endswith("bias") or "LayerNorm" in n)]
    groups = [{"params": decay, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=1e-4, fused=True, capturable=capturable and device.type == "cuda")


def wait(device):
    if device.type == "cuda":
        torch.cuda.synchronize()


def fixed(group, length, masked, device):
    """One padded batch of `length`, with `masked` positions: a masked position more than once where there are fewer."""
    input_ids, types, attention, labels, next_label = group
    size, width = input_ids.shape
    pad = lambda t, value: torch.nn.functional.pad(t, (0, length - width), value=value)[:, :length]
    input_ids, types, attention, labels = pad(input_ids, 0), pad(types, 0), pad(attention, 0), pad(labels, -100)
    flat = labels.reshape(-1)
    positions = (flat >= 0).nonzero(as_tuple=True)[0][:masked]
    positions = torch.cat([positions, positions[:1].expand(masked - len(positions))])
    tensors = [input_ids, types, attention, positions, flat[positions], next_label, labels]
    return [t.to(device) for t in tensors], int(attention.sum())


def burst(run, groups, options, device):
    """Steps for some seconds."""
    wait(device)
    started, tokens, steps, loss = time.perf_counter(), 0, 0, None
    while time.perf_counter() - started < options.seconds or steps < 2:
        tensors, real = groups[steps % len(groups)]
        loss = run(tensors)
        tokens += real
        steps += 1
        if steps % 4 == 0:
            wait(device)
    wait(device)
    seconds = time.perf_counter() - started
    say(check="throughput", form=options.form, tokens_per_second=tokens / seconds, step_ms=seconds * 1e3 / steps, steps=steps,
        loss=float(loss), peak_bytes=torch.cuda.max_memory_allocated() if device.type == "cuda" else 0)


def stepper(model, step_model, optimizer, sparse, device):
    autocast = torch.autocast(device.type, dtype=torch.bfloat16)

    def run(tensors):
        input_ids, types, attention, positions, targets, next_label, labels = tensors
        with autocast:
            if sparse:
                loss = step_model(input_ids, types, attention, positions, targets, next_label)
            else:
                loss = step_model(input_ids=input_ids, token_type_ids=types, attention_mask=attention, labels=labels,
                                  next_sentence_label=next_label).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
        return loss.detach()

    return run


def graphed(run, example, device):
    """`run` as a CUDA graph on copies of the example's tensors."""
    held = [t.clone() for t in example]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run(held)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = run(held)

    def replay(tensors):
        for to, source in zip(held, tensors):
            to.copy_(source, non_blocking=True)
        graph.replay()
        return loss

    return replay


def prepared(options, device, sparse, vocab_size, mask_id):
    """Groups of rows as tensors on the device, and how many real tokens each holds."""
    longest = options.length
    rows = rows_of(options.dataset, 24 * options.tokens // longest, 0)
    lengths = [longest]
    if sparse:
        lengths = [n for n in range(longest // 4, longest + 1, longest // 4)]
    made = {n: [] for n in lengths}
    dice = random.Random(0)
    low = 0
    for n in lengths:
        fitting = [r for r in rows if low < len(r[0]) <= n] if sparse else rows
        low = n
        size = max(1, options.tokens // n)
        masked = int(size * n * 0.155) // 8 * 8 + 8
        for group in batches(fitting, size, False, dice, mask_id, vocab_size):
            made[n].append(fixed(group, n, masked, device))
    return {n: groups for n, groups in made.items() if groups}


def compiled(options, device, manifest):
    sparse = options.form == "tuned"
    vocab = manifest["tokenizer"]["vocab_size"]
    model = model_of(options, (vocab + 63) // 64 * 64 if sparse else vocab)
    optimizer = optimizer_of(model, device, sparse)
    step_model = torch.compile(Sparse(model) if sparse else model, mode=options.mode, dynamic=False)
    torch._dynamo.config.cache_size_limit = 64
    run = stepper(model, step_model, optimizer, sparse, device)
    by_length = prepared(options, device, sparse, vocab, manifest["tokenizer"]["special_tokens"]["mask"])
    runs = {}
    for n, groups in by_length.items():
        for tensors, _ in (groups * 3)[:3]:
            run(tensors)
        runs[n] = run
        if sparse and device.type == "cuda" and not options.no_graph:
            runs[n] = graphed(run, groups[0][0], device)
    mixed = [(n, g) for n, groups in by_length.items() for g in groups]
    random.Random(1).shuffle(mixed)
    order = [((n, tensors), real) for n, (tensors, real) in mixed]
    return lambda pair: runs[pair[0]](pair[1]), order


def trainer(options, device, manifest):
    """Bursts of Trainer.train(): steps are timed from the fourth on."""
    from torch.utils.data import Dataset
    from transformers import BertTokenizerFast, DataCollatorForLanguageModeling, Trainer, TrainerCallback, TrainingArguments

    longest = options.length
    rows = rows_of(options.dataset, 24 * options.tokens // longest, 0)
    mean = sum(len(ids) for ids, _, _ in rows) / len(rows)

    class Rows(Dataset):
        def __len__(self):
            return len(rows)

        def __getitem__(self, i):
            ids, b, label = rows[i]
            pad = longest - len(ids)
            return {"input_ids": ids + [0] * pad, "token_type_ids": [0] * b + [1] * (len(ids) - b) + [0] * pad,
                    "attention_mask": [1] * len(ids) + [0] * pad, "next_sentence_label": -100 if label is None else label}

    class Clock(TrainerCallback):
        started, steps = None, 0

        def on_step_end(self, args, state, control, **_):
            if state.global_step == 4:
                wait(device)
                self.started = time.perf_counter()
            if self.started and time.perf_counter() - self.started > options.seconds and state.global_step > 6:
                wait(device)
                self.seconds, self.steps = time.perf_counter() - self.started, state.global_step - 4
                control.should_training_stop = True

    size = max(1, options.tokens // longest)
    model = model_of(options, manifest["tokenizer"]["vocab_size"])
    tokenizer = BertTokenizerFast(f"{options.dataset}/tokenizer/vocab.txt")
    collator = DataCollatorForLanguageModeling(tokenizer=tokenizer, mlm_probability=0.15)

    def run():
        clock = Clock()
        arguments = TrainingArguments(
            output_dir="/tmp/peer", per_device_train_batch_size=size, max_steps=100_000, bf16=True, report_to=[], save_strategy="no",
            logging_steps=1_000_000, dataloader_num_workers=options.workers, use_cpu=device.type == "cpu", disable_tqdm=True,
            weight_decay=0.01, learning_rate=1e-4, label_names=["labels", "next_sentence_label"], remove_unused_columns=False)
        Trainer(model=model, args=arguments, train_dataset=Rows(), data_collator=collator, callbacks=[clock]).train()
        say(check="throughput", form="trainer", tokens_per_second=clock.steps * size * mean / clock.seconds,
            step_ms=clock.seconds * 1e3 / clock.steps, steps=clock.steps,
            peak_bytes=torch.cuda.max_memory_allocated() if device.type == "cuda" else 0)

    return run


def ceilings():
    """What the device reaches at most: a large product, a large copy."""
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    big = torch.empty(1 << 32, device="cuda", dtype=torch.uint8)
    other = torch.empty_like(big)

    def least(work):
        times = []
        for _ in range(13):
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            work()
            end.record()
            torch.cuda.synchronize()
            times.append(start.elapsed_time(end))
        return sorted(times[3:])[5]

    say(check="ceilings", device=torch.cuda.get_device_name(), torch=torch.__version__,
        tflops=2 * 8192**3 / least(lambda: a @ b) / 1e9, copy_tbs=2 * big.numel() / least(lambda: other.copy_(big)) / 1e9)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--form", choices=["trainer", "compiled", "tuned", "ceilings"], default="tuned")
    parser.add_argument("--model", choices=list(SHAPES), default="base")
    parser.add_argument("--tokens", type=int, default=65_536, help="tokens a step, padding counted")
    parser.add_argument("--length", type=int, default=128, help="tokens of the longest row")
    parser.add_argument("--seconds", type=float, default=5.0, help="of a burst")
    parser.add_argument("--mode", default="default", help="torch.compile's mode")
    parser.add_argument("--workers", type=int, default=4, help="of the Trainer's loader")
    parser.add_argument("--no-graph", action="store_true")
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    if options.form == "ceilings":
        return ceilings()
    device = torch.device(options.device)
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    manifest = json.load(open(f"{options.dataset}/manifest.json"))
    if options.form == "trainer":
        run = trainer(options, device, manifest)
    else:
        step, groups = compiled(options, device, manifest)
        run = lambda: burst(step, groups, options, device)
    say(check="ready", form=options.form, torch=torch.__version__)
    for _ in sys.stdin:
        run()


if __name__ == "__main__":
    main()
