"""The one exception that the command line prints without a traceback."""


class UserError(ValueError):
    """A problem that the user can fix; its message says what is wrong, where, what is allowed and what to do.

    The command line prints the message on one line and exits with status 2. Any other exception is a bug in this
    package and keeps its traceback.
    """
