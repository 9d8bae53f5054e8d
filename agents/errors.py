"""Errors that end a command with one clear line, and the exit code each stands for (contract.md, section 3)."""

from __future__ import annotations

EXIT_DONE, EXIT_FAILED, EXIT_WRONG_USE, EXIT_UNREACHABLE = 0, 1, 2, 3


class CommandError(Exception):
    """The text is the one line that the user sees."""

    exit_code = EXIT_FAILED


class WrongUse(CommandError):
    """Something the user has to change: an argument, a setting, a missing program, a port in use."""

    exit_code = EXIT_WRONG_USE


class Unreachable(CommandError):
    """A server does not answer."""

    exit_code = EXIT_UNREACHABLE
