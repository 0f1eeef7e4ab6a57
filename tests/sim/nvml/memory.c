/* Memory of a GPU or of a MIG device, in bytes. The state file counts in MiB. */
#include "entry.h"

#define MIB (1024ULL * 1024ULL)

static unsigned long long mib(const struct sim_section *gpu, const char *key) {
    unsigned long long value = 0;
    sim_number(sim_value(gpu, key), &value);
    return value * MIB;
}

/* reserved belongs to the driver and the firmware; v1 counts it as used. */
static nvmlReturn_t read_memory(nvmlDevice_t device, nvmlMemory_v2_t *out) {
    struct sim_call call;
    nvmlReturn_t result = sim_enter(device, &call);
    if (result != NVML_SUCCESS) return result;
    if (call.is_mig) {
        if (!sim_mig_memory(&call, &out->total)) return sim_leave(NVML_ERROR_NOT_SUPPORTED);
        out->reserved = out->used = 0;
    } else {
        if (!sim_value(call.gpu, "memory_mib")) return sim_leave(NVML_ERROR_NOT_SUPPORTED);
        result = sim_may_see_whole(&call);
        if (result != NVML_SUCCESS) return sim_leave(result);
        out->total = mib(call.gpu, "memory_mib");
        out->reserved = mib(call.gpu, "memory_reserved_mib");
        out->used = mib(call.gpu, "memory_used_mib");
    }
    out->free = out->total - out->reserved - out->used;
    return sim_leave(NVML_SUCCESS);
}

ENTRY(nvmlDeviceGetMemoryInfo, AT_DEVICE(device), (nvmlDevice_t device, nvmlMemory_t *memory), (device, memory)) {
    nvmlMemory_v2_t full;
    if (!memory) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = read_memory(device, &full);
    if (result == NVML_SUCCESS)
        *memory = (nvmlMemory_t){.total = full.total, .free = full.free, .used = full.used + full.reserved};
    return result;
}

ENTRY(nvmlDeviceGetMemoryInfo_v2, AT_DEVICE(device),
      (nvmlDevice_t device, nvmlMemory_v2_t *memory), (device, memory)) {
    if (!memory) return NVML_ERROR_INVALID_ARGUMENT;
    if (memory->version != NVML_STRUCT_VERSION(nvmlMemory_v2_t, 2)) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    return read_memory(device, memory);
}

ENTRY(nvmlDeviceGetBAR1MemoryInfo, AT_DEVICE(device),
      (nvmlDevice_t device, nvmlBAR1Memory_t *memory), (device, memory)) {
    struct sim_call call;
    if (!memory) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = sim_enter(device, &call);
    if (result != NVML_SUCCESS) return result;
    if (!sim_value(call.gpu, "bar1_mib")) return sim_leave(NVML_ERROR_NOT_SUPPORTED);
    result = sim_may_see_whole(&call);
    if (result != NVML_SUCCESS) return sim_leave(result);
    memory->bar1Total = mib(call.gpu, "bar1_mib");
    memory->bar1Used = mib(call.gpu, "bar1_used_mib");
    memory->bar1Free = memory->bar1Total - memory->bar1Used;
    return sim_leave(NVML_SUCCESS);
}
