"""The first Ctrl-C asks, the second insists, and who has a way of his own keeps it."""

import signal
import threading

import pytest

from jsnnq.runtime.interrupt import patient


def test_the_first_asks_and_the_second_insists(ctrl_c):
    with patient() as stopped:
        assert not stopped()
        ctrl_c()
        assert stopped()
        with pytest.raises(KeyboardInterrupt):
            ctrl_c()
    with pytest.raises(KeyboardInterrupt):  # Outside it is as it was.
        ctrl_c()


@pytest.mark.usefixtures("ctrl_c")
def test_it_is_as_it_was_after_an_error_too():
    with pytest.raises(RuntimeError), patient():
        raise RuntimeError
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_program_with_a_way_of_its_own_keeps_it(ctrl_c):
    heard = []
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:
        with patient() as stopped:
            ctrl_c()
            ctrl_c()
            assert not stopped()
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [signal.SIGINT] * 2


@pytest.mark.usefixtures("ctrl_c")
def test_a_thread_is_not_told():
    found = []

    def run():
        with patient() as stopped:
            found.append(stopped())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [False]
