"""A look at this machine and the settings before a study runs: what is wrong, and what to do about it."""

import argparse
import json
import sys
from collections.abc import Sequence

from study.commands.checks import Check, check_all, failed
from study.commands.command_line import EXIT_CODES, EXIT_USAGE, Command, run
from study.commands.options import (
    ADDRESS,
    DATA_ROOT,
    EXECUTOR,
    MAX_CONCURRENT,
    NICENESS,
    STORAGE,
    TRACKING_URI,
    USE_GPU,
    as_json,
)
from study.commands.settings import KINDS, Setting, SettingsFile, read_files, resolve
from study.commands.streams import run_main, show
from study.errors import ConfigError

_WIDTH = 16


def act(options: argparse.Namespace) -> int:
    """Print settings and checks; the exit code is 2 where one failed."""
    files, trouble = _files()
    settings = {name: resolve(name, getattr(options, name), files) for name in KINDS}
    checks = [trouble] if options.json else []
    if not options.json:
        for setting in settings.values():
            show(f"{setting.name:<{_WIDTH}}{setting.shown}  ({setting.source})", _WIDTH)
        print()
        _show(trouble)
        checks.append(trouble)
    for check in check_all(settings):
        checks.append(check)
        if not options.json:
            _show(check)
            sys.stdout.flush()
    if options.json:
        print(json.dumps(_as_json(settings, checks)))
    return 0 if all(check.is_ok for check in checks) else EXIT_USAGE


def _files() -> tuple[list[SettingsFile], Check]:
    """The settings files, none where one cannot be used, and the check of them."""
    try:
        files = read_files()
    except ConfigError as error:
        return [], failed("settings", str(error))
    found = ", ".join(file.source for file in files) or "no settings file"
    return files, Check(name="settings", is_ok=True, found=found)


def _show(check: Check) -> None:
    mark = "ok" if check.is_ok else "FAIL"
    more = "" if check.is_ok else f": {check.remedy}"
    show(f"{mark:<6}{check.name:<10}{check.found}{more}", _WIDTH)


def _as_json(settings: dict[str, Setting], checks: Sequence[Check]) -> dict[str, object]:
    return {
        "settings": {name: {"value": setting.public, "source": setting.source} for name, setting in settings.items()},
        "checks": [
            {
                "name": check.name,
                "ok": check.is_ok,
                "found": check.found,
                "remedy": None if check.is_ok else check.remedy,
            }
            for check in checks
        ],
        "ok": all(check.is_ok for check in checks),
    }


COMMAND = Command(
    "doctor",
    act=act,
    fills=False,
    params=[
        as_json(),
        STORAGE,
        TRACKING_URI,
        DATA_ROOT,
        ADDRESS,
        EXECUTOR,
        MAX_CONCURRENT,
        NICENESS,
        USE_GPU,
    ],
    exit_codes=EXIT_CODES | {EXIT_USAGE: "a check failed, or wrong usage"},
)


def main(arguments: Sequence[str] | None = None, program: str = "python -m study.commands.doctor") -> int:
    """Entry point; returns the exit code."""
    return run(COMMAND, arguments, program)


if __name__ == "__main__":
    sys.exit(run_main(main))
