"""The one error that a person should see without a traceback."""


class UserError(ValueError):
    """Something the user can mend: says what was found, where, what is allowed and what to do.

    The command line prints its message on one line and exits with status 2; anything else is our own mistake and
    keeps its traceback.
    """
