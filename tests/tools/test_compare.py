from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from comparison import command, requirements
from comparison.contest import OURS, REFERENCE, Contest, Setting, Work
from comparison.decoder_works import CLICK
from comparison.encoder_works import VIT_B
from comparison.equality import check_embeddings, check_records
from comparison.everything_works import ALL, SPARSE
from comparison.flops import count_flops, vit_flops
from comparison.memory import measure_here
from comparison.peers import NAME as PEER
from comparison.scales import VitShape, tiny_scale
from comparison.shares import switches
from comparison.timing import run_in_turns
from PIL import Image
from torch import nn

from napari_sam.model.execution import Execution, execution_override
from napari_sam.predict import MaskPrediction

CPU = torch.device("cpu")
QUICK = ["--scale=tiny", "--no-memory", f"--threads={torch.get_num_threads()}"]


@pytest.fixture
def setting() -> Setting:
    requirements.require_references()
    return Setting(tiny_scale(), peers=False)


def test_all_works_are_measured_shown_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {kind: tmp_path / f"run.{kind}" for kind in ("json", "markdown", "plot.png")}
    written = [f"--{kind.split('.')[0]}={path}" for kind, path in files.items()]
    assert command.main([*QUICK, "--shares", *written]) == 0
    shown = capsys.readouterr().out
    figures = json.loads(files["json"].read_text())
    markdown = files["markdown"].read_text()
    assert list(figures["works"]) == list(command.WORKS)
    for name, work in figures["works"].items():
        assert name in shown
        assert f"| {name}: " in markdown
        assert work["gflop"] > 0
        assert work["ceiling_share"] > 0
        assert all(check["equal"] for check in work["equal"].values())
    compared = {name: set(work["equal"]) for name, work in figures["works"].items()}
    for name in ("boxes", "everything-sparse", "everything-all", "vit_t"):
        assert compared[name] == {REFERENCE}
    assert compared["click"] == compared["vit_b"] == {REFERENCE, PEER}
    assert all(rate > 0 for rate in figures["ceilings"].values())
    switched = {(share["work"], share["switched_off"]) for share in figures["shares"]}
    assert {("click", "folds_projections"), ("everything-all", "scores_first")} <= switched
    assert "| click | folds_projections |" in markdown
    assert np.ptp(np.asarray(Image.open(files["plot.png"]).convert("L"))) > 200


def spoiled(work: Work, spoil: Callable[[Any], Any]) -> Work:
    """Let ours give another result."""

    def prepare(setting: Setting) -> Contest:
        contest = work.prepare(setting)
        wrong = {**contest.sides, OURS: lambda: spoil(contest.ours())}
        return dataclasses.replace(contest, sides=wrong)

    return dataclasses.replace(work, prepare=prepare)


def one_pixel_else(prediction: MaskPrediction) -> MaskPrediction:
    masks = prediction.masks.copy()
    masks[0, 5, 7] ^= True
    return dataclasses.replace(prediction, masks=masks)


def other_logits(prediction: MaskPrediction) -> MaskPrediction:
    return dataclasses.replace(prediction, low_res_logits=1.001 * prediction.low_res_logits)


@pytest.mark.parametrize("spoil", [one_pixel_else, other_logits])
def test_a_wrong_result_fails_the_command(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[MaskPrediction], MaskPrediction],
) -> None:
    monkeypatch.setitem(command.WORKS, "click", spoiled(CLICK, spoil))
    assert command.main([*QUICK, "--only", "click", "--no-peers"]) == 1
    assert "NOT EQUAL to reference" in capsys.readouterr().out


def test_embeddings_that_differ_are_told() -> None:
    embedding = torch.randn(1, 4, 8, 8)
    assert check_embeddings(embedding, embedding + 1e-6).equal
    assert not check_embeddings(embedding, embedding + 1e-3).equal
    assert not check_embeddings(embedding, embedding[..., :4]).equal


def without_the_last(records: list[Any]) -> list[Any]:
    return records[:-1]


def in_another_order(records: list[Any]) -> list[Any]:
    return [*records[1:], records[0]]


def with_another_score(records: list[Any]) -> list[Any]:
    better = dataclasses.replace(records[0], predicted_iou=records[0].predicted_iou + 1e-3)
    return [better, *records[1:]]


def with_less_stability(records: list[Any]) -> list[Any]:
    return [dataclasses.replace(record, stability_score=0.0) for record in records]


def with_another_box(records: list[Any]) -> list[Any]:
    x, y, width, height = records[0].bbox_xywh
    return [dataclasses.replace(records[0], bbox_xywh=(x, y, width, height + 1)), *records[1:]]


def with_the_mask_of_another(records: list[Any]) -> list[Any]:
    return [*records[:-1], dataclasses.replace(records[-1], mask=records[0].mask)]


@pytest.mark.parametrize(
    "spoil",
    [
        without_the_last,
        in_another_order,
        with_another_score,
        with_less_stability,
        with_another_box,
        with_the_mask_of_another,
    ],
)
def test_records_that_differ_are_told(
    setting: Setting, spoil: Callable[[list[Any]], list[Any]]
) -> None:
    contest = SPARSE.prepare(setting)
    ours, other = contest.ours(), contest.sides[REFERENCE]()
    assert len(ours) >= 2
    assert contest.check is not None
    assert contest.check(ours, other).equal
    assert not contest.check(spoil(ours), other).equal


def test_masks_of_equal_score_may_change_places(setting: Setting) -> None:
    contest = SPARSE.prepare(setting)
    ours, other = contest.ours(), contest.sides[REFERENCE]()
    assert ours[0].point_xy != ours[1].point_xy
    equal = [dict(record) for record in other]
    equal[0]["predicted_iou"] = equal[1]["predicted_iou"] = ours[0].predicted_iou
    alike = dataclasses.replace(ours[1], predicted_iou=ours[0].predicted_iou)
    assert contest.check is not None
    check = contest.check([alike, ours[0], *ours[2:]], equal)
    assert check.equal
    assert check.figures["masks in another place"] == 2


def test_a_pixel_on_the_threshold_may_differ(setting: Setting) -> None:
    contest = SPARSE.prepare(setting)
    ours, other = contest.ours(), contest.sides[REFERENCE]()
    flipped = dict(other[-1])
    counts = list(flipped["segmentation"]["counts"])
    counts[0] += 1  # the first pixel of the mask goes
    counts[1] -= 1
    flipped["segmentation"] = {**flipped["segmentation"], "counts": counts}
    spoiled_records = [*other[:-1], flipped]
    shape = ours[0].image_size_yx
    assert check_records(ours, spoiled_records, lambda _record: np.full(shape, 1e-5)).equal
    check = check_records(ours, spoiled_records, lambda _record: np.full(shape, 1e-3))
    assert check.figures["certain label pixels that differ"] == 1
    assert not check.equal


def test_about_one_mask_in_twenty_or_all_are_kept(setting: Setting) -> None:
    for work, low, high in ((SPARSE, 0.01, 0.15), (ALL, 1, 1)):
        contest = work.prepare(setting)
        assert low <= contest.figures(contest.ours())["share kept"] <= high


def test_calls_take_turns_after_warming_up() -> None:
    called: list[str] = []
    calls = {name: (lambda name=name: called.append(name) or len(called)) for name in "ab"}
    turns = run_in_turns(calls, repeats=2, warm_ups=1, device=CPU)
    assert called == ["a", "b"] * 3
    assert {name: len(seconds) for name, seconds in turns.seconds.items()} == {"a": 2, "b": 2}
    assert turns.outputs == {"a": 5, "b": 6}


def test_operations_are_counted() -> None:
    tokens = torch.randn(1, 2, 10, 16)
    with torch.inference_mode():
        assert count_flops(lambda: nn.Linear(64, 32)(torch.ones(10, 64))) == 2 * 10 * 64 * 32
        attend = nn.functional.scaled_dot_product_attention
        assert count_flops(lambda: attend(tokens, tokens, tokens)) == 2 * 2 * 2 * 10 * 10 * 16


def test_operations_of_vit_b_by_hand_and_as_they_run(setting: Setting) -> None:
    linears = 2 * 4096 * 12 * 12 * 768**2
    attention = 2 * 2 * 4096 * 768 * (4 * 4096 + 8 * 196)
    ends = 2 * 4096 * 768 * 768 + 2 * 4096 * (768 * 256 + 9 * 256 * 256)
    assert vit_flops(VitShape()) == linears + attention + ends
    reference = VIT_B.prepare(setting).sides[REFERENCE]
    # the reference's windows are padded, and it adds relative positions
    assert 1 <= count_flops(reference) / vit_flops(setting.scale.vit) < 1.6


def test_every_choice_that_a_device_has_can_be_switched_off() -> None:
    off = switches(CPU)
    assert {field.name for field in dataclasses.fields(Execution)} > off.keys()
    assert off["folds_projections"] is False
    assert off["strip_tokens"] is None
    assert "points_per_batch" not in off
    with execution_override(strip_tokens=None):
        assert "strip_tokens" not in switches(CPU)


def test_memory_of_a_call_is_measured(setting: Setting) -> None:
    size = 64 * 2**20

    def allocate() -> np.ndarray:
        return np.ones(size, np.uint8)

    work = dataclasses.replace(CLICK, prepare=lambda _: Contest({OURS: allocate}, None, lambda: 0))
    peak = measure_here(work, OURS, setting)
    assert 0.9 * size <= 1e6 * peak.growth_mb <= 1.5 * size
    assert peak.peak_mb > peak.growth_mb


def test_memory_is_measured_in_processes_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    arguments = ["--scale=tiny", "--threads=1", "--only", "compact-click", f"--json={path}"]
    assert command.main(arguments) == 0
    memory = json.loads(path.read_text())["works"]["compact-click"]["memory"]
    assert list(memory) == [OURS]
    assert memory[OURS]["peak_mb"] > memory[OURS]["growth_mb"] > 0


def test_a_missing_reference_is_named_with_the_cure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(requirements, "is_installed", lambda name: name != "segment_anything")
    assert command.main(QUICK) == 2
    told = capsys.readouterr().err
    assert "segment-anything-py" in told
    assert "[test]" in told


@pytest.mark.parametrize("given", ["0", "none=3", "click=", "click=x"])
def test_repeats_that_mean_nothing_are_refused(
    given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["--repeats", given])
    assert ended.value.code == 2
    assert "WORK=number" in capsys.readouterr().err


def test_repeats_of_one_work_go_before_those_of_all(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    works = ["--only", "boxes", "compact-click"]
    asked = ["--repeats", "2", "boxes=3"]
    assert command.main([*QUICK, "--no-peers", *works, *asked, f"--json={path}"]) == 0
    seconds = {n: w["seconds"][OURS] for n, w in json.loads(path.read_text())["works"].items()}
    assert {name: len(values) for name, values in seconds.items()} == {
        "boxes": 3,
        "compact-click": 2,
    }
