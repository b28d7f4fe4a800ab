"""``--relocate``: every view that does not begin where its memory does is read and written at a run-time place, from its first use on.

Usually that is what a loop over many places comes to; with it, all that other tests do goes the same way.
"""

from flambeau.ops import definition


def pytest_addoption(parser):
    parser.addoption("--relocate", action="store_true", help="take every place of a view for one of many")


def pytest_configure(config):
    if config.getoption("--relocate"):
        definition.PLACES = definition.MANY_PLACES = -1
