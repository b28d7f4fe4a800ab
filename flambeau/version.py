"""The version of Flambeau, under the names that ``torch.version`` has.

Read by the build (``pyproject.toml``), by ``flambeau.__version__`` and by the image cache's keys; imports nothing.
"""

__version__ = "0.1.0"

cuda: str | None = None     # the CUDA toolkit this was built with: none, kernels are generated at run time
hip: str | None = None
debug = False
git_version: str | None = None
