"""The folder of a reader who tries the commands: a copy of the checkout, with pictures to use."""

import json
import shutil
import subprocess
from pathlib import Path

from pages import ROOT, blocks, page_names, read_page

REFERENCE = Path("../shared")
# Published weights that are among the reference data, under the name that the catalog has for them.
LITE0 = "efficientdet_lite0_int8"
LITE0_FILE = "weights/efficientdet_lite0_coco_int8.tflite"


def stand_ins(checkout: Path) -> dict[str, str]:
    """What words of the text stand for; reference data only where it is."""
    reference = checkout / REFERENCE
    found = {
        "python -m experiments.main …": "python -m experiments.main --config=configs/d0.py "
        "--workdir=runs/d0",
        "--processes=N": "--processes=2",
        "draw NAME… --output=DIR": "draw fpn bifpn --output=runs/networks",
        "benchmark PART": "benchmark postprocess",
        "memorize --images=DIR --annotations=FILE": "memorize --images=photos/train "
        "--annotations=photos/train.json",
    }
    if reference.exists():
        photographs = REFERENCE / "data" / "coco90"
        annotations = photographs / "annotations" / "instances_train2017_90.json"
        # The weights that fine-tuning would download.
        start = f"--config.init_from={LITE0}"
        found["finetune.py:lite0 --workdir"] = f"finetune.py:lite0 {start} --workdir"
        found["--weights=FILE"] = f"--weights={REFERENCE / LITE0_FILE}"
        found["--images=DIR"] = f"--images={photographs / 'images'}"
        found["--annotations=FILE"] = f"--annotations={annotations}"
    return found


def prepare(folder: Path) -> Path:
    """Makes the copy of the checkout, or renews it, with pictures and with files of the pages."""
    checkout = folder / "checkout"
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\0")
    for name in filter(None, names):
        source, target = ROOT / name, checkout / name
        if source.is_file() and not (target.is_file() and _same_file(source, target)):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    for page in page_names():
        for block in blocks(page, read_page(page)):
            if block.file_name:
                (checkout / block.file_name).write_text(block.text)
    (folder / "output").mkdir(exist_ok=True)
    shared, link = ROOT.parent / "shared", folder / "shared"
    if shared.exists() and not link.exists():
        link.symlink_to(shared)
        (folder / "weights").mkdir()
        (folder / "weights" / f"{LITE0}.tflite").symlink_to(link / LITE0_FILE)
    for split, count in (("train", 16), ("val", 8)):
        if not (checkout / "photos" / f"{split}.json").exists():
            draw_photos(checkout / "photos", split, count)
    return checkout


def draw_photos(folder: Path, split: str, count: int) -> None:
    """Writes drawn pictures to FOLDER/SPLIT and their COCO JSON beside it, and one to FOLDER."""
    from bifpn_jax.data.sources.shapes import DrawnShapes

    source = DrawnShapes(count, split="train" if split == "train" else "validation")
    (folder / split).mkdir(parents=True, exist_ok=True)
    for record in (source[index] for index in range(count)):
        (folder / split / record.where).write_bytes(record.encoded)
    (folder / f"{split}.jpg").write_bytes(source[0].encoded)
    (folder / f"{split}.json").write_text(json.dumps(source.ground_truth()))


def _same_file(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()
