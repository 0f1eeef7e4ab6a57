/* MIG profiles and instances as the state file describes them; shared by mig.c and mig_instances.c. */
#ifndef SIM_MIG_H
#define SIM_MIG_H

#include "sim.h"

struct sim_mig_profile {
    char name[32], starts[64]; /* starts: first memory slices where an instance may begin, "0,4" */
    unsigned int index, id;    /* NVML_GPU_INSTANCE_PROFILE_*, and the id that nvidia-smi mig shows */
    unsigned int slices, memory_slices, instances, multiprocessors, copy_engines, decoders, encoders, jpegs, ofas;
    unsigned long long memory_mib;
};

struct sim_mig_entry {
    unsigned int gi, ci, start, ci_slices, ci_start; /* ci_slices 0: all of the GPU instance */
    char profile[32], uuid[80];
};

bool sim_mig_read(const struct sim_section *gpu, int at, struct sim_mig_entry *out); /* false: not a `mig` line */
bool sim_mig_profile_read(const struct sim_section *gpu, int at, struct sim_mig_profile *out);
bool sim_mig_profile(const struct sim_section *gpu, const char *name, struct sim_mig_profile *out);
/* The first instance with this id and its profile; ci < 0: any. */
bool sim_mig_entry_of(const struct sim_section *gpu, int gi, int ci, struct sim_mig_entry *entry,
                      struct sim_mig_profile *profile);

#endif
