#!/usr/bin/env python3
"""Read a run's event files with TensorBoard: they must say what the run's train.jsonl says.

    check_tensorboard.py RUN

A tag is the kind of a line and a field of it: train/loss, validation/mlm_loss. Each curve that is there must have a point for
every line of its kind in which the field is not null, at its step, in single precision, and no other. A resumed run, which
makes steps again, has each of them once.
"""
import json
import pathlib
import struct
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

NEEDED = {"train/loss", "train/learning_rate"}


def single(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def logged(run):
    """The curves of train.jsonl: (step, value) by tag."""
    curves = {}
    with open(run / "train.jsonl", encoding="utf-8") as lines:
        for line in map(json.loads, lines):
            for field, value in line.items():
                if isinstance(value, (int, float)) and field != "step":
                    curves.setdefault(f"{line['kind']}/{field}", []).append((line["step"], single(value)))
    return curves


def main():
    run = pathlib.Path(sys.argv[1])
    files = sorted(path.name for path in (run / "tensorboard").iterdir())
    assert files and all("tfevents" in name for name in files), files
    # 0: all points, not a sample of them.
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    assert events.file_version == 2, events.file_version
    expected, tags = logged(run), set(events.Tags()["scalars"])
    assert NEEDED <= tags, (NEEDED - tags, "not written")
    assert tags <= set(expected), (tags - set(expected), "not in train.jsonl")
    points = 0
    for tag in sorted(tags):
        read = events.Scalars(tag)
        found = [(point.step, point.value) for point in read]
        assert found == expected[tag], (tag, found, expected[tag])
        times = [point.wall_time for point in read]
        assert all(time > 1e9 for time in times) and times == sorted(times), (tag, times)
        points += len(found)
    print(f"{len(files)} event files, {len(tags)} curves, {points} points: what TensorBoard reads is what train.jsonl says")


if __name__ == "__main__":
    main()
