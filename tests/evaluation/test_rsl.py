import hashlib
import shutil

import pytest

from lensllm.evaluation import download_rsl, load_rsl, rsl


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A local stand-in for the public repository, with its own checksums."""
    source = tmp_path / "served"
    source.mkdir()
    digests = {}
    for i, name in enumerate(rsl.SHA256):
        text = f"config name,0,200,400,size,family\nm1,{3 + i},2.5,2.0,100,A\nm2,4,3,2.5,200,B\n"
        (source / f"{name}.csv").write_text(text)
        digests[name] = hashlib.sha256(text.encode()).hexdigest()
    monkeypatch.setattr(rsl, "SHA256", digests)
    monkeypatch.setattr(rsl, "URL", source.as_uri())
    return source


def test_downloads_once_and_verifies(served, tmp_path):
    folder = tmp_path / "cache"
    benchmark = load_rsl(folder, n_samples_full=400)
    assert sorted(p.name for p in (folder / "rsl").iterdir()) == [
        "flan.csv",
        "gigaword.csv",
        "wmt19.csv",
    ]
    assert benchmark.datasets == ("flan", "gigaword", "wmt19")
    shutil.rmtree(served)
    assert load_rsl(folder).curves.equals(benchmark.curves)
    assert load_rsl(folder / "rsl").curves.equals(benchmark.curves)


def test_offline_says_what_to_do(served, tmp_path):
    shutil.rmtree(served)
    with pytest.raises(
        FileNotFoundError, match=r"paths\.benchmark_dir=FOLDER, or use benchmark=zoo"
    ):
        load_rsl(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("where", ["served", "cached"])
def test_another_version_is_refused(served, tmp_path, where):
    folder = tmp_path / "cache" / "rsl"
    if where == "cached":
        download_rsl(folder)
        (folder / "wmt19.csv").write_text("something else")
    else:
        (served / "wmt19.csv").write_text("something else")
    found = hashlib.sha256(b"something else").hexdigest()
    with pytest.raises(ValueError, match=f"got {found}: it is not the pinned version"):
        download_rsl(folder)


def test_the_recorded_files(benchmark_dir):
    for folder in (benchmark_dir, benchmark_dir / "rsl"):
        benchmark = load_rsl(folder)
        assert len(benchmark.curves) == 3 * 30 * 15
        runner = benchmark.runner("flan")
        # 6 · parameters · tokens of 20 epochs over all candidates: the sum in the paper's account
        params = sum(c.n_params for c in runner.task().candidates)
        assert params == pytest.approx(32.8e9, rel=0.01)
        expected = 6 * params * 1_638_400 * (23 + 12) * 20
        assert runner.task().full_cost == pytest.approx(expected)
