/* The driver as a whole: versions, the number of GPUs, process names. */
#include <stdio.h>
#include <string.h>

#include "entry.h"

static nvmlReturn_t system_string(const char *key, char *out, unsigned int length) {
    struct sim_call call;
    nvmlReturn_t result = sim_enter_system(&call);
    if (result != NVML_SUCCESS) return result;
    return sim_leave(sim_copy(sim_value(call.state->system, key), out, length));
}

ENTRY(nvmlSystemGetDriverVersion, NOWHERE, (char *version, unsigned int length), (version, length)) {
    return system_string("driver_version", version, length);
}

ENTRY(nvmlSystemGetNVMLVersion, NOWHERE, (char *version, unsigned int length), (version, length)) {
    struct sim_call call;
    nvmlReturn_t result = sim_enter_library(&call);
    if (result != NVML_SUCCESS) return result;
    return sim_leave(sim_copy(sim_value(call.state->system, "nvml_version"), version, length));
}

/* "12.4" -> 12040, CUDA's own encoding: 1000 * major + 10 * minor. */
ENTRY(nvmlSystemGetCudaDriverVersion, NOWHERE, (int *version), (version)) {
    char text[32];
    int major, minor;
    if (!version) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = system_string("cuda_version", text, sizeof text);
    if (result != NVML_SUCCESS) return result;
    if (sscanf(text, "%d.%d", &major, &minor) != 2) return NVML_ERROR_NOT_SUPPORTED;
    *version = 1000 * major + 10 * minor;
    return NVML_SUCCESS;
}

ENTRY(nvmlSystemGetCudaDriverVersion_v2, NOWHERE, (int *version), (version)) {
    return nvmlSystemGetCudaDriverVersion(version);
}

ENTRY(nvmlSystemGetProcessName, NOWHERE, (unsigned int pid, char *name, unsigned int length), (pid, name, length)) {
    char path[64], command[4096];
    if (!name || !length) return NVML_ERROR_INVALID_ARGUMENT;
    struct sim_call call;
    nvmlReturn_t result = sim_enter_system(&call);
    if (result != NVML_SUCCESS) return result;
    sim_leave(NVML_SUCCESS);
    snprintf(path, sizeof path, "/proc/%u/cmdline", pid);
    FILE *file = fopen(path, "re");
    if (!file) return NVML_ERROR_NOT_FOUND;
    size_t read = fread(command, 1, sizeof command - 1, file);
    fclose(file);
    command[read] = '\0';
    snprintf(name, length, "%s", command);
    return NVML_SUCCESS;
}

ENTRY(nvmlDeviceGetCount_v2, NOWHERE, (unsigned int *count), (count)) {
    struct sim_call call;
    if (!count) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = sim_enter_system(&call);
    if (result != NVML_SUCCESS) return result;
    *count = 0;
    for (int i = 0; i < SIM_MAX_GPUS; i++) *count += sim_visible(call.state, i);
    return sim_leave(NVML_SUCCESS);
}

ENTRY(nvmlDeviceGetCount, NOWHERE, (unsigned int *count), (count)) { return nvmlDeviceGetCount_v2(count); }

/* No S-class units (Tesla deskside boxes) and no host interface cards in this machine. */
ENTRY(nvmlUnitGetCount, NOWHERE, (unsigned int *count), (count)) {
    if (!count) return NVML_ERROR_INVALID_ARGUMENT;
    *count = 0;
    return NVML_SUCCESS;
}

ENTRY(nvmlSystemGetHicVersion, NOWHERE, (unsigned int *count, void *entries), (count, entries)) {
    (void)entries;
    return nvmlUnitGetCount(count);
}

ENTRY(nvmlGetExcludedDeviceCount, NOWHERE, (unsigned int *count), (count)) { return nvmlUnitGetCount(count); }
