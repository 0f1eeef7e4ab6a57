"""Flags as NVIDIA's plugin, which is written in Go, understands them."""

from __future__ import annotations

import pytest

from nvidia_devplugin import __main__, __version__
from nvidia_devplugin.config.table import SETTINGS


@pytest.fixture
def flags(monkeypatch):
    """flags(*arguments): what the daemon would be started with, or the exit status."""

    def parse(*arguments: str):
        found = []
        monkeypatch.setattr(__main__, "load", lambda given, _env: found.append(given) or 1 / 0)
        with pytest.raises(ZeroDivisionError):
            __main__.main(arguments)
        return found[0]

    return parse


def test_every_flag_and_alias_is_known():
    for setting in SETTINGS:
        for name in filter(None, (setting.flag, *setting.aliases)):
            assert vars(__main__.parser().parse_args([f"--{name}", "true"])) == {setting.key: "true"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--pass-device-specs", "--mig-strategy=none"), {"pass_device_specs": "true", "mig_strategy": "none"}),
        (("-mig-strategy=none", "-fail-on-init-error=false"), {"mig_strategy": "none", "fail_on_init_error": "false"}),
        (("-kubelet-socket", "/k.sock", "-gds-enabled"), {"kubelet_socket": "/k.sock", "gds_enabled": "true"}),
        (
            ("--device-list-strategy=envvar", "--device-list-strategy=cdi-cri,volume-mounts"),
            {"device_list_strategy": "envvar,cdi-cri,volume-mounts"},
        ),
        (("--http-address=a:1", "--http-address=b:2"), {"http_address": "b:2"}),
        (("--nvidia-driver-root=/a", "--nvidia-dev-root=/b"), {"driver_root": "/a", "dev_root": "/b"}),
    ],
)
def test_forms_of_flags(flags, arguments, expected):
    assert flags(*arguments) == expected


@pytest.mark.parametrize("flag", ["-v", "-version", "--version"])
def test_the_version(flag, capsys):
    with pytest.raises(SystemExit, match="0"):
        __main__.main([flag])
    assert capsys.readouterr().out.strip() == __version__
