"""Trains and evaluates: ``python -m experiments.main --config=configs/d1.py --workdir=runs/d1``.

The same as ``bifpn train``; see `bifpn_jax.commands.train`.
"""

import sys

from bifpn_jax.command_line.process_memory import restart_with_huge_pages
from bifpn_jax.commands import bifpn

if __name__ == "__main__":
    restart_with_huge_pages()
    bifpn.run("train", sys.argv[1:])
