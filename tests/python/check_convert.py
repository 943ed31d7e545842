#!/usr/bin/env python3
"""What `cloze convert` writes, read by pyarrow and, where they are installed, DuckDB, polars and `datasets`; trained on by transformers' Trainer; and what it imports.

    check_convert.py CLOZE CORPUS WORK_DIR

Parquet holds the columns of the Arrow shards, type for type. What is made for transformers equals what is written out here, batches of transformers' own collators too.
LDDL's Parquet (written by pyarrow) and TFRecord (by google.protobuf and TensorBoard's writer) come back as the rows that they were made from.
"""
import importlib.util
import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

MASKS = ("masked_lm_positions", "masked_lm_labels")


def cloze(*words):
    subprocess.run([sys.argv[1], *map(str, words)], check=True, stdout=subprocess.DEVNULL)


def there(name):
    if importlib.util.find_spec(name) is None:
        print(f"  skipped: {name} is not installed")
        return False
    return True


def shards(data, split, kind="arrow"):
    return sorted((data / split).glob(f"part-*.{kind}"))


def arrow(data, split="train"):
    return pa.concat_tables(pa.ipc.open_file(p).read_all() for p in shards(data, split))


def plain(kind):
    """A type without the names of its lists' items, which libraries choose themselves."""
    return ("list", plain(kind.value_type)) if pa.types.is_list(kind) else str(kind)


def check_parquet(data, folder):
    for split in ("train", "validation"):
        for path in shards(data, split):
            table = pa.ipc.open_file(path).read_all()
            other = folder / split / f"{path.stem}.parquet"
            found = pq.read_table(other)
            assert [(f.name, plain(f.type), f.nullable) for f in table.schema] == [(f.name, plain(f.type), f.nullable) for f in found.schema], found.schema
            assert table.to_pydict() == found.to_pydict(), other
            meta = pq.read_metadata(other)
            assert json.loads(meta.metadata[b"cloze"])["max_seq_length"] == 64
            for i in range(meta.num_columns):
                column = meta.row_group(0).column(i)
                tokens = column.path_in_schema.startswith(("input_ids", "masked_lm"))
                assert column.compression == "ZSTD" and ("BYTE_STREAM_SPLIT" in column.encodings) == tokens, column
                assert (column.statistics is None) == tokens, column
    documents = pa.ipc.open_file(data / "documents.arrow").read_all()
    assert documents.to_pydict() == pq.read_table(folder / "documents.parquet").to_pydict()
    table = arrow(data)
    rows, tokens = len(table), sum(map(len, table["input_ids"].to_pylist()))
    ones, ids = table["next_sentence_label"].to_pylist().count(1), sum(map(sum, table["input_ids"].to_pylist()))
    print(f"pyarrow: {rows} rows, {tokens} tokens")
    glob = str(folder / "train" / "*.parquet")
    if there("duckdb"):
        import duckdb
        query = "select count(*), sum(len(input_ids)), sum(list_sum(input_ids)), count(*) filter (next_sentence_label = 1) from read_parquet(?)"
        assert duckdb.execute(query, [glob]).fetchone() == (rows, tokens, ids, ones)
        kinds = dict(r[:2] for r in duckdb.execute("describe select * from read_parquet(?)", [glob]).fetchall())
        assert kinds["input_ids"] == "USMALLINT[]" and kinds["doc_a"] == "BIGINT", kinds
        print("  duckdb: the same")
    if there("polars"):
        import polars as pl
        frame = pl.scan_parquet(glob).sort("doc_a", "sentence_a", "sentence_b", maintain_order=True).collect()
        assert (len(frame), frame["input_ids"].list.len().sum(), frame["input_ids"].list.eval(pl.element().cast(pl.Int64)).list.sum().sum()) == (rows, tokens, ids)
        assert frame.schema["input_ids"] == pl.List(pl.UInt16) and frame["next_sentence_label"].null_count() == table["next_sentence_label"].null_count
        print("  polars: the same")
    if there("datasets"):
        loaded = load(folder)
        assert set(loaded) == {"train", "validation"} and loaded["train"].column_names == table.column_names, loaded
        assert loaded["train"].features["input_ids"].feature.dtype == "uint16"
        for split in loaded:
            assert loaded[split].data.table.to_pydict() == arrow(data, split).to_pydict()
        print("  datasets: the same, with both splits")


def load(folder):
    import datasets
    datasets.disable_progress_bars()
    return datasets.load_dataset(str(folder), cache_dir=str(folder.parent / "cache"))


def expected(row, length=None):
    """A row for BertForPreTraining, written out."""
    n = len(row["input_ids"])
    fill = (length or n) - n
    out = {"input_ids": row["input_ids"] + [0] * fill, "token_type_ids": [int(row["b_start"] <= i < n) for i in range(n + fill)],
           "attention_mask": [1] * n + [0] * fill,
           "next_sentence_label": -100 if row["next_sentence_label"] is None else row["next_sentence_label"]}
    if MASKS[0] in row:
        labels = dict(zip(row[MASKS[0]], row[MASKS[1]]))
        out["labels"] = [labels.get(i, -100) for i in range(n + fill)]
    return out


def train(name, dataset, tokenizer, collator, work):
    import torch
    from transformers import BertConfig, BertForPreTraining, Trainer, TrainingArguments
    torch.manual_seed(1)
    config = BertConfig(vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, max_position_embeddings=64)
    arguments = TrainingArguments(str(work / "trainer"), max_steps=15, per_device_train_batch_size=16, learning_rate=3e-3, logging_steps=5, save_strategy="no",
                                  report_to=[], use_cpu=True, disable_tqdm=True)
    trainer = Trainer(BertForPreTraining(config), arguments, train_dataset=dataset, data_collator=collator)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert all(np.isfinite(losses)) and losses[-1] < losses[0] - 0.2, losses
    print(f"  Trainer, {name}: loss {losses[0]:.2f}, after 15 steps {losses[-1]:.2f}")


def check_transformers(data, work, static):
    import torch
    from transformers import AutoTokenizer, DataCollatorForLanguageModeling, DataCollatorForTokenClassification, default_data_collator
    rows = arrow(data).to_pylist()
    nothing = sum(r["next_sentence_label"] is None for r in rows)
    assert nothing > 0, "rows without a label belong to the test"
    for pad in ([], ["--pad"]):
        folder = work / f"transformers-{data.name}{'-padded' if pad else ''}"
        cloze("convert", data, folder, "--to", "transformers", *pad)
        cloze("verify", folder)
        wanted = [expected(row, 64 if pad else None) for row in rows]
        found = pa.concat_tables(pq.read_table(p) for p in shards(folder, "train", "parquet")).to_pylist()
        assert found == wanted
        print(f"for transformers, {folder.name}: {len(found)} rows, as they should be")
        if not there("datasets"):
            continue
        dataset, tokenizer = load(folder)["train"], AutoTokenizer.from_pretrained(folder / "tokenizer")
        if static:
            collator = default_data_collator if pad else DataCollatorForTokenClassification(tokenizer)
        else:
            collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
        # Rows with a label and without.
        some = [i for i, row in enumerate(rows) if row["next_sentence_label"] is None][:3] + [0, 1, 2]
        batch = collator([dataset[i] for i in some])
        length = batch["input_ids"].shape[1]
        for name, value in batch.items():
            if static or name not in ("input_ids", "labels"):
                right = torch.tensor([expected(rows[i], length if name != "next_sentence_label" else None)[name] for i in some])
                assert value.dtype == torch.int64 and torch.equal(value, right), name
        assert set(batch) == {"input_ids", "token_type_ids", "attention_mask", "labels", "next_sentence_label"}
        if not static:
            ids = torch.tensor([expected(rows[i], length)["input_ids"] for i in some])
            masked = batch["labels"] != -100
            special = torch.isin(ids, torch.tensor(tokenizer.all_special_ids)) & (ids != tokenizer.unk_token_id)
            assert masked.any() and torch.equal(batch["labels"][masked], ids[masked]) and not (masked & special).any()
        train(getattr(collator, "__name__", type(collator).__name__), dataset, tokenizer, collator, work)


def words_of(tokenizer):
    return (tokenizer / "vocab.txt").read_text(encoding="utf-8").splitlines()


def same_rows(name, data, imported, columns):
    cloze("verify", imported)
    ours, theirs = arrow(imported).select(columns).to_pydict(), arrow(data).select(columns).to_pydict()
    assert ours == theirs, name
    print(f"import of {name}: {len(ours['b_start'])} rows, as they were")


def check_lddl(data, tokenizer, work, static):
    import io
    words = words_of(tokenizer)
    text = lambda ids: " ".join(words[i] for i in ids)

    def positions(row):
        file = io.BytesIO()
        np.save(file, np.asarray(row[MASKS[0]], dtype=np.uint16))
        return file.getvalue()

    folder = work / f"lddl-{data.name}"
    folder.mkdir()
    for number, path in enumerate(shards(data, "train")):
        rows = pa.ipc.open_file(path).read_all().to_pylist()
        table = {"A": pa.array([text(r["input_ids"][1:r["b_start"] - 1]) for r in rows], pa.large_string()),
                 "B": pa.array([text(r["input_ids"][r["b_start"]:-1]) for r in rows], pa.large_string()),
                 "is_random_next": [r["next_sentence_label"] == 1 for r in rows],
                 "num_tokens": pa.array([len(r["input_ids"]) for r in rows], pa.uint16())}
        if static:
            table[MASKS[0]] = pa.array([positions(r) for r in rows], pa.binary())
            table[MASKS[1]] = pa.array([text(r[MASKS[1]]) for r in rows])
        pq.write_table(pa.table(table), folder / f"shard-{number:03}.parquet")
    cloze("convert", "--from", "lddl", folder, work / f"from-{folder.name}", "--tokenizer", tokenizer)
    columns = ["input_ids", "b_start", "next_sentence_label", *(MASKS if static else ())]
    same_rows(folder.name, data, work / f"from-{folder.name}", columns)


def example_class():
    """tf.train.Example, made by google.protobuf from its definition."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="check", syntax="proto3")

    def message(name, *fields):
        kind = file.message_type.add(name=name)
        for number, (field, type_, of) in enumerate(fields, 1):
            repeated = of == "repeated" or name in ("Int64List", "FloatList", "BytesList")
            kind.field.add(name=field, number=number, type=type_, type_name=of if of and of != "repeated" else None, label=3 if repeated else 1)
        return kind

    message("BytesList", ("value", 12, None))
    message("FloatList", ("value", 2, None))
    message("Int64List", ("value", 3, None))
    feature = message("Feature", ("bytes_list", 11, ".check.BytesList"), ("float_list", 11, ".check.FloatList"), ("int64_list", 11, ".check.Int64List"))
    feature.oneof_decl.add(name="kind")
    for field in feature.field:
        field.oneof_index = 0
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=9, label=1)
    entry.field.add(name="value", number=2, type=11, type_name=".check.Feature", label=1)
    features.field.add(name="feature", number=1, type=11, type_name=".check.Features.FeatureEntry", label=3)
    message("Example", ("features", 11, ".check.Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("check.Example"))


def check_tfrecord(data, tokenizer, work):
    if not (there("tensorboard") and there("google.protobuf")):
        return
    import gzip
    from tensorboard.summary.writer.record_writer import RecordWriter
    Example, names = example_class(), []
    for number, path in enumerate(shards(data, "train")):
        name = work / f"{number}.tfrecord{'.gz' if number % 2 else ''}"
        with (gzip.open(name, "wb") if number % 2 else open(name, "wb")) as file:
            writer = RecordWriter(file)
            for row in pa.ipc.open_file(path).read_all().to_pylist():
                row_, predictions = expected(row, 64), len(row[MASKS[0]])
                ints = {"input_ids": row_["input_ids"], "input_mask": row_["attention_mask"], "segment_ids": row_["token_type_ids"],
                        "masked_lm_positions": row[MASKS[0]] + [0] * (20 - predictions), "masked_lm_ids": row[MASKS[1]] + [0] * (20 - predictions),
                        "next_sentence_labels": [max(row_["next_sentence_label"], 0)]}
                example = Example()
                for key, values in ints.items():
                    example.features.feature[key].int64_list.value.extend(values)
                example.features.feature["masked_lm_weights"].float_list.value.extend([1.0] * predictions + [0.0] * (20 - predictions))
                writer.write(example.SerializeToString())
            writer.flush()
        names.append(name)
    cloze("convert", "--from", "tfrecord", *names, work / "from-tfrecord", "--tokenizer", tokenizer)
    same_rows("TFRecord, plain and gzip", data, work / "from-tfrecord", ["input_ids", "b_start", "next_sentence_label", *MASKS])


def main():
    corpus, work = pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    tokenizer, lone = work / "tokenizer", work / "lone.jsonl"
    lone.write_text("".join(json.dumps({"text": f"Number {i} stands alone"}) + "\n" for i in range(200)))
    cloze("vocab", "train", corpus, "--vocab-size", 2000, "--out", tokenizer)
    for name, options in (("static", ["--masking", "static"]), ("dynamic", [])):
        data, static = work / name, name == "static"
        cloze("prepare", corpus, lone, "--tokenizer", tokenizer, "--seq-len", 64, "--shard-rows", 1000, "--validation-fraction", 0.05, "--out", data, *options)
        cloze("convert", data, work / f"{name}-parquet", "--to", "parquet")
        check_parquet(data, work / f"{name}-parquet")
        check_transformers(data, work, static)
        check_lddl(data, tokenizer, work, static)
        if static:
            check_tfrecord(data, tokenizer, work)


if __name__ == "__main__":
    main()
