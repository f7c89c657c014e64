import math

import pytest

from lensllm.core.limits import Limits
from lensllm.core.task import Candidate


def test_a_candidate_at_its_limits_stays():
    limits = Limits(max_params=1e6, max_memory_gb=2.0, licence=["MIT"], max_latency_ms=30)
    limits.check_candidate(Candidate("a", 1e6, memory_gb=2.0, latency_ms=30.0))
    limits.check_licences(["mit"])
    assert limits.are_set
    assert not Limits().are_set
    Limits().check_candidate(Candidate("a"))
    Limits().check_licences(["unknown"])


@pytest.mark.parametrize(
    ("limit", "candidate", "message"),
    [
        ({"max_params": 1e9}, {"n_params": 1.5e9}, "parameters of at most 1e+09, got 1.5e+09"),
        (
            {"max_memory_gb": 2},
            {"memory_gb": 3.12},
            "memory at inference of at most 2 GB, got 3.12",
        ),
        ({"max_latency_ms": 50}, {"latency_ms": 80}, "latency of at most 50 ms, got 80 ms"),
        ({"max_params": 1e9}, {"n_params": math.nan}, "got an unknown one"),
    ],
)
def test_a_candidate_over_a_limit_is_refused_with_both_numbers(limit, candidate, message):
    with pytest.raises(ValueError, match="Expected") as error:
        Limits(**limit).check_candidate(Candidate("a", **candidate))
    assert message in str(error.value)


def test_every_licence_has_to_be_allowed():
    limits = Limits(licence=["apache-2.0", "mit"])
    with pytest.raises(ValueError, match=r"among apache-2.0, mit, got gemma$"):
        limits.check_licences(["mit", "gemma"])
    with pytest.raises(ValueError, match="got unknown: allow `unknown`, or add it"):
        limits.check_licences(["unknown"])
    Limits(licence=["mit", "unknown"]).check_licences(["unknown"])


@pytest.mark.parametrize("given", [{"max_params": 0}, {"max_latency_ms": -1}, {"licence": "mit"}])
def test_bad_limits_are_refused(given):
    with pytest.raises(ValueError, match=f"limits.{next(iter(given))}"):
        Limits(**given)
