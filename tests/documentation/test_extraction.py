"""What the tests of the pages look at: all that there is is found, and what is wrong is seen."""

import re

import command_lines
import pytest
from pages import ROOT, Block, Command, block_commands, blocks, page_commands, spans, words_of
from test_commands import meanings, missing

PAGE = """# Title `one`, ``two `ticks` ``

```bash
# a comment
first --x=1   # what it does
start="--a --b"
second $start \\
    --c="d # e"
. .venv/bin/activate && third
fourth
```

Text with `python -m experiments.main
--config=configs/d0.py`, not `launch/slurm.sh`.

| a | b |
|---|---|
| `pytest tests` | `x` and `launch/local.sh --processes=N y` |

```python
`none`
```
"""


def test_blocks_with_their_lines_and_languages():
    found = blocks("page.md", PAGE)
    assert [(block.line, block.language) for block in found] == [(4, "bash"), (21, "python")]
    assert found[1].text == "`none`\n"
    assert str(found[1]) == "page.md:21"
    assert [block.language for block in blocks("p", "```\nx\n```\n```text\n```\n")] == [
        "",
        "text",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x\n```bash\ny\n", "p:2: this fence is not closed"),
        ("- a\n  ```bash\n  ```\n", "p:2: begin"),
        ("~~~sh\n~~~\n", "p:1: begin"),
    ],
)
def test_a_block_that_would_be_overlooked(text, message):
    with pytest.raises(ValueError, match=message):
        blocks("p", text)


def test_commands_of_a_bash_block():
    found = list(block_commands(blocks("page.md", PAGE)[0]))
    assert [(command.line, command.text) for command in found] == [
        (5, "first --x=1"),
        (7, 'second $start     --c="d # e"'),
        (9, ". .venv/bin/activate && third"),
        (10, "fourth"),
    ]
    assert found[1].before == ('start="--a --b"',)
    assert found[3].before == ('start="--a --b"', ". .venv/bin/activate && third")


def test_commands_of_a_page_in_their_order():
    assert [command.line for command in page_commands("page.md", PAGE)] == [5, 7, 9, 10, 13, 18, 18]


def test_spans_of_running_text():
    assert [(span.line, span.text) for span in spans("page.md", PAGE)] == [
        (1, "one"),
        (1, "two `ticks`"),
        (13, "python -m experiments.main --config=configs/d0.py"),
        (14, "launch/slurm.sh"),
        (18, "pytest tests"),
        (18, "x"),
        (18, "launch/local.sh --processes=N y"),
    ]


def test_words_are_those_of_bash(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).touch()
    text = 'cd x && y $start "1 2" *.jpg t_{a,b}.py N NN [--z] "$N"'
    command = Command("p", 1, text, ('start="--a --b"', "N=4", ". nowhere"))
    assert words_of(command, tmp_path, {"N": "3"}) == [
        ["cd", "x"],
        ["y", "--a", "--b", "1 2", "a.jpg", "b.jpg", "t_a.py", "t_b.py", "3", "NN", "--z", "4"],
    ]


def test_a_block_can_be_a_file():
    assert Block("p", 1, "python", "# my_parts.py\nimport jax\n").file_name == "my_parts.py"
    assert Block("p", 1, "text", "# my_network.txt\n6:3,4\n").file_name == "my_network.txt"
    assert Block("p", 1, "text", "tree\n").file_name == ""
    assert Block("p", 1, "bash", "# x.txt\nls\n").file_name == ""


@pytest.mark.parametrize(
    ("text", "message"),
    {
        "python -m experiments.main --config=configs/d9.py": "there is no file configs/d9.py",
        "python -m experiments.main --config=configs/d0.py --workdri=x": "did you mean --workdir",
        "python -m experiments.main --config=configs/d0.py --config.train.step=8": "train.steps",
        "python -m experiments.main --config=configs/d0.py --config.ema_decay=2": "ema_decay",
        "python -m experiments.main --config=configs/d0.py word": "unexpected argument",
        "python -m experiments.sweep --config=configs/d0.py": "is not a study",
        "python -m experiments.sweep --config=configs/ablations/fusion.py --rows=fats": "fast",
        "python -m experiments.tables --tables=3": "not available; use",
        "python -m experiments.figures --figures=2": "not available; use",
        "bifpn weights tf_efficientdet_d99": "did you mean",
        "bifpn draw panett": "panet",
        "python -m experiments.benchmark forwards": "forwards",
        "python -m experiments.benchmark forward --forward=d0": "MODEL:BATCH",
        "bifpn eval --model=d0": "--weights=… is missing",
        "python -m experiments.performance.soak --step=3": "did you mean --steps",
        "python -m experiments.nothing": "nothing",
        "pytest tests/test_nothing.py": "test_nothing",
        "pytest tests --slw": "--slw",
        "pytest --slow tests/test_nms.py": "none of them is slow",
        'pip install -e ".[devel]"': "there are the extras test, lint, dev",
        'pip install "jax[cuda99]"': "cuda12",
        "launch/local.sh --proceses=2 python -m experiments.main": "is no option",
        "launch/slurm.sh python -m experiments.main --config=configs/d0.py": "no --workdir",
        "conda install bifpn": "what kind of command conda is",
    }.items(),
)
def test_a_command_that_is_wrong_is_seen(text, message):
    with pytest.raises((AssertionError, FileNotFoundError), match=re.escape(message)):
        list(meanings(Command("p", 1, text), ROOT))


def test_what_commands_read_and_write():
    word = "python -m experiments.main --config=configs/finetune.py --config.init_from={} "
    for part in ("train_images=a", "train_annotations=b", "eval_images=c", "eval_annotations=d"):
        word += f"--config.data.{part} "
    [found] = meanings(Command("p", 1, word.format("runs/x")), ROOT)
    assert found.needs == ("a", "b", "c", "d", "runs/x")
    assert found.makes == ("runs/finetune_lite0",)
    assert found.run[0] == "runs/finetune_lite0"
    [same] = meanings(Command("p", 1, word.format("tf_efficientdet_d0")), ROOT)
    assert same.needs == ("a", "b", "c", "d")
    assert same.run[1] != found.run[1]
    predict = "bifpn predict --weights=runs/x/y a.jpg --output=z"
    [found] = meanings(Command("p", 1, predict), ROOT)
    assert found == command_lines.Meaning(("runs/x/y", "a.jpg"), ("z",))
    assert missing(found.needs, {"runs/x"}, ROOT) == ["a.jpg"]
    assert missing(("README.md", "FILE", "runs"), set(), ROOT / "configs") == ["README.md", "runs"]
