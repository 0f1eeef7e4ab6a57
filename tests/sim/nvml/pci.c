/* Where a GPU sits on the PCI bus, and its link. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "entry.h"

static unsigned int hexadecimal(const struct sim_section *gpu, const char *key) {
    const char *value = sim_value(gpu, key);
    return value ? (unsigned int)strtoul(value, NULL, 16) : 0;
}

bool sim_pci_of(const struct sim_section *gpu, struct sim_pci *out) {
    const char *bus_id = sim_value(gpu, "pci_bus_id");
    if (!bus_id || sscanf(bus_id, "%x:%x:%x", &out->domain, &out->bus, &out->device) != 3) return false;
    out->device_id = hexadecimal(gpu, "pci_device_id");
    out->subsystem_id = hexadecimal(gpu, "pci_subsystem_id");
    return true;
}

void sim_pci_fill(const struct sim_pci *pci, nvmlPciInfo_t *out) {
    memset(out, 0, sizeof *out);
    snprintf(out->busIdLegacy, sizeof out->busIdLegacy, "%04X:%02X:%02X.0", pci->domain & 0xffff, pci->bus & 0xff,
             pci->device & 0xff);
    snprintf(out->busId, sizeof out->busId, "%08X:%02X:%02X.0", pci->domain, pci->bus & 0xff, pci->device & 0xff);
    out->domain = pci->domain;
    out->bus = pci->bus;
    out->device = pci->device;
    out->pciDeviceId = pci->device_id;
    out->pciSubSystemId = pci->subsystem_id;
}

static nvmlReturn_t read_pci(nvmlDevice_t device, struct sim_pci *pci) {
    struct sim_call call;
    nvmlReturn_t result = sim_enter(device, &call);
    if (result != NVML_SUCCESS) return result;
    return sim_leave(sim_pci_of(call.gpu, pci) ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED);
}

ENTRY(nvmlDeviceGetPciInfo_v3, AT_DEVICE(device), (nvmlDevice_t device, nvmlPciInfo_t *out), (device, out)) {
    struct sim_pci pci;
    if (!out) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = read_pci(device, &pci);
    if (result == NVML_SUCCESS) sim_pci_fill(&pci, out);
    return result;
}

ENTRY(nvmlDeviceGetPciInfo_v2, AT_DEVICE(device), (nvmlDevice_t device, nvmlPciInfo_v2_t *out), (device, out)) {
    nvmlPciInfo_t full;
    if (!out) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = nvmlDeviceGetPciInfo_v3(device, &full);
    if (result == NVML_SUCCESS) memcpy(out, &full, offsetof(nvmlPciInfo_v2_t, reserved));
    return result;
}

ENTRY(nvmlDeviceGetPciInfo, AT_DEVICE(device), (nvmlDevice_t device, nvmlPciInfo_v2_t *out), (device, out)) {
    return nvmlDeviceGetPciInfo_v2(device, out);
}

ENTRY(nvmlDeviceGetPciInfoExt, AT_DEVICE(device), (nvmlDevice_t device, nvmlPciInfoExt_v1_t *out), (device, out)) {
    nvmlPciInfo_t full;
    if (!out) return NVML_ERROR_INVALID_ARGUMENT;
    if (out->version != NVML_STRUCT_VERSION(nvmlPciInfoExt_v1_t, 1)) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    nvmlReturn_t result = nvmlDeviceGetPciInfo_v3(device, &full);
    if (result != NVML_SUCCESS) return result;
    out->domain = full.domain;
    out->bus = full.bus;
    out->device = full.device;
    out->pciDeviceId = full.pciDeviceId;
    out->pciSubSystemId = full.pciSubSystemId;
    out->baseClass = 0x03; /* display controller, 3D */
    out->subClass = 0x02;
    memcpy(out->busId, full.busId, sizeof out->busId);
    return NVML_SUCCESS;
}

ENTRY_UINT(nvmlDeviceGetCurrPcieLinkGeneration, "pcie_gen_current")
ENTRY_UINT(nvmlDeviceGetMaxPcieLinkGeneration, "pcie_gen_max")
ENTRY_UINT(nvmlDeviceGetGpuMaxPcieLinkGeneration, "pcie_gen_gpu_max")
ENTRY_UINT(nvmlDeviceGetCurrPcieLinkWidth, "pcie_width_current")
ENTRY_UINT(nvmlDeviceGetMaxPcieLinkWidth, "pcie_width_max")
ENTRY_UINT(nvmlDeviceGetPcieReplayCounter, "pcie_replay_counter")

/* KB/s; 0 is transmitted, 1 is received. */
ENTRY(nvmlDeviceGetPcieThroughput, AT_DEVICE(device),
      (nvmlDevice_t device, unsigned int counter, unsigned int *value), (device, counter, value)) {
    if (counter > 1) return NVML_ERROR_INVALID_ARGUMENT;
    return sim_get_uint(device, counter == 0 ? "pcie_tx_kbps" : "pcie_rx_kbps", value);
}
