"""Times Hugging Face's way of making masked batches of the rows of a Cloze dataset, on one thread: the peer of `examples/feed_bench.rs`.

    python feed_datasets.py DATASET [--rows 32] [--batches 150] [--rounds 3] [--grouped]

The rows are the same, from the same memory-mapped files: `datasets` shuffled by its index, torch's DataLoader without workers, and transformers'
DataCollatorForLanguageModeling, which pads a batch to its longest row and masks 15 % of it. Prints one JSON line: real tokens (padding not counted)
a second of time on the core, and by the clock, each the best of the rounds. --grouped takes batches of similar length (transformers' LengthGroupedSampler).
"""

import argparse
import glob
import json
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pyarrow as pa
import torch
from datasets import Dataset, concatenate_datasets
from datasets.table import InMemoryTable
from torch.utils.data import DataLoader
from transformers import BertTokenizerFast, DataCollatorForLanguageModeling
from transformers.trainer_pt_utils import LengthGroupedSampler


def dataset_of(folder):
    """The train split's columns that a model is given, where they lie in the memory map; segment ids are made from where B begins."""
    parts = []
    for path in sorted(glob.glob(f"{folder}/train/*.arrow")):
        table = pa.ipc.open_file(pa.memory_map(path)).read_all().select(["input_ids", "b_start", "next_sentence_label"])
        parts.append(Dataset(InMemoryTable(table)))
    return concatenate_datasets(parts) if len(parts) > 1 else parts[0]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("dataset")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--batches", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--grouped", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = BertTokenizerFast.from_pretrained(f"{args.dataset}/tokenizer")
    mask = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)

    def collate(rows):
        features = [
            {
                "input_ids": row["input_ids"],
                "token_type_ids": [0] * row["b_start"] + [1] * (len(row["input_ids"]) - row["b_start"]),
                "next_sentence_label": row["next_sentence_label"],
            }
            for row in rows
        ]
        return mask(features)

    data = dataset_of(args.dataset)
    wall, core, padded, tokens_of = [], [], 0, 0
    for epoch in range(args.rounds):
        sampler, shuffled = None, data
        if args.grouped:
            offsets = data.data.table.column("input_ids").combine_chunks().offsets.to_numpy()
            lengths = (offsets[1:] - offsets[:-1]).tolist()
            generator = torch.Generator().manual_seed(epoch)
            sampler = LengthGroupedSampler(args.rows, dataset=data, lengths=lengths, generator=generator)
        else:
            shuffled = data.shuffle(seed=epoch)
        loader = iter(DataLoader(shuffled, batch_size=args.rows, sampler=sampler, collate_fn=collate))
        for _ in range(5):
            next(loader)
        tokens, places = 0, 0
        began, on_core = time.perf_counter(), time.thread_time()
        for _ in range(args.batches):
            batch = next(loader)
            tokens += int(batch["attention_mask"].sum())
            places += batch["input_ids"].numel()
        wall.append(tokens / (time.perf_counter() - began))
        core.append(tokens / (time.thread_time() - on_core))
        padded, tokens_of = padded + places, tokens_of + tokens
    print(json.dumps({
        "peer": "datasets + DataCollatorForLanguageModeling",
        "grouped": args.grouped,
        "rows": args.rows,
        "padding_share": 1 - tokens_of / padded,
        "tokens_per_core_second": round(max(core)),
        "tokens_per_second": round(max(wall)),
        "rounds": args.rounds,
    }))


if __name__ == "__main__":
    main()
