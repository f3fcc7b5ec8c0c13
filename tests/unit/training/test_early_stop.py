from pipeline.training.early_stop import EarlyStop


def stops(patience, ranks):
    early_stop = EarlyStop(patience)
    return [early_stop.after((rank, 0.0)) for rank in ranks]


def test_it_stops_after_so_many_epochs_without_a_better_one():
    assert stops(2, [5, 4, 4, 3, 6, 3]) == [False, False, False, False, False, True]
    assert stops(1, [5, 4, 4]) == [False, False, True]


def test_without_a_patience_it_never_stops():
    assert not any(stops(None, [1, 2, 3, 4, 5]))


def test_where_the_first_is_equal_the_second_decides():
    early_stop = EarlyStop(1)
    assert [early_stop.after(rank) for rank in [(1.0, 3.0), (1.0, 2.0), (1.0, 2.0)]] == [
        False,
        False,
        True,
    ]


def test_each_phase_has_a_patience_of_its_own():
    early_stop = EarlyStop(1)
    early_stop.after((1.0,))
    early_stop.begin_phase()
    assert not early_stop.after((9.0,))
    assert early_stop.after((9.5,))


def test_a_restored_one_goes_on():
    first, second = EarlyStop(2), EarlyStop(2)
    for rank in (1.0, 2.0):
        first.after((rank,))
    second.restore(first.state())
    assert second.after((1.5,))
    second.restore({})
    assert not second.after((1.5,))
