"""What several files of properties need once."""

import pytest

from properties.coco_contents import Folder


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Folder:
    """Three images and an annotation file that every case writes anew."""
    return Folder(tmp_path_factory.mktemp("coco"))
