import re

import numpy as np
import pytest

from bifpn_jax.evaluation.detection_limit import limit_warning


class Counted:
    def __init__(self, counts):
        self.counts = counts

    def box_counts(self):
        return None if self.counts is None else np.array(self.counts, np.int64)


@pytest.mark.parametrize(
    ("counts", "limit", "said"),
    [
        ([3, 150, 100, 101], 100, "2 images .*eval.max_detections=100 objects .up to 150.* to 150"),
        ([3, 150], 10, "1 images .*eval.max_detections=10 .*up to 150"),
        ([3, 100], 100, "^$"),
        ([], 100, "^$"),
        (None, 1, "^$"),
    ],
)
def test_images_with_more_objects_than_detections(counts, limit, said):
    line = limit_warning(Counted(counts), limit)
    assert "\n" not in line
    assert re.search(said, line)


def test_the_setting_is_named():
    line = limit_warning(Counted([5, 7, 9]), 6, "--max_detections")
    assert "2 images" in line
    assert line.endswith("raise --max_detections to 9 to make it possible")
