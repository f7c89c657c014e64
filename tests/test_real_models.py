"""Real pre-trained models from the Hub; run with LENSLLM_HUB=1 where there is one."""

import json
import os

import pytest


@pytest.mark.hub
@pytest.mark.slow
@pytest.mark.skipif(os.environ["HF_HUB_OFFLINE"] == "1", reason="needs the hub: LENSLLM_HUB=1")
def test_a_campaign_of_a_real_model_beside_the_zoo(run_main, jsonl_300, tmp_path):
    from scripts.select_model import main

    source = "{_target_:lensllm.finetune.ModelSource,source:HuggingFaceTB/SmolLM2-135M"
    lora = "finetune:{_target_:lensllm.finetune.AdapterConfig,method:lora,learning_rate:5e-4}}"
    done = run_main(
        main,
        f"candidates.models=[{source},{lora},opt-64x2]",
        "dataset=jsonl",
        f"dataset.path={jsonl_300}",
        "dataset.max_evaluation=20",
        "selector=sub_tuning",
        "measure=loss_per_byte",
        "budget.fraction=2",
        "sizes=[0,24,48]",
        "n_samples_full=96",
        "training.max_epochs=1",
        "logger=none",
        f"paths.output_dir={tmp_path}",
        f"hydra.run.dir={tmp_path}/run",
    )
    assert done.code == 0, done.err
    record = json.loads((tmp_path / "run" / "selection.json").read_text())
    assert record["selected"] == "HuggingFaceTB/SmolLM2-135M+lora"
