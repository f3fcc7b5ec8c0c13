import itertools

import pytest

from pipeline.config import Phase, Quantizer
from pipeline.training import schedule


def test_rate_rises_linearly_and_falls_to_its_final_share():
    phase = Phase(epochs=1, warmup_steps=10, final_rate_share=0.1)
    shares = [schedule.rate_share(phase, step, 100) for step in range(100)]
    assert shares[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert shares[10] == pytest.approx(1.0)
    assert all(left > right for left, right in itertools.pairwise(shares[10:]))
    assert shares[55] == pytest.approx(0.55)
    assert shares[-1] == pytest.approx(0.1, abs=1e-3)


def test_a_short_phase_warms_up_for_half_of_it_at_most():
    phase = Phase(epochs=1, warmup_steps=100)
    assert schedule.rate_share(phase, 2, 6) == 1.0


def test_noam_is_the_paper_s_rate_over_its_peak():
    phase = Phase(epochs=1, schedule="noam", warmup_steps=40, final_rate_share=0.5)
    theirs = [256**-0.5 * min(step**-0.5, step * 40**-1.5) for step in range(1, 4001)]
    wanted = [rate / max(theirs) for rate in theirs]
    for num_steps in (10, 4000):  # it does not matter how many there will be
        shares = [schedule.rate_share(phase, step, num_steps) for step in range(4000)]
        assert shares == pytest.approx(wanted, rel=1e-12)
    assert shares[39] == 1.0
    assert shares[159] == pytest.approx(0.5)
    assert schedule.rate_share(Phase(epochs=1, schedule="noam", warmup_steps=0), 3, 9) == 0.5


def test_tau_decays_to_its_floor():
    quantizer = Quantizer(tau_start=2.0, tau_end=0.5, tau_decay=0.9)
    assert schedule.tau(quantizer, 0, 2000) == 2.0
    assert schedule.tau(quantizer, 3, 2000) == pytest.approx(2.0 * 0.9**3)
    assert schedule.tau(quantizer, 1000, 2000) == 0.5


def test_tau_without_a_decay_reaches_its_end_at_the_last_step_that_it_acts_in():
    quantizer = Quantizer(tau_start=2.0, tau_end=0.02, tau_decay=None)
    taus = [schedule.tau(quantizer, step, 5) for step in range(6)]
    assert taus == pytest.approx([2.0, 2.0 * 0.1**0.5, 0.2, 0.2 * 0.1**0.5, 0.02, 0.02])
    assert schedule.tau(quantizer, 500, 1001) == pytest.approx(0.2)
    assert schedule.tau(quantizer, 0, 1) == 2.0
