"""What a second core is worth: one core, two, and two processes that share nothing, in turn."""

import concurrent.futures
import pathlib

from preparing import measure

FORMS = ("plain", "zstd")


def key(form, cores):
    return f"prepare: cloze {form}, one duplicate, {cores}"


def in_turn(ways, files, rounds, cores, near, remove, say):
    """Seconds by the clock of each, round by round; nothing where there are not two cores. Before each run `near` reads files through, and `remove` removes what earlier ones left."""
    by_key = {way.key: way for way in ways}
    timed = []
    for form in FORMS:
        alone, both = by_key.get(key(form, "one core")), by_key.get(key(form, "two cores"))
        if not (alone and both) or len(cores) < 2:
            continue
        text = next(path for path in map(pathlib.Path, map(str, alone.command)) if path in files.values() and path.is_file())

        def run(way, where, name):
            command = list(way.command)
            command[command.index("--out") + 1] = files["work"] / name
            # Who looks at memory needs a core, which only one process on one core leaves free.
            return measure.run(command, where, way.environment, is_watched=False)["seconds"]

        def one(number):
            return run(alone, [cores[-1 - number % 2]], "out")

        def two(_):
            return run(both, cores[-2:], "out")

        def apart(_):
            with concurrent.futures.ThreadPoolExecutor() as pool:
                begun = [pool.submit(run, alone, [core], f"out-{core}") for core in cores[-2:]]
                return sum(seconds.result() for seconds in begun) / 2

        kinds = {"one": one, "two": two, "apart": apart}
        for number in range(rounds):
            took = {"form": form, "round": number}
            for name in list(kinds)[:: 1 if number % 2 == 0 else -1]:
                for out in files["work"].glob("out*"):
                    remove(out)
                near([text])
                try:
                    took[name] = kinds[name](number)
                except measure.Failed as error:
                    say(f"left out: {error}")
                    return timed
            timed.append(took)
            say(f"round {number + 1} of {rounds}  two cores, {form:45} {took['one'] / took['two']:8.2f} times one")
    return timed
