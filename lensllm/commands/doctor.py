"""Say what this machine has for lensllm, and run a tiny trial on each of its devices."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from lensllm.commands.config import DoctorConfig
from lensllm.commands.entry import entry_point, output_dir
from lensllm.doctor.findings import Finding, as_record, as_table
from lensllm.system.atomic import write_whole
from lensllm.system.harmless import redact


@entry_point("doctor", DoctorConfig)
def main(cfg: DictConfig) -> None:
    """Print and write what was found, as lines, JSON and a table; exit with 1 if it is broken."""
    from lensllm.reports.console import say

    findings = []
    for finding in _findings(cfg):
        findings.append(finding)
        say(finding.line())
    record = as_record(findings)
    path = output_dir() / "doctor.json"
    write_whole(path, json.dumps(redact(record), indent=1, allow_nan=False) + "\n")
    write_whole(path.with_suffix(".md"), redact(as_table(findings)))
    say(f"json: {path}, and the same as a table in doctor.md")
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

    from lensllm.doctor.device_path import FULL, SMALL, device_findings, topics
    from lensllm.doctor.timed import timed_findings
    from lensllm.doctor.tiny_trial import Place

    if device == "gpu" and not torch.cuda.is_available():
        way = "see the driver, and that torch is a build with CUDA; device=cpu runs the same small"
        yield Finding("device", "broken", "torch finds no GPU", way)
        return
    place, scale = (Place(), SMALL) if device == "cpu" else (Place("cuda:0"), FULL)
    yield from timed_findings(topics(place, scale), partial(device_findings, place, scale), minutes)
