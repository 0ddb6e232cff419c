"""A process with limits: what it does wrong is one line here, and the next question is answered."""

import signal

import pytest

from mmdjax.data.formats import budget, child
from mmdjax.data.formats.child import Child
from mmdjax.errors import UserError


@pytest.fixture(scope="module")
def odd():
    yield (made := Child("tests.protocols.odd_child", "the odd reader", "something else"))
    made.stop(kill=True)


def answers(odd, path) -> bool:
    return odd.ask(path, {"do": "size"}, b"content")["size"] == 7


def test_memory_is_limited_by_the_size_of_the_file(odd, tmp_path):
    (path := tmp_path / "file").write_bytes(bytes(100))
    with pytest.raises(UserError, match=r"file: takes more than 268436256 bytes.*something else"):
        odd.ask(path, {"do": "grow"})
    assert answers(odd, path)


@pytest.mark.fuzz
def test_work_is_limited(odd, tmp_path):
    with pytest.raises(UserError, match="file: takes more than 10 s of work"):
        odd.ask(tmp_path / "file", {"do": "spin"})
    assert answers(odd, tmp_path)


def test_an_end_is_one_line(odd, tmp_path):
    with pytest.raises(UserError, match="file: the odd reader has ended on it"):
        odd.ask(tmp_path / "file", {"do": "fall"})
    assert answers(odd, tmp_path)


def test_waiting_has_an_end(odd, tmp_path, monkeypatch):
    answers(odd, tmp_path)
    monkeypatch.setattr(child, "PATIENCE", 0.2)
    with pytest.raises(UserError, match="file: the odd reader has not answered"):
        odd.ask(tmp_path / "file", {"do": "sleep"})
    monkeypatch.undo()
    assert answers(odd, tmp_path)


def test_control_c_is_heard_and_leaves_no_half_answer(odd, tmp_path):
    assert answers(odd, tmp_path)
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(KeyboardInterrupt):
            odd.ask(tmp_path / "file", {"do": "sleep"})
    finally:
        signal.signal(signal.SIGALRM, before)
    assert answers(odd, tmp_path)


def test_a_folder_is_as_large_as_its_files_however_many_links_lead_to_them(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one.npy").write_bytes(bytes(10**6))
    alone = budget.size_of(tmp_path)
    for number in range(9):
        (tmp_path / f"soft{number}.npy").symlink_to(tmp_path / "a" / "one.npy")
        (tmp_path / f"hard{number}.npy").hardlink_to(tmp_path / "a" / "one.npy")
    assert 10**6 <= alone <= budget.size_of(tmp_path) < alone + 10**5
    assert budget.size_of(tmp_path / "a" / "one.npy") == 10**6
    assert budget.size_of(tmp_path / "none.npy") == 0
