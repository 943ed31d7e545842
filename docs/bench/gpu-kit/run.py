#!/usr/bin/env python3
"""Checks and measures the training step on this machine's GPU, beside PyTorch, and prints tables.

    python3 run.py                  everything, within BUDGET seconds (default 540)
    python3 run.py profile          what Nsight Compute says of each kernel of one step
    python3 run.py try [MODEL LENGTH TOKENS]...    the stages of a step of each, for tuning
    python3 run.py --device cpu     what can run without a GPU (to try this script)

Results: OUT/results.json and OUT/results.md (OUT: ./out). The exit status is 1 where a check failed or did not run.
Needs the driver, CUDA's libraries (PyTorch's packages have them) and a python3 with torch, transformers, pyarrow.
"""

import glob
import json
import os
import pathlib
import queue
import statistics
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
OUT = pathlib.Path(os.environ.get("OUT", HERE / "out"))
BUDGET = float(os.environ.get("BUDGET", "540"))
STARTED = time.monotonic()
SHAPES = {"tiny": (2, 128, 512), "minilm": (6, 384, 1536), "base": (12, 768, 3072), "large": (24, 1024, 4096)}


def left():
    return BUDGET - (time.monotonic() - STARTED)


def library_path():
    """Folders of CUDA's libraries in Python's packages: for our process alone, they slow PyTorch."""
    import sysconfig

    return ":".join(sorted(glob.glob(sysconfig.get_paths()["purelib"] + "/nvidia/*/lib")))


def environment(ours):
    env = dict(os.environ, PYTHONUNBUFFERED="1")
    if ours:
        env["CLOZE_CUDA_PATH"] = library_path()
        env["LD_LIBRARY_PATH"] = library_path() + ":" + env.get("LD_LIBRARY_PATH", "")
    return env


class Results:
    def __init__(self, expected=()):
        # What must have run: pairs of a check and a format.
        self.lines, self.missing, self.expected = [], [], list(expected)

    def add(self, line):
        self.lines.append(line)

    def of(self, check, **where):
        return [l for l in self.lines if l.get("check") == check and all(l.get(k) == v for k, v in where.items())]

    def lack(self, what, why):
        self.missing.append((what, why))
        print(f"not run: {what}: {why}", flush=True)


def run(results, what, command, seconds, ours=True, **extra):
    """Runs a command to its end and keeps its lines of JSON."""
    seconds = min(seconds, left())
    if seconds < 5:
        return results.lack(what, "no time left")
    print(f"[{left():4.0f} s left] {what}", flush=True)
    try:
        done = subprocess.run(command, env=environment(ours), capture_output=True, text=True, timeout=seconds)
        text, error, code = done.stdout, done.stderr, done.returncode
    except subprocess.TimeoutExpired as e:
        text, error, code = (e.stdout or b"").decode(), "took too long", 124
    except OSError as e:
        return results.lack(what, str(e))
    found = 0
    for line in text.splitlines():
        if line.startswith('{"'):
            results.add({**json.loads(line), **extra})
            found += 1
    if code not in (0, 1) or not found:
        results.lack(what, f"exit status {code}: {' | '.join(error.strip().splitlines()[-4:])}")


class Resident:
    """A process that measures one burst for each line it is given."""

    def __init__(self, name, command, ours):
        self.name, self.lines = name, queue.Queue()
        self.log = open(OUT / f"{name.replace(' ', '-')}.log", "w")
        self.process = subprocess.Popen(command, env=environment(ours), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            if line.startswith('{"'):
                self.lines.put(json.loads(line))
        self.lines.put(None)

    def wait(self, seconds):
        try:
            return self.lines.get(timeout=max(0.1, seconds))
        except queue.Empty:
            return None

    def burst(self, seconds):
        try:
            self.process.stdin.write("go\n")
            self.process.stdin.flush()
        except OSError:
            return None
        return self.wait(seconds)

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.log.close()


def flops(model, length, masked=0.15, vocab=30522):
    """Of a token, forward and backward: 6 L (4 H² + 2 H F) + 12 L s H + 6 r (H² + H V)."""
    layers, h, f = SHAPES[model]
    return 6 * layers * (4 * h * h + 2 * h * f) + 12 * layers * length * h + 6 * masked * (h * h + h * vocab)


def table(head, rows):
    rows = [[str(c) for c in row] for row in rows]
    wide = [max(len(r[i]) for r in [head, *rows]) for i in range(len(head))]
    line = lambda r: "| " + " | ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(r, wide))) + " |"
    return "\n".join([line(head), "|" + "|".join("-" * (w + 2) for w in wide) + "|", *map(line, rows)])


def name_of(line):
    return line.get("what") or line.get("case") or line["check"]


def shown(number):
    """JSON has no NaN: it is null."""
    return "not a number" if number is None else f"{number:.1e}"


def nearness(line):
    """How near a finding is to its tolerance; what must be exact and is not, and what is not a number, is beyond all."""
    error, tolerance = line["error"], line["tolerance"]
    if error is None:
        return float("inf")
    return error / tolerance if tolerance else (float("inf") if error else 0.0)


def report(results):
    """The text for people; and whether all is well."""
    text, well = [], True
    for line in results.of("device")[:1] + results.of("ceilings"):
        text.append(", ".join(f"{k} {v:.1f}" if isinstance(v, float) else str(v) for k, v in line.items() if k != "check"))
    rows = []
    for check, form in results.expected:
        lines = results.of(check, format=form)
        if not lines:
            well = False
            rows.append([check, form, 0, "NOT RUN", ""])
            continue
        wrong = [l for l in lines if not l["pass"]]
        worst = max(lines, key=nearness)
        well &= not wrong
        near = f"{name_of(worst)} {shown(worst['error'])} of {shown(worst['tolerance'])}"
        rows.append([check, form, len(lines), f"FAIL {len(wrong)}" if wrong else "ok", near])
        for l in wrong[:6]:
            rows.append([f"  {name_of(l)}", form, "", "FAIL", f"{shown(l['error'])} of {shown(l['tolerance'])}"])
    if rows:
        text += ["", table(["correctness", "format", "checks", "", "nearest to its tolerance"], rows)]
    ceiling = (results.of("ceilings") or [{}])[0].get("tflops")
    rows = []
    for s in results.of("step"):
        rate = s["tokens_per_second"]
        share = f"{100 * rate * flops(s['model'], s['length'], s['masked'] / s['tokens']) / ceiling / 1e12:.0f} %" if ceiling else ""
        rows.append([f"{s['model']} {s['length']}", s["format"], s["tokens"], f"{s['step_ms']:.2f}", f"{s['least_ms']:.2f}–{s['most_ms']:.2f}", f"{s['sum_of_stages_ms']:.2f}", f"{rate / 1e3:,.0f} k", share, f"{s['peak_bytes'] / 2**30:.1f}"])
    if rows:
        text += ["", table(["full rows", "format", "tokens", "ms a step", "spread", "sum of stages", "tokens/s", "of the product's rate", "GiB"], rows)]
    for s in results.of("step"):
        stages = sorted(results.of("stage", run=s.get("run")), key=lambda l: -l["ms"])[:18]
        rows = [[l["stage"], l["calls"], f"{l['ms']:.3f}", f"{100 * l['ms'] / s['sum_of_stages_ms']:.1f} %"] for l in stages]
        text += ["", table([f"stages of {s['model']} {s['length']}", "calls", "ms", ""], rows)]
    peers = {}
    for l in results.of("throughput"):
        peers.setdefault(l["who"], []).append(l)
    if peers:
        median = {who: statistics.median(l["tokens_per_second"] for l in lines) for who, lines in peers.items()}
        rows = []
        for who, lines in peers.items():
            speeds = [l["tokens_per_second"] for l in lines]
            wait = [l["data_wait_fraction"] for l in lines if "data_wait_fraction" in l]
            model = who.split()[-1]
            ours = median.get(f"cloze {model}")
            peak = max((l.get("peak_bytes") or 0) for l in lines)
            rows.append([who, len(lines), f"{median[who] / 1e3:,.1f} k", f"{min(speeds) / 1e3:,.1f}–{max(speeds) / 1e3:,.1f}", f"{ours / median[who]:.2f}" if ours else "", f"{100 * statistics.median(wait):.2f} %" if wait else "", f"{peak / 2**30:.1f}" if peak else ""])
        text += ["", table(["real rows", "bursts", "tokens/s", "spread", "cloze is … times", "waits for data", "GiB"], rows)]
    for what, why in results.missing:
        text += ["", f"not run: {what}: {why}"]
    return "\n".join(text) + "\n", well and not results.missing


def finish(results):
    text, well = report(results)
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "results.json").write_text(json.dumps({"lines": results.lines, "missing": results.missing}, indent=0))
    (OUT / "results.md").write_text(text)
    print("\n" + text)
    return 0 if well else 1


def stages(results, gpu, device, model, length, tokens, seconds=60):
    name = f"{model} {length}"
    run(results, f"stages of {name}", [gpu, "stages", "--device", device, "--model", model, "--length", str(length), "--tokens", str(tokens)], seconds, run=name)


def everything(device):
    on_gpu = device == "cuda"
    # The CPU keeps activations in single precision: its operations have one format.
    expected = [(check, form) for check in ("kernel", "gradients", "curve") for form in ("f32", "bf16")]
    results = Results([e for e in expected if on_gpu or e != ("kernel", "bf16")])
    OUT.mkdir(parents=True, exist_ok=True)
    gpu, python = str(HERE / "cloze-gpu"), sys.executable
    if not os.access(gpu, os.X_OK):
        results.lack("cloze-gpu", "it was not built")
    model, tokens, seconds = ("base", 65536, 4) if on_gpu else ("tiny", 1024, 1)
    ours = lambda model, data: Resident(f"cloze {model}", [gpu, "throughput", "--device", device, "--model", model, "--tokens", str(tokens), "--dataset", str(HERE / data), "--seconds", str(seconds)], True)
    peer = lambda form: Resident(f"{form} {model}", [python, str(HERE / "peers/pytorch_gpu.py"), str(HERE / "data128"), "--form", form, "--model", model, "--tokens", str(tokens), "--seconds", str(seconds), "--device", device], False)
    if on_gpu:
        run(results, "the machine's ceilings", [python, str(HERE / "peers/pytorch_gpu.py"), str(HERE / "data128"), "--form", "ceilings"], 90, ours=False)
    run(results, "the device", [gpu, "describe", "--device", device], 30)
    if not results.of("device"):
        # Nothing that follows could be more than another way to say so.
        return finish(results)
    # They compile while what is not timed is checked.
    residents = []
    try:
        peers = [peer(form) for form in ("tuned", "compiled", "trainer")]
        residents += peers
        for form in ("f32", "bf16"):
            if ("kernel", form) in results.expected:
                run(results, f"kernels in {form}", [gpu, "kernels", "--device", device, "--format", form], 60)
            run(results, f"gradients in {form}", [gpu, "gradients", "--device", device, "--format", form, "--golden", str(HERE / "golden")], 40)
            curve = HERE / "curve.safetensors"
            if curve.exists():
                run(results, f"loss curve in {form}", [gpu, "curve", "--device", device, "--format", form, "--golden", str(curve)], 60)
            else:
                results.lack("loss curve", "curve.safetensors was not made: give xtask a Python with torch")
        ready = []
        for r in peers:
            line = r.wait(min(150, left() - 200))
            if line and line.get("check") == "ready":
                ready.append(r)
            else:
                r.stop()
                results.lack(r.name, f"was not ready in time: see {r.name.replace(' ', '-')}.log")
        own = ours(model, "data128")
        residents.append(own)
        if (own.wait(60) or {}).get("check") == "ready":
            ready.insert(0, own)
        else:
            results.lack(own.name, "was not ready in time")
        for round_ in range(4):
            for r in ready:
                if left() < 120:
                    break
                line = r.burst(60)
                if line:
                    results.add({**line, "who": r.name, "round": round_})
                else:
                    results.lack(r.name, "gave no burst")
        for r in residents:
            r.stop()
        residents = []
        if on_gpu:
            for m, length in (("base", 128), ("minilm", 128), ("base", 512), ("large", 512)):
                stages(results, gpu, device, m, length, 65536 if m != "large" else 32768)
            run(results, "algorithms of products", [gpu, "products", "--model", "base"], 40)
            for m, data in (("minilm", "data128"), ("base", "data512")):
                if left() > 40:
                    run(results, f"real rows, {m} on {data}", [gpu, "throughput", "--model", m, "--dataset", str(HERE / data), "--seconds", "4", "--bursts", "2"], 40, who=f"cloze {m} {data}")
    finally:
        for r in residents:
            r.stop()
    return finish(results)


def profile():
    OUT.mkdir(parents=True, exist_ok=True)
    gpu = str(HERE / "cloze-gpu")
    command = ["ncu", "--clock-control", "none", "--set", "basic", "--csv", "--log-file", str(OUT / "ncu.csv"), "--launch-skip", "900", "--launch-count", "420",
               gpu, "stages", "--model", "base", "--tokens", "65536"]
    return subprocess.run(command, env=environment(True)).returncode


def main():
    words = sys.argv[1:]
    rest = words[1:]
    shapes = [rest[i : i + 3] for i in range(0, len(rest), 3)]
    if words == ["profile"]:
        return profile()
    if words[:1] == ["try"] and all(len(s) == 3 and s[0] in SHAPES and s[1].isdigit() and s[2].isdigit() for s in shapes):
        results = Results()
        for model, length, tokens in shapes or [("base", "128", "65536")]:
            stages(results, str(HERE / "cloze-gpu"), "cuda", model, int(length), int(tokens))
        return finish(results)
    if words in ([], ["--device", "cpu"], ["--device", "cuda"]):
        return everything((words or ["cuda"])[-1])
    asked = words in (["--help"], ["-h"])
    print(__doc__, file=sys.stdout if asked else sys.stderr)
    if not asked:
        print(f"not understood: {' '.join(words)}; models: {', '.join(SHAPES)}", file=sys.stderr)
    return 0 if asked else 2


if __name__ == "__main__":
    sys.exit(main())
