/* How GPUs are connected: the PCIe path between two, and which CPUs and NUMA nodes are near. */
#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "entry.h"

#define BITS (8 * (unsigned int)sizeof(unsigned long))

enum { INTERNAL = 0, SINGLE = 10, MULTIPLE = 20, HOSTBRIDGE = 30, NODE = 40, SYSTEM = 50 };

static bool same_value(const struct sim_section *a, const struct sim_section *b, const char *key) {
    const char *one = sim_value(a, key), *other = sim_value(b, key);
    return one && other && !strcmp(one, other);
}

/* As nvidia-smi topo names the paths; without a line for the pair, the NUMA nodes decide. */
static unsigned int level_of(const struct sim_state *state, int a, int b) {
    static const struct sim_word words[] = {{"PIX", SINGLE}, {"PXB", MULTIPLE}, {"PHB", HOSTBRIDGE},
                                            {"NODE", NODE},  {"SYS", SYSTEM},   {0}};
    char key[32];
    if (a == b) return INTERNAL;
    snprintf(key, sizeof key, "%d %d", a < b ? a : b, a < b ? b : a);
    const char *value = sim_value(state->topology, key);
    for (const struct sim_word *at = words; value && at->word; at++)
        if (!strcmp(at->word, value)) return at->value;
    return same_value(state->gpus[a], state->gpus[b], "numa_node") ? NODE : SYSTEM;
}

ENTRY(nvmlDeviceGetTopologyCommonAncestor, AT_DEVICE(one),
      (nvmlDevice_t one, nvmlDevice_t other, unsigned int *level), (one, other, level)) {
    struct sim_call call;
    if (!level) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = sim_enter(one, &call);
    if (result != NVML_SUCCESS) return result;
    int first = call.gpu_number;
    sim_leave(NVML_SUCCESS);
    result = sim_enter(other, &call);
    if (result != NVML_SUCCESS) return result;
    if (!call.state->gpus[first]) return sim_leave(NVML_ERROR_GPU_IS_LOST);
    *level = level_of(call.state, first, call.gpu_number);
    return sim_leave(NVML_SUCCESS);
}

/* GPUs whose path to this one is exactly of this level. */
ENTRY(nvmlDeviceGetTopologyNearestGpus, AT_DEVICE(device),
      (nvmlDevice_t device, unsigned int level, unsigned int *count, nvmlDevice_t *out),
      (device, level, count, out)) {
    struct sim_call call;
    unsigned int found = 0;
    if (!count || level > SYSTEM || level % 10) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = sim_enter(device, &call);
    if (result != NVML_SUCCESS) return result;
    for (int i = 0; i < SIM_MAX_GPUS; i++) {
        if (i == call.gpu_number || !sim_visible(call.state, i) || level_of(call.state, i, call.gpu_number) != level)
            continue;
        if (out && found < *count) out[found] = sim_gpu_handle(i);
        found++;
    }
    *count = out && found > *count ? *count : found;
    return sim_leave(NVML_SUCCESS);
}

/* Set the bits of a list as Linux writes it: "0-31,64-95". False if it is not one or a bit does not fit. */
static bool set_bits(const char *list, unsigned long *set, unsigned int words) {
    memset(set, 0, words * sizeof *set);
    while (list && *list) {
        char *end;
        unsigned long first = strtoul(list, &end, 10), last = first;
        if (end == list) return false;
        if (*end == '-') last = strtoul(end + 1, &end, 10);
        for (unsigned long bit = first; bit <= last; bit++)
            if (bit / BITS < words) set[bit / BITS] |= 1UL << (bit % BITS);
        list = *end == ',' ? end + 1 : end;
        if (*end && *end != ',') return false;
    }
    return true;
}

static nvmlReturn_t near(nvmlDevice_t device, const char *key, unsigned int words, unsigned long *set) {
    char list[1024];
    if (!set || !words) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = sim_get_string(device, key, list, sizeof list);
    if (result != NVML_SUCCESS) return result;
    return isdigit((unsigned char)*list) && set_bits(list, set, words) ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED;
}

ENTRY(nvmlDeviceGetCpuAffinity, AT_DEVICE(device),
      (nvmlDevice_t device, unsigned int words, unsigned long *cpus), (device, words, cpus)) {
    return near(device, "cpus", words, cpus);
}

/* Scope: NUMA node or socket; here a socket is one node. */
ENTRY(nvmlDeviceGetCpuAffinityWithinScope, AT_DEVICE(device),
      (nvmlDevice_t device, unsigned int words, unsigned long *cpus, unsigned int scope),
      (device, words, cpus, scope)) {
    return scope <= 1 ? near(device, "cpus", words, cpus) : NVML_ERROR_INVALID_ARGUMENT;
}

ENTRY(nvmlDeviceGetMemoryAffinity, AT_DEVICE(device),
      (nvmlDevice_t device, unsigned int words, unsigned long *nodes, unsigned int scope),
      (device, words, nodes, scope)) {
    return scope <= 1 ? near(device, "numa_node", words, nodes) : NVML_ERROR_INVALID_ARGUMENT;
}

/* The node of the GPU's own memory, which only coherent boards (GH200) have: not the node that the GPU is near to. */
ENTRY(nvmlDeviceGetNumaNodeId, AT_DEVICE(device), (nvmlDevice_t device, unsigned int *node), (device, node)) {
    return sim_get_uint(device, "memory_numa_node", node);
}

ENTRY(nvmlSystemGetTopologyGpuSet, NOWHERE,
      (unsigned int cpu, unsigned int *count, nvmlDevice_t *out), (cpu, count, out)) {
    struct sim_call call;
    unsigned long cpus[64];
    unsigned int found = 0, words = sizeof cpus / sizeof *cpus;
    if (!count || cpu >= words * BITS) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = sim_enter_system(&call);
    if (result != NVML_SUCCESS) return result;
    for (int i = 0; i < SIM_MAX_GPUS; i++) {
        if (!sim_visible(call.state, i) || !set_bits(sim_value(call.state->gpus[i], "cpus"), cpus, words)) continue;
        if (!(cpus[cpu / BITS] >> (cpu % BITS) & 1)) continue;
        if (out && found < *count) out[found] = sim_gpu_handle(i);
        found++;
    }
    *count = out && found > *count ? *count : found;
    return sim_leave(NVML_SUCCESS);
}
