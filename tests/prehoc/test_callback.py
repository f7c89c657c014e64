from types import SimpleNamespace

from lensllm.core.trials import Trial
from lensllm.finetune.models import ModelSource
from lensllm.finetune.trial import TrainingSettings, run_trial
from lensllm.prehoc.callback import ProbeStopping, trace_rivals
from lensllm.prehoc.law import RiskLaw
from lensllm.prehoc.stopping import StoppingRule

LAW = RiskLaw(0.01, 0.01, 0.5)


def test_a_run_that_is_behind_its_rivals_is_stopped_with_the_reason(results):
    rivals = trace_rivals(r for r in results if r.trial.n_samples == 800)
    assert len(rivals(0.1)) == 8
    assert rivals(0.05) == []
    trainer = SimpleNamespace(
        callback_metrics={"val_loss": 9.0}, global_step=30, estimated_stepping_batches=150,
        should_stop=False,
    )  # fmt: skip
    callback = ProbeStopping(StoppingRule(LAW), rivals)
    callback.on_validation_end(trainer, None)
    assert trainer.should_stop
    assert callback.decision.reason == "hopeless"
    trainer.should_stop, trainer.callback_metrics["val_loss"] = False, 1.0
    callback.on_validation_end(trainer, None)
    assert not trainer.should_stop
    assert [cost for cost, _ in callback.decisions] == [0.2, 0.2]


def test_it_ends_real_training_where_the_price_says(model_folders, text_data, make_parts):
    parts = make_parts()
    callback = ProbeStopping(StoppingRule(LAW, price=0.01))  # worth it below c = 0.63
    make = parts["make_trainer"]

    def make_trainer(callbacks, **options):
        return make(callbacks=[*callbacks, callback], **options)

    parts["make_trainer"] = make_trainer
    settings = TrainingSettings(batch_size=8, max_epochs=2, n_evaluations=10)
    source = ModelSource(str(model_folders["gpt2"]))
    result = run_trial(Trial("gpt2", "toy", 80), source, text_data, settings, **parts)
    assert callback.decision.reason == "price"
    assert result.n_steps == 14  # of 20, at the first evaluation past 0.63
