"""A feature's profile on a run that a tiny model really made: its activations pool to what the run holds."""

import json

import pytest

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.cli import main
from corrsteer_core.inspection import feature_profile, logit_lens
from corrsteer_core.method import collecting, run_setup
from corrsteer_core.runs import feature_lists, stored_run
from corrsteer_core.storage import reading, writing
from corrsteer_core.tasks import get_task
from tests.made import runs as tiny


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CORRSTEER_CACHE", str(tmp_path_factory.mktemp("cache")))
        model, saes = tiny.load()
        folders = [sae.source for sae in saes]
        task = get_task("sentiment")
        setup = run_setup.set_up(task, model=model, sae=folders, limit=40, max_new_tokens=5, chat=False)
        collecting.collect(setup)
        with writing.Writer(setup.run) as writer:  # this model is never right; features need something to go with
            writer.connection.execute("UPDATE samples SET outcome = hash(sample) % 2")
        collecting.refit(setup.run)
        yield setup.run, model, saes


def some_feature(run):
    return reading.query(
        run, "SELECT layer, feature FROM activations WHERE value > 0.5 GROUP BY ALL HAVING count(*) > 12 ORDER BY ALL"
    ).iloc[-1]


def test_activations_pool_to_the_stored_value(made):
    run, model, saes = made
    layer, feature = map(int, some_feature(run))
    drawn = feature_profile.profile_of(run, layer, feature, model, saes)
    assert {one.part for one in drawn.samples} == {"strongest", "upper quarter", "middle", "lower quarter"}
    for one in drawn.samples:
        assert one.activations.pooled() == pytest.approx(one.stored, abs=2e-4)
        assert "".join(span.text for span in one.activations.spans) == model.tokenizer.decode(
            one.activations.text.tokens
        )
    assert drawn.highest >= drawn.samples[0].stored > 0
    assert drawn.tokens == logit_lens.promoted(model, feature_profile.sae_of(saes, layer), [feature])[0]
    assert {one.layer for one in drawn.within} == {layer}
    assert {one.layer for one in drawn.elsewhere} == set(tiny.LAYERS) - {layer}
    assert drawn.guess


def test_how_far_a_profile_is_is_told_with_no_hook_on_the_model(made):
    run, model, saes = made
    layer, feature = map(int, some_feature(run))
    reported = []

    def progress(*what):
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.net.modules())
        reported.append(what)

    drawn = feature_profile.profile_of(run, layer, feature, model, saes, progress=progress)
    assert [done for _, done, _ in reported[:-1]] == list(range(0, len(drawn.samples), feature_profile.EACH))


def test_neighbours_are_named_by_the_tokens_they_make_likelier(made):
    run, model, saes = made
    layer, feature = map(int, some_feature(run))
    drawn = feature_profile.profile_of(run, layer, feature, model, saes)
    for one in (*drawn.within, *drawn.elsewhere):
        scores = logit_lens.token_scores(model, feature_profile.sae_of(saes, one.layer), [one.feature])[0]
        best = scores.argsort(descending=True)[: feature_profile.WORDS]
        assert one.promotes == tuple(logit_lens.token_label(model, int(token)) for token in best)


def test_a_text_of_ones_own(made):
    run, model, saes = made
    layer, feature = map(int, some_feature(run))
    found = feature_profile.own_text(run, layer, feature, "hello there", " yes", model, saes)
    assert "".join(span.text for span in found.spans) == "hello there yes"
    assert [span.text for span in found.spans if found.is_answer(span)] == list(" yes")
    with pytest.raises(CorrSteerError, match="empty"):
        feature_profile.own_text(run, layer, feature, "", "", model, saes)


def test_a_feature_that_is_not_there(made):
    run, model, saes = made
    with pytest.raises(CorrSteerError, match="no SAE of layer 9; its layers are 1, 2"):
        feature_profile.profile_of(run, 9, 0, model, saes)
    with pytest.raises(CorrSteerError, match="features 0 to 47"):
        feature_profile.profile_of(run, 1, 48, model, saes)


def test_many_features_are_described_at_once(made):
    run, model, saes = made
    assert feature_profile.describe(run, top=6, model=model, saes=saes) == 6
    described = feature_lists.features(run, feature_lists.FeatureFilter(described=True))
    assert len(described) == feature_lists.described_features(run) == 6
    best = described.iloc[0]
    drawn = feature_profile.profile_of(run, int(best["layer"]), int(best["feature"]), model, saes)
    makes = drawn.guess.split("; ")[-1]
    assert best["description"].split("; ")[-1] == makes


def test_where_no_feature_can_be_ranked_none_is_described(made):
    run, model, saes = made
    fitted = stored_run.features_of(run).drop(columns="run")
    with writing.Writer(run) as store:
        store.replace("features", fitted.assign(r=None))
    assert feature_profile.describe(run, model=model, saes=saes) == 0
    with writing.Writer(run) as store:
        store.replace("features", fitted)  # other tests have the same run


def test_the_command_line_prints_a_feature(made, capsys):
    run, _, _ = made
    layer, feature = map(int, some_feature(run))
    assert main.main(["feature", run, str(layer), str(feature), "--json", "--quiet"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["layer"] == layer
    assert len(found["promoted"]) == len(found["suppressed"]) == logit_lens.TOP
    assert max(one["activation"] for one in found["texts"][0]["tokens"] if one["pooled"]) == pytest.approx(
        found["texts"][0]["pooled"], abs=2e-4
    )
    assert main.main(["feature", run, str(layer), str(feature), "--quiet"]) == 0
    assert "promoted" in capsys.readouterr().out
    assert main.main(["feature", run, "9", "0", "--quiet"]) == 1
    assert "no SAE of layer 9" in capsys.readouterr().err
