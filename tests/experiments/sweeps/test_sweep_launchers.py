import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from bifpn_jax.errors import UserError
from experiments.sweep import sweep
from experiments.sweeps.launchers import find_launcher

LAUNCH = Path(__file__).resolve().parents[3] / "launch"
WORDS = ["train", "--workdir=a folder/fast", "--config.x=('a', \"$b\")", "--config.y="]


@pytest.fixture
def sbatch(tmp_path, monkeypatch):
    """An sbatch that writes down what it gets; returns its arguments and the job's script."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "sbatch"
    script.write_text(
        f"#!/usr/bin/env bash\nprintf '%s\\n' \"$@\" >{folder}/words\ncat >{folder}/job\n"
        "echo '4711;cluster'\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return lambda: ((folder / "words").read_text().splitlines(), (folder / "job").read_text())


def run(script, *words, cwd):
    return subprocess.run([script, *words], cwd=cwd, capture_output=True, text=True)


def test_the_launchers_that_there_are():
    assert find_launcher("") == []
    assert find_launcher("local", LAUNCH) == [str(LAUNCH / "local.sh")]
    assert find_launcher("slurm", LAUNCH) == [str(LAUNCH / "slurm.sh")]
    with pytest.raises(UserError, match=r"--launcher=slrum: .* did you mean slurm\?"):
        find_launcher("slrum", LAUNCH)
    with pytest.raises(UserError, match=r"no such launcher; there are local, multi_gpu, slurm\."):
        find_launcher("test", LAUNCH)  # launch/test.sh is something else


def test_a_launcher_that_is_not_executable(tmp_path):
    shutil.copy(LAUNCH / "local.sh", tmp_path / "mine.sh")
    assert find_launcher("mine", tmp_path)
    (tmp_path / "mine.sh").chmod(0o644)
    if os.access(tmp_path / "mine.sh", os.X_OK):
        pytest.skip("every file is executable here")
    with pytest.raises(UserError, match=r"mine\.sh is not executable; chmod \+x "):
        find_launcher("mine", tmp_path)


def test_local_runs_the_command(make_study, fake_program, calls, tmp_path):
    out = tmp_path / "out"
    program = fake_program({"fast/seed_0": "fail"})
    options = {"seeds": [0], "launcher": "local", "launchers": LAUNCH}
    assert sweep(make_study(), out, program=program, **options) == 1
    assert sweep(make_study(), out, program=fake_program(), **options) == 0
    assert calls() == ["sum/seed_0", "fast/seed_0", "wide/seed_0", "fast/seed_0"]
    assert (out / "sum/seed_0/log.txt").read_text() == "training sum/seed_0\n"


def test_local_dry_run(tmp_path):
    result = run(LAUNCH / "local.sh", "--dry_run", *WORDS, cwd=tmp_path)
    assert shlex.split(result.stdout) == WORDS


def test_slurm_submits_a_job_that_runs_the_command(sbatch, tmp_path):
    words = ["printf", "%s\\n", *WORDS[1:]]
    result = run(LAUNCH / "slurm.sh", *words, cwd=tmp_path)
    assert result.stderr == ""
    assert result.stdout == "job 4711;cluster; look at it with squeue --jobs=4711\n"
    options, job = sbatch()
    assert options == [
        "--parsable",
        f"--job-name={tmp_path}/a folder/fast",
        "--output=a folder/fast/log.txt",
        "--open-mode=append",
        "--dependency=singleton",
        "--signal=B:TERM@120",
    ]
    assert (tmp_path / "a folder" / "fast").is_dir()
    printed = subprocess.run(["bash"], input=job, capture_output=True, text=True)
    assert printed.stdout.splitlines() == WORDS[1:]


def test_slurm_dry_run_says_what_it_would_submit(tmp_path):
    result = run(LAUNCH / "slurm.sh", "--dry_run", *WORDS, cwd=tmp_path)
    first, *job = result.stdout.splitlines()
    assert first.startswith("sbatch --parsable --job-name=")
    assert job[0] == "#!/usr/bin/env bash"
    assert shlex.split(job[1]) == ["exec", *WORDS]
    assert os.listdir(tmp_path) == []


def test_slurm_needs_a_workdir(tmp_path):
    result = run(LAUNCH / "slurm.sh", "train", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("error: the command has no --workdir=…")


def test_a_sweep_submits_what_is_not_finished(
    make_study, fake_program, calls, sbatch, tmp_path, capsys
):
    out = tmp_path / "out"
    assert sweep(make_study(), out, seeds=[0], rows=["sum"], program=fake_program()) == 0
    capsys.readouterr()
    options = {"seeds": [0], "launcher": "slurm", "launchers": LAUNCH, "delete": True}
    assert sweep(make_study(), out, program=("train",), **options) == 0
    lines = capsys.readouterr().out.splitlines()
    job = "job 4711;cluster; look at it with squeue --jobs=4711"
    assert lines[:2] == [f"fast seed 0: {job}", f"wide seed 0: {job}"]
    assert lines[2].startswith(f"2 runs submitted, 1 finished; their output goes to {out}/ROW/")
    assert "exec train --config=" in sbatch()[1]
    assert not (out / "sum/seed_0/checkpoints").exists()
    assert calls() == ["sum/seed_0"]


def test_what_cannot_be_submitted(make_study, tmp_path, capsys):
    script = tmp_path / "mine.sh"
    script.write_text("#!/usr/bin/env bash\n# Launcher: none.\necho no such queue\nexit 3\n")
    script.chmod(0o755)
    options = {"seeds": [0], "launcher": "mine", "launchers": tmp_path, "rows": ["sum"]}
    assert sweep(make_study(), tmp_path / "out", **options) == 1
    first, last = capsys.readouterr().out.splitlines()
    assert first == "not submitted: sum seed 0: exit status 3: no such queue"
    assert last.startswith("0 runs submitted, 0 finished")


def test_a_dry_run_prints_the_launcher_too(make_study, tmp_path, capsys):
    options = {"seeds": [0], "launcher": "slurm", "launchers": LAUNCH, "rows": ["sum"]}
    study = make_study()
    assert sweep(study, tmp_path / "out", program=("train",), dry_run=True, **options) == 0
    words = shlex.split(capsys.readouterr().out)
    assert words[:3] == [str(LAUNCH / "slurm.sh"), "train", f"--config={study.file}"]
