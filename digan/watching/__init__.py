"""A run as it goes: what it wrote, what that means, on a terminal and on one page.

history (files of a run) -> signs (what is worth a warning) -> terminal, page
"""

from digan.watching.history import History, read_history
from digan.watching.page import write_report
from digan.watching.signs import Sign, find_signs
from digan.watching.terminal import describe_run

__all__ = ["History", "read_history", "Sign", "find_signs", "describe_run", "write_report"]
