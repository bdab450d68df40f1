"""The keys of the plugin: bound from this table, and listed from it in the help and the docs."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["KEYS", "Key"]


class Key(NamedTuple):
    """A key and what it does.

    Attributes
    ----------
    action : str
        Name of the method of the interaction that it calls.
    sequence : str
        The key as napari spells it.
    shown : str
        The key as people read it.
    does : str
        What it does, in a few words.
    """

    action: str
    sequence: str
    shown: str
    does: str


KEYS = (
    Key("flip_sign", "T", "T", "Switch between positive and negative points"),
    Key("next_candidate", "Tab", "Tab", "Next of the candidate masks"),
    Key("previous_candidate", "Shift-Tab", "Shift+Tab", "Previous of the candidate masks"),
    Key("commit", "C", "C", "Commit: write the mask as a new object"),
    Key("clear", "Shift-C", "Shift+C", "Clear the prompts"),
    Key("undo", "Control-Z", "Ctrl+Z", "Undo"),
    Key("redo", "Control-Shift-Z", "Ctrl+Shift+Z", "Redo"),
    Key("edit_under_mouse", "E", "E", "Edit the object under the mouse from its prompts"),
    Key("refine_under_mouse", "R", "R", "Refine the label under the mouse in 'Mask from'"),
    Key("delete_under_mouse", "X", "X", "Delete the object under the mouse"),
    Key("next_object", "N", "N", "Go to the next object"),
    Key("previous_object", "Shift-N", "Shift+N", "Go to the previous object"),
    Key("toggle_hover", "H", "H", "Preview under the mouse, on or off"),
    Key("segment_slice", "S", "S", "Segment everything in this slice"),
    Key("segment_all", "Shift-S", "Shift+S", "Segment everything in all slices"),
    Key("move_left", "Alt-Left", "Alt+Left", "Move the keyboard pointer left"),
    Key("move_right", "Alt-Right", "Alt+Right", "Move the keyboard pointer right"),
    Key("move_up", "Alt-Up", "Alt+Up", "Move the keyboard pointer up"),
    Key("move_down", "Alt-Down", "Alt+Down", "Move the keyboard pointer down"),
    Key("point_at_pointer", "P", "P", "Put a point at the keyboard pointer"),
    Key("show_help", "F1", "F1", "Show this list"),
)
