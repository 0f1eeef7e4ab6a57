/* Event sets. Events are lines appended to a text file that every waiting process follows by itself:
 *
 *     xid <gpu> <code> [gi ci]        critical XID
 *     event <gpu> <type> <data>       any other type of event; type as in nvml.h, decimal or 0x…
 *
 * The directory is watched with inotify, so that waiting costs nothing, and a change of the state wakes a waiter too. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "entry.h"

#define SET_MAGIC 0x4e564d4c73657421ULL
#define FALLBACK_POLL_MS 20 /* where inotify has no instance left for us */

struct nvmlEventSet_st {
    unsigned long long magic;
    unsigned long long types[SIM_MAX_GPUS];
    off_t offset;
    int inotify;
};

static void events_path(char *path, size_t size) {
    const char *given = getenv("NVML_SIM_EVENTS");
    char state[PATH_MAX];
    if (given && *given) {
        snprintf(path, size, "%s", given);
        return;
    }
    snprintf(state, sizeof state, "%s", sim_state_path());
    snprintf(path, size, "%s/events", dirname(state));
}

static int watch_directory(const char *path) {
    char copy[PATH_MAX];
    snprintf(copy, sizeof copy, "%s", path);
    int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (fd < 0) return -1;
    if (inotify_add_watch(fd, dirname(copy), IN_MODIFY | IN_CREATE | IN_MOVED_TO | IN_DELETE) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

ENTRY(nvmlEventSetCreate, NOWHERE, (nvmlEventSet_t *set), (set)) {
    struct sim_call call;
    struct stat events;
    char path[PATH_MAX];
    if (!set) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = sim_enter_system(&call);
    if (result != NVML_SUCCESS) return result;
    struct nvmlEventSet_st *made = calloc(1, sizeof *made);
    if (!made) return sim_leave(NVML_ERROR_MEMORY);
    events_path(path, sizeof path);
    made->magic = SET_MAGIC;
    made->inotify = watch_directory(path); /* before the size is read: nothing falls in between */
    made->offset = stat(path, &events) == 0 ? events.st_size : 0;
    *set = made;
    return sim_leave(NVML_SUCCESS);
}

ENTRY(nvmlEventSetFree, NOWHERE, (nvmlEventSet_t set), (set)) {
    if (!set || set->magic != SET_MAGIC) return NVML_ERROR_INVALID_ARGUMENT;
    if (set->inotify >= 0) close(set->inotify);
    set->magic = 0;
    free(set);
    return NVML_SUCCESS;
}

ENTRY(nvmlDeviceGetSupportedEventTypes, AT_DEVICE(device),
      (nvmlDevice_t device, unsigned long long *types), (device, types)) {
    return sim_get_u64(device, "event_types", types);
}

ENTRY(nvmlDeviceRegisterEvents, AT_DEVICE(device),
      (nvmlDevice_t device, unsigned long long types, nvmlEventSet_t set), (device, types, set)) {
    struct sim_call call;
    unsigned long long supported = 0;
    if (!set || set->magic != SET_MAGIC) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = sim_enter(device, &call);
    if (result != NVML_SUCCESS) return result;
    sim_number(sim_value(call.gpu, "event_types"), &supported);
    if (call.is_mig || (types & ~supported)) return sim_leave(NVML_ERROR_NOT_SUPPORTED);
    set->types[call.gpu_number] |= types;
    return sim_leave(NVML_SUCCESS);
}

static bool parse_event(const char *line, nvmlEventData_t *event, int *gpu) {
    unsigned long long type, data;
    unsigned int code;
    event->gpuInstanceId = event->computeInstanceId = NVML_NO_INSTANCE;
    if (sscanf(line, "xid %d %u %u %u", gpu, &code, &event->gpuInstanceId, &event->computeInstanceId) >= 2) {
        event->eventType = nvmlEventTypeXidCriticalError;
        event->eventData = code;
        return true;
    }
    if (sscanf(line, "event %d %lli %lli", gpu, (long long *)&type, (long long *)&data) == 3) {
        event->eventType = type;
        event->eventData = data;
        return true;
    }
    return false;
}

/* Events of one MIG instance are for those who may see the whole GPU. */
static bool wanted(nvmlEventSet_t set, const struct sim_state *state, const nvmlEventData_t *event, int gpu) {
    if (gpu < 0 || gpu >= SIM_MAX_GPUS || !(set->types[gpu] & event->eventType)) return false;
    return event->gpuInstanceId == NVML_NO_INSTANCE || sim_may_monitor(state);
}

/* The next event for this set among the lines that were appended; only whole lines count. */
static bool next_event(nvmlEventSet_t set, const struct sim_state *state, nvmlEventData_t *event) {
    char path[PATH_MAX], *line = NULL;
    size_t size = 0;
    ssize_t length;
    struct stat now;
    bool found = false;
    events_path(path, sizeof path);
    if (stat(path, &now) != 0) {
        set->offset = 0;
        return false;
    }
    if (now.st_size < set->offset) set->offset = 0; /* a new file */
    if (now.st_size == set->offset) return false;
    FILE *file = fopen(path, "re");
    if (!file) return false;
    fseeko(file, set->offset, SEEK_SET);
    while (!found && (length = getline(&line, &size, file)) > 0 && line[length - 1] == '\n') {
        int gpu = -1;
        set->offset += length;
        found = parse_event(line, event, &gpu) && wanted(set, state, event, gpu);
        if (found) event->device = sim_gpu_handle(gpu);
    }
    free(line);
    fclose(file);
    return found;
}

static bool registered_gpu_lost(nvmlEventSet_t set, const struct sim_state *state) {
    for (int i = 0; i < SIM_MAX_GPUS; i++)
        if (set->types[i] && state->gpus[i] && sim_lost(state->gpus[i])) return true;
    return false;
}

/* One look: an event, an error, or NVML_ERROR_TIMEOUT for "nothing yet". */
static nvmlReturn_t look(nvmlEventSet_t set, nvmlEventData_t *event) {
    struct sim_call call;
    nvmlReturn_t result = sim_enter_system(&call);
    if (result != NVML_SUCCESS) return result;
    if (next_event(set, call.state, event)) return sim_leave(NVML_SUCCESS);
    return sim_leave(registered_gpu_lost(set, call.state) ? NVML_ERROR_GPU_IS_LOST : NVML_ERROR_TIMEOUT);
}

static long long now_ms(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000LL + time.tv_nsec / 1000000;
}

static void sleep_until_change(nvmlEventSet_t set, long long milliseconds) {
    char drained[4096];
    int limit = milliseconds > INT_MAX ? INT_MAX : (int)milliseconds;
    if (set->inotify < 0) {
        poll(NULL, 0, limit < FALLBACK_POLL_MS ? limit : FALLBACK_POLL_MS);
        return;
    }
    struct pollfd waiting = {.fd = set->inotify, .events = POLLIN};
    if (poll(&waiting, 1, limit) > 0)
        while (read(set->inotify, drained, sizeof drained) > 0) continue;
}

ENTRY(nvmlEventSetWait_v2, NOWHERE,
      (nvmlEventSet_t set, nvmlEventData_t *event, unsigned int timeout_ms), (set, event, timeout_ms)) {
    if (!set || set->magic != SET_MAGIC || !event) return NVML_ERROR_INVALID_ARGUMENT;
    long long deadline = now_ms() + timeout_ms;
    for (;;) {
        nvmlReturn_t result = look(set, event);
        long long left = deadline - now_ms();
        if (result != NVML_ERROR_TIMEOUT || left <= 0) return result;
        sleep_until_change(set, left);
        if (sim_told_meanwhile(&result)) return result;
    }
}

ENTRY(nvmlEventSetWait, NOWHERE,
      (nvmlEventSet_t set, nvmlEventData_v1_t *event, unsigned int timeout_ms), (set, event, timeout_ms)) {
    nvmlEventData_t full;
    if (!event) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = nvmlEventSetWait_v2(set, &full, timeout_ms);
    if (result == NVML_SUCCESS)
        *event = (nvmlEventData_v1_t){full.device, full.eventType, full.eventData};
    return result;
}
