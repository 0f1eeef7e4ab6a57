/* Init and shutdown, the lock that every call takes, and device handles.
 *
 * Handles are addresses in fixed tables, so they stay valid while the state changes underneath, as real ones do. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "entry.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned int references;
static char generation[32]; /* of the driver load that this process initialised against */

static struct nvmlDevice_st gpu_handles[SIM_MAX_GPUS];
static struct nvmlDevice_st mig_handles[SIM_MAX_GPUS][SIM_MAX_GI][SIM_MAX_CI];

nvmlDevice_t sim_gpu_handle(int gpu) {
    gpu_handles[gpu] = (struct nvmlDevice_st){.gpu = gpu, .gi = -1, .ci = -1};
    return &gpu_handles[gpu];
}

nvmlDevice_t sim_mig_handle(int gpu, int gi, int ci) {
    mig_handles[gpu][gi][ci] = (struct nvmlDevice_st){.gpu = gpu, .gi = gi, .ci = ci};
    return &mig_handles[gpu][gi][ci];
}

/* A handle must be one of ours: an address inside a table, on an element's boundary. */
bool sim_is_handle(const void *device) {
    const char *at = device, *gpus = (const char *)gpu_handles, *migs = (const char *)mig_handles;
    if (at >= gpus && at < gpus + sizeof gpu_handles) return (at - gpus) % sizeof *gpu_handles == 0;
    if (at >= migs && at < migs + sizeof mig_handles) return (at - migs) % sizeof ***mig_handles == 0;
    return false;
}

/* What was seen of the device nodes, by their minors; as old as what was seen of the state. */
enum { CONTROL = 255, NODES = 256 };
static enum { UNKNOWN, ABSENT, PRESENT } nodes[NODES];
static unsigned int nodes_seen;

static bool device_node(unsigned int minor) {
    char path[4096];
    struct stat ignored;
    if (nodes_seen != sim_state_checks()) memset(nodes, 0, sizeof nodes);
    nodes_seen = sim_state_checks();
    if (minor >= NODES) return false;
    if (nodes[minor] == UNKNOWN) {
        if (minor == CONTROL) snprintf(path, sizeof path, "%s/nvidiactl", sim_dev());
        else snprintf(path, sizeof path, "%s/nvidia%u", sim_dev(), minor);
        nodes[minor] = stat(path, &ignored) == 0 ? PRESENT : ABSENT;
    }
    return nodes[minor] == PRESENT;
}

static bool uses_device_nodes(const struct sim_state *state) { return sim_flag(state->system, "device_nodes", true); }

bool sim_visible(const struct sim_state *state, int gpu) {
    unsigned long long minor;
    if (gpu < 0 || gpu >= SIM_MAX_GPUS || !state->gpus[gpu]) return false;
    if (!uses_device_nodes(state)) return true;
    return sim_number(sim_value(state->gpus[gpu], "minor"), &minor) && minor < CONTROL &&
           device_node((unsigned int)minor);
}

int sim_visible_index(const struct sim_state *state, int gpu) {
    int index = 0;
    if (!sim_visible(state, gpu)) return -1;
    for (int i = 0; i < gpu; i++) index += sim_visible(state, i);
    return index;
}

bool sim_lost(const struct sim_section *gpu) { return sim_flag(gpu, "lost", false); }

static bool driver_answers(const struct sim_state *state) {
    if (!state || !sim_flag(state->system, "loaded", true)) return false;
    return !uses_device_nodes(state) || device_node(CONTROL);
}

static const char *generation_of(const struct sim_state *state) {
    const char *value = sim_value(state->system, "generation");
    return value ? value : "0";
}

/* A driver that hangs (`hang = yes`) holds the caller, and with the lock all others, until it answers again. */
static const struct sim_state *state_when_it_answers(void) {
    const struct sim_state *state = sim_state_refresh();
    while (state && sim_flag(state->system, "hang", false)) {
        usleep(5000);
        state = sim_state_refresh();
    }
    return state;
}

static nvmlReturn_t initialise(void) {
    const struct sim_state *state = state_when_it_answers();
    if (!driver_answers(state)) return NVML_ERROR_DRIVER_NOT_LOADED;
    if (!sim_may_talk(state, "nvidiactl")) return NVML_ERROR_NO_PERMISSION;
    const char *driver = sim_value(state->system, "driver_version");
    const char *library = sim_value(state->system, "library_version");
    if (references == 0) { /* a library that is already talking to the module goes on */
        if (driver && library && strcmp(driver, library)) return NVML_ERROR_LIB_RM_VERSION_MISMATCH;
        snprintf(generation, sizeof generation, "%s", generation_of(state));
    }
    references++;
    return NVML_SUCCESS;
}

ENTRY(nvmlInitWithFlags, NOWHERE, (unsigned int flags), (flags)) {
    (void)flags;
    pthread_mutex_lock(&lock);
    return sim_leave(initialise());
}

ENTRY(nvmlInit_v2, NOWHERE, (void), ()) { return nvmlInitWithFlags(0); }
ENTRY(nvmlInit, NOWHERE, (void), ()) { return nvmlInitWithFlags(0); }

ENTRY(nvmlShutdown, NOWHERE, (void), ()) {
    pthread_mutex_lock(&lock);
    if (references == 0) return sim_leave(NVML_ERROR_UNINITIALIZED);
    references--;
    return sim_leave(NVML_SUCCESS);
}

nvmlReturn_t sim_leave(nvmlReturn_t result) {
    pthread_mutex_unlock(&lock);
    return result;
}

/* For what the library knows by itself, without the driver. */
nvmlReturn_t sim_enter_library(struct sim_call *call) {
    memset(call, 0, sizeof *call);
    pthread_mutex_lock(&lock);
    call->state = sim_state_refresh();
    return call->state ? NVML_SUCCESS : sim_leave(NVML_ERROR_UNKNOWN);
}

nvmlReturn_t sim_enter_system(struct sim_call *call) {
    memset(call, 0, sizeof *call);
    pthread_mutex_lock(&lock);
    if (references == 0) return sim_leave(NVML_ERROR_UNINITIALIZED);
    call->state = state_when_it_answers();
    /* A driver that was unloaded and loaded again has forgotten this process: it must initialise anew. */
    if (!driver_answers(call->state) || strcmp(generation, generation_of(call->state)))
        return sim_leave(NVML_ERROR_DRIVER_NOT_LOADED);
    return NVML_SUCCESS;
}

nvmlReturn_t sim_enter(nvmlDevice_t device, struct sim_call *call) {
    nvmlReturn_t result = sim_enter_system(call);
    if (result != NVML_SUCCESS) return result;
    if (!sim_is_handle(device) || !sim_visible(call->state, device->gpu)) return sim_leave(NVML_ERROR_INVALID_ARGUMENT);
    call->gpu_number = device->gpu;
    call->gpu = call->state->gpus[device->gpu];
    if (sim_lost(call->gpu)) return sim_leave(NVML_ERROR_GPU_IS_LOST);
    call->is_mig = device->gi >= 0;
    if (call->is_mig && !sim_mig_find(call->gpu, device->gi, device->ci, &call->mig))
        return sim_leave(NVML_ERROR_NOT_FOUND);
    return NVML_SUCCESS;
}
