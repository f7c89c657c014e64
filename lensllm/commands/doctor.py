"""Say what this machine has for lensllm, and run a tiny trial on each of its devices."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig

from lensllm.commands.config import DoctorConfig
from lensllm.commands.entry import entry_point, output_dir
from lensllm.doctor.findings import Finding, as_record
from lensllm.system.atomic import write_whole
from lensllm.system.harmless import redact


@entry_point("doctor", DoctorConfig)
def main(cfg: DictConfig) -> None:
    """Print a line for each finding, write `doctor.json`, and exit with 1 if one is broken."""
    from lensllm.reports.console import say

    findings = []
    for finding in _findings(cfg):
        findings.append(finding)
        say(finding.line())
    record = as_record(findings)
    path = output_dir() / "doctor.json"
    write_whole(path, json.dumps(redact(record), indent=1, allow_nan=False) + "\n")
    say(f"json: {path}")
    if not record["usable"]:
        sys.exit(1)


def _findings(cfg: DictConfig) -> Iterator[Finding]:
    from lensllm.doctor.machine import hub_finding, machine_findings

    names = ("output", "store", "cache")
    yield from machine_findings({name: Path(cfg.paths[f"{name}_dir"]) for name in names})
    if cfg.hub:
        yield hub_finding()
    if importlib.util.find_spec("torch") is None:
        way = "campaigns on recorded curves run; pip install 'lensllm[finetune]' to fine-tune"
        yield Finding("torch", "broken" if cfg.device else "note", "not installed", way)
    elif cfg.device is not None:
        yield from _device_findings(cfg.device, cfg.minutes)
    elif cfg.trial:
        from lensllm.doctor.tiny_trial import trial_findings

        yield from trial_findings()


def _device_findings(device: str, minutes: float) -> Iterator[Finding]:
    import torch

    from lensllm.doctor.device_path import FULL, SMALL, device_findings
    from lensllm.doctor.tiny_trial import Place
    from lensllm.system.quiet import quiet_libraries

    quiet_libraries()
    if device == "cpu":
        yield from device_findings(Place(), SMALL, minutes)
    elif torch.cuda.is_available():
        yield from device_findings(Place("cuda:0"), FULL, minutes)
    else:
        way = "see the driver, and that torch is a build with CUDA; device=cpu runs the same small"
        yield Finding("device", "broken", "torch finds no GPU", way)
