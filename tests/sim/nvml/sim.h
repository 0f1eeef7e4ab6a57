/* What the rooms of the simulated library share. One lock guards the state; events.c is the only one that waits. */
#ifndef SIM_H
#define SIM_H

#include <stdbool.h>
#include <stddef.h>

#include "nvml_abi.h"

#define SIM_MAX_GPUS 64
#define SIM_MAX_GI 16 /* GPU instance ids 0..15 */
#define SIM_MAX_CI 8  /* compute instance ids 0..7 */
#define SIM_MAX_LINKS 36

/* state.c: the state file, parsed into sections of key/value pairs. */
struct sim_pair {
    char *key, *value;
};
struct sim_section {
    char *name;
    struct sim_pair *pairs;
    int count;
    const char **index; /* open addressing by the key's hash: key, value, key, … of each key's first line */
    unsigned int slots;
    const char *links[SIM_MAX_LINKS]; /* the values of `link = id=N …` */
};
struct sim_fault {
    char function[80]; /* a pattern */
    unsigned long long id;
    int code, gpu, gi, ci, left; /* -1: any GPU, any instance, without end */
};
struct sim_state {
    struct sim_section *sections;
    int count;
    struct sim_section *system, *topology, *faults;
    struct sim_fault *told;
    int fault_count;
    struct sim_section *gpus[SIM_MAX_GPUS]; /* by the number in `[gpu N]`; NULL where there is none */
};
const char *sim_state_path(void);
/* Read the file again if it changed. NULL: no readable file. Call with the lock held. */
const struct sim_state *sim_state_refresh(void);
unsigned int sim_state_checks(void); /* how often the file was looked at: what else was seen is as old as that */
const char *sim_value(const struct sim_section *section, const char *key); /* NULL if absent */
bool sim_flag(const struct sim_section *section, const char *key, bool fallback);
bool sim_number(const char *text, unsigned long long *out); /* decimal or 0x…; false if it is not one */

/* session.c: init, shutdown, the lock, and handles. */
struct nvmlDevice_st {
    int gpu;    /* number in the state file */
    int gi, ci; /* -1 for a whole GPU */
};
struct sim_mig {
    int gi, ci;
    char profile[64], uuid[80];
};
struct sim_call { /* what a call may use between sim_enter and sim_leave */
    const struct sim_state *state;
    struct sim_section *gpu;
    int gpu_number;
    bool is_mig;
    struct sim_mig mig;
};
nvmlReturn_t sim_enter_system(struct sim_call *call); /* on success the lock is held: sim_leave() */
nvmlReturn_t sim_enter_library(struct sim_call *call); /* works before nvmlInit and without a driver */
nvmlReturn_t sim_enter(nvmlDevice_t device, struct sim_call *call);
nvmlReturn_t sim_leave(nvmlReturn_t result);          /* returns its argument */
bool sim_visible(const struct sim_state *state, int gpu);
int sim_visible_index(const struct sim_state *state, int gpu); /* -1: hidden */
bool sim_lost(const struct sim_section *gpu);
nvmlDevice_t sim_gpu_handle(int gpu);
nvmlDevice_t sim_mig_handle(int gpu, int gi, int ci);
bool sim_is_handle(const void *device);

/* handle.c: numbers of GPUs that are visible; -1 if there is none. */
int sim_gpu_at(const struct sim_state *state, unsigned int index);
int sim_gpu_with(const struct sim_state *state, const char *key, const char *value);
int sim_gpu_on_bus(const struct sim_state *state, const char *bus_id);
int sim_mig_with(const struct sim_state *state, const char *uuid, struct sim_mig *out);

/* faults.c */
bool sim_faults_read(struct sim_state *state); /* false: no memory */
void sim_faults_keep(struct sim_state *next, const struct sim_state *before); /* how many calls are left */

/* values.c: the one-line functions. An absent key is NVML_ERROR_NOT_SUPPORTED. */
struct sim_word {
    const char *word;
    unsigned int value;
};
nvmlReturn_t sim_get_uint(nvmlDevice_t device, const char *key, unsigned int *out);
nvmlReturn_t sim_get_u64(nvmlDevice_t device, const char *key, unsigned long long *out);
nvmlReturn_t sim_get_flag(nvmlDevice_t device, const char *key, unsigned int *out);
nvmlReturn_t sim_get_word(nvmlDevice_t device, const char *key, const struct sim_word *words, unsigned int *out);
nvmlReturn_t sim_get_string(nvmlDevice_t device, const char *key, char *out, unsigned int length);
nvmlReturn_t sim_copy(const char *text, char *out, unsigned int length);

/* mig.c: instances of one GPU, in the order of the file. */
int sim_mig_list(const struct sim_section *gpu, struct sim_mig *out, int max);
bool sim_mig_find(const struct sim_section *gpu, int gi, int ci, struct sim_mig *out);
bool sim_mig_enabled(const struct sim_section *gpu);
bool sim_mig_memory(const struct sim_call *call, unsigned long long *bytes);

/* rights.c: call with the lock held. */
const char *sim_dev(void);
bool sim_may_talk(const struct sim_state *state, const char *node); /* what the modes of /dev/<node> say */
bool sim_admin(void);                                  /* CAP_SYS_ADMIN, effective */
bool sim_may_configure(const struct sim_state *state); /* make and destroy MIG instances, and look at them */
bool sim_may_monitor(const struct sim_state *state);   /* see all of a GPU that is split */
bool sim_may_use(const struct sim_state *state, int gpu, int gi, int ci);
nvmlReturn_t sim_may_see_whole(const struct sim_call *call); /* NVML_ERROR_NO_PERMISSION of a split GPU */

/* pci.c */
struct sim_pci {
    unsigned int domain, bus, device, device_id, subsystem_id;
};
bool sim_pci_of(const struct sim_section *gpu, struct sim_pci *out);
void sim_pci_fill(const struct sim_pci *pci, nvmlPciInfo_t *out);

#endif
