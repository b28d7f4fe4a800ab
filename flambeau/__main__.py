"""The command line: ``python -m flambeau run script.py`` and its companions.

Takes the words after ``python -m flambeau`` and hands them to the command of that name in ``flambeau.cli``, each imported only
when asked for: what ``run`` imports is part of every script's start-up time, so there is no ``argparse`` here.
"""

from __future__ import annotations

import sys

USAGE = """\
usage: python -m flambeau COMMAND ...

  run SCRIPT [ARGUMENTS]       run a PyTorch script unchanged: `import torch` gives Flambeau
  run -m MODULE [ARGUMENTS]    the same for a module
  explain SCRIPT [ARGUMENTS]   run it, then tell what was recorded, fused and launched
                               (--loops or --llvm before SCRIPT adds the kernels' code)
  env                          versions, processor, vector width, cache (for bug reports)
  cache                        where compiled kernels are kept, and how much there is
  cache clear                  remove them
"""


def main(arguments: list[str] | None = None) -> None:
    """Carry out one command.

    Parameters
    ----------
    arguments : list of str, optional
        The words after the program's name; ``sys.argv[1:]`` when omitted.

    Raises
    ------
    SystemExit
        With status 2 and the usage after a command that does not exist; otherwise as the command or the script decides.
    """
    words = sys.argv[1:] if arguments is None else arguments
    command, rest = (words[0], words[1:]) if words else ("", [])
    if command == "run":
        from .cli.run import run
        run(rest)
    elif command == "explain":
        from .cli.run import explain
        explain(rest)
    elif command == "env":
        from .cli.environment import print_environment
        print_environment()
    elif command == "cache":
        from .cli.environment import cache
        cache(rest)
    elif command in ("-h", "--help", "help"):
        print(USAGE, end="")
    else:
        problem = f"there is no command {command!r}" if command else "a command is missing"
        sys.exit(f"python -m flambeau: {problem}\n\n{USAGE}".rstrip())


if __name__ == "__main__":
    main()
