/* How a function of the API is defined. All of them ask in one place, faults.c, whether they were told to fail:
 *
 *     ENTRY(nvmlDeviceGetFoo, AT_DEVICE(device), (nvmlDevice_t device, int *foo), (device, foo)) { … }
 *
 * A function that calls another one of the API gets its answer as it is: only the outermost is asked. */
#ifndef SIM_ENTRY_H
#define SIM_ENTRY_H

#include "sim.h"

struct sim_entry {
    const char *name;
    bool called;
};

/* What the arguments say about the GPU. */
struct sim_where {
    enum { SIM_NOWHERE, SIM_DEVICE, SIM_NUMBER, SIM_INDEX, SIM_KEY, SIM_BUS } kind;
    const void *handle;
    unsigned int number;
    const char *key, *text;
};
#define NOWHERE ((struct sim_where){.kind = SIM_NOWHERE})
#define AT_DEVICE(device) ((struct sim_where){.kind = SIM_DEVICE, .handle = (device)})
#define AT_NUMBER(gpu) ((struct sim_where){.kind = SIM_NUMBER, .number = (gpu)})
#define AT_INDEX(index) ((struct sim_where){.kind = SIM_INDEX, .number = (index)})
#define AT_KEY(name, value) ((struct sim_where){.kind = SIM_KEY, .key = (name), .text = (value)})
#define AT_BUS(bus_id) ((struct sim_where){.kind = SIM_BUS, .text = (bus_id)})

/* faults.c. Begin a call; true if it was told what to answer. sim_end belongs to each sim_begin. */
bool sim_begin(struct sim_entry *entry, struct sim_where where, nvmlReturn_t *told);
nvmlReturn_t sim_end(nvmlReturn_t result); /* returns its argument */
bool sim_told_meanwhile(nvmlReturn_t *told); /* for a call that waits: whether it was told so since */

#define ENTRY(function, where, parameters, arguments) \
    static nvmlReturn_t function##_answer parameters; \
    NVML_API nvmlReturn_t function parameters { \
        static struct sim_entry entry = {.name = #function}; \
        nvmlReturn_t result; \
        if (!sim_begin(&entry, where, &result)) result = function##_answer arguments; \
        return sim_end(result); \
    } \
    static nvmlReturn_t function##_answer parameters

/* A number of a GPU. */
#define ENTRY_UINT(function, key) \
    ENTRY(function, AT_DEVICE(device), (nvmlDevice_t device, unsigned int *out), (device, out)) { \
        return sim_get_uint(device, key, out); \
    }

#endif
