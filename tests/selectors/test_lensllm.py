from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf

from lensllm.core.task import Budget, BudgetTooSmallError
from lensllm.curvature import NTKLoss
from lensllm.curvature.provider import NTKRecord
from lensllm.execution.replay import ReplayRunner
from lensllm.laws import LensLLMLaw
from lensllm.reports.words import decision_words
from lensllm.selectors import EverySize, run_campaign
from lensllm.selectors.lensllm import SCALES, LensLLM

SIZES = (0, 200, 400, 800, 1600, 3200, 6400, 12800)
FULL = 102_400
RNG = np.random.default_rng(0)
CURVES = {
    name: NTKLoss(np.sort(RNG.exponential(2.0, 16))[::-1], 4.0 * RNG.normal(size=16), 1e-3)
    for name in "abc"
}
# c is behind at every size seen and ahead at the full one.
PARAMS = {"a": [6.0, 0.35, 30.0, 2.5], "b": [8.0, 0.3, 60.0, 2.3], "c": [60.0, 0.45, 10.0, 2.1]}


def losses(name, sizes):
    law = LensLLMLaw(CURVES[name])
    return {n: float(law([float(n)], PARAMS[name])[0]) for n in sizes}


@pytest.fixture
def campaign(make_task, make_curves):
    """Ask, answer from the law and charge until nothing more is asked for; then rank."""

    def run(selector, change=None, budget=None, sizes=SIZES):
        task = make_task("abc", sizes, FULL)
        budget = budget or Budget(max_n_samples=12800)
        seen = {name: {} for name in "abc"}
        asked = []
        while trials := selector.ask(task, make_curves(seen), budget).trials:
            for trial in trials:
                asked.append((trial.model, trial.n_samples))
                loss = losses(trial.model, [trial.n_samples])[trial.n_samples]
                seen[trial.model][trial.n_samples] = loss * (change or {}).get(asked[-1], 1.0)
        return selector.rank(task, make_curves(seen)), asked

    return run


def test_recovers_the_law_and_finds_the_best_at_full_size(campaign):
    selection, asked = campaign(LensLLM(CURVES))
    truth = {name: losses(name, [FULL])[FULL] for name in "abc"}
    assert selection.best.model == min(truth, key=truth.get) == "c"
    assert min("abc", key=lambda name: losses(name, [12800])[12800]) != "c"
    for entry in selection.ranking:
        assert entry.score == pytest.approx(truth[entry.model], rel=2e-3)
        assert entry.lower80 < entry.predicted_loss < entry.upper80
    assert sorted(asked) == sorted((name, n) for name in "abc" for n in SIZES)


def test_stops_at_a_point_off_the_law(campaign):
    selection, asked = campaign(LensLLM(CURVES, gamma=4), {("a", 800): 1.1})
    assert ("a", 800) in asked
    assert ("a", 400) not in asked
    assert ("b", 200) in asked
    note = next(x for x in decision_words(selection) if x.startswith("a:"))
    assert "4 points from D = 1600 to 12800" in note


def test_tau_decides(campaign):
    change = {("a", 800): 1.0035}
    _, asked = campaign(LensLLM(CURVES, gamma=4, tau=1.0), change)
    assert ("a", 400) not in asked
    _, asked = campaign(LensLLM(CURVES, gamma=4, tau=20.0), change)
    assert ("a", 200) in asked


def test_first_points_suffice_for_the_parameters():
    assert LensLLM(CURVES, gamma=3).n_first == 3
    assert LensLLM(CURVES, gamma=3, use_zero=False).n_first == 4
    assert LensLLM(CURVES, gamma=3, use_zero=False, mode="phase").n_first == 3
    assert LensLLM(CURVES, gamma=5).n_first == 5


def test_without_zero_it_is_not_asked_for(campaign):
    _, asked = campaign(LensLLM(CURVES, use_zero=False))
    assert all(n > 0 for _, n in asked)


def test_ntk_flops_are_taken_off_the_budget(make_task, make_curves):
    def provider(name):
        return NTKRecord(CURVES[name], 100.0)

    selector = LensLLM(provider)
    task = make_task("abc", SIZES, FULL)
    assert selector.preparation_cost(task) == 300.0
    # A trial costs (position + 1) * D: all up to D = 800 cost 6 * 1400, up to 1600 6 * 3000.
    empty = make_curves({})
    for flops, largest in ((6 * 3000 + 300, 1600), (6 * 3000 + 299, 800)):
        trials = selector.ask(task, empty, Budget(flops)).trials
        assert max(trial.n_samples for trial in trials) == largest
    need = (
        r"at least 8.4e\+03 FLOPs .* 4 sizes .*beside 300 FLOPs .*, D up to 800; .* 3 \(D <= 400\)"
    )
    with pytest.raises(BudgetTooSmallError, match=need):
        selector.ask(task, empty, Budget(6 * 1400 + 299))
    with pytest.raises(
        ValueError, match=r"at least 300 FLOPs .* the NTKs of the candidates; got 300"
    ):
        selector.ask(task, empty, Budget(300))


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_campaign_is_charged_with_the_ntks_once_whoever_wraps_the_selector(wrapped):
    rows = [
        {"model": name, "dataset": "demo", "n_samples": n, "seed": 0, "test_loss": loss, "flops": n}
        for name in "abc"
        for n, loss in losses(name, (*SIZES, FULL)).items()
    ]
    runner = ReplayRunner(pd.DataFrame(rows), "demo")
    selector = LensLLM(lambda name: NTKRecord(CURVES[name], 1000.0))
    budget = Budget(200_000.0)
    selection, curves = run_campaign(EverySize(selector) if wrapped else selector, runner, budget)
    assert selection.best.model == "c"
    assert selection.cost_flops == curves["flops"].sum() + 3000.0


def test_each_ntk_is_asked_for_once(campaign):
    calls = []

    def provider(name):
        calls.append(name)
        return CURVES[name]

    campaign(LensLLM(provider))
    assert sorted(calls) == ["a", "b", "c"]


def test_phase_mode_takes_the_observed_step(make_task, make_curves):
    selector = LensLLM(CURVES, mode="phase")
    task = make_task("abc", SIZES, FULL)
    curves = make_curves({name: losses(name, SIZES) for name in "abc"})
    with pytest.raises(ValueError, match=r"`best_step` > 0 of 'a' at n_samples = 12800, got nan"):
        selector.rank(task, curves)
    curves["best_step"] = [PARAMS[m][2] for m in curves["model"]]
    for entry in selector.rank(task, curves).ranking:
        expected = losses(entry.model, [FULL])[FULL]
        assert entry.score == pytest.approx(expected, rel=2e-3)


def test_phase_mode_replays_recorded_steps_and_refuses_curves_without():
    rows = [
        {"model": m, "dataset": "demo", "n_samples": n, "seed": 0, "test_loss": loss, "flops": n}
        for m in "abc"
        for n, loss in losses(m, (*SIZES, FULL)).items()
    ]
    table = pd.DataFrame(rows)
    selector = LensLLM(CURVES, mode="phase")
    steps = [PARAMS[m][2] for m in table["model"]]
    runner = ReplayRunner(table.assign(best_step=steps), "demo")
    selection, _ = run_campaign(selector, runner, Budget(max_n_samples=12800))
    assert selection.best.model == "c"
    assert (selection.selector, selector.name) == ("lensllm_phase", "lensllm_phase")
    with pytest.raises(ValueError, match=r"`best_step` > 0 of 'a' at n_samples = 12800, got 0"):
        run_campaign(selector, ReplayRunner(table, "demo"), Budget(max_n_samples=12800))


def test_scale_is_fitted_over_the_candidates(make_task, make_curves):
    """F a hundred times too small cannot reach the curves' D_l unless it is scaled."""
    small = {
        name: NTKLoss(c.eigenvalues, c.coefficients / 10, c.learning_rate)
        for name, c in CURVES.items()
    }
    task = make_task("abc", SIZES, FULL)
    curves = make_curves({name: losses(name, SIZES) for name in "abc"})
    fitted = LensLLM(small, ntk_scale=None)._scale(task, curves)
    assert fitted in SCALES
    assert fitted >= 31
    selection = LensLLM(small, ntk_scale=None).rank(task, curves)
    assert decision_words(selection)[0] == f"ntk_scale = {fitted:g}, fitted"


def test_diverged_and_absent_trials(make_task, make_curves):
    task = make_task("abc", SIZES, FULL)
    seen = {"a": losses("a", SIZES), "b": {**losses("b", SIZES), 6400: np.nan}, "c": {0: 4.0}}
    ranking = LensLLM(CURVES).rank(task, make_curves(seen)).ranking
    assert [entry.status for entry in ranking] == ["ranked", "ranked", "no usable trial"]
    expected = losses("b", [FULL])[FULL]
    found = next(entry for entry in ranking if entry.model == "b")
    assert found.score == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gamma": 2}, "`gamma` >= 3, got 2"),
        ({"tau": 0.0}, "`tau` > 0, got 0"),
        ({"mode": "guess"}, "got 'guess'"),
        ({"ntk_scale": -1.0}, "`ntk_scale` > 0 or none, got -1"),
    ],
)
def test_unusable_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        LensLLM(CURVES, **change)


def test_without_curves_it_says_so(make_task, make_curves):
    task = make_task("abc", SIZES, FULL)
    with pytest.raises(ValueError, match="Expected `ntk`"):
        LensLLM().ask(task, make_curves({}), Budget())
    with pytest.raises(ValueError, match="curve of 'a'"):
        LensLLM({"b": CURVES["b"]}).ask(task, make_curves({}), Budget())


def test_yaml_has_the_arguments_of_the_classes():
    import inspect

    from hydra.utils import get_class

    folder = Path(__file__).parents[2] / "conf" / "selector"
    for name, nested in (("lensllm", "ntk"), ("nlp_metrics", "metrics")):
        config = OmegaConf.to_container(OmegaConf.load(folder / f"{name}.yaml"), resolve=False)
        for part in (config, config[nested]):
            accepted = inspect.signature(get_class(part["_target_"])).parameters
            assert set(part) - {"_target_"} <= set(accepted)
