"""Whether ways that are fast are right: ids of tokenizers, and cases of sentences."""

import json

from .measure import Failed, last_json, run
from .ways import ROOT

GOLDEN = ROOT / "crates/cloze-sentences/tests/fixtures/golden/en.txt"
REFERENCE = "tokenizers"
# Of slow ways only each so many documents are compared.
EVERY = {"tokenizers (Python)": 16}


def output(way, corpus, path, every, cores):
    command = [*way.command, "--every", every, 0, "--out", path]
    run(command, cores[-1:], way.environment)


def same_ids(reference, ways, corpus, every, cores, say):
    """For each way: how many documents were compared, and how many have the ids that the reference gives."""
    ways = {way.name: way for way in ways if way.kind == "tokenize documents" and way.name != REFERENCE}
    if not reference or not ways:
        return {}
    found = {}
    expected, other = corpus.work / "expected.txt", corpus.work / "ids.txt"
    output(reference, corpus, expected, every, cores)
    for name, way in ways.items():
        each = max(every, EVERY.get(name, 1))
        output(way, corpus, other, each, cores)
        compared = equal = 0
        with open(expected) as right, open(other) as left:
            for number, line in enumerate(right):
                if number % (each // every) == 0:
                    compared += 1
                    equal += line == left.readline()
        found[name] = {"documents": compared, "equal": equal}
        say(f"{name}: {equal} of {compared} documents have the same ids")
    return found


def sentences_found(ways, corpus, cores):
    """How many sentences each segmenter finds in the same half megabyte of the corpus."""
    every = max(1, round(corpus.bytes / 0.5e6))
    found = {}
    for way in ways:
        if way.kind == "sentences":
            told = last_json(run([*way.command, "--every", every, 0], cores[-1:])["printed"])
            found[way.name] = {"bytes": told["bytes"], "sentences": told["count"]}
    return found


def cases():
    """(group, text, sentences) of the groups that segmenters are commonly asked for."""
    group, found = "", []
    for line in GOLDEN.read_text(encoding="utf-8").splitlines():
        sign, rest = line[:2], line[2:].replace("\\n", "\n")
        if sign == "==":
            group = line[3:]
        elif sign == "> ":
            found.append((group, rest, []))
        elif sign == "| ":
            found[-1][2].append(rest)
    return [case for case in found if not case[0].startswith("besides:")]


def golden(ways, corpus, cores):
    """For each segmenter: of how many groups every case is right."""
    all_cases = cases()
    texts, out = corpus.work / "golden.bin", corpus.work / "golden.txt"
    texts.write_text("\0".join(text for _, text, _ in all_cases), encoding="utf-8", newline="")
    groups = {group for group, _, _ in all_cases}
    found = {}
    for way in ways:
        if way.kind != "sentences":
            continue
        command = [texts if word == corpus.files["documents"] else word for word in way.command]
        try:
            run([*command, "--out", out], cores[-1:])
        except Failed:
            continue
        answers = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]

        def same(one, other):
            # Some ways write white space within a sentence anew.
            return [" ".join(s.split()) for s in one] == [" ".join(s.split()) for s in other]

        wrong = {group for (group, _, right), answer in zip(all_cases, answers) if not same(right, answer)}
        held = [same(right, answer) for (_, _, right), answer in zip(all_cases, answers)]
        found[way.name] = {"groups": len(groups), "held": len(groups) - len(wrong), "cases": len(held), "cases_held": sum(held)}
    return found
