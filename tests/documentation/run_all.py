r"""Really runs the commands of README and docs/, each as it is printed, and says what became of it.

    python tests/documentation/run_all.py --folder=/tmp/documentation
    python tests/documentation/run_all.py --folder=/tmp/documentation --only="README.*sweep"
    python tests/documentation/run_all.py --list

It works in FOLDER: in a copy of this checkout, with drawn pictures under the names that the pages
give to the reader's own. There is a line for each command, and a count at the end; the status is 1
if a command did anything that is not in this list:

- ran: it ended with status 0.
- stopped after saving: a training that was started as printed got SIGTERM once it had logged a
  step, evaluated or saved for the first time, and ended with status 75.
- refused as expected: it needs a download, or effdet, and said so in one line, with status 2.
  Commands have no network but by --network, or one of them would fetch 20 GB of COCO; pip has.
- dry run: a launcher printed what it would run, by --dry_run, since it needs a cluster.
- skipped: it needs the reference data ¹, and there is none in ../shared; it would install
  gigabytes; or it is this script.

Words that stand for something (FILE, DIR, N, …) are replaced as `stand_ins` says. What a command
printed is in FOLDER/output. A command that ended well is not repeated when the script is started
again with the same folder, unless with --again.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from pages import ROOT, Command, page_commands, page_names, read_page, with_stand_ins, words_of
from reader_folder import prepare, stand_ins

sys.path.insert(0, str(ROOT))

SAVED, REFUSED = 75, 2
RAN, STOPPED, EXPECTED = "ran", "stopped after saving", "refused as expected"
DRY, SKIPPED, FAILED = "dry run", "skipped", "FAILED"

TRAINING = ("main", "sweep", "memorize", "performance.soak")
# A line on stderr -> why it is what is to be expected here.
REFUSALS = {
    r"COCO 2017 is not here: agree to the download": "COCO is not here, and nobody agreed",
    r"COCO 2017 cannot be downloaded": "COCO cannot be downloaded without a network",
    r"https?://\S+: cannot be downloaded": "published weights need a network",
    r"effdet is not installed": "effdet is not installed",
}
LARGE = re.compile(r"\[(peers|torch|tensorflow|cuda\d*|tpu)\]")
NOWHERE = "http://127.0.0.1:9"  # a port at which nobody listens


class Ending(NamedTuple):
    """What became of a command, with the reason and the seconds it took."""

    outcome: str
    why: str = ""
    seconds: float = 0.0


def main() -> int:
    """Runs what the command line asks for; returns the exit status."""
    given = _arguments()
    chosen = [c for c in commands() if re.search(given.only, str(c))]
    if given.skip:
        chosen = [c for c in chosen if not re.search(given.skip, str(c))]
    if given.list:
        print("\n".join(map(str, chosen)))
        return 0
    folder = Path(given.folder).resolve()
    checkout = prepare(folder)
    record = folder / "endings.json"
    endings = json.loads(record.read_text()) if record.exists() else {}
    count: Counter[str] = Counter()
    for command in chosen:
        earlier = endings.get(command.text, [FAILED])
        if earlier[0] == FAILED or given.again:
            ending = run(command, checkout, network=given.network, limit=60 * given.minutes)
            endings[command.text] = ending
            record.write_text(json.dumps(endings, indent=1))
        else:
            ending = Ending(*earlier)
        count[ending.outcome] += 1
        why = f" ({ending.why})" if ending.why else ""
        print(f"{ending.outcome}, {ending.seconds:.0f} s{why}: {command}", flush=True)
    print(", ".join(f"{number} {outcome}" for outcome, number in count.items()) or "nothing to do")
    return 1 if count[FAILED] else 0


def commands() -> list[Command]:
    """All commands of README and docs/, each once."""
    pages = [page for page in page_names() if page != "CHANGELOG.md"]
    found: dict[str, Command] = {}
    for page in pages:
        for command in page_commands(page, read_page(page)):
            found.setdefault(command.text, command)
    return list(found.values())


def run(command: Command, checkout: Path, *, network: bool, limit: float) -> Ending:
    """Runs a command as its kind asks for."""
    known = stand_ins(checkout)
    text = with_stand_ins(command.text, known)
    if re.search(r"=(FILE|DIR)\b", text):
        return Ending(SKIPPED, "needs the reference data ¹")
    words = [word for part in words_of(command, checkout, known) for word in part]
    if Path(__file__).name in words[-1]:
        return Ending(SKIPPED, "this script")
    if "pip" in words and LARGE.search(text):
        return Ending(SKIPPED, "would install gigabytes")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(checkout),
        "BIFPN_JAX_WEIGHTS": str(checkout.parent / "weights"),
        "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0,1"),
    }
    environment.pop("VIRTUAL_ENV", None)
    installs = "pip" in words or words[0].endswith(("quickstart.sh", "test.sh"))
    if not installs and not network:
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            environment[name] = NOWHERE
    start = time.time()
    dry = False
    launcher = next((w for w in words if re.fullmatch(r"launch/\w+\.sh", w)), "")
    if launcher and not launcher.endswith(("quickstart.sh", "test.sh")):
        text, dry = text.replace(launcher, f"{launcher} --dry_run"), True
    trains = next((w for w in words if w.removeprefix("experiments.") in TRAINING), "")
    trains = "main" if words[:2] == ["bifpn", "train"] else trains
    workdir = _workdir(words, trains) if not dry else None
    status, out, err, stopped = execute(
        command, text, checkout, environment, workdir and checkout / workdir, limit
    )
    seconds = time.time() - start
    stem = re.sub(r"\W+", "_", str(command))[:80]
    (checkout.parent / "output" / f"{stem}.txt").write_text(f"{text}\n{out}\n{err}\n{status}\n")
    if status == 0:
        return Ending(DRY if dry else RAN, "", seconds)
    if status == SAVED and stopped:
        return Ending(STOPPED, "", seconds)
    lines = [line for line in err.splitlines() if line.strip()]
    for pattern, reason in REFUSALS.items():
        if status == REFUSED and len(lines) == 1 and re.match(f"error: .*{pattern}", lines[0]):
            return Ending(EXPECTED, reason, seconds)
    return Ending(FAILED, f"status {status}: {' / '.join(lines[-3:])[:400]}", seconds)


def execute(
    command: Command,
    text: str,
    checkout: Path,
    environment: dict[str, str],
    workdir: Path | None,
    limit: float,
) -> tuple[int, str, str, bool]:
    """Runs a line in bash, and stops the training in it when it has made progress.

    Returns:
        Exit status, stdout, stderr, and whether it was stopped.
    """
    before, start = progress(workdir), time.monotonic()
    output = checkout.parent / "output"
    with (output / ".out").open("w+") as out, (output / ".err").open("w+") as err:
        process = subprocess.Popen(
            ["bash", "-c", "\n".join([*command.before, text])],
            cwd=checkout,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        stopped = False
        while process.poll() is None:
            time.sleep(0.3)
            if workdir and not stopped and progress(workdir) - before:
                stopped = True
                for pid in trainings(process.pid):
                    os.kill(pid, 15)
            if time.monotonic() - start > limit:
                os.killpg(process.pid, 9)
                err.write(f"\nnot ended after {limit / 60:.0f} minutes")
                break
        status = process.wait()
        out.seek(0)
        err.seek(0)
        return status, out.read(), err.read(), stopped


def progress(workdir: Path | None) -> set[tuple[str, float]]:
    """What shows that a run in the folder came on: logs with lines, and checkpoints."""
    if workdir is None or not workdir.is_dir():
        return set()
    files = [file for file in workdir.glob("**/metrics.jsonl") if file.stat().st_size]
    saved = [path for path in workdir.glob("**/checkpoints/latest/*") if path.name.isdecimal()]
    return {(str(path), path.stat().st_mtime if path in files else 0.0) for path in files + saved}


def trainings(pid: int) -> list[int]:
    """The process, or those below it, that are a command; the topmost of each."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    if any(word.startswith(b"experiments.") or word.endswith(b"/bifpn") for word in words):
        return [pid]
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [found for child in children for found in trainings(int(child))]


def _workdir(words: list[str], trains: str) -> str | None:
    """The folder that a training writes to; None for another command."""
    if any(word.endswith("launch/quickstart.sh") for word in words):
        return "runs/quickstart"
    if not trains:
        return None
    values = dict(word.split("=", 1) for word in words if word.startswith("--") and "=" in word)
    default = {"memorize": "runs/memorize", "soak": "runs/soak"}.get(trains.rpartition(".")[2])
    stem = Path(values.get("--config", "").partition(":")[0]).stem
    return values.get("--workdir") or values.get("--output") or default or f"runs/{stem}"


def _arguments() -> argparse.Namespace:
    lines = (__doc__ or "").splitlines()
    parser = argparse.ArgumentParser(description=lines[0])
    parser.add_argument("--folder", default=ROOT / "runs" / "documentation", help="where to work")
    parser.add_argument("--only", default="", help="regular expression of the commands to run")
    parser.add_argument("--skip", default="", help="regular expression of those to leave out")
    parser.add_argument("--list", action="store_true", help="print the commands and run none")
    parser.add_argument("--again", action="store_true", help="repeat those that ended well before")
    parser.add_argument("--network", action="store_true", help="let commands download")
    parser.add_argument("--minutes", type=float, default=90.0, help="the most that one may take")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
