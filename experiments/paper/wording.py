"""Sentences that the captions of several tables share."""

from experiments.paper.finished_runs import Study, describe_data, is_coco
from experiments.paper.table import NOT_RUN

MEANING = (
    "AP is in COCO's 0 to 1, where the paper prints per cent. "
    f"Ours is the mean ± sample standard deviation over n seeds; what has not been run says "
    f'"{NOT_RUN}".'
)


def where_from(study: Study | None, name: str) -> str:
    """Return which runs a table's own AP come from, and what they may be compared with."""
    if study is None:
        return (
            f"AP of ours: no runs; `python -m experiments.sweep "
            f"--config=configs/ablations/{name}.py --workdir=DIR` makes them."
        )
    text = f"AP of ours: the runs in `{study.folder}` ({study.config_file})"
    if not study.all_runs:
        return f"{text}, none of which is finished."
    config = study.all_runs[0].config
    data = describe_data(config)
    if is_coco(config):
        return f"{text}, evaluated on COCO val2017."
    return (
        f"{text}. **They are AP on `{data}`, of other models than the paper's, and cannot be "
        "compared with the paper's numbers**; only our rows can, with each other."
    )


def left_out(study: Study | None) -> list[str]:
    """Return a line that names the runs that are in no average; nothing if there are none."""
    if study is None or not study.left_out:
        return []
    total = len(study.left_out) + len(study.all_runs)
    return [
        f"{len(study.left_out)} of {total} runs are in no average: {', '.join(study.left_out)}."
    ]
