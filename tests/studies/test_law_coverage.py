from lensllm.studies.laws.coverage import coverage_study


def test_posterior_covers_curves_that_are_not_from_its_prior():
    study = coverage_study(n_points=(5, 9), noise=(0.01,), n_curves=300, methods=("posterior",))
    assert study["coverage_0.8"].between(0.74, 0.92).all()
    assert study["coverage_0.95"].between(0.9, 0.995).all()
