"""Descriptions from Neuronpedia's files, whatever they hold, and guesses of our own."""

import gzip
import json

import pytest

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.cli import main
from corrsteer_core.inspection import descriptions
from corrsteer_core.inspection.descriptions import import_file, neuronpedia_id, neuronpedia_link, own_guess
from corrsteer_core.runs import feature_facts, feature_lists
from corrsteer_core.storage import writing
from tests.made import fabricated

HOSTILE = "<script>alert(1)</script> \u202eevil \x00\x07 '); DROP TABLE features; -- \ud800"


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path / "cache"))
    return fabricated.make_run()


def record(layer="8-res-tiny", index="41", description="praise", **other):
    return {"modelId": "tiny", "layer": layer, "index": index, "description": description, **other}


def write(tmp_path, *records, name="e.jsonl"):
    path = tmp_path / name
    path.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    return path


def stored_descriptions(run, layer=8, feature=41):
    return feature_facts.descriptions(run, layer, feature).to_dict("records")


def test_the_forms_neuronpedia_exports_are_read(run, tmp_path):
    records = [record(), record("22-res-tiny", 7, "rain"), record("9-res-tiny"), record(index="40", layer=8)]
    lines = write(tmp_path, *records)
    whole = tmp_path / "e.json"
    whole.write_text(json.dumps(records))
    packed = tmp_path / "e.jsonl.gz"
    packed.write_bytes(gzip.compress(lines.read_bytes(), mtime=0))
    for path in (lines, whole, packed):
        assert import_file(run, path) == descriptions.Imported(kept=3, repeated=0, other=1)
        assert stored_descriptions(run)[0]["description"] == "praise"
        assert stored_descriptions(run)[0]["source"] == "neuronpedia"
        assert stored_descriptions(run)[0]["neuronpedia"] == "tiny/8-res-tiny"
        assert stored_descriptions(run, 22, 7)[0]["description"] == "rain"
    assert feature_lists.described_features(run) == 3


def test_line_separators_inside_descriptions_do_not_end_a_line(run, tmp_path):
    path = tmp_path / "e.jsonl"
    lines = [json.dumps(record(description=f"a{mark}b"), ensure_ascii=False) for mark in "\u2028\u2029\x85"]
    path.write_bytes("\r\n".join(lines).encode())
    assert import_file(run, path) == descriptions.Imported(kept=1, repeated=2, other=0)
    assert stored_descriptions(run)[0]["description"] == "a b"


def test_the_first_of_several_descriptions_counts_and_an_import_replaces_an_earlier_one(run, tmp_path):
    assert import_file(run, write(tmp_path, record(), record(description="blame"))).repeated == 1
    assert stored_descriptions(run)[0]["description"] == "praise"
    import_file(run, write(tmp_path, record(description="thanks")))
    assert [one["description"] for one in stored_descriptions(run)] == ["thanks"]


def test_features_and_saes_the_run_does_not_have_are_left_out(run, tmp_path, monkeypatch):
    found = import_file(run, write(tmp_path, record(), record(index=str(fabricated.D_SAE))))
    assert (found.kept, found.other) == (1, 1)
    monkeypatch.setattr(descriptions, "neuronpedia_id", lambda source: "tiny/8-res-tiny" if "8" in source else None)
    found = import_file(run, write(tmp_path, record(), record("8-res-other", "3")))
    assert (found.kept, found.other) == (1, 1)
    with pytest.raises(CorrSteerError, match="no description for a feature of.*1 records are of other"):
        import_file(run, write(tmp_path, record("8-res-other")))


def test_two_saes_for_a_layer_are_refused_where_the_runs_is_not_known(run, tmp_path):
    with pytest.raises(CorrSteerError, match="two SAEs for layer 8"):
        import_file(run, write(tmp_path, record(), record("8-res-other", "3")))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no description for a feature"),
        (b"not json", "Line 1 of .* is no JSON"),
        (b"[1, 2", "begins like a JSON list"),
        (b'{"index": ' + b"1" * 5_000 + b"}", r"Line 1 of .* is no JSON: Exceeds the limit \(4300 digits\)[^;]*\.$"),
        (b"[" + b"1" * 5_000 + b"]", "begins like a JSON list, but is none: Exceeds the limit"),
        (b"[1, 2]", "record 1 of .* is no JSON object"),
        (b"[" * 100_000, "begins like a JSON list"),
        (b"\x1f\x8b broken", "cannot be read"),
        (b"\xff\xfe\x00", "no UTF-8"),
        (json.dumps(record(layer=None)).encode(), "no layer like"),
        (json.dumps(record(layer=True)).encode(), "no layer like"),
        (json.dumps(record(layer="x'; DROP")).encode(), "no layer like"),
        (json.dumps(record(index="-1")).encode(), "no feature number"),
        (json.dumps(record(index=1.5)).encode(), "no feature number"),
        (json.dumps(record(description=None)).encode(), "no text"),
    ],
)
def test_what_is_no_export_is_a_sentence(run, tmp_path, content, message):
    path = tmp_path / "e.jsonl"
    path.write_bytes(content)
    with pytest.raises(CorrSteerError, match=message):
        import_file(run, path)
    assert feature_lists.described_features(run) == 0


def test_a_file_that_is_not_there_or_a_run_is_a_sentence(run, tmp_path):
    with pytest.raises(CorrSteerError, match="cannot be read"):
        import_file(run, tmp_path / "none")
    with pytest.raises(CorrSteerError, match="no run"):
        import_file("../x", write(tmp_path, record()))


def test_hostile_descriptions_are_stored_as_text(run, tmp_path):
    count = feature_lists.count_features(run)
    import_file(run, write(tmp_path, record(description=HOSTILE), record(index=3, description="x" * 5000)))
    text = stored_descriptions(run)[0]["description"]
    assert text.startswith("<script>alert(1)</script>")
    assert "\x00" not in text
    assert text.encode("utf-8")
    assert len(stored_descriptions(run, 8, 3)[0]["description"]) == descriptions.LONGEST
    assert feature_lists.count_features(run) == count


def test_descriptions_are_found_by_their_words_and_shown_in_the_table(run, tmp_path):
    import_file(run, write(tmp_path, record(description="Words of Praise")))
    descriptions.keep(
        run,
        fabricated.pd.DataFrame(
            [
                {"layer": 8, "feature": 41, "source": "own", "description": "a guess", "promoted": "zebra\nlion"},
                {"layer": 22, "feature": 7, "source": "own", "description": "another guess", "promoted": "zebras"},
            ]
        ),
    )
    for text, expected in (("of praise", {(8, 41)}), ("ZEBRA", {(8, 41), (22, 7)}), ("guess", {(8, 41), (22, 7)})):
        found = feature_lists.features(run, feature_lists.FeatureFilter(text=text))
        assert set(zip(found["layer"], found["feature"], strict=True)) == expected
    found = feature_lists.features(run, feature_lists.FeatureFilter(described=True)).set_index("feature")
    assert found.loc[41, ["description", "description_source"]].tolist() == ["Words of Praise", "neuronpedia"]
    assert found.loc[7, ["description", "description_source"]].tolist() == ["another guess", "own"]
    assert feature_facts.one_feature(run, 22, 7)["description"] == "another guess"
    assert [one["source"] for one in stored_descriptions(run)] == ["neuronpedia", "own"]


def test_a_run_of_before_descriptions_can_still_be_read(run):
    with writing.Writer(run) as writer:
        writer.connection.execute("DROP TABLE descriptions")
    assert feature_lists.count_features(run) == len(feature_lists.features(run, limit=10_000)) > 0
    assert feature_lists.features(run)["description"].isna().all()
    assert stored_descriptions(run) == []
    assert feature_lists.described_features(run) == 0


def test_names_on_neuronpedia_come_from_the_saes_own_metadata(tmp_path):
    folder = tmp_path / "sae"
    folder.mkdir()
    for name, expected in (("m/8-res", "m/8-res"), (None, None), ("javascript:alert(1)//", None), ('m/"><b>', None)):
        (folder / "cfg.json").write_text(json.dumps({"metadata": {"neuronpedia_id": name}}))
        assert neuronpedia_id(str(folder)) == expected
    (folder / "cfg.json").write_text("broken")
    assert neuronpedia_id(str(folder)) is None
    assert neuronpedia_id("embedded/layer_8") is None
    assert neuronpedia_id("no-such-release/at-all") is None
    known = neuronpedia_id("gemma-scope-2b-pt-res-canonical/layer_20/width_16k/canonical")
    assert known == "gemma-2-2b/20-gemmascope-res-16k"
    assert neuronpedia_link(known, 7) == "https://www.neuronpedia.org/gemma-2-2b/20-gemmascope-res-16k/7"
    assert neuronpedia_link(None, 7) is None
    assert neuronpedia_link("a/b?c=<x>", 7) is None


def test_a_guess_names_tokens_that_differ():
    guess = own_guess([" good", "good", " Good", " well", "\n"], [" and", " And", " stay"])
    assert guess == "Most active at “and”, “stay”; makes “good”, “well” likelier"
    assert own_guess([" good"], []) == "Makes “good” likelier"
    assert own_guess([], []) == ""


def test_the_command_line_imports(run, tmp_path, capsys):
    assert main.main(["describe", run, "--file", str(write(tmp_path, record())), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"kept": 1, "repeated": 0, "other": 0}
    assert main.main(["describe", run, "--file", str(tmp_path / "none")]) == 1
    assert "cannot be read" in capsys.readouterr().err
