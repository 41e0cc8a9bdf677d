"""The command ``entropo``. A command's module is imported when it is called: none of the others costs anything."""

from __future__ import annotations

import argparse
import difflib
import importlib.util
import sys
from collections.abc import Sequence

from entropo_plugin import __version__
from entropo_plugin.fields import ConfigError

COMMANDS = {
    "doctor": "is everything in place, here and in a Ray worker? And will this configuration run?",
    "demo": "train here with and without us, and show what differs",
    "report": "draw one run, or several side by side, as one HTML file",
    "launch": "run a training command; end it when a worker or a server dies",
    "recipes": "list the Hydra choices and whole recipes that we add to verl",
    "tasks": "make data and reward from reasoning-gym, without a download",
}
ENTRY = "verl.trainer.main_ppo"


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """The parser of every command, or with the arguments of ``only`` one of them."""
    parser = argparse.ArgumentParser(prog="entropo", description="Entropy control for verl and TRL.")
    parser.add_argument("--version", action="version", version=f"entropo_plugin {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")
    for name, words in COMMANDS.items():
        # Abbreviations would take Hydra's flags for ours.
        command = commands.add_parser(name, help=words, description=words, allow_abbrev=name != "doctor")
        if only in (None, name):
            ARGUMENTS[name](command)
    return parser


def _doctor_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "entropo doctor [-h] [--no-ray] [ARGUMENTS OF YOUR TRAINING COMMAND]"
    parser.epilog = (
        f"Everything else is read as `python -m {ENTRY}` reads it, Hydra's flags included: overrides, --config-name, "
        "--config-dir, --config-path. The whole command may stand here as well."
    )
    parser.add_argument("--no-ray", action="store_true", help="leave the Ray worker out")


def _demo_arguments(parser: argparse.ArgumentParser) -> None:
    from entropo_plugin.demo.run import add_arguments

    add_arguments(parser)


def _report_arguments(parser: argparse.ArgumentParser) -> None:
    from entropo_plugin.report import add_arguments

    add_arguments(parser)


def _launch_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--grace", type=float, default=60.0, help="seconds that the driver has to notice by itself (default 60)"
    )
    parser.add_argument("training", nargs="+", metavar="COMMAND", help=f"after --: python -m {ENTRY} ...")


def _recipes_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="one of the list: print what it sets or needs, and its command")


def _tasks_arguments(parser: argparse.ArgumentParser) -> None:
    from entropo_plugin.tasks.gym import add_arguments

    add_arguments(parser)


ARGUMENTS = {
    "doctor": _doctor_arguments,
    "demo": _demo_arguments,
    "report": _report_arguments,
    "launch": _launch_arguments,
    "recipes": _recipes_arguments,
    "tasks": _tasks_arguments,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    command = next((word for word in words if not word.startswith("-")), None)
    if not words or (command and command not in COMMANDS):
        return _without_command(command)
    parser = build_parser(command or "")
    options, rest = parser.parse_known_args(words)
    if options.command == "doctor":
        options.arguments = rest[rest.index(ENTRY) + 1 :] if ENTRY in rest else rest
    elif rest:
        parser.error(f"{options.command}: unknown arguments: {' '.join(rest)}")
    try:
        return _run(options)
    except ConfigError as error:
        print(f"entropo: {error}", file=sys.stderr)
    except OSError as error:
        if not error.filename or "out" not in options:
            raise
        print(f"entropo {options.command}: {error.filename}: {error.strerror}. Give another --out.", file=sys.stderr)
    return 2


def _without_command(wrong: str | None) -> int:
    """Help for a bare ``entropo``; the nearest name for one that does not exist."""
    if wrong is None:
        build_parser("").print_help()
        return 0
    near = difflib.get_close_matches(wrong, COMMANDS, n=1)
    meant = f" Did you mean `entropo {near[0]}`?" if near else ""
    print(f"entropo: there is no command {wrong!r}.{meant} Commands: {', '.join(COMMANDS)}.", file=sys.stderr)
    return 2


def _check_verl(command: str) -> None:
    """Refuse a command that works on verl alone where verl is not installed."""
    if importlib.util.find_spec("verl") is None:
        raise ConfigError(
            f"entropo {command} needs verl, which is not installed. Run: pip install 'entropo-plugin[verl]'. Under TRL "
            "the start-up line says what is active (docs/trl.md)."
        )


def _run(options: argparse.Namespace) -> int:
    if options.command in ("doctor", "demo"):
        _check_verl(options.command)
    if options.command == "doctor":
        from entropo_plugin.hosts.verl.startup.doctor import examine

        return examine(options)
    if options.command == "demo":
        from entropo_plugin.demo.run import run

        return run(options)
    if options.command == "report":
        from entropo_plugin.report import run as draw

        return draw(options)
    if options.command == "tasks":
        from entropo_plugin.tasks.gym import run as make

        return make(options)
    if options.command == "launch":
        from entropo_plugin.launch import launch

        return launch(options.training, options.grace)
    return _show_recipes(options.name)


def _show_recipes(name: str | None) -> int:
    from entropo_plugin.recipe_files import listing, shown

    try:
        print(shown(name) if name else listing())
    except LookupError as error:
        raise ConfigError(f"entropo recipes: {error.args[0]}") from None
    return 0


if __name__ == "__main__":
    sys.exit(main())
