"""``dreamset doctor``."""

import argparse
import json
import sys
from dataclasses import asdict

from dreamset.pipeline.commands.base import Commands, command

EXAMPLES = """\
examples:
  dreamset doctor         what is installed, what is missing, and the command that fixes it
  dreamset doctor --json  the same for a program; the exit status is 1 if something essential is broken
"""


def add(commands: Commands) -> None:
    """Adds the command."""
    parser = command(commands, "doctor", "check this machine and this project, and say what to fix", EXAMPLES)
    parser.add_argument("--json", action="store_true", help="print the findings as json")
    parser.set_defaults(run=_run_doctor)


def _run_doctor(options: argparse.Namespace) -> None:
    from dreamset.pipeline.tools import doctor

    findings = doctor.examine()
    if options.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))  # noqa: T201
    else:
        print(doctor.report(findings, color=sys.stdout.isatty()))  # noqa: T201
    if any(finding.state == "error" for finding in findings):
        sys.exit(1)
