/* GPU instances and compute instances: reading them. Creating and destroying is what nvmlsim.py is for. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "entry.h"
#include "mig.h"

struct nvmlGpuInstance_st {
    int gpu, gi;
};
struct nvmlComputeInstance_st {
    int gpu, gi, ci;
};

static struct nvmlGpuInstance_st gpu_instances[SIM_MAX_GPUS][SIM_MAX_GI];
static struct nvmlComputeInstance_st compute_instances[SIM_MAX_GPUS][SIM_MAX_GI][SIM_MAX_CI];

static nvmlGpuInstance_t gi_handle(int gpu, unsigned int gi) {
    gpu_instances[gpu][gi] = (struct nvmlGpuInstance_st){gpu, (int)gi};
    return &gpu_instances[gpu][gi];
}

static nvmlComputeInstance_t ci_handle(int gpu, unsigned int gi, unsigned int ci) {
    compute_instances[gpu][gi][ci] = (struct nvmlComputeInstance_st){gpu, (int)gi, (int)ci};
    return &compute_instances[gpu][gi][ci];
}

static bool within(const void *handle, const void *table, size_t size, size_t step) {
    const char *at = handle, *begin = table;
    return at >= begin && at < begin + size && (at - begin) % step == 0;
}

static unsigned int gpu_of(const void *instance) {
    if (within(instance, gpu_instances, sizeof gpu_instances, sizeof **gpu_instances))
        return (unsigned int)((const struct nvmlGpuInstance_st *)instance)->gpu;
    if (within(instance, compute_instances, sizeof compute_instances, sizeof ***compute_instances))
        return (unsigned int)((const struct nvmlComputeInstance_st *)instance)->gpu;
    return ~0u;
}

/* A whole GPU with MIG on, and a caller who may configure MIG; everything else is refused as the library does. */
static nvmlReturn_t enter_mig(nvmlDevice_t device, struct sim_call *call, bool must_be_on) {
    nvmlReturn_t result = sim_enter(device, call);
    if (result != NVML_SUCCESS) return result;
    if (call->is_mig) return sim_leave(NVML_ERROR_INVALID_ARGUMENT);
    if (!sim_value(call->gpu, "mig_mode") || (must_be_on && !sim_mig_enabled(call->gpu)))
        return sim_leave(NVML_ERROR_NOT_SUPPORTED);
    return sim_may_configure(call->state) ? NVML_SUCCESS : sim_leave(NVML_ERROR_NO_PERMISSION);
}

static nvmlReturn_t enter_gi(nvmlGpuInstance_t instance, struct sim_call *call) {
    if (!within(instance, gpu_instances, sizeof gpu_instances, sizeof **gpu_instances))
        return NVML_ERROR_INVALID_ARGUMENT;
    return enter_mig(sim_gpu_handle(instance->gpu), call, true);
}

static nvmlReturn_t profile_at(const struct sim_call *call, bool by_id, unsigned int wanted,
                               struct sim_mig_profile *out) {
    for (int i = 0; i < call->gpu->count; i++)
        if (sim_mig_profile_read(call->gpu, i, out) && (by_id ? out->id : out->index) == wanted) return NVML_SUCCESS;
    return NVML_ERROR_NOT_SUPPORTED;
}

static void fill_profile(const struct sim_mig_profile *profile, nvmlGpuInstanceProfileInfo_v2_t *out) {
    *out = (nvmlGpuInstanceProfileInfo_v2_t){
        .version = NVML_STRUCT_VERSION(nvmlGpuInstanceProfileInfo_v2_t, 2),
        .id = profile->id,
        .sliceCount = profile->slices,
        .instanceCount = profile->instances,
        .multiprocessorCount = profile->multiprocessors,
        .copyEngineCount = profile->copy_engines,
        .decoderCount = profile->decoders,
        .encoderCount = profile->encoders,
        .jpegCount = profile->jpegs,
        .ofaCount = profile->ofas,
        .memorySizeMB = profile->memory_mib,
    };
    snprintf(out->name, sizeof out->name, "MIG %s", profile->name);
}

ENTRY(nvmlDeviceGetGpuInstanceProfileInfoV, AT_DEVICE(device),
      (nvmlDevice_t device, unsigned int profile, nvmlGpuInstanceProfileInfo_v2_t *out), (device, profile, out)) {
    struct sim_call call;
    struct sim_mig_profile found;
    if (!out) return NVML_ERROR_INVALID_ARGUMENT;
    if (out->version != NVML_STRUCT_VERSION(nvmlGpuInstanceProfileInfo_v2_t, 2))
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    nvmlReturn_t result = enter_mig(device, &call, false);
    if (result != NVML_SUCCESS) return result;
    result = profile_at(&call, false, profile, &found);
    if (result == NVML_SUCCESS) fill_profile(&found, out);
    return sim_leave(result);
}

ENTRY(nvmlDeviceGetGpuInstanceProfileInfo, AT_DEVICE(device),
      (nvmlDevice_t device, unsigned int profile, nvmlGpuInstanceProfileInfo_t *out), (device, profile, out)) {
    nvmlGpuInstanceProfileInfo_v2_t full = {.version = NVML_STRUCT_VERSION(nvmlGpuInstanceProfileInfo_v2_t, 2)};
    if (!out) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = nvmlDeviceGetGpuInstanceProfileInfoV(device, profile, &full);
    if (result == NVML_SUCCESS)
        *out = (nvmlGpuInstanceProfileInfo_t){
            full.id, full.isP2pSupported, full.sliceCount, full.instanceCount, full.multiprocessorCount,
            full.copyEngineCount, full.decoderCount, full.encoderCount, full.jpegCount, full.ofaCount,
            full.memorySizeMB};
    return result;
}

/* The first compute instance's line of each GPU instance. */
static bool first_of_instance(const struct sim_section *gpu, int at, struct sim_mig_entry *entry) {
    struct sim_mig_entry earlier;
    if (!sim_mig_read(gpu, at, entry)) return false;
    for (int i = 0; i < at; i++)
        if (sim_mig_read(gpu, i, &earlier) && earlier.gi == entry->gi) return false;
    return true;
}

ENTRY(nvmlDeviceGetGpuInstances, AT_DEVICE(device),
      (nvmlDevice_t device, unsigned int profile_id, nvmlGpuInstance_t *out, unsigned int *count),
      (device, profile_id, out, count)) {
    struct sim_call call;
    struct sim_mig_entry entry;
    struct sim_mig_profile profile;
    if (!out || !count) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = enter_mig(device, &call, true);
    if (result != NVML_SUCCESS) return result;
    *count = 0;
    for (int i = 0; i < call.gpu->count; i++)
        if (first_of_instance(call.gpu, i, &entry) && sim_mig_profile(call.gpu, entry.profile, &profile) &&
            profile.id == profile_id)
            out[(*count)++] = gi_handle(call.gpu_number, entry.gi);
    return sim_leave(NVML_SUCCESS);
}

ENTRY(nvmlDeviceGetGpuInstanceById, AT_DEVICE(device),
      (nvmlDevice_t device, unsigned int id, nvmlGpuInstance_t *out), (device, id, out)) {
    struct sim_call call;
    struct sim_mig_entry entry;
    struct sim_mig_profile profile;
    if (!out) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = enter_mig(device, &call, true);
    if (result != NVML_SUCCESS) return result;
    if (!sim_mig_entry_of(call.gpu, (int)id, -1, &entry, &profile)) return sim_leave(NVML_ERROR_NOT_FOUND);
    *out = gi_handle(call.gpu_number, id);
    return sim_leave(NVML_SUCCESS);
}

ENTRY(nvmlGpuInstanceGetInfo, AT_NUMBER(gpu_of(instance)),
      (nvmlGpuInstance_t instance, nvmlGpuInstanceInfo_t *out), (instance, out)) {
    struct sim_call call;
    struct sim_mig_entry entry;
    struct sim_mig_profile profile;
    if (!out) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = enter_gi(instance, &call);
    if (result != NVML_SUCCESS) return result;
    if (!sim_mig_entry_of(call.gpu, instance->gi, -1, &entry, &profile)) return sim_leave(NVML_ERROR_NOT_FOUND);
    *out = (nvmlGpuInstanceInfo_t){.device = sim_gpu_handle(call.gpu_number),
                                   .id = entry.gi,
                                   .profileId = profile.id,
                                   .placement = {entry.start, profile.memory_slices}};
    return sim_leave(NVML_SUCCESS);
}

/* pynvml and nvidia-smi ask with *count 0 or with no array for the number only. */
ENTRY(nvmlDeviceGetGpuInstancePossiblePlacements_v2, AT_DEVICE(device),
      (nvmlDevice_t device, unsigned int profile_id, nvmlPlacement_t *out, unsigned int *count),
      (device, profile_id, out, count)) {
    struct sim_call call;
    struct sim_mig_profile profile;
    unsigned int found = 0;
    if (!count) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = enter_mig(device, &call, false);
    if (result != NVML_SUCCESS) return result;
    result = profile_at(&call, true, profile_id, &profile);
    if (result != NVML_SUCCESS) return sim_leave(result);
    for (char *at = profile.starts; *at; found++) {
        unsigned int start = (unsigned int)strtoul(at, &at, 10);
        if (out) out[found] = (nvmlPlacement_t){start, profile.memory_slices};
        if (*at == ',') at++;
    }
    *count = found;
    return sim_leave(NVML_SUCCESS);
}

static bool taken(const struct sim_section *gpu, unsigned int slice) {
    struct sim_mig_entry entry;
    struct sim_mig_profile profile;
    for (int i = 0; i < gpu->count; i++)
        if (first_of_instance(gpu, i, &entry) && sim_mig_profile(gpu, entry.profile, &profile) &&
            slice >= entry.start && slice < entry.start + profile.memory_slices)
            return true;
    return false;
}

/* How many more instances of the profile fit beside those that are there. */
ENTRY(nvmlDeviceGetGpuInstanceRemainingCapacity, AT_DEVICE(device),
      (nvmlDevice_t device, unsigned int profile_id, unsigned int *count), (device, profile_id, count)) {
    struct sim_call call;
    struct sim_mig_profile profile;
    if (!count) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = enter_mig(device, &call, true);
    if (result != NVML_SUCCESS) return result;
    result = profile_at(&call, true, profile_id, &profile);
    if (result != NVML_SUCCESS) return sim_leave(result);
    *count = 0;
    for (char *at = profile.starts; *at;) {
        unsigned int start = (unsigned int)strtoul(at, &at, 10);
        bool free = true;
        for (unsigned int i = 0; i < profile.memory_slices; i++) free = free && !taken(call.gpu, start + i);
        *count += free && *count < profile.instances;
        if (*at == ',') at++;
    }
    return sim_leave(NVML_SUCCESS);
}

/* NVML_COMPUTE_INSTANCE_PROFILE_* by slices: 1, 2, 3, 4, 7. */
static unsigned int ci_profile(unsigned int slices) { return slices <= 4 ? slices - 1 : 4; }

ENTRY(nvmlGpuInstanceGetComputeInstanceProfileInfo, AT_NUMBER(gpu_of(instance)),
      (nvmlGpuInstance_t instance, unsigned int profile, unsigned int engine, nvmlComputeInstanceProfileInfo_t *out),
      (instance, profile, engine, out)) {
    static const unsigned int slices_of[] = {1, 2, 3, 4, 7};
    struct sim_call call;
    struct sim_mig_entry entry;
    struct sim_mig_profile gi;
    if (!out || engine) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = enter_gi(instance, &call);
    if (result != NVML_SUCCESS) return result;
    if (!sim_mig_entry_of(call.gpu, instance->gi, -1, &entry, &gi)) return sim_leave(NVML_ERROR_NOT_FOUND);
    if (profile >= sizeof slices_of / sizeof *slices_of || slices_of[profile] > gi.slices)
        return sim_leave(NVML_ERROR_NOT_SUPPORTED);
    unsigned int slices = slices_of[profile];
    *out = (nvmlComputeInstanceProfileInfo_t){profile, slices, gi.slices / slices,
                                              gi.multiprocessors * slices / gi.slices,
                                              gi.copy_engines, gi.decoders, gi.encoders, gi.jpegs, gi.ofas};
    return sim_leave(NVML_SUCCESS);
}

ENTRY(nvmlGpuInstanceGetComputeInstances, AT_NUMBER(gpu_of(instance)),
      (nvmlGpuInstance_t instance, unsigned int profile_id, nvmlComputeInstance_t *out, unsigned int *count),
      (instance, profile_id, out, count)) {
    struct sim_call call;
    struct sim_mig_entry entry;
    struct sim_mig_profile profile;
    if (!out || !count) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = enter_gi(instance, &call);
    if (result != NVML_SUCCESS) return result;
    *count = 0;
    for (int i = 0; i < call.gpu->count; i++) {
        if (!sim_mig_read(call.gpu, i, &entry) || (int)entry.gi != instance->gi) continue;
        if (!sim_mig_profile(call.gpu, entry.profile, &profile)) continue;
        if (ci_profile(entry.ci_slices ? entry.ci_slices : profile.slices) == profile_id)
            out[(*count)++] = ci_handle(call.gpu_number, entry.gi, entry.ci);
    }
    return sim_leave(NVML_SUCCESS);
}

ENTRY(nvmlGpuInstanceGetComputeInstanceById, AT_NUMBER(gpu_of(instance)),
      (nvmlGpuInstance_t instance, unsigned int id, nvmlComputeInstance_t *out), (instance, id, out)) {
    struct sim_call call;
    struct sim_mig_entry entry;
    struct sim_mig_profile profile;
    if (!out) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = enter_gi(instance, &call);
    if (result != NVML_SUCCESS) return result;
    if (id >= SIM_MAX_CI || !sim_mig_entry_of(call.gpu, instance->gi, (int)id, &entry, &profile))
        return sim_leave(NVML_ERROR_NOT_FOUND);
    *out = ci_handle(call.gpu_number, entry.gi, entry.ci);
    return sim_leave(NVML_SUCCESS);
}

ENTRY(nvmlComputeInstanceGetInfo_v2, AT_NUMBER(gpu_of(instance)),
      (nvmlComputeInstance_t instance, nvmlComputeInstanceInfo_t *out), (instance, out)) {
    struct sim_call call;
    struct sim_mig_entry entry;
    struct sim_mig_profile profile;
    if (!out || !within(instance, compute_instances, sizeof compute_instances, sizeof ***compute_instances))
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = enter_mig(sim_gpu_handle(instance->gpu), &call, true);
    if (result != NVML_SUCCESS) return result;
    if (!sim_mig_entry_of(call.gpu, instance->gi, instance->ci, &entry, &profile))
        return sim_leave(NVML_ERROR_NOT_FOUND);
    unsigned int slices = entry.ci_slices ? entry.ci_slices : profile.slices;
    *out = (nvmlComputeInstanceInfo_t){.device = sim_gpu_handle(call.gpu_number),
                                       .gpuInstance = gi_handle(call.gpu_number, entry.gi),
                                       .id = entry.ci,
                                       .profileId = ci_profile(slices),
                                       .placement = {entry.ci_start, slices}};
    return sim_leave(NVML_SUCCESS);
}
