/* From an index, a UUID, a serial number or a PCI address to a device handle. */
#include <stdio.h>
#include <string.h>

#include "sim.h"

/* Give a handle for a GPU that was found; a GPU that fell off the bus is found but has none. */
static nvmlReturn_t give(const struct sim_call *call, int gpu, nvmlDevice_t *device) {
    char node[32];
    const char *minor = sim_value(call->state->gpus[gpu], "minor");
    snprintf(node, sizeof node, "nvidia%s", minor ? minor : "");
    if (!sim_may_talk(call->state, node)) return NVML_ERROR_NO_PERMISSION;
    if (sim_lost(call->state->gpus[gpu])) return NVML_ERROR_GPU_IS_LOST;
    *device = sim_gpu_handle(gpu);
    return NVML_SUCCESS;
}

NVML_API nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device) {
    struct sim_call call;
    if (!device) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = sim_enter_system(&call);
    if (result != NVML_SUCCESS) return result;
    for (int i = 0; i < SIM_MAX_GPUS; i++)
        if (sim_visible(call.state, i) && index-- == 0) return sim_leave(give(&call, i, device));
    return sim_leave(NVML_ERROR_INVALID_ARGUMENT);
}

NVML_API nvmlReturn_t nvmlDeviceGetHandleByIndex(unsigned int index, nvmlDevice_t *device) {
    return nvmlDeviceGetHandleByIndex_v2(index, device);
}

static bool same(const struct sim_section *gpu, const char *key, const char *wanted) {
    const char *value = sim_value(gpu, key);
    return value && !strcmp(value, wanted);
}

static nvmlReturn_t find_by_key(const char *key, const char *wanted, nvmlDevice_t *device) {
    struct sim_call call;
    if (!wanted || !device) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = sim_enter_system(&call);
    if (result != NVML_SUCCESS) return result;
    for (int i = 0; i < SIM_MAX_GPUS; i++)
        if (sim_visible(call.state, i) && same(call.state->gpus[i], key, wanted))
            return sim_leave(give(&call, i, device));
    return sim_leave(NVML_ERROR_NOT_FOUND);
}

NVML_API nvmlReturn_t nvmlDeviceGetHandleBySerial(const char *serial, nvmlDevice_t *device) {
    return find_by_key("serial", serial, device);
}

static nvmlReturn_t find_mig_uuid(const char *uuid, nvmlDevice_t *device) {
    struct sim_call call;
    struct sim_mig migs[SIM_MAX_GI * SIM_MAX_CI];
    nvmlReturn_t result = sim_enter_system(&call);
    if (result != NVML_SUCCESS) return result;
    for (int i = 0; i < SIM_MAX_GPUS; i++) {
        if (!sim_visible(call.state, i) || sim_lost(call.state->gpus[i])) continue;
        int count = sim_mig_list(call.state->gpus[i], migs, SIM_MAX_GI * SIM_MAX_CI);
        for (int j = 0; j < count; j++)
            if (!strcmp(migs[j].uuid, uuid) && sim_may_use(call.state, i, migs[j].gi, migs[j].ci)) {
                *device = sim_mig_handle(i, migs[j].gi, migs[j].ci);
                return sim_leave(NVML_SUCCESS);
            }
    }
    return sim_leave(NVML_ERROR_NOT_FOUND);
}

NVML_API nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device) {
    if (!uuid || !device) return NVML_ERROR_INVALID_ARGUMENT;
    if (!strncmp(uuid, "MIG-", 4)) return find_mig_uuid(uuid, device);
    return find_by_key("uuid", uuid, device);
}

NVML_API nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, nvmlDevice_t *device) {
    struct sim_call call;
    struct sim_pci pci;
    unsigned int domain, bus, slot;
    if (!bus_id || !device || sscanf(bus_id, "%x:%x:%x", &domain, &bus, &slot) != 3)
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = sim_enter_system(&call);
    if (result != NVML_SUCCESS) return result;
    for (int i = 0; i < SIM_MAX_GPUS; i++)
        if (sim_visible(call.state, i) && sim_pci_of(call.state->gpus[i], &pci) && pci.domain == domain &&
            pci.bus == bus && pci.device == slot)
            return sim_leave(give(&call, i, device));
    return sim_leave(NVML_ERROR_NOT_FOUND);
}

NVML_API nvmlReturn_t nvmlDeviceGetHandleByPciBusId(const char *bus_id, nvmlDevice_t *device) {
    return nvmlDeviceGetHandleByPciBusId_v2(bus_id, device);
}
