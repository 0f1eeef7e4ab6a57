/* From an index, a UUID, a serial number or a PCI address to a device handle. */
#include <stdio.h>
#include <string.h>

#include "entry.h"

int sim_gpu_at(const struct sim_state *state, unsigned int index) {
    for (int i = 0; i < SIM_MAX_GPUS; i++)
        if (sim_visible(state, i) && index-- == 0) return i;
    return -1;
}

int sim_gpu_with(const struct sim_state *state, const char *key, const char *wanted) {
    for (int i = 0; i < SIM_MAX_GPUS; i++) {
        const char *value = sim_visible(state, i) ? sim_value(state->gpus[i], key) : NULL;
        if (value && !strcmp(value, wanted)) return i;
    }
    return -1;
}

int sim_gpu_on_bus(const struct sim_state *state, const char *bus_id) {
    struct sim_pci pci;
    unsigned int domain, bus, slot;
    if (sscanf(bus_id, "%x:%x:%x", &domain, &bus, &slot) != 3) return -1;
    for (int i = 0; i < SIM_MAX_GPUS; i++)
        if (sim_visible(state, i) && sim_pci_of(state->gpus[i], &pci) && pci.domain == domain && pci.bus == bus &&
            pci.device == slot)
            return i;
    return -1;
}

int sim_mig_with(const struct sim_state *state, const char *uuid, struct sim_mig *out) {
    struct sim_mig migs[SIM_MAX_GI * SIM_MAX_CI];
    for (int i = 0; i < SIM_MAX_GPUS; i++) {
        if (!sim_visible(state, i) || sim_lost(state->gpus[i])) continue;
        int count = sim_mig_list(state->gpus[i], migs, SIM_MAX_GI * SIM_MAX_CI);
        for (int j = 0; j < count; j++)
            if (!strcmp(migs[j].uuid, uuid)) {
                *out = migs[j];
                return i;
            }
    }
    return -1;
}

/* Give a handle for a GPU that was found; a GPU that fell off the bus is found but has none. */
static nvmlReturn_t give(const struct sim_call *call, int gpu, nvmlDevice_t *device, nvmlReturn_t otherwise) {
    char node[32];
    if (gpu < 0) return otherwise;
    const char *minor = sim_value(call->state->gpus[gpu], "minor");
    snprintf(node, sizeof node, "nvidia%s", minor ? minor : "");
    if (!sim_may_talk(call->state, node)) return NVML_ERROR_NO_PERMISSION;
    if (sim_lost(call->state->gpus[gpu])) return NVML_ERROR_GPU_IS_LOST;
    *device = sim_gpu_handle(gpu);
    return NVML_SUCCESS;
}

ENTRY(nvmlDeviceGetHandleByIndex_v2, AT_INDEX(index), (unsigned int index, nvmlDevice_t *device), (index, device)) {
    struct sim_call call;
    if (!device) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = sim_enter_system(&call);
    if (result != NVML_SUCCESS) return result;
    return sim_leave(give(&call, sim_gpu_at(call.state, index), device, NVML_ERROR_INVALID_ARGUMENT));
}

ENTRY(nvmlDeviceGetHandleByIndex, AT_INDEX(index), (unsigned int index, nvmlDevice_t *device), (index, device)) {
    return nvmlDeviceGetHandleByIndex_v2(index, device);
}

static nvmlReturn_t find_by_key(const char *key, const char *wanted, nvmlDevice_t *device) {
    struct sim_call call;
    if (!wanted || !device) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = sim_enter_system(&call);
    if (result != NVML_SUCCESS) return result;
    return sim_leave(give(&call, sim_gpu_with(call.state, key, wanted), device, NVML_ERROR_NOT_FOUND));
}

ENTRY(nvmlDeviceGetHandleBySerial, AT_KEY("serial", serial), (const char *serial, nvmlDevice_t *device),
      (serial, device)) {
    return find_by_key("serial", serial, device);
}

static nvmlReturn_t find_mig_uuid(const char *uuid, nvmlDevice_t *device) {
    struct sim_call call;
    struct sim_mig mig;
    nvmlReturn_t result = sim_enter_system(&call);
    if (result != NVML_SUCCESS) return result;
    int gpu = sim_mig_with(call.state, uuid, &mig);
    if (gpu < 0 || !sim_may_use(call.state, gpu, mig.gi, mig.ci)) return sim_leave(NVML_ERROR_NOT_FOUND);
    *device = sim_mig_handle(gpu, mig.gi, mig.ci);
    return sim_leave(NVML_SUCCESS);
}

ENTRY(nvmlDeviceGetHandleByUUID, AT_KEY("uuid", uuid), (const char *uuid, nvmlDevice_t *device), (uuid, device)) {
    if (!uuid || !device) return NVML_ERROR_INVALID_ARGUMENT;
    if (!strncmp(uuid, "MIG-", 4)) return find_mig_uuid(uuid, device);
    return find_by_key("uuid", uuid, device);
}

ENTRY(nvmlDeviceGetHandleByPciBusId_v2, AT_BUS(bus_id), (const char *bus_id, nvmlDevice_t *device), (bus_id, device)) {
    struct sim_call call;
    unsigned int domain, bus, slot;
    if (!bus_id || !device || sscanf(bus_id, "%x:%x:%x", &domain, &bus, &slot) != 3)
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = sim_enter_system(&call);
    if (result != NVML_SUCCESS) return result;
    return sim_leave(give(&call, sim_gpu_on_bus(call.state, bus_id), device, NVML_ERROR_NOT_FOUND));
}

ENTRY(nvmlDeviceGetHandleByPciBusId, AT_BUS(bus_id), (const char *bus_id, nvmlDevice_t *device), (bus_id, device)) {
    return nvmlDeviceGetHandleByPciBusId_v2(bus_id, device);
}
