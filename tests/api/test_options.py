import pytest

import lensllm
from lensllm.api.reopen import read_result
from tests.conftest import make_pairs

ROWS = [{"input": source, "target": target} for source, target in make_pairs(300, seed=1)]


@pytest.fixture
def select(tmp_path):
    def call(models, **options):
        given = {
            "budget": "60%",
            "sizes": [12, 25],
            "epochs": 1,
            "n_evaluations": 1,
            "batch_size": 32,
            "output": tmp_path / "out",
            "store": tmp_path / "trials",
        }
        return lensllm.select(ROWS, models, **{**given, **options})

    return call


def test_arms_limits_data_needs_and_weights_in_one_campaign(select, model_folders, tmp_path):
    arms = {"source": str(model_folders["opt"]), "lr": [1e-4, 1e-2]}
    large = str(model_folders["bart"])
    most = n_params_of(large) - 1
    result = select([arms, large], limits={"max_params": most}, target_loss=0.01, keep_weights=True)
    table = result.leaderboard().set_index("candidate")
    assert result.best == "tiny-opt lr=0.01"
    assert table["model"].tolist() == ["tiny-opt", "tiny-opt", "tiny-bart"]
    assert table["p_best_model"].iloc[0] == pytest.approx(1.0)
    assert "Expected parameters of at most" in table.loc["tiny-bart", "status"]
    assert result.verdict.kind == "clear"  # whichever of its learning rates is better
    (needs,) = result.selection.data_needs
    assert (needs.model, needs.target_loss) == (result.best, 0.01)
    assert "With twice the data" in dict(result.answer.notes)["More data"]
    kept = {path.name.split("-D")[0] for path in (tmp_path / "trials" / "weights").iterdir()}
    assert kept == {"tiny-opt_lr=0.0001", "tiny-opt_lr=0.01"}
    folder = result.finetune(tmp_path / "model")
    assert "tiny-opt lr=0.01, fine-tuned on" in (folder / "README.md").read_text(encoding="utf-8")
    again, _ = read_result(tmp_path / "out")
    assert again.selection.data_needs == (needs,)
    assert again.leaderboard()["model"].tolist() == table["model"].tolist()


def test_limits_that_a_runner_cannot_check_are_refused(tmp_path):
    options = {"runner": "replay", "replay": {"dataset": "docstrings"}, "output": tmp_path / "out"}
    with pytest.raises(ValueError, match=r"Expected runner=finetune with limits.max_params"):
        lensllm.select(limits={"max_params": 1e6}, **options)
    with pytest.raises(ValueError, match=r"Expected runner=finetune with keep_weights"):
        lensllm.select(keep_weights=True, **options)


def n_params_of(folder):
    from lensllm.finetune import ModelSource

    return ModelSource(folder).n_params
