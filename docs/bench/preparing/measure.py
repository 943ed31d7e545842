"""Running a process and seeing what it took; what machine this is, and what else it does."""

import datetime
import json
import os
import platform
import re
import resource
import subprocess
import tempfile
import threading
import time

# What processors differ in, of what matters here.
SETS = "avx2 avx512f avx512bw avx512vbmi avx512_vbmi2 avx512_bf16 amx_bf16 asimd sve sve2".split()


class Failed(Exception):
    """A process that did not do what it was asked for."""


def run(command, cores, environment=None, timeout=900, is_watched=True):
    """Runs `command` on these `cores` in a process of its own, and says what it printed and took.

    `seconds` are by the clock; `processor_seconds` are user and system time of the process and those that it waited for, by wait4. `peak_bytes` is the most memory that it had,
    files that it mapped too; `anonymous_bytes`, seen every 10 ms, the most without these: what cannot be dropped when memory is short. Looking takes time of a core
    that the process does not have; where `is_watched` is false, nobody looks, and `anonymous_bytes` is `None`.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        begun = time.perf_counter()
        process = subprocess.Popen(
            [str(word) for word in command],
            stdout=out,
            stderr=errors,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(environment or {})},
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        most = Anonymous(process.pid) if is_watched else None
        stopper = threading.Timer(timeout, process.kill)
        stopper.start()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begun
        stopper.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        anonymous = most.stop() if most else None
        out.seek(0)
        errors.seek(0)
        printed = out.read().decode(errors="replace")
        if process.returncode != 0:
            said = errors.read().decode(errors="replace").strip().splitlines()[-5:]
            raise Failed(f"{' '.join(map(str, command))}: exit status {process.returncode}\n  " + "\n  ".join(said))
    return {
        "printed": printed,
        "seconds": seconds,
        "processor_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * 1024,
        "anonymous_bytes": anonymous,
    }


class Anonymous(threading.Thread):
    """Looks every 10 ms how much memory a process has that is no file's."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.path, self.most, self.ended = f"/proc/{pid}/status", 0, threading.Event()
        self.start()

    def run(self):
        while not self.ended.wait(0.01):
            try:
                with open(self.path) as lines:
                    found = re.search(r"RssAnon:\s*(\d+) kB", lines.read())
            except OSError:
                return
            self.most = max(self.most, int(found.group(1)) * 1024 if found else 0)

    def stop(self):
        self.ended.set()
        self.join()
        return self.most


class Load:
    """What others do on this machine while we measure: processor time that went neither to our processes nor to nobody."""

    def __init__(self):
        self.begun, self.busy, self.stolen, self.own = time.time(), *self.ticks(), self.ours()
        self.average = os.getloadavg()[0]

    @staticmethod
    def ticks():
        with open("/proc/stat") as lines:
            user, nice, system, _, _, irq, soft, steal, *_ = map(int, lines.readline().split()[1:])
        hertz = os.sysconf("SC_CLK_TCK")
        return (user + nice + system + irq + soft) / hertz, steal / hertz

    @staticmethod
    def ours():
        return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))

    def end(self):
        seconds = time.time() - self.begun
        busy, stolen = self.ticks()
        capacity = seconds * os.cpu_count()
        others = busy - self.busy - (self.ours() - self.own)
        return {
            "seconds": seconds,
            "load_average_before": self.average,
            "others": max(others, 0) / capacity,
            "stolen": (stolen - self.stolen) / capacity,
        }


def machine():
    with open("/proc/cpuinfo") as lines:
        text = lines.read()

    def said(name):
        found = re.search(rf"^{name}\s*:\s*(.*)$", text, re.M)
        return found.group(1).strip() if found else ""

    flags = set((said("flags") or said("Features")).split())
    with open("/proc/meminfo") as lines:
        memory = int(re.search(r"MemTotal:\s*(\d+)", lines.read()).group(1)) * 1024
    return {
        "processor": said("model name") or platform.machine(),
        "family_model": f"{said('cpu family')}/{said('model')}" if said("cpu family") else "",
        "instruction_sets": [name for name in SETS if name in flags],
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": memory,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "rust": subprocess.run(["rustc", "--version"], capture_output=True, text=True).stdout.strip(),
    }


def today():
    return datetime.date.today().isoformat()


def last_json(printed):
    return json.loads(printed.strip().splitlines()[-1])
