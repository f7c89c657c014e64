"""Configurations from elsewhere that would run code, fill the memory or keep a secret."""

import json
import os
import pickle

import pytest

from lensllm.system.limits import MAX_NODES, load_yaml, parse_yaml


class Witness:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.fixture
def select(run_main, tmp_path):
    """A replayed campaign, with overrides and a folder of YAML files beside `conf`."""
    from scripts.select_model import main

    folder = tmp_path / "elsewhere"
    (folder / "experiment").mkdir(parents=True)

    def run(*overrides, yaml=None, target=main):
        if yaml is not None:
            (folder / "experiment" / "evil.yaml").write_text(yaml)
            overrides = ("--config-dir", str(folder), "experiment=evil", *overrides)
        return run_main(
            target,
            *overrides,
            "runner=replay",
            "benchmark=zoo",
            "selector=model_size",
            "logger=none",
            f"paths.output_dir={tmp_path / 'out'}",
        )

    return run


def refused(done, *words):
    """One line that says all of it; exit code 2."""
    (line,) = done.err.strip().splitlines()
    assert done.code == 2, line
    for word in words:
        assert word in line, (word, line)


@pytest.mark.parametrize("way", ["file", "command"])
@pytest.mark.parametrize(
    ("target", "arguments"),
    [
        ("joblib.load", {"filename": "{pickle}"}),
        ("torch.load", {"f": "{pickle}", "weights_only": False}),
        ("pandas.read_pickle", {"filepath_or_buffer": "{pickle}"}),
        (
            "transformers.AutoConfig.from_pretrained",
            {"pretrained_model_name_or_path": "{folder}", "trust_remote_code": True},
        ),
        ("pathlib.Path.write_text", {"self": {"_target_": "pathlib.Path", "_args_": ["{new}"]}}),
        ("pathlib.Path.unlink", {"self": {"_target_": "pathlib.Path", "_args_": ["{old}"]}}),
        ("builtins.eval", {"_args_": ["open('{new}','w')"]}),
        ("os.system", {"command": "touch {new}"}),
        ("hydra.utils.get_method", {"path": "os.system"}),
        ("lensllm.core.trials.Path.unlink", {"self": "{old}"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_code_of_a_configuration_is_not_run(select, tmp_path, way, target, arguments):
    old, new, pickled = tmp_path / "old", tmp_path / "new", tmp_path / "evil.pkl"
    old.write_text("kept")
    pickled.write_bytes(pickle.dumps(Witness(new)))
    names = {"pickle": pickled, "folder": tmp_path, "new": new, "old": old}
    text = json.dumps({"_target_": target, **arguments})
    for name, path in names.items():
        text = text.replace(f"{{{name}}}", str(path))
    if way == "file":
        done = select(yaml=f"# @package _global_\nselector:\n  parts:\n    - {text}\n")
    else:
        node = text.replace('"', "").replace("\\", "") if "open(" not in text else None
        if node is None:
            node = f"{{_target_:{target},_args_:[x]}}"
        done = select(f"+selector.parts=[{node}]")
    refused(done, "selector.parts[0]", "_target_", "allowed_targets=")
    assert not new.exists()
    assert old.read_text() == "kept"


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("allowed_targets: [os]\n", "allowed_targets"),
        ("hydra:\n  sweeper:\n    params:\n      allowed_targets: os\n", "allowed_targets"),
        ("hydra:\n  callbacks:\n    x:\n      _target_: os.system\n", "hydra.callbacks.x._target_"),
        ("hydra:\n  job_logging:\n    handlers:\n      x:\n        (): os.system\n", "()"),
        ("hydra:\n  job_logging:\n    handlers:\n      x:\n        class: os.system\n", "class"),
    ],
)
def test_a_file_cannot_vouch_for_itself(select, body, word):
    refused(select(yaml=f"# @package _global_\n{body}"), word, "evil.yaml")


def test_what_the_user_names_in_the_command_is_built(select, tmp_path, monkeypatch):
    (tmp_path / "my_package_7.py").write_text(
        "from lensllm.selectors import ModelSize\n\n\nclass Mine(ModelSize):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    body = "# @package _global_\nselector:\n  _target_: my_package_7.Mine\n"
    refused(select(yaml=body), "selector._target_", "my_package_7.Mine")
    done = select("allowed_targets=[my_package_7]", yaml=body)
    assert done.code == 0, done.err


def test_aliases_that_expand_without_end_are_refused(select):
    laughs = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    laughs += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    body = "# @package _global_\n" + "\n".join(laughs) + "\n"
    refused(select(yaml=body), f"at most {MAX_NODES} nodes", "evil.yaml")


@pytest.mark.parametrize(
    "body",
    [
        "a: [1,\n",
        "a: b: c\n",
        "a: &x\n  b: *x\n",
        "just words\n",
        "a: !!python/name:os.system ''\n",
    ],
)
def test_broken_yaml_is_told_with_its_file(select, body):
    refused(
        select(yaml=f"# @package _global_\n{body}"),
        "YAML" if "words" not in body else "keys",
        "evil.yaml",
    )


def test_deep_yaml_is_refused(tmp_path):
    for text in ("[" * 5000 + "]" * 5000, "[" * 45 + "]" * 45):
        with pytest.raises(ValueError, match=r"levels in there"):
            parse_yaml(text, "there")
    (tmp_path / "a.yaml").write_bytes(b"a: \xff")
    with pytest.raises(ValueError, match="UTF-8"):
        load_yaml(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("a: &x [1]\nb: *x\n")
    assert load_yaml(tmp_path / "a.yaml") == {"a": [1], "b": [1]}


def test_access_tokens_are_stored_nowhere(select, tmp_path, monkeypatch):
    monkeypatch.setenv("LENSLLM_TEST_TOKEN", "hf_abcdefgh")
    body = (
        "# @package _global_\noptimizer:\n  foreach: ${oc.env:LENSLLM_TEST_TOKEN}\n"
        "training:\n  prompt: 'hf_abcdefgh {input}'\n"
    )
    done = select(yaml=body)
    assert done.code == 0, done.err
    (path,) = tmp_path.glob("out/select/*/selection.json")
    settings = json.loads(path.read_text())["settings"]
    assert settings["optimizer"]["foreach"] == "${oc.env:LENSLLM_TEST_TOKEN}"
    assert settings["training"]["prompt"] == "${oc.env:LENSLLM_TEST_TOKEN} {input}"
    for path in tmp_path.glob("out/**/*.*"):
        if path.is_file() and ".hydra" not in path.parts:
            assert b"hf_abcdefgh" not in path.read_bytes(), path


def test_names_of_recorded_models_are_harmless(run_main, tmp_path):
    import pandas as pd

    from lensllm.system.harmless import write_csv
    from scripts.select_model import main

    names = ["[/oops]", "=cmd", "\x1b[31mred", "$x$$", "../up"]
    rows = [
        {
            "model": name,
            "dataset": "../data",
            "n_samples": n,
            "seed": 0,
            "test_loss": 5.0 - i / 9 - n / 9000,
            "n_params": 10,
        }
        for i, name in enumerate(names)
        for n in (0, 200, 400, 800, 1600, 3200, 6400)
    ]
    write_csv(pd.DataFrame(rows), tmp_path / "curves.csv")
    done = run_main(
        main,
        "runner=replay",
        "benchmark=csv",
        f"benchmark.path={tmp_path / 'curves.csv'}",
        "selector=sub_tuning",
        "logger=none",
        "budget.fraction=0.5",
        f"paths.output_dir={tmp_path / 'out'}",
    )
    assert done.code == 0, done.err
    assert "\x1b" not in done.out + done.err
    assert "[/oops]" in done.out
    assert r"\x1b[31mred" in done.out
    (path,) = tmp_path.glob("out/select/*/curves.csv")
    assert not [line for line in path.read_text().splitlines() if line.startswith("=")]
    assert {path.name for path in tmp_path.iterdir()} == {"curves.csv", "out"}
