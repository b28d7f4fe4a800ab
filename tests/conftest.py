"""``--relocate``: what usually many repetitions come to is done from the first use on, so that all that tests do goes that way.

Every view that does not begin where its memory does is read and written at a run-time place, and every flush is written out.
"""

from flambeau.ops import definition
from flambeau.stream import straight


def pytest_addoption(parser):
    parser.addoption("--relocate", action="store_true", help="take everything for the last of many repetitions")


def pytest_configure(config):
    if config.getoption("--relocate"):
        definition.PLACES = definition.MANY_PLACES = -1
        straight.STEADY = 1
