"""Runs a command in a control group with a hard limit of memory, and says what it took.

    python docs/bench/in_memory.py 1024 cloze prepare …        # MiB; as root, control groups of either version; 0: no limit, the same figures

Page cache counts in a control group, so a process that reads at random in files that do not fit waits for the disk. Beside that, every 50 ms: what the process has of its own
(anonymous), and what it has mapped and resident.
"""

import os
import resource
import subprocess
import sys
import time


def group(limit):
    """Makes the group; its folder and the file that says how much was used at most."""
    v2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
    path = f"/sys/fs/cgroup/{'' if v2 else 'memory/'}cloze-{os.getpid()}"
    os.mkdir(path)
    names = ("memory.max", "memory.peak") if v2 else ("memory.limit_in_bytes", "memory.max_usage_in_bytes")
    with open(f"{path}/{names[0]}", "w") as file:
        file.write(str(limit))
    return path, f"{path}/{names[1]}"


def rollup(pid):
    """Kilobytes: resident, anonymous."""
    found = {}
    with open(f"/proc/{pid}/smaps_rollup") as file:
        for line in file:
            name, _, rest = line.partition(":")
            if name in ("Rss", "Anonymous"):
                found[name] = int(rest.split()[0])
    return found.get("Rss", 0), found.get("Anonymous", 0)


def main():
    limit, command = int(sys.argv[1]) << 20, sys.argv[2:]
    path, used = group(limit) if limit else (None, None)

    def enter():
        if path:
            with open(f"{path}/cgroup.procs", "w") as file:
                file.write(str(os.getpid()))

    begun = time.time()
    process = subprocess.Popen(command, preexec_fn=enter)
    resident = anonymous = 0
    while process.poll() is None:
        try:
            now = rollup(process.pid)
        except OSError:
            break
        resident, anonymous = max(resident, now[0]), max(anonymous, now[1])
        time.sleep(0.05)
    process.wait()
    took = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"exit {process.returncode}, {time.time() - begun:.1f} s; user {took.ru_utime:.1f} s, system {took.ru_stime:.1f} s")
    print(f"anonymous {anonymous / 1024:.0f} MiB, resident {resident / 1024:.0f} MiB at most; {took.ru_majflt} major faults")
    print(f"read {took.ru_inblock / 2e6:.2f} GB, written {took.ru_oublock / 2e6:.2f} GB")
    if path:
        with open(used) as file:
            print(f"the group used {int(file.read()) / 2**20:.0f} of {limit / 2**20:.0f} MiB at most")
        os.rmdir(path)
    sys.exit(process.returncode)


main()
