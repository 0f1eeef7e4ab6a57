/* MIG: mode, MIG devices, what a MIG device holds. Instances come from `mig = …`, profiles from `mig_profile = …`. */
#include "mig.h"

#include <stdio.h>
#include <string.h>

#include "fields.h"
#include "entry.h"

bool sim_mig_enabled(const struct sim_section *gpu) { return sim_flag(gpu, "mig_mode", false); }

bool sim_mig_read(const struct sim_section *gpu, int at, struct sim_mig_entry *out) {
    if (strcmp(gpu->pairs[at].key, "mig")) return false;
    const char *value = gpu->pairs[at].value;
    out->gi = (unsigned int)sim_field_number(value, "gi", SIM_MAX_GI);
    out->ci = (unsigned int)sim_field_number(value, "ci", 0);
    out->start = (unsigned int)sim_field_number(value, "start", 0);
    out->ci_slices = (unsigned int)sim_field_number(value, "ci_slices", 0);
    out->ci_start = (unsigned int)sim_field_number(value, "ci_start", 0);
    return out->gi < SIM_MAX_GI && out->ci < SIM_MAX_CI &&
           sim_field(value, "profile", out->profile, sizeof out->profile) &&
           sim_field(value, "uuid", out->uuid, sizeof out->uuid);
}

bool sim_mig_profile(const struct sim_section *gpu, const char *name, struct sim_mig_profile *out) {
    for (int i = 0; i < gpu->count; i++)
        if (sim_mig_profile_read(gpu, i, out) && !strcmp(out->name, name)) return true;
    return false;
}

bool sim_mig_profile_read(const struct sim_section *gpu, int at, struct sim_mig_profile *out) {
    if (strcmp(gpu->pairs[at].key, "mig_profile")) return false;
    const char *value = gpu->pairs[at].value;
    *out = (struct sim_mig_profile){
        .index = (unsigned int)sim_field_number(value, "index", 0),
        .id = (unsigned int)sim_field_number(value, "id", 0),
        .slices = (unsigned int)sim_field_number(value, "slices", 0),
        .memory_slices = (unsigned int)sim_field_number(value, "memory_slices", 0),
        .instances = (unsigned int)sim_field_number(value, "instances", 0),
        .multiprocessors = (unsigned int)sim_field_number(value, "sm", 0),
        .copy_engines = (unsigned int)sim_field_number(value, "ce", 0),
        .decoders = (unsigned int)sim_field_number(value, "dec", 0),
        .encoders = (unsigned int)sim_field_number(value, "enc", 0),
        .jpegs = (unsigned int)sim_field_number(value, "jpeg", 0),
        .ofas = (unsigned int)sim_field_number(value, "ofa", 0),
        .memory_mib = sim_field_number(value, "memory_mib", 0),
    };
    if (!sim_field(value, "starts", out->starts, sizeof out->starts)) out->starts[0] = '\0';
    return sim_field(value, "name", out->name, sizeof out->name);
}

/* Its profile is "3g.40gb", or "1c.3g.40gb" when the compute instance has only part of the GPU instance. */
static void device_of(const struct sim_mig_entry *entry, const struct sim_section *gpu, struct sim_mig *out) {
    struct sim_mig_profile profile;
    *out = (struct sim_mig){.gi = (int)entry->gi, .ci = (int)entry->ci};
    snprintf(out->uuid, sizeof out->uuid, "%s", entry->uuid);
    bool part = entry->ci_slices && sim_mig_profile(gpu, entry->profile, &profile) && entry->ci_slices < profile.slices;
    if (part) snprintf(out->profile, sizeof out->profile, "%uc.%s", entry->ci_slices, entry->profile);
    else snprintf(out->profile, sizeof out->profile, "%s", entry->profile);
}

int sim_mig_list(const struct sim_section *gpu, struct sim_mig *out, int max) {
    int count = 0;
    struct sim_mig_entry entry;
    if (!sim_mig_enabled(gpu)) return 0;
    for (int i = 0; i < gpu->count && count < max; i++) {
        if (!sim_mig_read(gpu, i, &entry)) continue;
        device_of(&entry, gpu, &out[count++]);
    }
    return count;
}

bool sim_mig_find(const struct sim_section *gpu, int gi, int ci, struct sim_mig *out) {
    struct sim_mig_entry entry;
    if (!sim_mig_enabled(gpu)) return false;
    for (int i = 0; i < gpu->count; i++)
        if (sim_mig_read(gpu, i, &entry) && (int)entry.gi == gi && (int)entry.ci == ci) {
            device_of(&entry, gpu, out);
            return true;
        }
    return false;
}

bool sim_mig_entry_of(const struct sim_section *gpu, int gi, int ci, struct sim_mig_entry *entry,
                      struct sim_mig_profile *profile) {
    for (int i = 0; i < gpu->count; i++)
        if (sim_mig_read(gpu, i, entry) && (int)entry->gi == gi && (ci < 0 || (int)entry->ci == ci))
            return sim_mig_profile(gpu, entry->profile, profile);
    return false;
}

bool sim_mig_memory(const struct sim_call *call, unsigned long long *bytes) {
    struct sim_mig_entry entry;
    struct sim_mig_profile profile;
    if (!sim_mig_entry_of(call->gpu, call->mig.gi, call->mig.ci, &entry, &profile)) return false;
    *bytes = profile.memory_mib << 20;
    return true;
}

/* A GPU that can do MIG has profiles. */
static bool capable(const struct sim_section *gpu) { return sim_value(gpu, "mig_mode") != NULL; }

ENTRY(nvmlDeviceGetMigMode, AT_DEVICE(device),
      (nvmlDevice_t device, unsigned int *current, unsigned int *pending), (device, current, pending)) {
    struct sim_call call;
    if (!current || !pending) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = sim_enter(device, &call);
    if (result != NVML_SUCCESS) return result;
    if (call.is_mig) return sim_leave(NVML_ERROR_INVALID_ARGUMENT);
    if (!capable(call.gpu)) return sim_leave(NVML_ERROR_NOT_SUPPORTED);
    *current = sim_mig_enabled(call.gpu);
    *pending = sim_flag(call.gpu, "mig_mode_pending", *current);
    return sim_leave(NVML_SUCCESS);
}

ENTRY(nvmlDeviceIsMigDeviceHandle, AT_DEVICE(device), (nvmlDevice_t device, unsigned int *is_mig), (device, is_mig)) {
    struct sim_call call;
    if (!is_mig) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = sim_enter(device, &call);
    if (result != NVML_SUCCESS) return result;
    *is_mig = call.is_mig;
    return sim_leave(NVML_SUCCESS);
}

ENTRY(nvmlDeviceGetMaxMigDeviceCount, AT_DEVICE(device),
      (nvmlDevice_t device, unsigned int *count), (device, count)) {
    struct sim_call call;
    unsigned long long value = 0;
    if (!count) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = sim_enter(device, &call);
    if (result != NVML_SUCCESS) return result;
    if (capable(call.gpu) && sim_mig_enabled(call.gpu))
        sim_number(sim_value(call.gpu, "mig_max_devices"), &value);
    *count = (unsigned int)value; /* 0 without MIG, and where it is off */
    return sim_leave(NVML_SUCCESS);
}

ENTRY(nvmlDeviceGetMigDeviceHandleByIndex, AT_DEVICE(device),
      (nvmlDevice_t device, unsigned int index, nvmlDevice_t *mig), (device, index, mig)) {
    struct sim_call call;
    struct sim_mig all[SIM_MAX_GI * SIM_MAX_CI];
    if (!mig) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = sim_enter(device, &call);
    if (result != NVML_SUCCESS) return result;
    if (call.is_mig) return sim_leave(NVML_ERROR_INVALID_ARGUMENT);
    if (!capable(call.gpu)) return sim_leave(NVML_ERROR_NOT_SUPPORTED);
    int count = sim_mig_list(call.gpu, all, SIM_MAX_GI * SIM_MAX_CI);
    for (int i = 0; i < count; i++) {
        if (!sim_may_use(call.state, call.gpu_number, all[i].gi, all[i].ci) || index-- > 0) continue;
        *mig = sim_mig_handle(call.gpu_number, all[i].gi, all[i].ci);
        return sim_leave(NVML_SUCCESS);
    }
    return sim_leave(NVML_ERROR_NOT_FOUND);
}

ENTRY(nvmlDeviceGetDeviceHandleFromMigDeviceHandle, AT_DEVICE(mig),
      (nvmlDevice_t mig, nvmlDevice_t *device), (mig, device)) {
    struct sim_call call;
    if (!device) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = sim_enter(mig, &call);
    if (result != NVML_SUCCESS) return result;
    if (!call.is_mig) return sim_leave(NVML_ERROR_INVALID_ARGUMENT);
    *device = sim_gpu_handle(call.gpu_number);
    return sim_leave(NVML_SUCCESS);
}

static nvmlReturn_t instance_id(nvmlDevice_t mig, bool compute, unsigned int *id) {
    struct sim_call call;
    if (!id) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = sim_enter(mig, &call);
    if (result != NVML_SUCCESS) return result;
    if (!call.is_mig) return sim_leave(capable(call.gpu) ? NVML_ERROR_INVALID_ARGUMENT : NVML_ERROR_NOT_SUPPORTED);
    *id = (unsigned int)(compute ? call.mig.ci : call.mig.gi);
    return sim_leave(NVML_SUCCESS);
}

ENTRY(nvmlDeviceGetGpuInstanceId, AT_DEVICE(mig), (nvmlDevice_t mig, unsigned int *id), (mig, id)) {
    return instance_id(mig, false, id);
}

ENTRY(nvmlDeviceGetComputeInstanceId, AT_DEVICE(mig), (nvmlDevice_t mig, unsigned int *id), (mig, id)) {
    return instance_id(mig, true, id);
}

ENTRY(nvmlDeviceGetAttributes_v2, AT_DEVICE(mig), (nvmlDevice_t mig, nvmlDeviceAttributes_t *out), (mig, out)) {
    struct sim_call call;
    struct sim_mig_entry entry;
    struct sim_mig_profile profile;
    if (!out) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = sim_enter(mig, &call);
    if (result != NVML_SUCCESS) return result;
    if (!call.is_mig) return sim_leave(capable(call.gpu) ? NVML_ERROR_INVALID_ARGUMENT : NVML_ERROR_NOT_SUPPORTED);
    if (!sim_mig_entry_of(call.gpu, call.mig.gi, call.mig.ci, &entry, &profile))
        return sim_leave(NVML_ERROR_NOT_FOUND);
    unsigned int compute = entry.ci_slices ? entry.ci_slices : profile.slices;
    *out = (nvmlDeviceAttributes_t){
        .multiprocessorCount = profile.multiprocessors * compute / profile.slices,
        .sharedCopyEngineCount = profile.copy_engines,
        .sharedDecoderCount = profile.decoders,
        .sharedEncoderCount = profile.encoders,
        .sharedJpegCount = profile.jpegs,
        .sharedOfaCount = profile.ofas,
        .gpuInstanceSliceCount = profile.slices,
        .computeInstanceSliceCount = compute,
        .memorySizeMB = profile.memory_mib,
    };
    return sim_leave(NVML_SUCCESS);
}
