"""The one exception whose message is meant for the person at the keyboard."""


class UserError(Exception):
    """Something the user can put right.

    The message is one complete line: what is wrong, where (file, record, field) and the cure. The
    commands in ``experiments/`` print it without a traceback and exit with status 2.

    Attributes:
        what: the message without its cure, for a caller that knows a better one.
    """

    def __init__(self, what: object = "", cure: str = "") -> None:
        """Takes the whole message, or its two parts: "WHAT; CURE"."""
        super().__init__(f"{what}; {cure}" if cure else what)
        self.what = str(what)
