"""Takes the place of training: leaves the files of a run, or fails as it is told.

Its first argument says what runs do, ``{"sum/seed_0": "fail"}``, the others are those of
`experiments.main`. Each run appends its name to calls.txt beside the folder of the sweep.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

flags = dict(word[2:].partition("=")[::2] for word in sys.argv[2:])
workdir = Path(flags["workdir"])
name = f"{workdir.parent.name}/{workdir.name}"
steps = int(flags.get("config.train.steps", 4))
action = json.loads(sys.argv[1]).get(name, "finish")


def log(step):
    with (workdir / "metrics.jsonl").open("a") as file:
        print(json.dumps({"step": step, "train/loss": 1 / step, "train/epoch": step}), file=file)


def save(number, frame):
    time.sleep(0.1)  # a second signal would come in between
    print(f"saved after {signal.Signals(number).name}", flush=True)
    sys.exit(75)


with (workdir.parents[2] / "calls.txt").open("a") as calls:
    print(name, file=calls)
print(f"training {name}", flush=True)
if action == "fail":
    print("error: no images\n", file=sys.stderr)
    sys.exit(2)
if action == "die":
    os.kill(os.getpid(), signal.SIGKILL)
if action == "end":
    sys.exit(0)
log(1)
if action == "wait":
    signal.signal(signal.SIGTERM, save)
    signal.signal(signal.SIGINT, save)
    (workdir / "waiting").write_text(str(os.getpid()))
    time.sleep(60)
    sys.exit("nobody stopped it")
log(steps)
(workdir / "checkpoints").mkdir(exist_ok=True)
(workdir / "metrics.json").write_text(json.dumps({"step": steps, "AP": 0.25}))
(workdir / "finished.json").write_text(json.dumps({"step": steps, "seconds": 2.0}))
