"""A command under a launcher: whatever becomes of it, the other ranks hear how it ended."""

from __future__ import annotations

import pytest

from siglip_verify.cli import launcher
from siglip_verify.world.joined import Place


class Ranks:
    """Worlds of a launcher's ranks that keep the code with which the command ended."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def end(self, code: int) -> int:
        return code


@pytest.fixture
def rank_0(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "JoinedWorlds", Ranks)
    monkeypatch.setattr(launcher, "_joined", None)
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)


def test_a_fault_of_ours_is_printed_and_is_not_the_code_of_a_wrong_loss(
    rank_0: None, capsys: pytest.CaptureFixture[str]
) -> None:
    @launcher.on_every_rank
    def broken() -> int:
        raise ZeroDivisionError("a fault of ours")

    assert broken() == 70
    assert "ZeroDivisionError: a fault of ours" in capsys.readouterr().err


@pytest.mark.parametrize("code", [0, 1, 3])
def test_all_ranks_end_with_the_commands_code(rank_0: None, code: int) -> None:
    assert launcher.on_every_rank(lambda: code)() == code
