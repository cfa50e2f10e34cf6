"""Errors, by whose fault they are. Each is one sentence that names the argument, its value and what is allowed."""


class Error(Exception):
    """What every error of this package is."""


class UsageError(Error, ValueError):
    """The call is wrong: a name, a setting, or settings that cannot go with these shapes."""


class InputError(Error, ValueError):
    """An array or a file is wrong: its rank, shape or type, or a value that is not finite."""


class EnvironmentError(Error, RuntimeError):
    """The machine cannot do it: no memory, no such device, or a program or module that is not installed."""
