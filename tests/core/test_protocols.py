import pytest

from lensllm.core.protocols import Executor, Runner
from lensllm.core.trials import Trial, TrialResult


class Looking(Runner):
    """Has the two methods without an answer of their own."""

    def task(self):
        raise NotImplementedError

    def run(self, trial):
        return TrialResult(trial, "completed", test_loss=float(trial.n_samples))


def test_a_runner_that_only_looks_trials_up_has_nothing_to_inspect_or_to_keep():
    runner, trial = Looking(), Trial("a", "demo", 200)
    assert (runner.store, runner.inspect(2), runner.known(), runner.data_summary()) == (
        None,
        {},
        [],
        {},
    )
    assert runner.complete(trial) == trial


def test_an_executor_runs_trials_here_in_their_order():
    executor = Executor()
    trials = [Trial("a", "demo", n) for n in (400, 200)]
    for trial in trials:
        executor.start(Looking(), trial)
    assert [executor.next()[1].test_loss for _ in trials] == [400.0, 200.0]
    assert (executor.n_workers, executor.n_here) == (1, 1)
    executor.close()


def test_a_runner_without_a_task_is_refused():
    with pytest.raises(TypeError, match="abstract"):
        Runner()
