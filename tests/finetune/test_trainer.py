import pytest
import torch

from lensllm.finetune.trainer import make_gpu_trainer


@pytest.mark.parametrize(("tf32", "precision"), [(True, "high"), (False, "highest")])
def test_tf32_is_a_choice(monkeypatch, tf32, precision):
    before = torch.get_float32_matmul_precision()
    try:
        trainer = make_gpu_trainer(tf32=tf32, accelerator="cpu", devices=1, logger=False)
        assert torch.get_float32_matmul_precision() == precision
        assert trainer.num_devices == 1
    finally:
        torch.set_float32_matmul_precision(before)


def test_without_a_gpu_the_way_out_is_told():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ValueError, match="found none: take trainer=cpu"):
        make_gpu_trainer(accelerator="gpu")
