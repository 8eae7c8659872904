"""All-reduces of a data-parallel step, counted in its jaxpr, its lowered and its compiled program.

Sizes are those of the arrays on one device; algorithms send more bytes than that.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from jax.extend import core

from bifpn_jax.models.traffic import array_bytes, programs_inside, used_equations

GRADIENTS = "gradients"
STATISTICS = "statistics"
REST = "rest"  # the normaliser of the loss, and metrics: scalars
KINDS = (GRADIENTS, STATISTICS, REST)

_NORM = "batch_normalize"  # the jitted function of bifpn_jax.ops.batch_norm
_ITEM_BYTES = {"f64": 8, "f32": 4, "s32": 4, "i32": 4, "u32": 4, "ui32": 4, "bf16": 2, "f16": 2}


class Exchanged(NamedTuple):
    """All-reduces of a program or a part of it, on one device.

    Attributes:
        arrays: number of arrays that are summed over the devices.
        bytes: their size.
    """

    arrays: int
    bytes: int


def count_by_kind(jaxpr: core.ClosedJaxpr) -> dict[str, Exchanged]:
    """Return arrays and bytes for each of `KINDS`; the bytes add up to `Traffic.exchanged`."""
    found = dict.fromkeys(KINDS, Exchanged(0, 0))
    for kind, var in _sums(jaxpr.jaxpr, in_norm=False):
        arrays, size = found[kind]
        found[kind] = Exchanged(arrays + 1, size + array_bytes(var))
    return found


def statistics_chain(jaxpr: core.ClosedJaxpr) -> int:
    """Return the length of the longest chain of dependent all-reduces of batch statistics.

    Independent ones, such as those of the levels in the heads, could be combined.
    """
    return max(_depths(jaxpr.jaxpr, [0] * len(jaxpr.jaxpr.invars), in_norm=False), default=0)


def count_lowered(text: str) -> Exchanged:
    """Count a StableHLO module given as text; functions count once per call from main."""
    own: dict[str, list[int]] = {}
    calls: dict[str, Counter[str]] = {}
    function, open_reductions = "", 0
    for line in text.splitlines():
        if start := re.search(r'func\.func (?:\w+ )?@"?([^"\s(]+)"?\(', line):
            function = start[1]
            own[function], calls[function] = [], Counter()
        elif '"stablehlo.all_reduce"' in line:
            open_reductions += 1
        elif open_reductions and (end := re.match(r"\s*\}\) : \(.*\) -> (.*)", line)):
            open_reductions -= 1
            types = re.findall(r"tensor<((?:\d+x)*)(\w+)>", end[1])
            own[function] += [_size(shape.split("x"), item) for shape, item in types]
        elif call := re.search(r'\bcall @"?([^"\s(]+)"?\(', line):
            calls[function][call[1]] += 1

    def total(name: str) -> Exchanged:
        inside = [(times, total(called)) for called, times in calls[name].items()]
        arrays = len(own[name]) + sum(times * found.arrays for times, found in inside)
        return Exchanged(arrays, sum(own[name]) + sum(n * found.bytes for n, found in inside))

    return total("main")


def count_compiled(text: str) -> tuple[int, Exchanged]:
    """Count an optimised HLO module given as text: operations, and the arrays that they sum.

    The compiler combines as many arrays as it can in one operation.
    """
    sizes = []
    operations = 0
    for line in text.splitlines():
        if found := re.match(r"\s*(?:ROOT )?%?[\w.-]+ = (.*?) all-reduce(?:-start)?\(", line):
            operations += 1
            arrays = re.findall(r"(\w+)\[([\d,]*)\]", found[1])
            sizes += [_size(shape.split(","), item) for item, shape in arrays]
    return operations, Exchanged(len(sizes), sum(sizes))


def _sums(jaxpr: core.Jaxpr, in_norm: bool) -> Iterator[tuple[str, Any]]:
    for eqn in used_equations(jaxpr):
        if eqn.primitive.name.startswith("psum"):
            for var in eqn.outvars:
                scalar = not var.aval.shape
                yield STATISTICS if in_norm else REST if scalar else GRADIENTS, var
        for inside in programs_inside(eqn):
            yield from _sums(inside, in_norm or eqn.params.get("name") == _NORM)


def _depths(jaxpr: core.Jaxpr, inputs: list[int], in_norm: bool) -> list[int]:
    """Return the most all-reduces of statistics on a path to each result, given the inputs'."""
    depth: dict[Any, int] = dict(zip(jaxpr.invars, inputs, strict=True))
    for eqn in jaxpr.eqns:
        read = [0 if isinstance(v, core.Literal) else depth.get(v, 0) for v in eqn.invars]
        deepest = max(read, default=0)
        found = [deepest + (in_norm and eqn.primitive.name.startswith("psum"))] * len(eqn.outvars)
        for inside in programs_inside(eqn):
            same = len(inside.invars) == len(eqn.invars)
            given = read if same else [deepest] * len(inside.invars)
            results = _depths(inside, given, in_norm or eqn.params.get("name") == _NORM)
            if len(results) != len(found):
                results = [max(results, default=0)] * len(found)
            found = (
                [max(pair) for pair in zip(found, results, strict=True)] if not same else results
            )
        depth.update(zip(eqn.outvars, found, strict=True))
    return [0 if isinstance(v, core.Literal) else depth.get(v, 0) for v in jaxpr.outvars]


def _size(sides: list[str], item: str) -> int:
    return math.prod(int(side) for side in sides if side) * _ITEM_BYTES[item]
