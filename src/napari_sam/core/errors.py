"""The exceptions that reach a user.

Every message has three parts: what was given, the rule it broke, and the cure. The parts are
separate arguments so that none can be forgotten, and so that a dialog may lay them out apart.

None of these classes derives from :class:`RuntimeError`: a Qt thread worker takes a
``RuntimeError`` for "the Qt object is gone" and drops it without a word.
"""

from __future__ import annotations

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DeviceError",
    "InputError",
    "NapariSamError",
    "NapariSamWarning",
    "OutOfMemoryError",
    "OutputError",
]


class NapariSamError(Exception):
    """Base class of all errors that napari_sam raises on purpose.

    Parameters
    ----------
    given : str
        What was given or found, with the offending value.
    rule : str
        The rule that it breaks.
    cure : str
        What the user can do about it.
    """

    def __init__(self, given: str, *, rule: str, cure: str) -> None:
        self.given = given
        self.rule = rule
        self.cure = cure
        super().__init__(" ".join(_as_sentence(part) for part in (given, rule, cure)))

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuild the error on the other side of a process boundary."""
        return _rebuild, (type(self), self.given, self.rule, self.cure)


class InputError(NapariSamError):
    """An image, volume, label image or prompt cannot be used as given."""


class ConfigError(NapariSamError):
    """An option or a configuration file is not valid."""


class CheckpointError(NapariSamError):
    """Model weights are missing, damaged, unsafe or of another architecture."""


class DeviceError(NapariSamError):
    """The compute device that was asked for is absent or failed."""


class OutOfMemoryError(DeviceError):
    """The compute device has too little memory for the work."""


class OutputError(NapariSamError):
    """The result cannot be written where it was asked for."""


class NapariSamWarning(UserWarning):
    """Something in the input was changed or left out so that the work could go on."""


def _rebuild(kind: type[NapariSamError], given: str, rule: str, cure: str) -> NapariSamError:
    return kind(given, rule=rule, cure=cure)


def _as_sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?")) else f"{text}."
