"""Tables of the results, between the marks of the page."""

import pathlib
import re
import statistics

HERE = pathlib.Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- measured: written by prepare.py -->", "<!-- end of what prepare.py writes -->"
REFERENCE = "tokenizers (Python)"


class Figures:
    """Rates of the ways, in megabytes of text a second; and ratios, round by round."""

    def __init__(self, results):
        self.results = results
        self.ways = {way["key"]: way for way in results["ways"]}
        self.rates, self.runs = {}, {}
        for run in results["runs"]:
            way = self.ways[run["key"]]
            # On one core what counts is the time on it; on two, the clock.
            seconds = run["processor_seconds"] if way["cores"] == 1 else run["seconds"]
            self.rates.setdefault(run["key"], {})[run["round"]] = run["bytes"] / 1e6 / seconds
            self.runs.setdefault(run["key"], []).append(run)

    def of(self, kind):
        """The ways of a kind that ran, the fastest first; from text to rows, as they come: there, not all do the same."""
        keys = [key for key, way in self.ways.items() if way["kind"] == kind and key in self.rates]
        return keys if kind == "prepare" else sorted(keys, key=lambda key: -self.median(key))

    def median(self, key):
        return statistics.median(self.rates[key].values())

    def ratio(self, key, other):
        """How many times as fast one is as another: the median over rounds that both ran in."""
        pairs = [(rate, self.rates[other].get(number)) for number, rate in self.rates[key].items()]
        return statistics.median(rate / theirs for rate, theirs in pairs if theirs)

    def best(self, kind):
        """Cloze's fastest."""
        return next((key for key in self.of(kind) if self.ways[key]["ours"]), None)

    def exact(self, key):
        """Whether a tokenizer gives the ids of `tokenizers`; None where nobody looked."""
        name = self.ways[key]["name"]
        if name == "tokenizers":
            return True
        ids = self.results.get("ids", {}).get(name)
        return ids and ids["equal"] == ids["documents"]

    def rival(self, kind):
        """The fastest peer, of tokenizers the fastest that is exact."""
        peers = [key for key in self.of(kind) if not self.ways[key]["ours"]]
        if kind.startswith("tokenize"):
            of_documents = {self.ways[key]["name"]: self.exact(key) for key in peers}
            peers = [key for key in peers if of_documents[self.ways[key]["name"]]]
        return peers[0] if peers else None

    def spread(self, key):
        rates = self.rates[key].values()
        middle = self.median(key)
        return f"{number(middle)} ({number(min(rates))}–{number(max(rates))})"

    def times(self, best, key):
        """How many times as fast `best` is, for a cell."""
        if not best or best == key:
            return ""
        ratio = self.ratio(best, key)
        return f"{ratio:.2f}×" if ratio < 10 else f"{ratio:,.0f}×"


def number(value):
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def percent(share):
    return f"{100 * share:.0f} %"


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def conditions(figures):
    results = figures.results
    machine, load, corpus = results["machine"], results["load"], results["corpus"]
    pinned = [run["process"] for run in results["runs"] if figures.ways[run["key"]]["cores"] == 1]
    got = statistics.median(run["processor_seconds"] / run["seconds"] for run in pinned)
    model = f" (family/model {machine['family_model']})" if machine["family_model"] else ""
    text = (
        f"Date: {results['date']}. Processor: {machine['processor']}{model}, {machine['cores']} cores, {' '.join(machine['instruction_sets']) or 'no vector sets of note'}; "
        f"{machine['memory_bytes'] / 2**30:.0f} GiB of memory. {machine['system']}, {machine['rust'].split(' (')[0]}, Python {machine['python']}.\n\n"
        f"Corpus: {corpus['name']}, {corpus['documents']:,} documents, {corpus['bytes'] / 1e6:.1f} MB of text"
        + (f" ({corpus['with_special_tokens']} that spell out a special token are in the last table only)" if corpus["with_special_tokens"] else "")
        + f". Tokenizer: {results['tokenizer']}.\n\n"
        f"Load: others took {percent(load['others'])} of the processors during the {load['seconds'] / 60:.0f} minutes of the run, the machine that this one runs on {percent(load['stolen'])}; the load average before it "
        f"was {load['load_average_before']:.2f}; a process that was pinned to a core had it {percent(got)} of the time (median).\n\n"
        f"    {results['command']}"
    )
    return text


def tokenizers_table(figures):
    documents, sentences = "tokenize documents", "tokenize sentences"
    best = {kind: figures.best(kind) for kind in (documents, sentences)}
    rows = []
    for key in figures.of(documents):
        way = figures.ways[key]
        other = f"{sentences}: {way['name']}"
        ids = figures.results.get("ids", {}).get(way["name"])
        said = "reference" if way["name"] == "tokenizers" else "not compared"
        if ids:
            equal = ids["equal"] == ids["documents"]
            said = f"all the same ({ids['documents']:,} documents)" if equal else f"**{ids['documents'] - ids['equal']:,} of {ids['documents']:,} documents differ**"
        row = [way["shown"], figures.spread(key), figures.times(best[documents], key)]
        row += [figures.spread(other), figures.times(best[sentences], other)] if other in figures.rates else ["", ""]
        rows.append([*row, said])
    return table(["tokenizer", "documents, MB/s", "Cloze is", "sentences, MB/s", "Cloze is", "ids"], rows)


def sentences_table(figures):
    best = figures.best("sentences")
    rows = []
    for key in figures.of("sentences"):
        way = figures.ways[key]
        found = figures.results.get("sentences", {}).get(way["name"])
        count = f"{found['sentences']:,}" if found else ""
        golden = figures.results.get("golden", {}).get(way["name"])
        held = f"{golden['held']} of {golden['groups']}" if golden else ""
        rows.append([way["shown"], figures.spread(key), figures.times(best, key), count, held])
    return table(["segmenter", "MB/s", "Cloze is", "sentences in the same half MB", "groups of English cases that hold"], rows)


def prepare_table(figures):
    base = "prepare: cloze plain, one duplicate, one core"
    rows = []
    for key in figures.of("prepare"):
        way, runs = figures.ways[key], figures.runs[key]
        middle = lambda name: statistics.median(run["process"][name] for run in runs)
        took = statistics.median(run["bytes"] for run in runs) / 1e6
        twice = "duplicates" in way["name"]
        # Two duplicates are other work than one: each is compared with its like.
        like = base.replace("one duplicate", "two duplicates") if twice else base
        compared = figures.times(like, key) if not way["ours"] and like in figures.rates else ""
        memory = f"{middle('peak_bytes') / 2**20:,.0f} / {middle('anonymous_bytes') / 2**20:,.0f}"
        clock = statistics.median(run["bytes"] / 1e6 / run["seconds"] for run in runs)
        rows.append([way["shown"], figures.spread(key) if way["cores"] == 1 else "", compared, number(clock), f"{took:,.1f} MB", memory])
    return table(["from text to rows", "MB a processor second", "Cloze is", "MB/s by the clock", "text", "memory, MiB: all / anonymous"], rows)


def cores_table(figures):
    """What a second core is worth; nothing where nobody looked."""
    rows = []
    for form in dict.fromkeys(took["form"] for took in figures.results.get("cores", [])):
        of = [took for took in figures.results["cores"] if took["form"] == form]
        of_ratios = lambda ratios: f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
        one, two = (statistics.median(took[name] for took in of) for name in ("one", "two"))
        by_two = [took["one"] / took["two"] for took in of]
        by_apart = [2 * took["one"] / took["apart"] for took in of]
        rows.append([form, f"{one:.2f}", f"{two:.2f}", of_ratios(by_two), of_ratios(by_apart), len(of)])
    head = ["text", "one core, s", "two cores, s", "two cores are", "two processes that share nothing do", "rounds"]
    return rows and table(head, rows)


def headline(figures):
    """The ratios that people ask for, in sentences."""
    lines = []
    for kind, what in (("tokenize documents", "tokenizes documents"), ("tokenize sentences", "tokenizes sentences")):
        best, rival, base = figures.best(kind), figures.rival(kind), f"{kind}: {REFERENCE}"
        if best and rival:
            line = f"Cloze {what} {figures.ratio(best, rival):.1f} times as fast as the fastest exact peer ({figures.ways[rival]['shown']})"
            if base in figures.rates:
                line += f", and {figures.ratio(best, base):,.0f} times as fast as `tokenizers` in Python"
            lines.append(f"- {line}.")
    best, rival = figures.best("sentences"), figures.rival("sentences")
    if best and rival:
        lines.append(f"- It finds sentences {figures.ratio(best, rival):.1f} times as fast as the fastest peer ({figures.ways[rival]['shown']}).")
    base, rival = "prepare: cloze plain, one duplicate, one core", "prepare: best of Python"
    if base in figures.rates and rival in figures.rates:
        lines.append(
            f"- From text to shuffled sentence pairs with static masks, on one core, it takes {number(figures.median(base))} MB a processor second: {figures.ratio(base, rival):.1f} times as much as the best parts of Python together."
        )
    return "\n".join(lines)


def made_with(figures):
    versions = figures.results["versions"]
    used = {way["name"].removesuffix(", 2 duplicates") for way in figures.results["ways"]}
    lines = [f"{name}: {what}" for name, what in sorted(versions.items()) if name in used]
    broken = [f"{key}: could not run" for key in figures.results.get("broken", {})]
    return "Versions: Cloze at " + versions["cloze"] + "; " + "; ".join(lines + broken) + "."


def measured(results, plot_name):
    figures = Figures(results)
    parts = [conditions(figures), headline(figures), f"![Megabytes of text a second, log scale]({plot_name})"]
    for kind, title, make in (
        ("tokenize documents", "## Text to ids, one core", tokenizers_table),
        ("sentences", "## Text to sentences, one core", sentences_table),
        ("prepare", "## Text to rows", prepare_table),
    ):
        if figures.of(kind):
            parts += [title, make(figures)]
    if in_turn := cores_table(figures):
        parts += ["### Two cores, times one, by the clock", in_turn]
    parts.append(made_with(figures))
    return "\n\n".join(part for part in parts if part)


def write(results, out, svg):
    """Writes page and plot into `out`. The page's other text stays, or is that of docs/bench."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / "preparation.md"
    text = (path if path.exists() else HERE / "preparation.md").read_text(encoding="utf-8")
    new = f"{BEGIN}\n\n{measured(results, 'preparation.svg')}\n\n{END}"
    if BEGIN not in text or END not in text:
        raise SystemExit(f"{path}: the marks are missing between which tables are written:\n{BEGIN}\n{END}")
    text = re.sub(re.escape(BEGIN) + ".*" + re.escape(END), lambda _: new, text, flags=re.S)
    path.write_text(text, encoding="utf-8")
    (out / "preparation.svg").write_text(svg, encoding="utf-8")
