"""``napari-sam models``: which models there are, and which are on this computer."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_sam.model.download import DownloadProgress
    from napari_sam.model.store import ModelStatus

__all__ = ["models"]


@click.group()
def models() -> None:
    """List, download, import and remove models."""


@models.command("list")
@click.option("--citations", is_flag=True, help="Also print source, hash and citation of each.")
def list_models(citations: bool) -> None:
    """List all models and what of them is on this computer."""
    from napari_sam.model.store import model_status

    statuses = model_status()
    _print_table(statuses)
    if citations:
        for status in statuses:
            _print_details(status)


@models.command()
@click.argument("name")
def download(name: str) -> None:
    """Download the weights of model NAME; Ctrl-C breaks off, the same command goes on."""
    from napari_sam.model.download import download_model
    from napari_sam.model.registry import find_model
    from napari_sam.model.store import model_path

    entry = find_model(name)
    try:
        with closing(download_model(name)) as events:
            _show_progress(name, events)
    except KeyboardInterrupt:
        click.echo(
            f"Broken off. What has come is kept: napari-sam models download {name} goes on.",
            err=True,
        )
        raise
    click.echo(f"{name}: {model_path(entry)}")
    click.echo(f"Licence {entry.license}. Please cite: {entry.citation}")


@models.command("import")
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
def import_file(name: str, file: Path) -> None:
    """Install the weights of model NAME from FILE, got elsewhere; it is checked and copied."""
    from napari_sam.model.store import import_model

    click.echo(f"{name}: {import_model(name, file)}")


@models.command()
@click.argument("name")
def remove(name: str) -> None:
    """Delete the weights of model NAME from this computer."""
    from napari_sam.model.store import remove_model

    freed = remove_model(name)
    click.echo(f"{name}: {_size(freed)} freed" if freed else f"{name}: nothing to remove")


@models.command()
@click.argument("name", required=False)
def path(name: str | None) -> None:
    """Print where the weights of model NAME are or would be, or the model directory."""
    from napari_sam.model.registry import find_model
    from napari_sam.model.store import model_directory, model_path

    click.echo(model_path(find_model(name)) if name else model_directory())


def _print_table(statuses: Iterable[ModelStatus]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("name", no_wrap=True)
    table.add_column("here", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("licence", no_wrap=True)
    table.add_column("description")
    for status in statuses:
        entry = status.entry
        table.add_row(
            entry.name, _state(status), _file_size(status), entry.license, entry.description
        )
    Console().print(table)


def _print_details(status: ModelStatus) -> None:
    entry = status.entry
    click.echo(f"\n{entry.name}")
    click.echo(f"  source: {entry.url or 'part of this package'}")
    if entry.file_hash:
        click.echo(f"  {entry.file_hash.algorithm}: {entry.file_hash.hexdigest}")
    click.echo(f"  cite: {entry.citation}")


def _state(status: ModelStatus) -> str:
    """Return one word, with the share of a broken-off download."""
    size = status.entry.size_bytes
    if status.state == "partial" and size:
        return f"{min(99, 100 * status.bytes_on_disk // size)} %"
    return {"bundled": "bundled", "installed": "yes", "partial": "part", "absent": "no"}[
        status.state
    ]


def _file_size(status: ModelStatus) -> str:
    """Return the size of the whole file, marked where it is not published to the byte."""
    if status.state in ("bundled", "installed"):
        return _size(status.bytes_on_disk)
    size = status.entry.size_bytes
    if size is None:
        return "?"
    return _size(size) if status.entry.size_is_exact else f"~{_size(size)}"


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.2f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.1f} MB"


def _show_progress(name: str, events: Iterable[DownloadProgress]) -> None:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(name, total=None)
        for event in events:
            progress.update(task, completed=event.done_bytes, total=event.total_bytes)
