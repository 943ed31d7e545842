"""Times training steps of Cloze and of PyTorch side by side, interleaved, on the same rows, and prints a Markdown table.

    python docs/bench/train_cpu.py DATASET [--models minilm,base] [--repeats 3]

Needs `cargo build --release -p cloze-train --example step_bench`, and a Python with torch, transformers and pyarrow. A figure is the median over repeats
of real tokens a second (padding is not counted), in brackets the lowest and the highest.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def last_json(command):
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--models", default="minilm,base")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    bench = str(ROOT / "target/release/examples/step_bench")
    for model in options.models.split(","):
        # About 2,500 real tokens a step for everybody: 32 rows.
        steps = "8" if model == "minilm" else "3"
        contenders = {}
        for dtype in ("f32", "bf16"):
            contenders["Cloze", dtype] = [bench, options.dataset, model, dtype, "native", "2560", steps]
            for form in ("tuned", "sorted", "plain"):
                contenders[f"PyTorch {form}", dtype] = [
                    sys.executable, str(HERE / "peers/pytorch_step.py"), options.dataset, "--model", model, "--form", form,
                    "--dtype", dtype, "--steps", steps if form != "plain" or model == "minilm" else "2",
                ]
        rates = {key: [] for key in contenders}
        for _ in range(options.repeats):
            for key, command in contenders.items():
                rates[key].append(last_json(command)["tokens_per_second"])
                print(model, *key, f"{rates[key][-1]:.0f}", file=sys.stderr, flush=True)
        print(f"\n| {model} | f32, tokens/s | Cloze is | bf16, tokens/s | Cloze is |\n|---|---|---|---|---|")
        for name in ("Cloze", "PyTorch tuned", "PyTorch sorted", "PyTorch plain"):
            cells = []
            for dtype in ("f32", "bf16"):
                values = rates[name, dtype]
                middle = statistics.median(values)
                ratio = statistics.median(rates["Cloze", dtype]) / middle
                cells += [f"{middle:,.0f} ({min(values):,.0f}–{max(values):,.0f})", "" if name == "Cloze" else f"{ratio:.2f}×"]
            print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
