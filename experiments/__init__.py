"""Commands: train, evaluate, predict, look at data. Run one: ``python -m experiments.NAME``."""

import signal
import sys

from experiments.process_memory import restart_with_huge_pages

# Here, because this is the first that a command runs, and a new start costs least before imports.
restart_with_huge_pages()

# `python -m` imports this before the command, which then imports for seconds. Meanwhile Ctrl-C just
# ends the process, and what comes next on a terminal overwrites the word.
if sys.argv[:1] == ["-m"]:
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.stderr.isatty():
        sys.stderr.write("loading …\r")
        sys.stderr.flush()
