import pytest

from lensllm.core.trials import Trial, TrialResult


@pytest.fixture
def results():
    """Finished trials of four models, two seeds, D = 0, 200, 800 on one data set."""
    found = []
    for m in range(4):
        for seed in range(2):
            for n in (0, 200, 800):
                steps = 3 * -(-n // 16)
                final = 4.0 + 0.1 * m + 0.01 * seed - 0.001 * n
                trace = tuple((s, final + (steps - s) / 100) for s in range(15, steps + 1, 15))
                settings = {"training": {"max_epochs": 3, "batch_size": 16}} if n else {}
                trial = Trial(f"m{m}", "data", n, seed, settings)
                found.append(
                    TrialResult(
                        trial,
                        "completed",
                        test_loss=final,
                        test_loss_per_byte=final / 4,
                        n_params=1000 * (m + 1),
                        n_steps=steps,
                        train_flops=6.0 * n,
                        flops=7.0 * n,
                        seconds=n / 100,
                        trace=trace,
                    )
                )
    return found
