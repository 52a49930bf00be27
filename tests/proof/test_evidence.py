"""What a set's file carries of its measurement, and measuring it again: agreement, and every way in which it can fail."""

import hashlib
import json
import shutil
from dataclasses import asdict, replace

import numpy as np
import pytest

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.cli import main
from corrsteer_core.evaluation.measure import evaluate_set
from corrsteer_core.proof import evidence
from corrsteer_core.proof.replay import replay
from corrsteer_core.runs import stored_run
from corrsteer_core.runs.steering_set import SteeringRow, SteeringSet, load_set, save_set
from corrsteer_core.tasks import custom_task, get_task
from tests.made import runs as tiny

LIMIT = 12


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CORRSTEER_DTYPE", "float32")


@pytest.fixture(scope="module")
def loaded():
    return tiny.load()


@pytest.fixture
def strong(loaded):
    """A set that changes what the random model writes."""
    return tiny.steering_set(*loaded, (1, 3, 60.0), (2, 5, 80.0), name="strong")


@pytest.fixture
def file(loaded, strong, tmp_path):
    """Samples of which some are right unsteered only, some steered only, some always, some never."""
    path = tmp_path / "mine.jsonl"
    rows = [{"prompt": f"say {nth}", "target": "x", "split": "test"} for nth in range(LIMIT)]
    path.write_text("\n".join(map(json.dumps, rows)))
    model, saes = loaded
    seen = evaluate_set(strong, custom_task("exact", path, max_new_tokens=3), model=model, saes=saes).samples
    assert (seen["unsteered"] != seen["steered"]).sum() > 3
    by_prompt = seen.set_index("prompt")
    for nth, row in enumerate(rows):
        texts = by_prompt.loc[row["prompt"]]
        row["target"] = ("never so", texts["unsteered"], texts["steered"])[nth % 3]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.fixture
def proven(strong, file, tmp_path, capsys):
    """The set's file, written by the command that measures."""
    save_set(strong, tmp_path / "bare.json")
    out = tmp_path / "set.json"
    words = ["--data", str(file), "--scorer", "exact", "--max-new-tokens", "3", "--controls", "0", "--quiet", "--json"]
    assert main.main(["evaluate", "--set", str(tmp_path / "bare.json"), "--out", str(out), *words]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["positive_flips"] > 0
    assert summary["negative_flips"] > 0
    return out


def verified(path, file, capsys):
    """Status, result and error of `verify`."""
    status = main.main(["verify", str(path), "--data", str(file), "--scorer", "exact", "--quiet", "--json"])
    out, err = capsys.readouterr()
    return status, json.loads(out) if out else None, err


def changed(path, **fields):
    """The file with fields of its evidence replaced."""
    body = json.loads(path.read_text())
    body["evidence"] |= fields
    path.write_text(json.dumps(body))
    return path


# --- the file ------------------------------------------------------------------------------------


def test_evidence_stands_beside_the_set_and_changes_neither_it_nor_its_hash(strong, proven):
    assert load_set(proven) == strong
    assert load_set(proven).content == strong.content
    assert SteeringSet.from_json(strong.to_json()) == strong, "files without evidence stay as they were"
    assert "evidence" not in json.loads(strong.to_json())


def test_the_file_says_sample_by_sample_what_was_measured(loaded, strong, file, proven):
    model, saes = loaded
    found = evaluate_set(strong, custom_task("exact", file, max_new_tokens=3), model=model, saes=saes)
    _, carried = evidence.read(proven)
    before, after = found.samples["outcome_unsteered"], found.samples["outcome_steered"]
    bits = bin(int("1" + carried.unsteered, 16))[3:][:LIMIT]
    assert [float(one) for one in bits] == before.tolist()
    assert carried.outcomes()[:, 1].tolist() == after.tolist()
    assert carried.positive_flips == ((before == 0) & (after == 1)).sum()
    assert carried.steered_rate == pytest.approx(after.mean())
    rows = [[row["sample"], row["prompt"], row["target"]] for row in found.samples.to_dict("records")]
    assert carried.items == hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]
    assert carried.sae_fingerprints == [sae.fingerprint for sae in strong.saes]
    assert carried.sentence == found.verdict.sentence


def test_graded_outcomes_are_kept_as_numbers():
    assert evidence.packed([0.0, 1.0, 1.0]) == "60"
    assert evidence.packed([0.25, 1.0]) == [0.25, 1.0]
    assert evidence.unpacked([0.25, 1.0], 2).tolist() == [0.25, 1.0]
    many = np.arange(19) % 2
    assert evidence.unpacked(evidence.packed(many), 19).tolist() == many.tolist()


@pytest.mark.parametrize(
    "fields",
    [{"unsteered": "zz"}, {"steered": "ffffffff"}, {"steered": [2.0] * LIMIT}, {"n": 0}, {"n": True}, {"scale": "1"},
     {"balance": [1]}, {"items": 5}, {"sae_fingerprints": "x"}, {"more": 1}, {"unsteered_rate": float("nan")}],
    ids=str,
)  # fmt: skip
def test_evidence_that_cannot_be_is_one_sentence(proven, fields):
    with pytest.raises(CorrSteerError, match="The evidence in .* cannot be read: .*ask for the file again"):
        evidence.read(changed(proven, **fields))


def test_a_set_without_evidence_is_told_how_to_get_it(strong, tmp_path, capsys):
    save_set(strong, tmp_path / "bare.json")
    assert main.main(["verify", str(tmp_path / "bare.json"), "--quiet"]) == 1
    assert "carries no evidence; measure it with 'evaluate --out FILE'" in capsys.readouterr().err


def test_evidence_of_another_set_is_refused(proven):
    body = json.loads(proven.read_text())
    body["rows"][0]["coefficient"] *= 2
    proven.write_text(json.dumps(body))
    with pytest.raises(CorrSteerError, match="is of another set .* measure it again"):
        evidence.read(proven)


# --- from the run --------------------------------------------------------------------------------


def test_a_kept_set_carries_its_measurement_of_its_own_task_on_the_most_test_samples(loaded, tmp_path, capsys):
    model, saes = loaded
    run = tiny.make_run(model, saes)
    steering = stored_run.kept_sets(run)["A"]
    assert evidence.kept_evidence(run, steering) is None
    for task, split, scale, limit in (
        ("sentiment", "test", None, 6), ("sentiment", "test", None, 4), ("sentiment", "validation", None, 8),
        ("capitals", "test", None, 9), ("sentiment", "test", 2.0, 10),
    ):  # fmt: skip
        evaluate_set(steering, get_task(task), split=split, scale=scale, limit=limit, model=model, saes=saes)
    carried = evidence.kept_evidence(run, steering)
    assert (carried.task, carried.split, carried.scale, carried.n) == ("sentiment", "test", 1.0, 6)
    assert evidence.kept_evidence(run, steering.scaled(2.0)).n == 10
    assert evidence.kept_evidence(run, steering.scaled(3.0)) is None
    save_set(steering, tmp_path / "bare.json")
    words = ["--set", str(tmp_path / "bare.json"), "--format", "json", "--out", str(tmp_path / "x.json"), "--quiet"]
    assert main.main(["export", *words]) == 0
    assert evidence.read(tmp_path / "x.json") == (steering, carried)
    capsys.readouterr()
    assert main.main(["verify", str(tmp_path / "x.json"), "--quiet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["agrees"]
    shutil.rmtree(tmp_path / "cache")
    assert (
        main.main(["export", *[word.replace("bare", "x") for word in words[:-2]], str(tmp_path / "y.json"), "--quiet"])
        == 0
    )
    assert evidence.read(tmp_path / "y.json") == (steering, carried), "a file hands on what it carries"


# --- measuring again -----------------------------------------------------------------------------


def test_what_was_measured_is_found_again(proven, file, capsys, tmp_path):
    status, found, err = verified(proven, file, capsys)
    assert (status, err) == (0, "")
    assert found["agrees"]
    assert found["differing"] == 0
    what = {row["what"]: row for row in found["compared"]}
    assert list(what) == [
        "model", "SAEs", "computed in", "number of samples", "samples", "unsteered", "steered", "won", "lost", "samples that differ",
    ]  # fmt: skip
    assert all(row["agrees"] for row in what.values())
    assert not (tmp_path / "cache" / "runs").exists(), "nothing is kept of it"


def test_a_set_that_clamps_and_ablates_is_measured_again_as_it_was(loaded, strong, file):
    model, saes = loaded
    rows = [SteeringRow(1, 3, 90.0, operation="clamp"), SteeringRow(2, 5, 0.0, operation="ablate", from_token=1)]
    steering, task = strong.with_rows(rows), custom_task("exact", file, max_new_tokens=3)
    found = evaluate_set(steering, task, model=model, saes=saes)
    assert found.comparison.changed
    carried = evidence.of_measurement(steering, found.summary(), found.samples)
    assert replay(steering, carried, task, model=model, saes=saes).agrees


@pytest.mark.parametrize("side", ["unsteered", "steered"])
def test_one_outcome_that_was_tampered_with_is_found(proven, file, capsys, side):
    _, carried = evidence.read(proven)
    outcomes = carried.outcomes()
    column = ("unsteered", "steered").index(side)
    outcomes[5, column] = 1 - outcomes[5, column]
    status, found, err = verified(changed(proven, **{side: evidence.packed(outcomes[:, column])}), file, capsys)
    assert status == 1
    assert found["differing"] == 1
    wrong = [row["what"] for row in found["compared"] if not row["agrees"]]
    assert {side, "samples that differ"} <= set(wrong)
    assert "The evidence does not hold" in err


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("unsteered_rate", "unsteered"),
        ("steered_rate", "steered"),
        ("positive_flips", "won"),
        ("negative_flips", "lost"),
    ],
)
def test_one_number_that_was_tampered_with_is_found(proven, file, capsys, name, shown):
    _, carried = evidence.read(proven)
    status, found, _ = verified(changed(proven, **{name: getattr(carried, name) + 1}), file, capsys)
    assert status == 1
    assert [row["what"] for row in found["compared"] if not row["agrees"]] == [shown]


def test_other_samples_are_found(proven, file, capsys):
    file.write_text(file.read_text().replace("say 3", "say three"))
    status, found, err = verified(proven, file, capsys)
    assert status == 1
    assert "does not hold: samples." in err
    assert found["compared"][-1]["what"] == "samples"


def test_hashes_that_were_tampered_with_are_found(proven, file, capsys):
    status, _, err = verified(changed(proven, model_fingerprint="0" * 12, sae_fingerprints=["1", "2"]), file, capsys)
    assert status == 1
    assert "does not hold: model, SAEs." in err


def test_another_model_is_refused(proven, file, tmp_path, capsys):
    body = json.loads(proven.read_text())
    other = tmp_path / "other"
    shutil.copytree(body["model"], other)
    from safetensors.torch import load_file, save_file

    weights = load_file(other / "model.safetensors")
    name = sorted(weights)[0]
    weights[name] = weights[name] * 2
    save_file(weights, other / "model.safetensors", {"format": "pt"})
    proven.write_text(json.dumps(body | {"model": str(other)}))
    status, found, err = verified(proven, file, capsys)
    assert (status, found) == (1, None)
    assert err.count("\n") == 1
    assert "model" in err


def test_a_file_that_is_gone_is_one_sentence(proven, tmp_path, capsys):
    status, _, err = verified(proven, tmp_path / "gone.jsonl", capsys)
    assert status == 1
    assert err.startswith("error: ")
    assert "gone.jsonl" in err
    assert err.count("\n") == 1


def test_an_answer_that_nearly_tied_does_not_speak_against_evidence(loaded, strong, file, proven, monkeypatch):
    from corrsteer_core.proof import replay as module

    steering, carried = evidence.read(proven)
    outcomes = carried.outcomes()
    outcomes[5, 1] = 1 - outcomes[5, 1]
    tampered = replace(
        carried, steered=evidence.packed(outcomes[:, 1]), steered_rate=outcomes[:, 1].mean(),
        positive_flips=int((outcomes[:, 1] > outcomes[:, 0]).sum()), negative_flips=int((outcomes[:, 1] < outcomes[:, 0]).sum()),
    )  # fmt: skip
    model, saes = loaded
    task = custom_task("exact", file, max_new_tokens=3)
    assert not replay(steering, tampered, task, model=model, saes=saes).agrees
    monkeypatch.setitem(module.BOUND, "float32", float("inf"))
    found = replay(steering, tampered, task, model=model, saes=saes)
    assert found.agrees
    assert "but for 1 of its samples" in found.sentence
    assert asdict(found.rows[-1]) == {"what": "samples that differ", "stated": 0, "found": 1, "agrees": True}
