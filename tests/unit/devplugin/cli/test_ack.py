from __future__ import annotations

from pathlib import Path


async def test_without_a_daemon_whatever_the_config_file_is(command, socket_directory, tmp_path: Path):
    (tmp_path / "config.yaml").write_text("version: v2")
    flags = (f"--kubelet-socket={socket_directory}/kubelet.sock", f"--config-file={tmp_path}/config.yaml")
    status, _, errors = await command("ack", "0", *flags)
    assert (status, errors.split(" on ")[0]) == (1, "nvidia-devplugin: no daemon answers")
