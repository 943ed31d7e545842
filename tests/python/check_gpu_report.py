#!/usr/bin/env python3
"""The report of the GPU kit: what fails, or did not run, is never a pass.

    python tests/python/check_gpu_report.py
"""
import importlib.util
import pathlib

KIT = pathlib.Path(__file__).resolve().parents[2] / "docs/bench/gpu-kit/run.py"


def load():
    spec = importlib.util.spec_from_file_location("run", KIT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main():
    run = load()
    good = {"check": "kernel", "format": "f32", "what": "norm", "error": 1e-7, "tolerance": 1e-6, "pass": True}
    results = run.Results([("kernel", "f32")])
    assert run.report(results)[1] is False, "nothing ran"
    results.add(good)
    text, well = run.report(results)
    assert well and "ok" in text, text
    results.add({**good, "what": "a gradient", "error": None, "pass": False})
    text, well = run.report(results)
    assert not well and "FAIL 1" in text and "a gradient" in text and "not a number" in text, text
    results.lines.pop()
    results.lack("the curve", "took too long")
    text, well = run.report(results)
    assert not well and "not run: the curve: took too long" in text, text
    throughput = {"check": "throughput", "tokens_per_second": 2000.0, "who": "cloze base"}
    for who, speed in (("cloze base", 3000.0), ("cloze base", 1000.0), ("tuned base", 500.0)):
        results.add({**throughput, "who": who, "tokens_per_second": speed})
    text, _ = run.report(results)
    assert "2.0 k" in text and "4.00" in text, text
    # BERT-base, a token of 128 with 15 % predicted: 545 million.
    assert abs(run.flops("base", 128) / 1e6 - 545) < 3, run.flops("base", 128)
    print("the report says what failed and what did not run")


if __name__ == "__main__":
    main()
