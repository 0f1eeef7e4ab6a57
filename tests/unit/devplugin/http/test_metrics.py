"""The metrics, read back with Prometheus' own parser: from the class, and from the daemon's process."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from nvidia_devplugin.http import metrics as metrics_module
from nvidia_devplugin.http.metrics import Metrics
from nvidia_devplugin.kubelet.pod_resources import Held, PodResourcesError, held
from nvidia_devplugin.kubelet.stats import BOUNDS, CallStats, RegistrationStats
from nvidia_devplugin.model import (
    AdvertisedDevice,
    DriverGone,
    EccEvent,
    Fault,
    Inventory,
    MigDevice,
    XidEvent,
)
from nvidia_devplugin.nvml.telemetry import Reading, Telemetry, TelemetryError
from tests.unit.devplugin.podresources_stub import PodResourcesStub
from tests.unit.devplugin.strategies import gpu

RESOURCE = "nvidia.com/gpu"
P = "nvidia_devplugin_"


def parsed(page):
    """Value by name and labels; a sample that appears twice is an error, as it is for Prometheus."""
    found = {}
    for family in text_string_to_metric_families(page):
        assert family.documentation, family.name
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, key
            found[key] = sample.value
    return found


async def scraped(metrics):
    page, _ = await metrics.scrape()
    return page.decode()


def value(page, name, **labels):
    return parsed(page).get((P + name, frozenset(labels.items())))


def labelled(page, name):
    return [dict(labels) for (found, labels), _ in parsed(page).items() if found == P + name]


@given(st.lists(st.floats(0, 10)))
def test_a_histogram_is_cumulative_and_complete(durations):
    metrics = Metrics("1", list)
    for seconds in durations:
        metrics.saw(EccEvent(None), seconds)
    page = asyncio.run(scraped(metrics))
    for bound in BOUNDS:
        assert value(page, "update_duration_seconds_bucket", le=str(bound)) == sum(s <= bound for s in durations)
    assert value(page, "update_duration_seconds_bucket", le="+Inf") == len(durations)
    assert value(page, "update_duration_seconds_count") == len(durations)
    assert value(page, "update_duration_seconds_sum") == pytest.approx(sum(durations))


@given(st.text())
def test_any_text_in_a_label_comes_back_from_the_parser(text):
    page = asyncio.run(scraped(Metrics("1", list, config=Followed(text))))
    assert labelled(page, "config_info") == [{"name": text.encode(errors="replace").decode()}]


class Served:
    """A resource that the daemon serves."""

    def __init__(self, devices, faults=None, name=RESOURCE):
        self.name = name
        self.advertised = {device.id: device for device in devices}
        self.faults = faults or {}
        self.registered = True
        self.streams = 1
        self.calls = CallStats()
        self.registration_stats = RegistrationStats()


def whole(*numbers):
    return [AdvertisedDevice(gpu(number).uuid, gpu(number)) for number in numbers]


async def test_devices_by_health_and_reason():
    shared = [AdvertisedDevice(f"{gpu(n).uuid}::{r}", gpu(n), None, r) for n in range(3) for r in range(4)]
    faults = {gpu(1).uuid: Fault("xid_79", "gone")}
    page = await scraped(Metrics("1", lambda: [Served(shared, faults)]))
    assert value(page, "devices", resource=RESOURCE, health="Healthy", reason="") == 8
    assert value(page, "devices", resource=RESOURCE, health="Unhealthy", reason="xid_79") == 4
    assert labelled(page, "unhealthy") == [
        {"gpu": gpu(1).uuid, "uuid": gpu(1).uuid, "index": "1", "reason": "xid_79"}
    ], "once for the GPU, not for each replica"


async def test_a_resource_whose_devices_are_all_unhealthy_shows_none_as_healthy():
    page = await scraped(Metrics("1", lambda: [Served(whole(0), {gpu(0).uuid: Fault("gpu_lost", "")})]))
    assert value(page, "devices", resource=RESOURCE, health="Healthy", reason="") == 0


async def test_a_mig_device_that_is_unhealthy_alone():
    parts = [MigDevice(index, f"MIG-{index}", "1g.10gb", index, 0) for index in range(2)]
    devices = [AdvertisedDevice(part.uuid, gpu(0), part) for part in parts]
    page = await scraped(Metrics("1", lambda: [Served(devices, {"MIG-1": Fault("xid_48", "")})]))
    assert labelled(page, "unhealthy") == [{"gpu": gpu(0).uuid, "uuid": "MIG-1", "index": "0:1", "reason": "xid_48"}]


class Followed:
    """The config in force."""

    def __init__(self, name, refused=None, applied=0):
        self.name = name
        self.refused = refused
        self.outcomes = {"applied": applied, "refused": int(refused is not None)}


async def test_the_config_in_force_and_whether_another_was_refused():
    page = await scraped(Metrics("1", lambda: [], config=Followed("shared", "replicas: 1 is not >= 2", 2)))
    assert labelled(page, "config_info") == [{"name": "shared"}]
    assert value(page, "config_refused") == 1
    assert value(page, "config_changes_total", outcome="applied") == 2
    assert value(page, "config_changes_total", outcome="refused") == 1
    page = await scraped(Metrics("1", lambda: [], config=Followed(None)))
    assert labelled(page, "config_info") == []
    assert value(page, "config_refused") == 0


async def test_what_the_driver_says():
    metrics = Metrics("1.2", lambda: [])
    page = await scraped(metrics)
    assert value(page, "build_info", version="1.2") == 1
    assert value(page, "driver_up", reason="") is None, "not known yet is not down"
    metrics.saw(Inventory("550.54.15", (gpu(0),)), 0.001)
    for _ in range(3):
        metrics.saw(XidEvent(gpu(0).uuid, 79), 0.002)
    metrics.saw(XidEvent(None, 13), 0.002)
    metrics.saw(EccEvent(gpu(0).uuid, gi=1), 0.002)
    metrics.saw(EccEvent(gpu(0).uuid), 0.002)
    page = await scraped(metrics)
    assert value(page, "driver_info", version="550.54.15") == 1
    assert value(page, "driver_up", reason="") == 1
    assert value(page, "xids_total", gpu=gpu(0).uuid, xid="79") == 3
    assert value(page, "xids_total", gpu="", xid="13") == 1
    assert value(page, "ecc_double_bit_total", gpu=gpu(0).uuid) == 2
    assert value(page, "update_duration_seconds_count") == 7
    metrics.saw(DriverGone(Fault("driver_not_loaded", ""), ""), 0.001)
    assert value(await scraped(metrics), "driver_up", reason="driver_not_loaded") == 0


async def test_one_page_with_several_resources_has_each_family_once():
    page = await scraped(Metrics("1", lambda: [Served(whole(0)), Served(whole(1), name="nvidia.com/h100")]))
    types = [line for line in page.splitlines() if line.startswith("# TYPE")]
    assert len(types) == len(set(types))
    assert {labels["resource"] for labels in labelled(page, "registered")} == {RESOURCE, "nvidia.com/h100"}


async def test_who_holds_which_gpu(tmp_path):
    async with PodResourcesStub(tmp_path) as kubelet:
        metrics = Metrics("1", lambda: [Served(whole(0, 1))], lambda seconds: held(kubelet.socket, seconds))
        assert kubelet.asked == 0, "only a scrape asks"
        kubelet.pods["ml", "train-0", "main", RESOURCE] = [gpu(1).uuid]
        kubelet.pods["ml", "odd", "main", "example.com/nic"] = ["eth1"]
        kubelet.pods["ml", "old", "main", RESOURCE] = ["GPU-that-is-no-more"]
        page = await scraped(metrics)
        assert value(page, "pod_resources_up") == 1
        where = {"namespace": "ml", "container": "main", "resource": RESOURCE}
        assert value(
            page, "pod_device", **where, pod="train-0", device=gpu(1).uuid, gpu=gpu(1).uuid, index="1"
        )  # fmt: skip
        assert value(page, "pod_device", **where, pod="old", device="GPU-that-is-no-more", gpu="", index="")
        assert len(labelled(page, "pod_device")) == 2, "another plugin's devices are its own matter"
        kubelet.pods.clear()
        assert labelled(await scraped(metrics), "pod_device") == []
        kubelet.error = "unknown service v1.PodResourcesLister"
        with pytest.raises(PodResourcesError, match=r"^UNIMPLEMENTED: unknown service"):
            await held(kubelet.socket, 5)


async def test_a_kubelet_that_does_not_say_is_one_line_and_a_metric(tmp_path, caplog):
    metrics = Metrics("1", lambda: [Served(whole(0))], lambda seconds: held(tmp_path / "none.sock", seconds))
    for _ in range(3):
        page = await scraped(metrics)
    assert value(page, "pod_resources_up") == 0
    assert value(page, "devices", resource=RESOURCE, health="Healthy", reason="") == 1, "the rest is there"
    assert [record.getMessage() for record in caplog.records] == ["pod_resources_unavailable"]


async def test_a_source_that_fails_in_any_way_costs_its_own_metrics_alone(caplog, monkeypatch):
    async def fail(seconds):
        raise RuntimeError("bug")

    async def hang(seconds):
        await asyncio.sleep(60)

    page = await scraped(Metrics("1", lambda: [Served(whole(0))], fail, fail))
    assert value(page, "pod_resources_up") == value(page, "telemetry_up") == 0
    assert value(page, "registered", resource=RESOURCE) == 1
    assert {record.fields["error"] for record in caplog.records} == {"bug"}
    monkeypatch.setattr(metrics_module, "_ASK_SECONDS", -0.9)  # a second less than the limit
    page = await asyncio.wait_for(scraped(Metrics("1", list, hang, hang)), 30)
    assert value(page, "pod_resources_up") == value(page, "telemetry_up") == 0


async def test_a_kubelet_that_hangs_is_not_waited_for(tmp_path):
    async with PodResourcesStub(tmp_path) as kubelet:
        kubelet.hangs = True
        with pytest.raises(PodResourcesError, match="DEADLINE_EXCEEDED"):
            await held(kubelet.socket, 0.05)


async def test_thousands_of_pods(tmp_path):
    async with PodResourcesStub(tmp_path) as kubelet:
        for number in range(5000):
            kubelet.pods["namespace", f"pod-{number:0200}", "main", RESOURCE] = [f"GPU-{number:060}"]
        assert len(await held(kubelet.socket, 30)) == 5000, "more than gRPC's usual 4 MiB would be cut off"


READING = Reading(gpu(0).uuid, 0, "NVIDIA H100", 0.5, 1024, 4096, None, 350.5)


async def test_telemetry_that_a_gpu_does_not_have_is_left_out():
    async def readings(seconds):
        return [READING]

    page = await scraped(Metrics("1", lambda: [], None, readings))
    which = frozenset({"gpu": gpu(0).uuid, "index": "0", "model": "NVIDIA H100"}.items())
    found = parsed(page)
    assert found["nvidia_gpu_utilization_ratio", which] == 0.5
    assert found["nvidia_gpu_power_watts", which] == 350.5
    assert ("nvidia_gpu_temperature_celsius", which) not in found
    assert value(page, "telemetry_up") == 1


async def test_a_driver_that_hangs_costs_one_thread_and_no_metric_of_ours(caplog):
    release = threading.Event()

    def hang():
        release.wait(60)
        return [READING]

    telemetry = Telemetry(hang)
    metrics = Metrics("1", lambda: [Served(whole(0))], None, lambda seconds: telemetry.readings(0.05))
    before = threading.active_count()
    for _ in range(3):
        page = await scraped(metrics)
        assert value(page, "telemetry_up") == 0
        assert value(page, "registered", resource=RESOURCE) == 1
    assert threading.active_count() == before + 1
    release.set()
    while threading.active_count() > before:
        await asyncio.sleep(0.01)
    assert await telemetry.readings(30) == [READING]


async def test_a_query_that_fails_is_an_answer():
    def fail():
        raise RuntimeError("bug")

    with pytest.raises(TelemetryError, match="bug"):
        await Telemetry(fail).readings(30)


# the daemon's process


async def test_a_daemon_is_scraped(kubelet, start, driver, tmp_path):
    async with PodResourcesStub(tmp_path) as pods:
        await kubelet.start()
        daemon = await start("--gpu-telemetry", "--pod-resources-socket", str(pods.socket))
        first, second = await kubelet.devices(RESOURCE)
        await kubelet.allocate(RESOURCE, first)
        pods.pods["default", "train", "main", RESOURCE] = [first]
        for gpu in (0, 1):
            driver("set", gpu, "memory_used_mib", 1024)
        driver("xid", 1, 79)
        await kubelet.devices(RESOURCE, lambda devices: "Unhealthy" in devices.values())
        await kubelet.restart()
        await kubelet.registered(2)
        await kubelet.devices(RESOURCE)
        one = {"resource": RESOURCE}
        page = ""
        while not page or value(page, "registrations_total", **one) < 2:  # counted when the kubelet's answer is there
            status, page = await daemon.get("/metrics")
            assert status == 200
            page += "\n"
        assert value(page, "devices", **one, health="Unhealthy", reason="xid_79") == 1
        assert value(page, "xids_total", gpu=second, xid="79") == 1
        assert value(page, "allocations_total", **one, outcome="granted") == 1
        assert value(page, "request_duration_seconds_count", **one, method="Allocate") == 1
        assert value(page, "registrations_total", **one) == 2
        assert value(page, "kubelet_restarts_total") == 1
        assert value(page, "registered", **one) == 1
        assert value(page, "list_and_watch_streams", **one) >= 1
        (holder,) = labelled(page, "pod_device")
        assert (holder["pod"], holder["gpu"]) == ("train", first)
        assert value(page, "telemetry_up") == 1
        telemetry = {name for name, _ in parsed(page) if name.startswith("nvidia_gpu_")}
        assert telemetry == {
            f"nvidia_gpu_{name}"
            for name in (
                *("utilization_ratio", "memory_used_bytes", "memory_total_bytes"),
                *("temperature_celsius", "power_watts"),
            )
        }
        # the driver's own share is not in use, as nvidia-smi counts
        assert {v for (name, _), v in parsed(page).items() if name == "nvidia_gpu_memory_used_bytes"} == {2**30}
        assert parsed(page)["process_resident_memory_bytes", frozenset()] > 2**20
        # reading the telemetry took no initialisation away from the thread that follows events
        driver("xid", 0, 79)
        await kubelet.devices(RESOURCE, lambda devices: "Healthy" not in devices.values())


async def test_scrapes_leave_nothing_behind(kubelet, start, tmp_path):
    async with PodResourcesStub(tmp_path) as pods:
        await kubelet.start()
        daemon = await start("--gpu-telemetry", "--pod-resources-socket", str(pods.socket))
        (first, _) = await kubelet.devices(RESOURCE)
        pods.pods["default", "train", "main", RESOURCE] = [first]
        process = Path(f"/proc/{daemon.process.pid}")

        def held_open():
            return len(list((process / "fd").iterdir())), len(list((process / "task").iterdir()))

        for _ in range(20):  # gRPC makes its threads as it needs them
            await daemon.get("/metrics")
        before = held_open()
        for _ in range(100):
            await daemon.get("/metrics")
        files, threads = held_open()
        # a leak would be one for each; gRPC's own pools may still grow by a few
        assert files < before[0] + 50
        assert threads < before[1] + 50


async def ready(daemon):
    """The kubelet knows of a registration a moment before the daemon knows that it does."""

    async def poll():
        while await daemon.get("/readyz") != (200, "ok"):
            await asyncio.sleep(0.01)

    await asyncio.wait_for(poll(), 30)


async def test_readiness_and_metric_follow_the_kubelet_that_runs_now(kubelet, start):
    await kubelet.start()
    daemon = await start()
    await kubelet.devices(RESOURCE)
    await ready(daemon)
    kubelet.reject = "not yet"
    await kubelet.restart()
    await daemon.logged("register_failed")
    assert await daemon.get("/readyz") == (503, "not registered with the kubelet")
    _, page = await daemon.get("/metrics")
    assert value(page + "\n", "registered", resource=RESOURCE) == 0
    assert value(page + "\n", "registration_failures_total", resource=RESOURCE) >= 1
    kubelet.reject = None
    await kubelet.registered(2)
    await ready(daemon)


async def test_refusals_are_counted(kubelet, start):
    import grpc

    await kubelet.start()
    daemon = await start("--pod-resources-socket=")
    await kubelet.devices(RESOURCE)
    with pytest.raises(grpc.aio.AioRpcError):
        await kubelet.allocate(RESOURCE, "GPU-nonsense")
    _, page = await daemon.get("/metrics")
    assert value(page + "\n", "allocations_total", resource=RESOURCE, outcome="refused") == 1
    assert value(page + "\n", "pod_resources_up") is None, "what is not asked for is not shown"


async def test_names_follow_prometheus_rules(kubelet, start):
    await kubelet.start()
    daemon = await start("--gpu-telemetry")
    await kubelet.devices(RESOURCE)
    _, page = await daemon.get("/metrics")
    for family in text_string_to_metric_families(page + "\n"):
        assert family.name.startswith((P, "nvidia_gpu_", "process_"))
        assert family.type in ("counter", "gauge", "histogram")
    kinds = dict(line.split()[2:] for line in page.splitlines() if line.startswith("# TYPE"))
    assert all(name.endswith("_total") == (kind == "counter") for name, kind in kinds.items())


def everything():
    """Metrics with a sample in each family."""

    async def pods(_):
        return [Held("ml", "train", "main", RESOURCE, gpu(0).uuid)]

    async def readings(_):
        return [Reading(gpu(0).uuid, 0, "NVIDIA H100", 0.5, 1024, 4096, 40, 350.5)]

    served = Served(whole(0), {gpu(0).uuid: Fault("x", "")})
    metrics = Metrics("1", lambda: [served], pods, readings, Followed("a"))
    for update in (Inventory("550", ()), XidEvent(None, 13), EccEvent(None)):
        metrics.saw(update, 0)
    return metrics


async def test_openmetrics_is_served_to_whom_it_asks():
    metrics = everything()
    page, content_type = await metrics.scrape("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.2")
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    found = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in openmetrics.text_string_to_metric_families(page.decode())
        for sample in family.samples
    }
    plain, content_type = await metrics.scrape()
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    ours = {key: number for key, number in parsed(plain.decode()).items() if not key[0].startswith("process_")}
    assert {key: number for key, number in found.items() if not key[0].startswith("process_")} == ours
    assert not [name for name, _ in found if name.endswith("_created")]


@pytest.mark.parametrize("kind", ["text/plain", "application/openmetrics-text"])
@pytest.mark.parametrize(
    "version", ["", "x", "1.x", "1.0.0.0", "99.0.0", "-1", "1.0.0;escaping=values", "1;escaping=x"]
)
async def test_any_accept_header_gets_a_page(kind, version):
    page, _ = await everything().scrape(f"{kind};version={version}")
    assert b"registered{" in page, "whatever the escaping of names"


async def test_every_metric_is_documented():
    text = (Path(__file__).parents[4] / "docs/metrics.md").read_text()
    page = await scraped(everything())
    names = {line.split()[2] for line in page.splitlines() if line.startswith("# TYPE")}
    stated = {part for line in text.splitlines() for part in line.split("`")[1::2]}
    assert not {name for name in names if not name.startswith("process_")} - stated
    gone = {name for name in stated if name.startswith((P, "nvidia_gpu_"))} - names
    assert not {name for name in gone if "{" not in name}
