"""Without mpmath there is nothing to collect here; the script that writes the page is no test."""

from importlib.util import find_spec

collect_ignore_glob = ["measure.py"] if find_spec("mpmath") else ["*.py"]
