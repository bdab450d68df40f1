"""The dialog to download, import and remove models."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from qtpy.QtCore import QStandardPaths, Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QDialog,
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QMessageBox,
    QProgressBar,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_sam._napari.notices import error_text, show_error
from napari_sam._napari.panel_parts import push_button
from napari_sam._napari.workers import Job, run_function, run_steps
from napari_sam.core.errors import NapariSamError
from napari_sam.model.download import DownloadProgress, download_model
from napari_sam.model.store import ModelStatus, import_model, model_status, remove_model

__all__ = ["ModelsDialog", "ask_for_weights", "size_text", "state_text"]

_HEADER = ("Name", "For", "Size", "Licence", "State")
_FILTER = "Model weights (*.safetensors *.pt *.pth);;All files (*)"
_PARTS = 1000  # of the progress bar: Qt's whole numbers are too small for bytes


def size_text(size_bytes: int) -> str:
    """Return a file size for reading.

    Parameters
    ----------
    size_bytes : int
        Size in bytes.

    Returns
    -------
    str
        In MB, from 1 GB on in GB (powers of 1000).
    """
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.0f} MB"


def state_text(status: ModelStatus) -> str:
    """Return in words what of a model is on this computer.

    Parameters
    ----------
    status : ModelStatus
        The model.

    Returns
    -------
    str
        A few words, without capital.
    """
    if status.state == "partial":
        total = f" of {size_text(status.entry.size_bytes)}" if status.entry.size_bytes else ""
        return f"partly downloaded, {size_text(status.bytes_on_disk)}{total}"
    return {
        "bundled": "part of the package",
        "installed": "on this computer",
        "absent": "not on this computer",
    }[status.state]


def ask_for_weights(parent: QWidget, title: str) -> str:
    """Let the user choose a file of weights.

    Parameters
    ----------
    parent : QWidget
        The widget that asks.
    title : str
        Title of the dialog.

    Returns
    -------
    str
        Path of the file; empty when the user chose none.
    """
    home = QStandardPaths.writableLocation(QStandardPaths.StandardLocation.HomeLocation)
    path, _ = QFileDialog.getOpenFileName(parent, title, home, _FILTER)
    return str(path)


class ModelsDialog(QDialog):  # type: ignore[misc]  # qtpy has no types
    """All models, what of them is on this computer, and how to get them here.

    One thing is done at a time, in a worker. Closing the dialog breaks a download off; what has
    come is kept, and the next download of the same model goes on from there.

    Parameters
    ----------
    parent : QWidget
        The widget that it belongs to.
    """

    models_changed = Signal()
    """A model has come or gone."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle("Models for napari-sam")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self._job: Job | None = None
        self._statuses: list[ModelStatus] = []
        self._build()
        self._refresh()
        self.table.selectRow(0)
        self.resize(820, 460)

    def select(self, name: str) -> None:
        """Select a model.

        Parameters
        ----------
        name : str
            Its name in the registry.
        """
        for row, status in enumerate(self._statuses):
            if status.entry.name == name:
                self.table.selectRow(row)

    def done(self, result: int) -> None:
        """Close; a download breaks off."""
        if self._job is not None:
            self._job.close()
            self._job = None
        super().done(result)

    # the parts

    def _build(self) -> None:
        self.table = _table(self)
        self.table.itemSelectionChanged.connect(self._show_selected)
        label = QLabel("&Models", self)
        label.setBuddy(self.table)
        self.details = _text(self, "About the selected model")
        self.message = _text(self, "What happens")
        self.progress = QProgressBar(self)
        self.progress.setAccessibleName("Progress")
        self.progress.setToolTip("How much has come")
        self.download_button = self._button(
            "&Download", "Get the selected model from its authors", self._download
        )
        self.cancel_button = self._button(
            "&Cancel", "Break the download off; what has come is kept", self._cancel
        )
        self.import_button = self._button(
            "&Import file…",
            "Install the selected model from a file that you got elsewhere",
            self._import,
        )
        self.remove_button = self._button(
            "&Remove", "Delete the selected model from this computer", self._remove
        )
        self.close_button = self._button(
            "C&lose", "Close; a download goes on from here the next time", self.close
        )
        self.download_button.setDefault(True)
        self._rest()
        running = QHBoxLayout()
        running.addWidget(self.progress, 1)
        running.addWidget(self.cancel_button)
        buttons = QHBoxLayout()
        for button in (self.download_button, self.import_button, self.remove_button):
            buttons.addWidget(button)
        buttons.addStretch(1)
        buttons.addWidget(self.close_button)
        layout = QVBoxLayout(self)
        layout.addWidget(label)
        layout.addWidget(self.table, 1)
        layout.addWidget(self.details)
        layout.addLayout(running)
        layout.addWidget(self.message)
        layout.addLayout(buttons)
        # from top to bottom; the others follow in the order in which they were made
        QWidget.setTabOrder(self.table, self.details)
        QWidget.setTabOrder(self.details, self.cancel_button)
        QWidget.setTabOrder(self.cancel_button, self.message)
        QWidget.setTabOrder(self.message, self.download_button)

    def _button(self, text: str, tip: str, action: Callable[[], object]) -> QPushButton:
        button = push_button(text, tip, self)
        button.setAutoDefault(False)
        button.clicked.connect(action)
        return button

    # what is shown

    def _refresh(self) -> None:
        """Look again which models are here."""
        selected = self._selected()
        self._statuses = model_status()
        self.table.setRowCount(len(self._statuses))
        for row, status in enumerate(self._statuses):
            for column, text in enumerate(_cells(status)):
                self.table.setItem(row, column, _cell(text, status))
        if selected is not None:
            self.select(selected.entry.name)
        self._show_selected()

    def _selected(self) -> ModelStatus | None:
        rows = self.table.selectionModel().selectedRows()
        return self._statuses[rows[0].row()] if rows else None

    def _show_selected(self) -> None:
        status = self._selected()
        self.details.setText(_details(status) if status else "")
        is_free = self._job is None and status is not None and status.state != "bundled"
        state = status.state if status else None
        self.download_button.setEnabled(is_free and state != "installed")
        self.import_button.setEnabled(is_free and state != "installed")
        self.remove_button.setEnabled(is_free and state != "absent")

    # what is done

    def _download(self) -> None:
        if (status := self._selected()) is None:
            return
        name = status.entry.name
        self._begin(f"{name}: connecting …", can_cancel=True)
        self._job = run_steps(
            partial(download_model, name),
            on_step=partial(self._show_progress, name),
            on_result=lambda _: self._succeed(f"{name} is on this computer now."),
            on_error=self._fail,
            on_end=self._end,
            parent=self,
        )

    def _import(self) -> None:
        if (status := self._selected()) is None:
            return
        name = status.entry.name
        path = ask_for_weights(self, f"Weights of {name}")
        if not path:
            return
        self._begin(f"{name}: checking and copying the file …", can_cancel=False)
        self._job = run_function(
            partial(import_model, name, path),
            on_result=lambda _: self._succeed(f"{name} is on this computer now."),
            on_error=self._fail,
            on_end=self._end,
            parent=self,
        )

    def _remove(self) -> None:
        status = self._selected()
        if status is None or not self._is_removal_meant(status):
            return
        try:
            freed = remove_model(status.entry.name)
        except NapariSamError as error:
            self._fail(error)
        else:
            self._succeed(f"{status.entry.name} is removed, {size_text(freed)} are free.")
        self._refresh()

    def _is_removal_meant(self, status: ModelStatus) -> bool:
        answer = QMessageBox.question(
            self,
            "Remove model",
            f"Delete {status.entry.name}, {size_text(status.bytes_on_disk)}, from this computer?",
        )
        return bool(answer == QMessageBox.StandardButton.Yes)

    def _begin(self, text: str, *, can_cancel: bool) -> None:
        self.message.setText(text)
        self.progress.setRange(0, 0)  # moves without end until a share is known
        for button in (self.download_button, self.import_button, self.remove_button):
            button.setEnabled(False)
        self.cancel_button.setEnabled(can_cancel)

    def _show_progress(self, name: str, step: DownloadProgress) -> None:
        done, total = step.done_bytes, step.total_bytes
        if not total:
            self.message.setText(f"{name}: {size_text(done)}")
            return
        self.progress.setRange(0, _PARTS)
        self.progress.setValue(_PARTS * done // total)
        text = f"{size_text(done)} of {size_text(total)}" if done < total else "checking …"
        self.message.setText(f"{name}: {text}")

    def _cancel(self) -> None:
        if self._job is not None:
            self.cancel_button.setEnabled(False)
            self.message.setText("Stopping …")
            self._job.cancel()

    def _succeed(self, text: str) -> None:
        self.message.setText(text)
        self.models_changed.emit()

    def _fail(self, error: BaseException) -> None:
        self.message.setText(f"Error: {error_text(error)}")
        show_error(error)

    def _end(self) -> None:
        if self._job is not None and self._job.is_cancelled:
            self.message.setText("Stopped. What has come is kept: Download goes on from there.")
        self._job = None
        self._rest()
        self._refresh()

    def _rest(self) -> None:
        self.progress.setRange(0, _PARTS)
        self.progress.reset()
        self.cancel_button.setEnabled(False)


def _cells(status: ModelStatus) -> tuple[str, ...]:
    entry = status.entry
    size = entry.size_bytes or status.bytes_on_disk
    about = "" if entry.size_is_exact else "about "
    return (
        entry.name,
        entry.description,
        f"{about}{size_text(size)}",
        entry.license,
        state_text(status),
    )


def _details(status: ModelStatus) -> str:
    entry = status.entry
    lines = [f"Licence {entry.license}. Please cite: {entry.citation}"]
    if status.state in ("absent", "partial"):
        lines.append(
            f"Without a connection: get {entry.url} on another computer, then Import file…"
        )
    return "\n".join(lines)


def _table(parent: QWidget) -> QTableWidget:
    table = QTableWidget(0, len(_HEADER), parent)
    table.setHorizontalHeaderLabels(_HEADER)
    table.verticalHeader().hide()
    table.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
    header = table.horizontalHeader()
    header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
    header.setSectionResizeMode(_HEADER.index("For"), QHeaderView.ResizeMode.Stretch)
    table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
    table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
    table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
    table.setTabKeyNavigation(False)  # Tab goes on to the buttons
    table.setAccessibleName("Models")
    table.setToolTip("All models and what of them is on this computer")
    return table


def _cell(text: str, status: ModelStatus) -> QTableWidgetItem:
    item = QTableWidgetItem(text)
    item.setToolTip(f"{status.entry.description}\n{status.path}")
    return item


def _text(parent: QWidget, name: str) -> QLabel:
    label = QLabel(parent)
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setWordWrap(True)
    label.setTextInteractionFlags(
        Qt.TextInteractionFlag.TextSelectableByMouse
        | Qt.TextInteractionFlag.TextSelectableByKeyboard
    )
    label.setAccessibleName(name)
    return label
