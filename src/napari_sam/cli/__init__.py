"""The command line: ``napari-sam segment | link | embed | models | train | evaluate`` and more.

Importing this package loads click and nothing else: a subcommand's module, and torch with it, is
imported when the subcommand runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

import click

from napari_sam.cli.long_runs import EXIT_INTERRUPTED
from napari_sam.core.errors import NapariSamError

__all__ = ["cli", "main"]

EXIT_OK = 0
EXIT_USER_ERROR = 2


class _Subcommand(NamedTuple):
    """Where a subcommand lives, and its line in ``napari-sam --help``."""

    module: str
    attribute: str
    short_help: str


_SUBCOMMANDS = {
    "segment": _Subcommand(
        "napari_sam.cli.segment", "segment", "Segment every object of an image, stack or volume."
    ),
    "link": _Subcommand(
        "napari_sam.cli.link", "link", "Link the labels of slices into 3D objects or tracks."
    ),
    "embed": _Subcommand(
        "napari_sam.cli.embed", "embed", "Prepare the slices of a stack for clicks in napari."
    ),
    "models": _Subcommand(
        "napari_sam.cli.models", "models", "List, download, import and remove models."
    ),
    "train": _Subcommand(
        "napari_sam.cli.train", "train", "Train a model, or fine-tune it on your images."
    ),
    "distill": _Subcommand(
        "napari_sam.cli.distill", "distill", "Train a small image encoder after a large model's."
    ),
    "calibrate": _Subcommand(
        "napari_sam.cli.calibrate", "calibrate", "Make a model's predicted IoU what it says."
    ),
    "evaluate": _Subcommand(
        "napari_sam.cli.evaluate", "evaluate", "Measure a model on labelled images."
    ),
    "compare": _Subcommand("napari_sam.cli.compare", "compare", "Compare two reports of evaluate."),
    "demo": _Subcommand("napari_sam.cli.demo", "demo", "Segment a sample stack and show it."),
}


class _LazyGroup(click.Group):
    """A group that knows its subcommands' names and imports a subcommand's module on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the subcommands in the order in which a user meets them."""
        return list(_SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one subcommand, or None for an unknown name."""
        subcommand = _SUBCOMMANDS.get(cmd_name)
        if subcommand is None:
            return None
        module = importlib.import_module(subcommand.module)
        command: click.Command = getattr(module, subcommand.attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of subcommands without importing any of them."""
        rows = [(name, subcommand.short_help) for name, subcommand in _SUBCOMMANDS.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _print_version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    from importlib.metadata import version

    click.echo(f"napari-sam {version('napari-sam')}")
    ctx.exit()


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    callback=_print_version,
    expose_value=False,
    is_eager=True,
    help="Show the version and exit.",
)
def cli() -> None:
    """Segment Anything for microscopy.

    Start with `napari-sam demo`, then `napari-sam segment INPUT OUTPUT`.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with its exit status.

    Parameters
    ----------
    arguments : sequence of str, optional
        The words after ``napari-sam``; those of the process when not given.

    Raises
    ------
    SystemExit
        Always: 0 when all went well, 2 for input or options that cannot be used (with one
        message on stderr), 130 after Ctrl-C.
    """
    sys.exit(_run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    try:
        status = cli.main(args=arguments, prog_name="napari-sam", standalone_mode=False)
    except NapariSamError as error:
        click.echo(f"Error: {error}", err=True)
        return EXIT_USER_ERROR
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        return EXIT_INTERRUPTED
    return status if isinstance(status, int) else EXIT_OK
