"""How XLA compiles the programs of tests on a CPU: hundreds of them that each run a few times."""

from importlib.metadata import version

# Workers that compile side by side have no cores left for threads.
XLA_FLAGS = "--xla_cpu_parallel_codegen_split_count=1"
# The emitters of fused loops that are the default compile for more than twice as long as those
# before them, which jaxlib 0.12 does not have any more: it ends at a flag that it does not know.
if version("jaxlib").startswith("0.10."):
    XLA_FLAGS += " --xla_cpu_use_fusion_emitters=false"
