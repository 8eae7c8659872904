"""Two halves, compiled beside each other and run one after the other."""

import threading

import jax
import jax.numpy as jnp
import pytest

from bifpn_jax.train.step_programs import StepPrograms


def half(state, batch):
    return {"sum": jnp.sum(batch) * state}


def update(state, found):
    return state + found["sum"], found


def found_shapes(state):
    return {"sum": jax.ShapeDtypeStruct((), jnp.float32)}


def test_both_halves_are_compiled_once_and_run_in_turn():
    traced = []

    def counted(name, f):
        def run(*arguments):
            traced.append(name)
            return f(*arguments)

        return jax.jit(run)

    ready = []
    step = StepPrograms(
        counted("gradients", half),
        counted("update", update),
        found_shapes=found_shapes,
        ready=lambda: ready.append(1),
    )
    state = jnp.float32(2.0)
    for expected in (8.0, 32.0):
        state, metrics = step(state, jnp.ones(3))
        assert float(state) == expected
        assert set(metrics) == {"sum"}
    assert traced == ["update", "gradients"]
    assert ready == [1]


def test_shapes_are_enough_to_compile():
    step = StepPrograms(jax.jit(half), jax.jit(update), found_shapes=found_shapes)
    step.compile(jax.ShapeDtypeStruct((), jnp.float32), jax.ShapeDtypeStruct((3,), jnp.float32))


@pytest.mark.parametrize(
    "wrong",
    [
        {"sum": jax.ShapeDtypeStruct((1,), jnp.float32)},
        {"sum": jax.ShapeDtypeStruct((), jnp.bfloat16)},
        [jax.ShapeDtypeStruct((), jnp.float32)],
    ],
)
def test_wrong_shapes_between_the_halves_are_an_error(wrong):
    step = StepPrograms(
        jax.jit(half), jax.jit(lambda state, found: state), found_shapes=lambda state: wrong
    )
    with pytest.raises(ValueError, match="other shapes than found_shapes"):
        step(jnp.float32(2.0), jnp.ones(3))


@pytest.mark.parametrize("failing", [0, 1])
def test_an_error_of_either_compiler_is_the_callers(failing):
    """And no thread is left."""

    class Lowered:
        out_info = ()

        def __init__(self, fails):
            self.fails = fails

        def compile(self):
            if self.fails:
                raise MemoryError("no memory to compile")

    class Half:
        def __init__(self, fails):
            self.fails = fails

        def lower(self, *arguments):
            return Lowered(self.fails)

    before = threading.active_count()
    with pytest.raises(MemoryError, match="no memory"):
        StepPrograms(Half(failing == 0), Half(failing == 1), found_shapes=lambda state: ()).compile(
            None, None
        )
    assert threading.active_count() == before
