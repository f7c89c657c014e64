"""Choose a model with TRL's SFTTrainer as the training program (pip install trl).

    python examples/ask_tell_trl.py

The task: compute a small sum that is written in words. Two models of the zoo; it takes
half a minute on one CPU core. Costs are the seconds that trials took, and so is the budget.
"""

import tempfile
import time

from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from lensllm import Study
from lensllm.zoo import ZOO_DIR

SPELLED = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7}
PAIRS = [
    {"prompt": f"{a} plus {b} times {c} is", "completion": f" {x + y * z}"}
    for a, x in SPELLED.items()
    for b, y in SPELLED.items()
    for c, z in SPELLED.items()
]
DATA = Dataset.from_list(PAIRS).train_test_split(test_size=80, seed=0)


def fine_tune(name, n_samples):
    """The test loss after one epoch on `n_samples` pairs."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=str(ZOO_DIR / name),
            args=SFTConfig(
                output_dir=folder,
                num_train_epochs=1,
                per_device_train_batch_size=16,
                learning_rate=1e-3,
                max_length=64,
                use_cpu=True,
                bf16=False,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
            ),
            train_dataset=DATA["train"].select(range(n_samples)),
            eval_dataset=DATA["test"],
        )
        trainer.train()
        return trainer.evaluate()["eval_loss"]


study = Study(["gpt2-48x2", "opt-64x2"], n_samples_full=len(DATA["train"]), budget=60.0)
while (trial := study.ask()) is not None:
    start = time.perf_counter()
    loss = fine_tune(trial.model, trial.n_samples)
    study.tell(trial, loss, cost=time.perf_counter() - start)
    print(f"{trial.model} on {trial.n_samples}: {loss:.3f}")
print(study.leaderboard()[["model", "predicted_loss", "lower80", "upper80", "p_best"]].round(3))
print(f"Fine-tune {study.best}: {study.selection.verdict.kind}")
