"""The one exception that stands for a user's mistake."""

from __future__ import annotations


class DiganError(Exception):
    """Bad input, a missing file, an impossible request: something the user can mend.

    The message is one sentence that names the thing, the rule and what came. The command
    line prints it without a traceback and exits with status 1. `detail` are lines that it
    prints below the sentence as they are; few errors have any.
    """

    def __init__(self, sentence: str = "", detail: str = "") -> None:
        super().__init__(f"{sentence}\n{detail}" if detail else sentence)
        self.detail = detail
