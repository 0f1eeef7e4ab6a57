/* nvmlDeviceGetFieldValues: the same facts under numbers (NVML_FI_*). */
#include <string.h>
#include <sys/time.h>

#include "fields.h"
#include "entry.h"

struct number {
    unsigned int id;
    const char *key;
    bool wide, flag;
};

static const struct number numbers[] = {
    {1, "ecc_mode", true, true},
    {2, "ecc_mode_pending", true, true},
    {31, "retired_pages_pending", true, true},
    {82, "temperature_memory", false, false},
    {83, "energy_mj", true, false},
    {90, "nvlink_mbps", false, false},
    {94, "pcie_replay_counter", false, false},
    {142, "remapped_rows_corrected", true, false},
    {143, "remapped_rows_uncorrected", true, false},
    {144, "remapped_rows_pending", true, true},
    {145, "remapped_rows_failure", true, true},
    {164, "nvlink_mbps", false, false},
    {185, "power_draw_mw", false, false},
    {186, "power_draw_mw", false, false},
    {187, "power_min_mw", false, false},
    {188, "power_max_mw", false, false},
    {189, "power_default_mw", false, false},
    {190, "power_limit_mw", false, false},
    {230, "recovery_action", false, false},
};

enum { FI_NVLINK_LINK_COUNT = 91, FI_NVLINK_GET_STATE = 165, FI_SHUTDOWN_TLIMIT = 193, FI_GPU_MAX_TLIMIT = 196 };

nvmlReturn_t nvmlDeviceGetNvLinkState(nvmlDevice_t, unsigned int, unsigned int *);
nvmlReturn_t nvmlDeviceGetTemperatureThreshold(nvmlDevice_t, unsigned int, unsigned int *);

static nvmlReturn_t link_count(nvmlDevice_t device, unsigned int *count) {
    struct sim_call call;
    nvmlReturn_t result = sim_enter(device, &call);
    if (result != NVML_SUCCESS) return result;
    *count = 0;
    for (int i = 0; i < call.gpu->count; i++) *count += !strcmp(call.gpu->pairs[i].key, "link");
    return sim_leave(NVML_SUCCESS);
}

/* How far a threshold lies below the GPU's limit, negative above it; the memory's limit is its own maximum. */
static nvmlReturn_t limit(nvmlDevice_t device, unsigned int id, int *celsius) {
    enum { MEMORY_MAX = 2, GPU_MAX = 3 }; /* the fields stand in the order of the thresholds */
    unsigned int margin, top, threshold, type = id - FI_SHUTDOWN_TLIMIT;
    if (sim_get_flag(device, "temperature_margin", &margin) != NVML_SUCCESS || !margin) return NVML_ERROR_NOT_SUPPORTED;
    nvmlReturn_t result = nvmlDeviceGetTemperatureThreshold(device, type, &threshold);
    if (result != NVML_SUCCESS) return result;
    result = nvmlDeviceGetTemperatureThreshold(device, type == MEMORY_MAX ? MEMORY_MAX : GPU_MAX, &top);
    *celsius = (int)top - (int)threshold;
    return result;
}

static nvmlReturn_t one(nvmlDevice_t device, nvmlFieldValue_t *field) {
    field->valueType = NVML_VALUE_TYPE_UNSIGNED_INT;
    if (field->fieldId == FI_NVLINK_LINK_COUNT) return link_count(device, &field->value.uiVal);
    if (field->fieldId == FI_NVLINK_GET_STATE)
        return nvmlDeviceGetNvLinkState(device, field->scopeId, &field->value.uiVal);
    if (field->fieldId >= FI_SHUTDOWN_TLIMIT && field->fieldId <= FI_GPU_MAX_TLIMIT) {
        field->valueType = NVML_VALUE_TYPE_SIGNED_INT;
        return limit(device, field->fieldId, &field->value.siVal);
    }
    for (unsigned int i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        const struct number *number = &numbers[i];
        if (number->id != field->fieldId) continue;
        if (number->wide) field->valueType = NVML_VALUE_TYPE_UNSIGNED_LONG_LONG; /* as a real H100 has it */
        /* the union is cleared, so that the wide value of a flag is the narrow one */
        if (number->flag) return sim_get_flag(device, number->key, &field->value.uiVal);
        if (number->wide) return sim_get_u64(device, number->key, &field->value.ullVal);
        return sim_get_uint(device, number->key, &field->value.uiVal);
    }
    return NVML_ERROR_NOT_SUPPORTED;
}

/* Each field carries its own result; the call fails only if the device as a whole does not answer. */
ENTRY(nvmlDeviceGetFieldValues, AT_DEVICE(device),
      (nvmlDevice_t device, int count, nvmlFieldValue_t *fields), (device, count, fields)) {
    struct sim_call call;
    struct timeval now;
    if (!fields || count < 1) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = sim_enter(device, &call);
    if (result != NVML_SUCCESS) return result;
    sim_leave(NVML_SUCCESS);
    gettimeofday(&now, NULL);
    for (int i = 0; i < count; i++) {
        memset(&fields[i].value, 0, sizeof fields[i].value);
        fields[i].timestamp = now.tv_sec * 1000000LL + now.tv_usec;
        fields[i].latencyUsec = 0;
        fields[i].nvmlReturn = one(device, &fields[i]);
    }
    return NVML_SUCCESS;
}
