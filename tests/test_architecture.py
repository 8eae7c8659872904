"""The rules of the layout: which module may import which, and what else keeps it readable."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# From the bottom to the top. An entry is a module of bifpn_jax or a package with all in it; the
# longest that fits a module is its own. A module imports from lower layers and its own entry.
LAYERS = (
    ["errors", "ops.cpu_forms", "inspection.colors", "inspection.lettering"],
    ["json_files", "boxes", "anchors", "named_parts", "ops", "inspection.drawing"],
    ["matching", "nms", "models.graphs", "models.scaling", "models.initializers"],
    ["losses", "postprocessing", "models.layers", "models.fusion", "models.networks"],
    ["models.backbones", "models.feature_network", "models.heads"],
    ["models", "data"],
    ["evaluation", "inference", "inspection"],
    ["train"],
    ["weights"],
    ["trained"],
    ["recipe", "exporting"],
    ["runs"],
    ["__init__"],
    ["command_line"],
    ["commands"],
    ["__main__"],
)

# Heavy or optional packages, and the modules that are about them.
HEAVY = {
    "clu": ["runs.logs"],
    "PIL": [],
    "cv2": ["data", "inspection"],
    "grain": ["data.pipeline"],
    "matplotlib": ["inspection.network_drawing"],
    "orbax": ["train.checkpoints", "train.checkpoint_reader"],
    "faster_coco_eval": [],
    "pycocotools": [],
    "safetensors": [],
    "simplejpeg": ["data"],
    "tensorboardX": ["runs.logs"],
    "tensorflow": [],
    "tensorflow_datasets": ["data"],
    "tflite": [],
    "torch": [],
}

# Modules that know about devices and processes, and what of JAX only they use.
DEVICE_MODULES = {
    "train.devices",  # batches and states on the devices
    "train.processes",  # how processes find each other and end
    "train.exchange",  # what they tell each other
}
DEVICE_FUNCTIONS = {
    "device_count",
    "devices",
    "distributed",
    "local_device_count",
    "local_devices",
    "pmap",
    "process_count",
    "process_index",
}

FILES = {
    ".".join(path.relative_to(ROOT / "bifpn_jax").with_suffix("").parts): path
    for path in sorted((ROOT / "bifpn_jax").rglob("*.py"))
}


def walk(node: ast.AST, *, functions: bool) -> Iterator[ast.AST]:
    """All nodes of a module, those in function bodies on request."""
    for child in ast.iter_child_nodes(node):
        yield child
        if functions or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from walk(child, functions=functions)


def imports(name: str, *, functions: bool = True) -> set[str]:
    """Absolute names of what a module of bifpn_jax imports; "x.y" for `from x import y` as well."""
    names = set()
    for node in walk(ast.parse(FILES[name].read_text()), functions=functions):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: write imports in full, not relative"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def inner_imports(name: str) -> set[str]:
    """Names of the modules of bifpn_jax that a module imports."""
    found = set()
    for imported in imports(name):
        package, _, rest = imported.partition(".")
        if package == "bifpn_jax":
            # "losses.focal_loss" is a name in losses, "models.layers" a module, "data" a package.
            parts = rest.split(".") if rest else []
            options = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
            options = [o for option in options for o in (option, f"{option}.__init__")]
            found.add(next((o for o in options if o in FILES), "__init__"))
    return found


def entry_of(name: str) -> tuple[int, str]:
    """Layer and entry of a module."""
    fitting = [
        (level, entry)
        for level, entries in enumerate(LAYERS)
        for entry in entries
        if name == entry or name.startswith(f"{entry}.")
    ]
    assert fitting, f"bifpn_jax/{name.replace('.', '/')}.py is in no layer; add it to LAYERS"
    return max(fitting, key=lambda layer: len(layer[1]))


@pytest.mark.parametrize("name", FILES)
def test_imports_point_downward(name):
    level, entry = entry_of(name)
    for imported in inner_imports(name) - {name}:
        other_level, other_entry = entry_of(imported)
        assert other_level < level or other_entry == entry, (
            f"bifpn_jax.{name} (layer {level}, {entry}) imports "
            f"bifpn_jax.{imported} (layer {other_level}, {other_entry})"
        )


def test_no_import_cycles():
    TopologicalSorter({name: inner_imports(name) - {name} for name in FILES}).prepare()


@pytest.mark.parametrize("name", FILES)
def test_the_library_knows_nothing_of_configs_and_experiments(name):
    packages = {imported.split(".")[0] for imported in imports(name)}
    assert not packages & {"configs", "experiments", "tests"}


@pytest.mark.parametrize("name", FILES)
def test_heavy_packages_are_imported_only_where_they_belong(name):
    for package in {imported.split(".")[0] for imported in imports(name, functions=False)}:
        allowed = HEAVY.get(package, [name])
        assert any(name == a or name.startswith(f"{a}.") for a in allowed), (
            f"bifpn_jax.{name} imports {package} at its top; only {allowed} may"
        )


@pytest.mark.parametrize("name", sorted(FILES.keys() - DEVICE_MODULES))
def test_few_modules_know_about_devices(name):
    assert not any(imported.endswith("multihost_utils") for imported in imports(name))
    for node in ast.walk(ast.parse(FILES[name].read_text())):
        used = set()
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            used = {node.attr} if node.value.id == "jax" else set()
        elif isinstance(node, ast.ImportFrom) and node.module == "jax":
            used = {alias.name for alias in node.names}
        assert not used & DEVICE_FUNCTIONS, f"{name}, line {node.lineno}: {used}"


def test_no_file_is_long():
    long = {}
    for folder in ("bifpn_jax", "configs", "experiments"):
        for path in (ROOT / folder).rglob("*.py"):
            lines = len(path.read_text().splitlines())
            if lines > 300:
                long[str(path.relative_to(ROOT))] = lines
    assert not long, f"split these by idea, lines: {long}"


def test_importing_the_package_is_light():
    code = (
        "import json, sys, bifpn_jax; "
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    heavy = set(HEAVY) - {"cv2", "simplejpeg"}
    assert not heavy & set(json.loads(result.stdout))
