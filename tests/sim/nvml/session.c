/* Init and shutdown, the lock that every call takes, and device handles.
 *
 * Handles are addresses in fixed tables, so they stay valid while the state changes underneath, as real ones do. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sim.h"

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
static bool valid(nvmlDevice_t device) {
    const char *at = (const char *)device, *gpus = (const char *)gpu_handles, *migs = (const char *)mig_handles;
    if (at >= gpus && at < gpus + sizeof gpu_handles) return (at - gpus) % sizeof *device == 0;
    if (at >= migs && at < migs + sizeof mig_handles) return (at - migs) % sizeof *device == 0;
    return false;
}

static bool device_node(const char *name) {
    char path[4096];
    struct stat ignored;
    snprintf(path, sizeof path, "%s/%s", sim_dev(), name);
    return stat(path, &ignored) == 0;
}

static bool uses_device_nodes(const struct sim_state *state) { return sim_flag(state->system, "device_nodes", true); }

bool sim_visible(const struct sim_state *state, int gpu) {
    if (gpu < 0 || gpu >= SIM_MAX_GPUS || !state->gpus[gpu]) return false;
    if (!uses_device_nodes(state)) return true;
    char node[32];
    const char *minor = sim_value(state->gpus[gpu], "minor");
    snprintf(node, sizeof node, "nvidia%s", minor ? minor : "");
    return device_node(node);
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
    return !uses_device_nodes(state) || device_node("nvidiactl");
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

NVML_API nvmlReturn_t nvmlInitWithFlags(unsigned int flags) {
    (void)flags;
    pthread_mutex_lock(&lock);
    return sim_leave(initialise());
}

NVML_API nvmlReturn_t nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
NVML_API nvmlReturn_t nvmlInit(void) { return nvmlInitWithFlags(0); }

NVML_API nvmlReturn_t nvmlShutdown(void) {
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
    if (!valid(device) || !sim_visible(call->state, device->gpu)) return sim_leave(NVML_ERROR_INVALID_ARGUMENT);
    call->gpu_number = device->gpu;
    call->gpu = call->state->gpus[device->gpu];
    if (sim_lost(call->gpu)) return sim_leave(NVML_ERROR_GPU_IS_LOST);
    call->is_mig = device->gi >= 0;
    if (call->is_mig && !sim_mig_find(call->gpu, device->gi, device->ci, &call->mig))
        return sim_leave(NVML_ERROR_NOT_FOUND);
    return NVML_SUCCESS;
}
