/* Functions that were told to fail (`nvml-sim fail`), and which functions were called.
 *
 * In the state's section [faults]: `fault = id=… function=… code=… [gpu=… [gi=… ci=…]] [calls=…]`. The function may be a
 * pattern. A fault of a GPU concerns its MIG devices too. Each process counts the calls for itself. */
#include <fcntl.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "entry.h"
#include "fields.h"

static __thread unsigned int depth;
static __thread struct sim_entry *outermost;
static __thread struct sim_where asked;

static int number(const char *value, const char *name) {
    unsigned long long found = sim_field_number(value, name, ~0ULL);
    return found > 0x7fffffff ? -1 : (int)found;
}

bool sim_faults_read(struct sim_state *state) {
    struct sim_section *section = state->faults;
    if (!section || !section->count) return true;
    state->told = calloc((size_t)section->count, sizeof *state->told);
    if (!state->told) return false;
    for (int i = 0; i < section->count; i++) {
        const char *value = section->pairs[i].value;
        struct sim_fault fault = {.id = sim_field_number(value, "id", 0),
                                  .code = number(value, "code"),
                                  .gpu = number(value, "gpu"),
                                  .gi = number(value, "gi"),
                                  .ci = number(value, "ci"),
                                  .left = number(value, "calls")};
        if (!strcmp(section->pairs[i].key, "fault") &&
            sim_field(value, "function", fault.function, sizeof fault.function))
            state->told[state->fault_count++] = fault;
    }
    return true;
}

void sim_faults_keep(struct sim_state *next, const struct sim_state *before) {
    for (int i = 0; i < next->fault_count; i++)
        for (int j = 0; j < before->fault_count; j++)
            if (next->told[i].id == before->told[j].id) next->told[i].left = before->told[j].left;
}

/* The GPU of a call, and the MIG device if it is one; gpu -1: none, or one that is not known. */
static struct nvmlDevice_st place(const struct sim_state *state, struct sim_where where) {
    struct nvmlDevice_st at = {.gpu = -1, .gi = -1, .ci = -1};
    struct sim_mig mig;
    switch (where.kind) {
    case SIM_NOWHERE: break;
    case SIM_DEVICE:
        if (sim_is_handle(where.handle)) at = *(const struct nvmlDevice_st *)where.handle;
        break;
    case SIM_NUMBER: at.gpu = (int)where.number; break;
    case SIM_INDEX: at.gpu = sim_gpu_at(state, where.number); break;
    case SIM_BUS: at.gpu = where.text ? sim_gpu_on_bus(state, where.text) : -1; break;
    case SIM_KEY:
        if (!where.text) break;
        at.gpu = sim_gpu_with(state, where.key, where.text);
        if (at.gpu < 0 && (at.gpu = sim_mig_with(state, where.text, &mig)) >= 0) {
            at.gi = mig.gi;
            at.ci = mig.ci;
        }
    }
    return at;
}

static bool concerns(const struct sim_fault *fault, const char *function, struct nvmlDevice_st at) {
    if (!fault->left || fnmatch(fault->function, function, 0)) return false;
    if (fault->gpu < 0) return true;
    return fault->gpu == at.gpu && (fault->gi < 0 || (fault->gi == at.gi && fault->ci == at.ci));
}

static bool told_now(nvmlReturn_t *told) {
    struct sim_call call;
    if (sim_enter_library(&call) != NVML_SUCCESS) return false;
    if (!call.state->fault_count) return sim_leave(false);
    struct nvmlDevice_st at = place(call.state, asked);
    for (int i = 0; i < call.state->fault_count; i++) {
        struct sim_fault *fault = &call.state->told[i];
        if (!concerns(fault, outermost->name, at)) continue;
        if (fault->left > 0) fault->left--;
        *told = (nvmlReturn_t)fault->code;
        return sim_leave(true);
    }
    return sim_leave(false);
}

/* Each function once in the file that $NVML_SIM_CALLS names. */
static void record(struct sim_entry *entry) {
    const char *path = getenv("NVML_SIM_CALLS");
    char line[128];
    entry->called = true;
    int file = path && *path ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644) : -1;
    if (file < 0) return;
    int length = snprintf(line, sizeof line, "%s\n", entry->name);
    if (write(file, line, (size_t)length) != length) perror(path);
    close(file);
}

bool sim_begin(struct sim_entry *entry, struct sim_where where, nvmlReturn_t *told) {
    if (depth++) return false;
    if (!entry->called) record(entry);
    outermost = entry;
    asked = where;
    return told_now(told);
}

nvmlReturn_t sim_end(nvmlReturn_t result) {
    depth--;
    return result;
}

bool sim_told_meanwhile(nvmlReturn_t *told) { return told_now(told); }
