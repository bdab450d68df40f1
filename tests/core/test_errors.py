"""Errors have three parts, survive pickling, and never look like a deleted Qt object."""

from __future__ import annotations

import pickle

import pytest

from napari_sam.core import errors

KINDS = [getattr(errors, name) for name in errors.__all__ if name.endswith("Error")]


@pytest.mark.parametrize("kind", KINDS)
def test_no_error_is_a_runtime_error(kind: type[errors.NapariSamError]) -> None:
    assert issubclass(kind, errors.NapariSamError)
    assert not issubclass(kind, RuntimeError)


@pytest.mark.parametrize("kind", KINDS)
def test_a_pickled_error_comes_back_whole(kind: type[errors.NapariSamError]) -> None:
    error = kind("A boolean image", rule="Images hold intensities", cure="Convert it")
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is kind
    assert (back.given, back.rule, back.cure) == (error.given, error.rule, error.cure)
    assert str(back) == str(error)


def test_the_message_says_given_rule_and_cure_as_sentences() -> None:
    error = errors.InputError("Shape (0, 3).", rule="An image has pixels", cure="Check the file!")
    assert str(error) == "Shape (0, 3). An image has pixels. Check the file!"
