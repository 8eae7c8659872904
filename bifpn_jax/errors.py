"""The one exception whose message is meant for the person at the keyboard."""


class UserError(Exception):
    """Something the user can put right.

    The message is one complete line: what is wrong, where (file, record, field) and the cure. The
    commands in ``experiments/`` print it without a traceback and exit with status 2.
    """
