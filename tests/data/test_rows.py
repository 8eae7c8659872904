import numpy as np

from bifpn_jax.data.rows import padding_row


def test_a_padding_row_clears_the_memory_it_gets():
    out = np.full((8, 6, 3), 77, np.uint8)
    row = padding_row(out, max_boxes=2)
    assert not out.any()
    assert np.shares_memory(row["image"], out)
    assert not row["mask"]
    assert row["labels"].tolist() == [-1, -1]
    assert row["content_hw"].tolist() == [8, 6]
