"""Parses height and width on a command line: 512,640, 512x640, (512, 640) or 512."""

import re

from bifpn_jax.errors import UserError


def parse_image_hw(text: str, flag: str) -> tuple[int, int]:
    """Return (height, width) in pixels; one number is a square.

    Args:
        text: the text to parse.
        flag: name of the option, for messages.

    Raises:
        UserError: the text is anything else, or less than 32 pixels.
    """
    inside = re.fullmatch(r"[\s(\[]*(\d+)(?:\s*[,x×X]\s*(\d+))?[\s)\]]*", text)
    if inside:
        height, width = int(inside[1]), int(inside[2] or inside[1])
        if min(height, width) >= 32:
            return height, width
    raise UserError(
        f"--{flag}={text}: give height and width, such as 512,640, or one number for a square, "
        "32 pixels or more."
    )
