"""Arithmetic and memory traffic of a program, counted from its jaxpr for a roofline.

The count assumes the best that XLA does on an accelerator: elementwise work is fused into the
operation before or after it, and every convolution, product, reduction, pooling or rearrangement
reads its operands from memory once and writes its results once.
"""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from jax.extend import core

from bifpn_jax.models.cost import sub_jaxprs

_MOVES = {
    "argmax",
    "argmin",
    "concatenate",
    "conv_general_dilated",
    "cumsum",
    "dot_general",
    "dynamic_slice",
    "dynamic_update_slice",
    "gather",
    "reduce_max",
    "reduce_min",
    "reduce_sum",
    "reduce_window_max",
    "scatter",
    "scatter_add",
    "select_and_scatter_add",
    "sort",
    "top_k",
}


class Traffic(NamedTuple):
    """Arithmetic and traffic of one run of a program on one device.

    Attributes:
        flops: floating-point operations of convolutions and products, two per multiply-add.
        bytes: bytes read and written, see above, including the program's results.
        exchanged: bytes of the arrays that are summed over devices, as held by one device.
    """

    flops: int
    bytes: int
    exchanged: int


def count_traffic(jaxpr: core.ClosedJaxpr) -> Traffic:
    """Count a program; if an operation has forms for several platforms, the native one counts.

    A loop counts once, because the number of iterations is not known.
    """
    inside = _count(jaxpr.jaxpr)
    results = sum(array_bytes(var) for var in jaxpr.jaxpr.outvars)
    return inside._replace(bytes=inside.bytes + results)


def used_equations(jaxpr: core.Jaxpr) -> list[Any]:
    """Return the equations that a result depends on, last one first; compilers drop the others."""
    wanted = {var for var in jaxpr.outvars if isinstance(var, core.Var)}
    used = []
    for eqn in reversed(jaxpr.eqns):
        if not wanted.isdisjoint(eqn.outvars):
            used.append(eqn)
            wanted.update(var for var in eqn.invars if isinstance(var, core.Var))
    return used


def programs_inside(eqn: Any) -> list[core.Jaxpr]:
    """Return the programs that an operation runs; of several platforms' forms, the native one."""
    if eqn.primitive.name == "cond" and "branches_platforms" in eqn.params:
        native = eqn.params["branches_platforms"].index(None)
        return [eqn.params["branches"][native].jaxpr]
    return sub_jaxprs(eqn.params)


def array_bytes(var: Any) -> int:
    """Return the size of a program variable's array in bytes."""
    return math.prod(var.aval.shape) * var.aval.dtype.itemsize


def _count(jaxpr: core.Jaxpr) -> Traffic:
    return _add(map(_count_equation, used_equations(jaxpr)))


def _count_equation(eqn: Any) -> Traffic:
    name = eqn.primitive.name
    if name.startswith("psum"):
        return Traffic(0, 0, sum(map(array_bytes, eqn.outvars)))
    if name in _MOVES:
        moved = sum(map(array_bytes, (*eqn.invars, *eqn.outvars)))
        return Traffic(_flops(eqn), moved, 0)
    return _add(map(_count, programs_inside(eqn)))


def _add(counts: Iterable[Traffic]) -> Traffic:
    return Traffic(*(sum(parts) for parts in zip((0, 0, 0), *counts, strict=True)))


def _flops(eqn: Any) -> int:
    size = math.prod(eqn.outvars[0].aval.shape)
    if eqn.primitive.name == "dot_general":
        (contracted, _), _ = eqn.params["dimension_numbers"]
        return 2 * size * math.prod(eqn.invars[0].aval.shape[d] for d in contracted)
    if eqn.primitive.name == "conv_general_dilated":
        kernel = eqn.invars[1].aval.shape
        outputs = kernel[eqn.params["dimension_numbers"].rhs_spec[0]]
        # Most entries of a dilated input, as in a strided convolution's gradient, are zero.
        zeros = math.prod(eqn.params["lhs_dilation"])
        return 2 * size * math.prod(kernel) // outputs // zeros
    return 0
