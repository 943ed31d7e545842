"""Preparation as transformers' run_mlm.py does it: `datasets.map` twice, to tokenize and to cut the ids into rows. No sentences, no pairs, no masks.

    run_mlm.py CORPUS.jsonl TOKENIZER_DIR WORK_DIR

`tokenizers` is called directly, which costs less than going through transformers, and gives the columns that run_mlm.py asks for. What is timed begins when everything is
imported. Prints a line of JSON.
"""

import itertools
import json
import os
import sys
import time

import datasets
import tokenizers

LENGTH = 128


def main():
    corpus, folder, work = sys.argv[1:]
    datasets.disable_progress_bars()
    clock, processor = time.perf_counter(), time.process_time()
    tokenizer = tokenizers.Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def tokenize(examples):
        encodings = tokenizer.encode_batch_fast(examples["text"])
        return {
            "input_ids": [e.ids for e in encodings],
            "token_type_ids": [e.type_ids for e in encodings],
            "attention_mask": [e.attention_mask for e in encodings],
            "special_tokens_mask": [e.special_tokens_mask for e in encodings],
        }

    def group(examples):
        joined = {name: list(itertools.chain(*column)) for name, column in examples.items()}
        whole = len(joined["input_ids"]) // LENGTH * LENGTH
        return {name: [values[i : i + LENGTH] for i in range(0, whole, LENGTH)] for name, values in joined.items()}

    data = datasets.load_dataset("json", data_files=corpus, split="train", cache_dir=work)
    data = data.map(tokenize, batched=True, remove_columns=data.column_names)
    data = data.map(group, batched=True)
    print(
        json.dumps(
            {
                "rows": len(data),
                "tokens": len(data) * LENGTH,
                "seconds": time.perf_counter() - clock,
                "processor_seconds": time.process_time() - processor,
            }
        )
    )


if __name__ == "__main__":
    main()
