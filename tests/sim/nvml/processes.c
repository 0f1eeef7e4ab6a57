/* Processes on a GPU: lines `process = pid=… type=C|G|M memory_mib=… [gi=… ci=…]`. */
#include <string.h>

#include "fields.h"
#include "entry.h"

static bool belongs(const struct sim_call *call, const char *value, const char *type) {
    char kind[4];
    if (!sim_field(value, "type", kind, sizeof kind) || strcmp(kind, type)) return false;
    if (!call->is_mig) return true;
    return (int)sim_field_number(value, "gi", NVML_NO_INSTANCE) == call->mig.gi &&
           (int)sim_field_number(value, "ci", NVML_NO_INSTANCE) == call->mig.ci;
}

static nvmlReturn_t processes(nvmlDevice_t device, const char *type, unsigned int *count, nvmlProcessInfo_t *out) {
    struct sim_call call;
    unsigned int found = 0;
    if (!count || (*count && !out)) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = sim_enter(device, &call);
    if (result != NVML_SUCCESS) return result;
    result = sim_may_see_whole(&call);
    if (result != NVML_SUCCESS) return sim_leave(result);
    for (int i = 0; i < call.gpu->count; i++) {
        const char *value = call.gpu->pairs[i].value;
        if (strcmp(call.gpu->pairs[i].key, "process") || !belongs(&call, value, type)) continue;
        if (found < *count)
            out[found] = (nvmlProcessInfo_t){
                .pid = (unsigned int)sim_field_number(value, "pid", 0),
                .usedGpuMemory = sim_field_number(value, "memory_mib", 0) << 20,
                .gpuInstanceId = (unsigned int)sim_field_number(value, "gi", NVML_NO_INSTANCE),
                .computeInstanceId = (unsigned int)sim_field_number(value, "ci", NVML_NO_INSTANCE),
            };
        found++;
    }
    bool fits = found <= *count;
    *count = found;
    return sim_leave(fits ? NVML_SUCCESS : NVML_ERROR_INSUFFICIENT_SIZE);
}

#define PROCESSES(function, type) \
    ENTRY(function, AT_DEVICE(device), (nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_t *out), \
          (device, count, out)) { \
        return processes(device, type, count, out); \
    }
/* _v2 and _v3 have the same layout. */
PROCESSES(nvmlDeviceGetComputeRunningProcesses_v2, "C")
PROCESSES(nvmlDeviceGetComputeRunningProcesses_v3, "C")
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v2, "G")
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v3, "G")
PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses_v2, "M")
PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses_v3, "M")
