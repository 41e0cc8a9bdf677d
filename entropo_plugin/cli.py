"""The command ``entropo``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from entropo_plugin import __version__
from entropo_plugin.config import ConfigError


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="entropo", description="Entropy control for verl.")
    parser.add_argument("--version", action="version", version=f"entropo_plugin {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_doctor(commands)
    _add_demo(commands)
    _add_report(commands)
    _add_launch(commands)
    _add_recipes(commands)
    _add_tasks(commands)
    return parser


def _add_doctor(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("doctor", help="is everything in place, here and in a Ray worker?")
    parser.add_argument("--config-name", help="also check a recipe: verl's primary config, e.g. ppo_trainer")
    parser.add_argument("--config-dir", help="folder with your own Hydra configs")
    parser.add_argument("--no-ray", action="store_true", help="leave the Ray worker out")
    parser.add_argument("overrides", nargs="*", help="the Hydra overrides of your command")


def _add_demo(commands: argparse._SubParsersAction) -> None:
    from entropo_plugin.demo.run import add_arguments

    add_arguments(commands.add_parser("demo", help="train here with and without us, and show what differs"))


def _add_report(commands: argparse._SubParsersAction) -> None:
    from entropo_plugin.report import add_arguments

    add_arguments(commands.add_parser("report", help="draw one run, or several side by side, as one HTML file"))


def _add_launch(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("launch", help="run a training command; end it when a worker or a server dies")
    parser.add_argument(
        "--grace", type=float, default=60.0, help="seconds that the driver has to notice by itself (default 60)"
    )
    parser.add_argument("training", nargs="+", metavar="COMMAND", help="after --: python -m verl.trainer.main_ppo ...")


def _add_recipes(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("recipes", help="list the Hydra choices and whole recipes that we add to verl")
    parser.add_argument("name", nargs="?", help="a whole recipe: print what it needs and its full command")


def _add_tasks(commands: argparse._SubParsersAction) -> None:
    from entropo_plugin.tasks.gym import add_arguments

    add_arguments(commands.add_parser("tasks", help="make data and reward from reasoning-gym, without a download"))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    options = build_parser().parse_args(argv)
    try:
        return _run(options)
    except ConfigError as error:
        print(f"entropo: {error}", file=sys.stderr)
        return 2


def _run(options: argparse.Namespace) -> int:
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
    from entropo_plugin.recipe_files import describe, find, listing

    try:
        print(describe(find(name)) if name else listing())
    except LookupError as error:
        raise ConfigError(f"entropo recipes: {error.args[0]}") from None
    return 0


if __name__ == "__main__":
    sys.exit(main())
