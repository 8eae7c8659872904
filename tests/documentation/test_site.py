"""The site of docs/: mkdocs builds it without a warning, and it loads nothing from elsewhere."""

import os
import re
import subprocess
import sys

import pytest
from pages import ROOT, read_page

from bifpn_jax.models.scaling import MODELS
from bifpn_jax.weights.published.catalog import find_published


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", f"--site-dir={folder}"],
        cwd=ROOT,
        env={**os.environ, "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


def test_every_page_is_built(site):
    pages = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")]
    for page in pages:
        name = page.parent if page.stem in ("index", "README") else page.with_suffix("")
        assert (site / name / "index.html").is_file(), page


def test_nothing_is_loaded_from_elsewhere(site):
    elsewhere = r"(?:https?:)?//"
    for file in site.rglob("*.html"):
        text = file.read_text(encoding="utf-8")
        loaded = re.findall(rf"<(?:script|img|iframe)\b[^>]*\bsrc=\"?{elsewhere}[^>]*>", text)
        loaded += [
            link
            for link in re.findall(rf"<link\b[^>]*\bhref=\"?{elsewhere}[^>]*>", text)
            if not re.search(r"rel=\"?canonical", link)
        ]
        assert not loaded, file
    for file in site.rglob("*.css"):
        text = file.read_text(encoding="utf-8")
        assert not re.search(rf"(?:url\(|@import )[\"']?{elsewhere}", text), file


def test_no_line_of_a_list_became_running_text(site):
    for file in site.rglob("*.html"):
        text = re.sub(r"<pre.*?</pre>", "", file.read_text(encoding="utf-8"), flags=re.DOTALL)
        for paragraph in re.findall(r"<p>(.*?)</p>", text, flags=re.DOTALL):
            assert not re.search(r"^(- |\d+\. |\|)", paragraph, re.MULTILINE), (file, paragraph)


def test_the_models_of_the_readme_are_those_that_are_released():
    row = r"^\| `(\w+)` \| (\w+) \| (\d+) \| [\d,]+ \| ([\d.]+) \|$"
    found = re.findall(row, read_page("README.md"), re.MULTILINE)
    assert [name for name, *_ in found] == list(MODELS)
    for name, backbone, size, score in found:
        model = MODELS[name]
        assert (backbone, int(size)) == (model.backbone, model.image_size), name
        assert float(score) == find_published(f"tf_efficientdet_{name}").score, name
