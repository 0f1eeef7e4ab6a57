"""What ``nvidia-smi -q -x`` writes, for GPUs and driver generations of the tests' choosing.

The elements and their order follow the output of the drivers named; what the facts do not read is left out, but for
some elements that look alike and must not be taken for others.
"""

from xml.sax.saxutils import escape


def element(name: str, *content: object) -> str:
    body = "".join(str(part) if str(part).startswith("<") else escape(str(part)) for part in content)
    return f"<{name}>{body}</{name}>\n"


def document(*gpus: str, driver: str, cuda: str | None, dtd: str = "v12") -> str:
    return f'<?xml version="1.0" ?>\n<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_{dtd}.dtd">\n' + element(
        "nvidia_smi_log",
        element("timestamp", "Mon Mar 11 10:00:00 2024"),
        element("driver_version", driver),
        element("cuda_version", cuda) if cuda else "<!-- none -->",
        element("attached_gpus", len(gpus)),
        *gpus,
    )


def pci(address: str, device: str, subsystem: str, generation: str = "5", width: str = "16x") -> str:
    return element(
        "pci",
        element("pci_bus", address[9:11]),
        element("pci_device_id", device),
        element("pci_bus_id", address),
        element("pci_sub_system_id", subsystem),
        element(
            "pci_gpu_link_info",
            element(
                "pcie_gen",
                element("max_link_gen", generation),
                element("current_link_gen", "1"),
                element("max_device_link_gen", "5"),
            ),
            element("link_widths", element("max_link_width", width), element("current_link_width", width)),
        ),
    )


def h100_of_550(address: str = "00000000:19:00.0", minor: int = 0, mig: str = "", mig_mode: str = "Disabled") -> str:
    """An H100 as driver 550.54.15 describes it; ``mig``: <mig_device> elements."""
    return f'<gpu id="{address}">\n' + "".join(
        (
            element("product_name", "NVIDIA H100 80GB HBM3"),
            element("product_brand", "NVIDIA"),
            element("product_architecture", "Hopper"),
            element("persistence_mode", "Enabled"),
            element("addressing_mode", "None"),
            element("mig_mode", element("current_mig", mig_mode), element("pending_mig", mig_mode)),
            element("mig_devices", mig or "\n\t\t\tNone\n\t\t"),
            element("serial", "1650423010101"),
            element("uuid", f"GPU-44ef75fb-52f8-512e-901f-0523b03c6b5{minor}"),
            element("minor_number", minor),
            element("vbios_version", "96.00.74.00.01"),
            pci(address, "233010DE", "16C110DE"),
            element(
                "fb_memory_usage",
                element("total", "81559 MiB"),
                element("reserved", "551 MiB"),
                element("used", "1024 MiB"),
                element("free", "79984 MiB"),
            ),
            element("bar1_memory_usage", element("total", "131072 MiB"), element("used", "1 MiB")),
            element("compute_mode", "Exclusive_Process"),
            element("ecc_mode", element("current_ecc", "Enabled"), element("pending_ecc", "Disabled")),
            element(
                "ecc_errors",
                element(
                    "volatile",
                    element("sram_correctable", 1),
                    element("sram_uncorrectable_parity", 2),
                    element("sram_uncorrectable_secded", 4),
                    element("dram_correctable", 8),
                    element("dram_uncorrectable", 16),
                ),
                element(
                    "aggregate",
                    element("sram_correctable", 100),
                    element("sram_uncorrectable_parity", 0),
                    element("sram_uncorrectable_secded", 0),
                    element("dram_correctable", 0),
                    element("dram_uncorrectable", 200),
                    element("sram_threshold_exceeded", "No"),
                ),
            ),
            element(
                "retired_pages",
                element("multiple_single_bit_retirement", element("retired_count", "N/A")),
                element("double_bit_retirement", element("retired_count", "N/A")),
                element("pending_blacklist", "N/A"),
                element("pending_retirement", "N/A"),
            ),
            element(
                "remapped_rows",
                element("remapped_row_corr", 0),
                element("remapped_row_unc", 2),
                element("remapped_row_pending", "Yes"),
                element("remapped_row_failure", "No"),
            ),
            element("temperature", element("gpu_temp", "31 C"), element("memory_temp", "44 C")),
            element(
                "gpu_power_readings",
                element("power_state", "P0"),
                element("power_draw", "68.51 W"),
                element("current_power_limit", "700.00 W"),
                element("requested_power_limit", "700.00 W"),
            ),
            element(
                "module_power_readings", element("power_draw", "900.00 W"), element("current_power_limit", "999.00 W")
            ),
            element(
                "clocks",
                element("graphics_clock", "345 MHz"),
                element("sm_clock", "345 MHz"),
                element("mem_clock", "2619 MHz"),
            ),
            element("max_clocks", element("graphics_clock", "1980 MHz"), element("sm_clock", "1980 MHz")),
            element(
                "processes",
                element("process_info", element("pid", 4711), element("type", "C")),
                element("process_info", element("pid", 4711), element("type", "G")),
                element("process_info", element("pid", 4712), element("type", "C")),
            ),
            "</gpu>\n",
        )
    )


def mig_device(index: int, gi: int, ci: int, mebibytes: int, uuid: str | None = None) -> str:
    return element(
        "mig_device",
        element("index", index),
        element("gpu_instance_id", gi),
        element("compute_instance_id", ci),
        element("uuid", uuid) if uuid else "<!-- none -->",
        element("device_attributes", element("shared", element("multiprocessor_count", 16))),
        element("fb_memory_usage", element("total", f"{mebibytes} MiB"), element("used", "12 MiB")),
    )


def v100_of_384() -> str:
    """A V100 as driver 384.81 described it: no CUDA version, no architecture, no MIG, ECC by single and double bit."""
    return '<gpu id="00000000:06:00.0">\n' + "".join(
        (
            element("product_name", "Tesla V100-SXM2-16GB"),
            element("product_brand", "Tesla"),
            element("persistence_mode", "Disabled"),
            element("serial", "0322917000000"),
            element("uuid", "GPU-11111111-2222-3333-4444-555555555555"),
            element("minor_number", 0),
            element("vbios_version", "88.00.13.00.02"),
            pci("00000000:06:00.0", "1DB110DE", "121210DE", generation="3"),
            element(
                "fb_memory_usage",
                element("total", "16152 MiB"),
                element("used", "10 MiB"),
                element("free", "16142 MiB"),
            ),
            element("compute_mode", "Default"),
            element("ecc_mode", element("current_ecc", "Enabled"), element("pending_ecc", "Enabled")),
            element(
                "ecc_errors",
                *(
                    element(
                        counter,
                        element("single_bit", element("device_memory", 3), element("total", 3)),
                        element("double_bit", element("device_memory", 1), element("total", total)),
                    )
                    for counter, total in (("volatile", 1), ("aggregate", 7))
                ),
            ),
            element(
                "retired_pages",
                element("multiple_single_bit_retirement", element("retired_count", 0)),
                element("double_bit_retirement", element("retired_count", 7)),
                element("pending_retirement", "Yes"),
            ),
            element("temperature", element("gpu_temp", "33 C")),
            element(
                "power_readings",
                element("power_draw", "41.32 W"),
                element("power_limit", "300.00 W"),
                element("enforced_power_limit", "250.00 W"),
            ),
            element(
                "clocks",
                element("graphics_clock", "135 MHz"),
                element("sm_clock", "135 MHz"),
                element("mem_clock", "877 MHz"),
            ),
            element("processes", "\n\t\t"),
            "</gpu>\n",
        )
    )


def geforce_of_575() -> str:
    """A GeForce as driver 575 describes it: no serial, no ECC, no MIG, power draw in two readings."""
    return '<gpu id="00000000:01:00.0">\n' + "".join(
        (
            element("product_name", "NVIDIA GeForce RTX 4090"),
            element("product_brand", "GeForce"),
            element("product_architecture", "Ada Lovelace"),
            element("display_mode", "Requested functionality has been deprecated"),
            element("persistence_mode", "Disabled"),
            element("mig_mode", element("current_mig", "N/A"), element("pending_mig", "N/A")),
            element("mig_devices", "\n\t\t\tNone\n\t\t"),
            element("serial", "N/A"),
            element("uuid", "GPU-99999999-2222-3333-4444-555555555555"),
            element("minor_number", 0),
            element("vbios_version", "95.02.3C.00.8B"),
            pci("00000000:01:00.0", "268410DE", "167C10DE", generation="4"),
            element("fb_memory_usage", element("total", "24564 MiB"), element("used", "N/A")),
            element("compute_mode", "Default"),
            element("ecc_mode", element("current_ecc", "N/A"), element("pending_ecc", "N/A")),
            element("ecc_errors", element("volatile", element("sram_correctable", "N/A"))),
            element("temperature", element("gpu_temp", "41 C")),
            element(
                "gpu_power_readings",
                element("average_power_draw", "11.15 W"),
                element("instant_power_draw", "11.26 W"),
                element("current_power_limit", "450.00 W"),
            ),
            element("gpu_memory_power_readings", element("average_power_draw", "5.00 W")),
            element("clocks", element("graphics_clock", "675 MHz"), element("mem_clock", "810 MHz")),
            element("processes", "N/A"),
            "</gpu>\n",
        )
    )
