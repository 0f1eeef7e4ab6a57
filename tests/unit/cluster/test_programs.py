"""Which programs a node gets in addition to its image's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engines import EngineError
from tests.sim.cluster import programs


def test_crio_is_the_program_that_the_variable_names_and_pinns_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(programs.CRIO, raising=False)
    with pytest.raises(EngineError, match="KUBEGPU_CRIO is not set"):
        programs.crio()
    crio = tmp_path / "crio"
    crio.touch(mode=0o755)
    monkeypatch.setenv(programs.CRIO, str(crio))
    with pytest.raises(EngineError, match=f"{tmp_path}/pinns cannot be run"):
        programs.crio()
    (tmp_path / "pinns").touch(mode=0o755)
    assert programs.crio() == {"/usr/bin/crio": crio, "/usr/bin/pinns": tmp_path / "pinns"}
