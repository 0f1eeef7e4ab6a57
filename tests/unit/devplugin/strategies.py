"""Generated cases for the daemon's pure rooms."""

from __future__ import annotations

from hypothesis import strategies as st

from nvidia_devplugin.model import DriverGone, Fault, Gpu, Inventory, XidEvent


def gpu(index: int, numa: int | None = None) -> Gpu:
    return Gpu(
        index=index,
        uuid=f"GPU-{index:08x}",
        minor=index,
        name="NVIDIA H100 80GB HBM3",
        memory_bytes=81559 * 2**20,
        pci_bus_id=f"00000000:{index:02X}:00.0",
        numa_node=numa,
    )


numa_nodes = st.one_of(st.none(), st.integers(0, 3))
gpus = st.lists(numa_nodes, max_size=16).map(lambda nodes: tuple(gpu(i, node) for i, node in enumerate(nodes)))
some_gpus = st.sets(st.integers(0, 7)).map(lambda indices: tuple(gpu(i) for i in sorted(indices)))
xids = st.sampled_from([13, 31, 43, 45, 48, 63, 68, 74, 79, 94, 109, 119, 999])
uuids = st.integers(0, 7).map(lambda i: gpu(i).uuid)

updates = st.one_of(
    st.builds(Inventory, st.just("550.54.15"), some_gpus),
    st.builds(XidEvent, st.one_of(st.none(), uuids), xids),
    st.just(DriverGone(Fault("driver_not_loaded", "not loaded"), "load it")),
)
