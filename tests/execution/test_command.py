"""One's own program as the trial: what it is told, where its loss is read, how it may end."""

import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from safetensors.numpy import save_file

from lensllm.core.task import NoCandidateError
from lensllm.core.trials import Trial, TrialStore
from lensllm.data.rows import nested_subset
from lensllm.execution.command import CommandRunner
from lensllm.execution.command_result import ResultSource
from lensllm.execution.command_template import PLACEHOLDERS, CommandTemplate
from lensllm.execution.pool import PoolExecutor
from lensllm.execution.slurm import SlurmExecutor

ROOT = Path(__file__).resolve().parents[2]
# A program that knows nothing of lensllm: it notes that it ran, and does as the last word says.
PROGRAM = """
import json, os, subprocess, sys, time
from pathlib import Path

ran, model, train, test, seed, out, mode = sys.argv[1:]
rows = [json.loads(line) for line in open(train, encoding="utf-8")]
assert set(rows[0]) == {"input", "target"}
with open(ran, "a") as stream:
    stream.write(f"{os.path.basename(model)} {len(rows)}\\n")
loss = {"small": 2.0, "large": 1.0}.get(os.path.basename(model), 1.5) + 5 * len(rows) ** -0.5
out = Path(out)
print("step 1: eval_loss = 9.5", flush=True)
if mode == "print":
    print(f"step 2: eval_loss = {loss}\\rdone")
elif mode == "metrics":
    (out / "metrics.json").write_text(json.dumps({"eval": {"loss": loss}}))
elif mode == "accuracy":
    history = [{"step": n, "eval_accuracy": v} for n, v in ((5, 1 - loss / 8), (10, 1 - loss / 4))]
    state = {"global_step": 10, "log_history": history}
    (out / "trainer_state.json").write_text(json.dumps(state))
elif mode == "nan":
    (out / "metrics.json").write_text(json.dumps({"eval": {"loss": float("nan")}}))
elif mode == "state" or mode == "checkpoints":
    history = [
        {"step": 5, "loss": 3.0},
        {"step": 5, "eval_loss": loss - 0.25},
        {"step": 10, "eval_loss": loss},
    ]
    folders = [out] if mode == "state" else [out / "checkpoint-9", out / "checkpoint-10"]
    for i, folder in enumerate(folders):
        folder.mkdir(exist_ok=True)
        kept = history if folder in (out, out / "checkpoint-10") else history[:2]
        state = {"global_step": 10, "log_history": kept}
        (folder / "trainer_state.json").write_text(json.dumps(state))
elif mode == "data":
    (out / "metrics.json").write_text(json.dumps({"eval": {"loss": 1.0}}))
    copy = {"train": rows, "test": [json.loads(line) for line in open(test)], "seed": seed}
    (out / "seen.json").write_text(json.dumps(copy))
elif mode == "fail":
    sys.exit("no memory left for " + model)
elif mode == "wait" and not Path(ran + ".go").exists() and len(rows) > 12:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
    Path(ran + ".pid").write_text(f"{os.getpid()} {child.pid}")
    time.sleep(100)
elif mode == "wait":
    print(f"eval_loss = {loss}")
"""
PRINTED = ResultSource(pattern=r"eval_loss[= ]+(?P<loss>[0-9.eE+-]+)")
METRICS = ResultSource(file="metrics.json", key="eval.loss")


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


@pytest.fixture
def words(tmp_path, program):
    def make(mode):
        names = ("{model}", "{train_file}", "{test_file}", "{seed}", "{output_dir}")
        return [sys.executable, "-S", str(program), str(tmp_path / "ran"), *names, mode]

    return make


@pytest.fixture
def make_runner(tmp_path, words, text_data):
    def make(mode="print", result=PRINTED, sources=("small", "large"), more=(), **options):
        store, command = TrialStore(tmp_path / "store"), [*words(mode), *more]
        return CommandRunner(command, sources, text_data, store, result=result, **options)

    return make


@pytest.fixture
def ran(tmp_path):
    """Trials that were really run, as `model D`."""

    def look():
        path = tmp_path / "ran"
        return path.read_text().splitlines() if path.is_file() else []

    return look


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def loss_at(n_samples, level=2.0):
    return pytest.approx(level + 5 * n_samples**-0.5)


@pytest.mark.parametrize(
    ("mode", "result", "shift"),
    [
        ("print", PRINTED, 0.0),
        ("metrics", METRICS, 0.0),
        ("state", ResultSource(), 0.0),
        ("state", ResultSource(which="best"), -0.25),
        ("checkpoints", ResultSource(), 0.0),
    ],
)
def test_the_loss_is_read_where_the_program_leaves_it(make_runner, mode, result, shift):
    runner = make_runner(mode, result)
    found = runner.run(Trial("small", "toy", 25))
    assert (found.status, found.test_loss) == ("completed", pytest.approx(3.0 + shift))
    assert found.flops == 25  # samples, since no parameters are known
    assert found.seconds > 0
    if result.file == "trainer_state.json" and result.pattern is None:
        assert found.trace == ((5, pytest.approx(2.75)), (10, pytest.approx(3.0)))
        assert (found.n_steps, found.best_step) == (10, 10 if result.which == "last" else 5)
    (log,) = (runner.store.folder / "logs").iterdir()
    assert log.name.startswith("small-D25-s0-")
    assert "step 1: eval_loss = 9.5" in log.read_text()
    assert not list((runner.store.folder / ".command").iterdir())


def test_the_subset_is_nested_and_the_test_file_the_same(make_runner, text_data):
    runner = make_runner("data", METRICS, keep_output=True)
    seen = {}
    for model, n, seed in (("small", 5, 0), ("small", 9, 0), ("large", 9, 1)):
        runner.run(Trial(model, "toy", n, seed))
        (path,) = runner.store.folder.glob(f"output/{model}-D{n}-s{seed}-*/seen.json")
        seen[n, seed] = json.loads(path.read_text())
    pairs = {key: [(r["input"], r["target"]) for r in s["train"]] for key, s in seen.items()}
    assert pairs[9, 0] == [text_data.train[i] for i in nested_subset(80, 9, 0)]
    assert pairs[5, 0] == pairs[9, 0][:5]
    assert pairs[9, 1] == [text_data.train[i] for i in nested_subset(80, 9, 1)]
    assert [seen[key]["seed"] for key in pairs] == ["0", "0", "1"]
    for found in seen.values():
        assert [(row["input"], row["target"]) for row in found["test"]] == list(text_data.test)


@pytest.mark.parametrize(
    ("mode", "result", "reason"),
    [
        ("fail", PRINTED, "ended with exit code 1; its output ends with: step 1: eval_loss = 9.5 | "
         "no memory left for small (log: "),
        ("nothing", METRICS, "it wrote no metrics.json into its output folder; its output ends "
         "with: step 1"),
        ("nothing", ResultSource(pattern="perplexity (?P<loss>.+)"), "has no match"),
        ("metrics", ResultSource(file="metrics.json", key="eval.los"), "where los was expected it "
         "has loss"),
        ("state", ResultSource(key="eval_f1"), "no evaluation with eval_f1"),
        ("print", ResultSource(pattern="step (?P<loss>[^:]+): eval"), ""),
        ("print", ResultSource(pattern="(?P<loss>step .)"), "'step 2' where a loss"),
    ],
)  # fmt: skip
def test_a_program_without_a_result_has_failed(make_runner, mode, result, reason, ran):
    runner = make_runner(mode, result)
    found = runner.run(Trial("small", "toy", 25))
    if not reason:  # the last match is a number
        assert found.test_loss == 2.0
        return
    assert found.status == "failed"
    assert reason in found.reason
    assert not list(runner.store.results())
    assert found.flops == 25
    runner.run(Trial("small", "toy", 25))
    assert ran() == ["small 25"] * 2  # what failed runs again when it is asked for again


def test_a_loss_that_is_not_finite_has_diverged_and_is_kept(make_runner, ran):
    runner = make_runner("nan", METRICS)
    for _ in range(2):
        found = runner.run(Trial("small", "toy", 25))
        assert (found.status, math.isnan(found.test_loss)) == ("diverged", True)
        assert found.reason.startswith("its loss is nan; its output ends with: step 1")
    assert ran() == ["small 25"]


def test_a_program_that_hangs_is_ended_with_its_children(make_runner, tmp_path):
    runner = make_runner("wait", trial_time_limit="1s")
    started = time.monotonic()
    found = runner.run(Trial("small", "toy", 25))
    assert found.status == "timed_out"
    assert found.reason.startswith("ran longer than 1 s; its output")
    assert time.monotonic() - started < 20
    assert runner.run(Trial("small", "toy", 25)) == found  # which is not tried again
    pids = (tmp_path / "ran.pid").read_text().split()
    assert len(pids) == 2
    assert not any(map(is_running, pids))


def test_a_program_that_is_not_there_is_told_before_anything_runs(tmp_path, text_data):
    words = ["no-such-program", "{model}", "{train_file}"]
    store = TrialStore(tmp_path)
    runner = CommandRunner(words, ["small"], text_data, store, result=PRINTED)
    with pytest.raises(ValueError, match=r"first word .* got 'no-such-program'"):
        runner.inspect()
    found = runner.run(Trial("small", "toy", 5))  # with preflight=false
    assert (found.status, found.flops) == ("failed", 0.0)
    assert "No such file" in found.reason


def test_a_folder_that_is_not_there_leaves_its_candidate_out(make_runner):
    runner = make_runner(sources=["small", "./missing"])
    assert list(runner.inspect()) == ["./missing"]
    assert runner.task().names == ("small",)
    assert "Expected a model folder at ./missing" in runner.task().failures["./missing"]
    lost = make_runner(sources=["./missing"])
    lost.inspect()
    with pytest.raises(NoCandidateError, match=r"got none: ./missing: Expected a model folder"):
        lost.task()


def test_everything_that_decides_is_in_the_key(make_runner, tmp_path, program, ran):
    model, own, config = tmp_path / "model", tmp_path / "own.py", tmp_path / "recipe.yaml"
    model.mkdir()
    for path in (own, config, model / "weights.bin"):
        path.write_text("{model}\n")
    options = {"sources": [str(model)], "config_files": [config], "depends_on": [own]}
    trial = Trial("model", "toy", 25)

    def key():
        return make_runner(more=["{config_dir}"], **options).complete(trial).key

    keys = [key()]
    assert key() == keys[0]
    for path in (program, own, config, model / "weights.bin"):
        path.write_text(path.read_text() + "# changed\n")
        keys.append(key())
    plain = make_runner(sources=[str(model)])
    keys.append(plain.complete(trial).key)
    keys.append(make_runner("print", METRICS, sources=[str(model)]).complete(trial).key)
    keys.append(make_runner("metrics", sources=[str(model)]).complete(trial).key)
    assert len(set(keys)) == len(keys)
    free = make_runner(sources=[str(model)], trial_time_limit="9min", seconds_per_sample=1)
    assert free.complete(trial).key == plain.complete(trial).key

    assert plain.run(trial).test_loss == free.run(trial).test_loss
    assert (plain.run(trial).flops, free.run(trial).flops) == (25, 25.0)
    assert [result.trial.n_samples for result in plain.known()] == [25]
    assert ran() == ["model 25"]


def test_costs_are_samples_times_parameters_where_those_are_known(make_runner, tmp_path):
    folder = tmp_path / "own"
    folder.mkdir()
    save_file({"a": np.zeros((3, 4)), "b": np.zeros(2)}, folder / "model.safetensors")
    (folder / "config.json").write_text('{"model_type": "gpt2"}')
    stated = {"source": "large", "n_params": 20}
    task = make_runner(sources=[str(folder), stated]).task()
    assert (task.candidates[0].n_params, task.candidates[0].family) == (14, "gpt2")
    assert (task.cost_unit, task.costs["own", 80], task.costs["large", 12]) == (
        "samples x parameters",
        14 * 80,
        20 * 12,
    )
    assert 0 not in task.sizes
    task = make_runner(sources=[stated, "small"]).task()
    assert (task.cost_unit, task.costs["large", 80]) == ("samples", 80)
    seconds = {"small": 0.5, "large": 2}
    task = make_runner(seconds_per_sample=seconds).task()
    assert (task.cost_unit, task.costs["large", 80]) == ("seconds", 160)
    with pytest.raises(ValueError, match="each of small, large, got those of small"):
        make_runner(seconds_per_sample={"small": 1})


def test_configuration_files_are_filled_in(make_runner, tmp_path, program, text_data):
    config = tmp_path / "recipe.json"
    config.write_text('{"base": "{model}", "format": "{{input}}", "nested": {"n": {n_samples}}}')
    program.write_text(
        "import json, sys; told = json.load(open(sys.argv[1]))\n"
        "assert told['format'] == '{input}' and told['base'] == 'small'\n"
        "print('loss', told['nested']['n'])\n"
    )
    words = [sys.executable, "-S", str(program), "{config_dir}/recipe.json"]
    store, result = TrialStore(tmp_path / "store"), ResultSource(pattern=r"loss (?P<loss>\d+)")
    runner = CommandRunner(words, ["small"], text_data, store, result, [config])
    assert runner.run(Trial("small", "toy", 7)).test_loss == 7


@pytest.mark.parametrize("name", ["axolotl", "llama_factory"])
def test_examples_for_other_programs_are_filled_in(name, tmp_path, monkeypatch):
    import lensllm.commands.select  # noqa: F401 - its schema

    monkeypatch.chdir(ROOT)
    header = (ROOT / "examples" / f"{name}.yaml").read_text().partition("\n\n")[0]
    found = re.search(r"lensllm select(?:.*\\\n)+.*", header.replace("\n#", "\n"))
    _, _, *overrides = shlex.split(found[0].replace("\\\n", " "))
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        runner = compose("select", overrides).runner
    template = CommandTemplate(list(runner.command), list(runner.config_files))
    values = {known: f"/a/{known}" for known in PLACEHOLDERS} | {"seed": "3"}
    template.write_configs(tmp_path, values)
    recipe = yaml.safe_load((tmp_path / f"{name}.yaml").read_text())
    assert template.fill(values)[-1] == f"/a/config_dir/{name}.yaml"
    assert (recipe["seed"], recipe["output_dir"]) == (3, "/a/output_dir")
    if name == "axolotl":
        assert recipe["base_model"] == "/a/model"
        assert recipe["datasets"][0]["path"] == "/a/train_file"
        assert recipe["test_datasets"][0]["path"] == "/a/test_file"
        assert recipe["test_datasets"][0]["type"]["format"] == "{instruction}"
    else:
        info = json.loads((tmp_path / "dataset_info.json").read_text())
        assert recipe["model_name_or_path"] == "/a/model"
        assert info[recipe["dataset"]]["file_name"] == "/a/train_file"
        assert info[recipe["eval_dataset"]]["file_name"] == "/a/test_file"


@pytest.mark.parametrize(
    ("words", "options", "message"),
    [
        ("python train.py", {}, "list of words as runner.command"),
        ([], {}, "list of words as runner.command"),
        (["p", "{modle}"], {}, r"got \{modle\}: did you mean \{model\}\?"),
        (["p", "{model}", "{train_fil}"], {}, r"did you mean \{train_file\}"),
        (["p", "{train_file}"], {}, r"Expected \{model\} in runner.command"),
        (["p", "{model}"], {}, r"Expected \{train_file\} or \{n_samples\}"),
        (["p", "{model}", "{n_samples}"], {"result": None}, r"Expected \{output_dir\}"),
        (["p", "{model}", "{n_samples}"], {"config_files": ["no"]}, "runner.config_files, got no"),
        (["p", "{model}", "{n_samples}"], {"depends_on": ["no"]}, "runner.depends_on, got"),
        (["p", "{model}", "{n_samples}"], {"config_files": [__file__]}, r"did you mean|there are"),
        (["p", "{model}", "{n_samples}"], {"trial_time_limit": 0}, "trial_time_limit > 0, got 0"),
        (["p", "{model}", "{n_samples}"], {"sizes": [200]}, "up to n_samples_full = 80, got 200"),
        (["p", "{model}", "{n_samples}"], {"sources": ["-c"]}, "begin with a dash, got '-c'"),
        (["p", "{model}", "{n_samples}"], {"sources": [{"source": "a", "n_param": 3}]},
         "did you mean n_params"),
        (["p", "{model}", "{n_samples}"], {"sources": [3]}, "with runner=command, got a int"),
        (["p", "{model}", "{n_samples}"], {"sources": ["a", "a"]}, "got 'a' twice"),
    ],
)  # fmt: skip
def test_bad_settings_are_refused(tmp_path, text_data, words, options, message):
    options = {"sources": ["a"], "result": PRINTED, **options}
    with pytest.raises(ValueError, match=message):
        CommandRunner(words, options.pop("sources"), text_data, TrialStore(tmp_path), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"which": "first"}, "among last, best, got 'first'"),
        ({"pattern": "("}, "regular expression as runner.result.pattern"),
        ({"pattern": "loss (.*)"}, "a group named loss"),
        ({"key": ""}, "Expected names"),
    ],
)
def test_a_bad_place_of_results_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ResultSource(**options)


def test_processes_that_share_a_store_run_a_trial_once(make_runner, ran, run_all):
    runner, trial = make_runner(), Trial("small", "toy", 25)
    with closing(PoolExecutor(n_workers=2)) as executor:
        asked = [trial, trial, Trial("large", "toy", 25)]
        losses = [result.test_loss for result in run_all(executor, runner, asked)]
    assert losses == [loss_at(25), loss_at(25), loss_at(25, 1.0)]
    assert sorted(ran()) == ["large 25", "small 25"]


@pytest.mark.slow
def test_it_runs_as_a_job(make_runner, tmp_path, ran, run_all):
    pytest.importorskip("submitit")
    executor = SlurmExecutor(str(tmp_path / "jobs"), "local", parameters={"timeout_min": 5})
    with closing(executor):
        (result,) = run_all(executor, make_runner(), [Trial("small", "toy", 25)])
    assert (result.test_loss, ran()) == (loss_at(25), ["small 25"])


@pytest.fixture
def overrides(tmp_path, words, jsonl_300):
    quoted = ",".join(f'"{word}"' for word in words("wait"))
    return [
        "runner=command", f"runner.command=[{quoted}]", "dataset=jsonl",
        f"dataset.path={jsonl_300}", "candidates.models=[small,large]", "n_samples_full=200",
        "sizes=[12,25]", "selector=every_size",
        "selector.ranker._target_=lensllm.selectors.SubTuning", "~selector.ranker.k",
        "~selector.ranker.delta", "~selector.ranker.seed",
        f"runner.result.pattern='{PRINTED.pattern}'", "budget.fraction=0.5", "logger=none",
        f"paths.output_dir={tmp_path}", f"hydra.run.dir={tmp_path / 'run'}",
    ]  # fmt: skip


def start_campaign(folder, overrides, *more):
    return subprocess.Popen(
        [sys.executable, "-m", "lensllm", "select", *overrides, *more],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def test_two_campaigns_on_one_store_run_each_trial_once(tmp_path, overrides, ran):
    (tmp_path / "ran.go").touch()
    runs = [start_campaign(tmp_path, overrides, f"hydra.run.dir={tmp_path / n}") for n in "ab"]
    for run in runs:
        _, errors = run.communicate(timeout=120)
        assert run.returncode == 0, errors
    records = [json.loads((tmp_path / n / "selection.json").read_text()) for n in "ab"]
    assert records[0]["ranking"] == records[1]["ranking"]
    assert sorted(ran()) == ["large 12", "large 25", "small 12", "small 25"]


def test_a_campaign_that_was_interrupted_goes_on(tmp_path, overrides, run_main, ran):
    from lensllm.commands.select import main

    process = start_campaign(tmp_path, overrides)
    until = time.monotonic() + 120
    while not (tmp_path / "ran.pid").is_file():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert not any(map(is_running, (tmp_path / "ran.pid").read_text().split()))
    before = ran()
    assert before[-1].endswith(" 25")

    (tmp_path / "ran.go").touch()
    done = run_main(main, *overrides)
    assert done.code == 0, done.err
    assert sorted(ran()) == sorted([*(f"{m} {n}" for m in ("small", "large") for n in (12, 25)),
                                    before[-1]])  # fmt: skip
    record = json.loads((tmp_path / "run" / "selection.json").read_text())
    assert (record["selected"], record["cost_unit"]) == ("large", "samples")
    assert record["cost_flops"] == 2 * (12 + 25)
    assert re.search(r"\d+ s, 1[89] % of", record["notes"][-1]["text"])
    assert (record["cost_flops"], record["cost_unit"]) == (74.0, "samples")


def test_a_file_cannot_name_a_program(tmp_path, overrides, run_main):
    from lensllm.commands.select import main

    folder = tmp_path / "conf" / "experiment"
    folder.mkdir(parents=True)
    (folder / "theirs.yaml").write_text(
        "# @package _global_\n"
        "runner:\n  command: [sh, -c, 'touch seen', '{model}', '{n_samples}']\n"
    )
    rest = [word for word in overrides if not word.startswith("runner.command")]
    done = run_main(main, "--config-dir", folder.parent, *rest, "experiment=theirs")
    assert done.code == 2
    assert "Expected runner.command in the command only, got ['sh', '-c'" in done.err
    target = "+trainer.logger._target_=lensllm.execution.command.CommandRunner"
    done = run_main(main, *overrides, target)
    assert done.code == 2
    assert "as runner alone, got it as trainer.logger._target_" in done.err


def test_a_program_may_report_any_measure_with_its_bound_and_direction(make_runner):
    result = ResultSource(key="eval_accuracy", which="best")
    runner = make_runner("accuracy", result, measure="accuracy")
    trial = Trial("small", "toy", 12)
    found = runner.run(trial)
    loss = 2.0 + 5 * 12**-0.5
    assert found.measures["accuracy"].value == pytest.approx(1 - loss / 8)  # best is largest
    assert (found.status, math.isnan(found.test_loss), found.trace) == ("completed", True, ())
    assert runner.task().measure.name == "accuracy"
    assert replace(runner.store.get(found.trial), flops=found.flops) == found
    own = {"name": "eval_score", "bound": 0.5}
    other = make_runner("accuracy", result, measure=own)
    assert other.complete(trial).key != runner.complete(trial).key
    assert "measure" not in make_runner("print").complete(trial).settings
    failed = other.run(trial)
    assert failed.status == "failed"
    assert "finite eval_score <= 0.5, got 0.5" in failed.reason
