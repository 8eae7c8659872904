import pytest

from bifpn_jax.models.traffic import Traffic
from experiments.performance.roofline import ACCELERATORS, Accelerator, roofline_table


@pytest.fixture
def one_chip(monkeypatch):
    for name in list(ACCELERATORS):
        monkeypatch.delitem(ACCELERATORS, name)
    monkeypatch.setitem(ACCELERATORS, "chip", Accelerator(100e12, 10e12, 1e12))


def test_the_longer_time_is_the_bound(one_chip):
    """Two ms of arithmetic in bfloat16 and 20 in float32, against 5 of memory."""
    found = {"d0": Traffic(flops=int(200e9), bytes=int(5e9), exchanged=0)}
    (row,) = roofline_table(found, 8, "bfloat16").rows
    assert row == ("d0", 0.2, 5.0, 40.0, "5.0 (memory)")
    (row,) = roofline_table(found, 8, "float32").rows
    assert row[-1] == "20.0 (arithmetic)"


def test_published_peaks_balance_where_they_should():
    """Operations per byte at which a chip's two limits meet, 166 on v5p to 295 on H100."""
    for chip in ACCELERATORS.values():
        assert 160 < chip.bfloat16 / chip.bandwidth < 300
