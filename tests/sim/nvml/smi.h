/* The nvidia-smi stand-in: it knows GPUs only through libnvidia-ml.so.1, as the real one does. */
#ifndef SMI_H
#define SMI_H

#include <stdbool.h>
#include <stddef.h>

#include "nvml_abi.h"

#define SMI_TEXT 256

/* smi_nvml.c: the library, loaded by name. */
bool smi_open(void);
void *smi_function(const char *name); /* exits with 13 if the library lacks it */
nvmlReturn_t smi_init(void);
const char *smi_error(nvmlReturn_t result);
unsigned int smi_count(void);
nvmlReturn_t smi_handle(unsigned int index, nvmlDevice_t *device);
bool smi_mig_handle(nvmlDevice_t device, unsigned int index, nvmlDevice_t *mig);
bool smi_system(const char *what, char *out); /* driver_version, cuda_version, nvml_version */

/* smi_facts.c: one fact of one GPU as text; names are those of --query-gpu. */
struct smi_fact;
const struct smi_fact *smi_fact_find(const char *name); /* NULL: no such field */
const char *smi_fact_unit(const struct smi_fact *fact); /* "" if it has none */
bool smi_fact_read(const struct smi_fact *fact, nvmlDevice_t device, char *out); /* false: not available */
const char *smi_absence(void); /* what stands in place of the fact that was just not available */
/* With its unit, or what stands in its place. */
void smi_text(const char *name, nvmlDevice_t device, char *out);

/* What nvidia-smi can show. The result is the exit status. */
int smi_list(void);                                                  /* -L */
int smi_xml(void);                                                   /* -q -x */
int smi_query(void);                                                 /* -q */
int smi_table(void);                                                 /* no arguments */
int smi_csv(const char *fields, bool header, bool units);            /* --query-gpu */
int smi_nvlink(bool ends);                                           /* nvlink -s, nvlink -p */
int smi_topology(void);                                              /* topo -m */
void smi_select(const char *devices); /* -i: indexes, UUIDs or PCI addresses, with commas */
/* Handles of all (selected) GPUs in `out`; a GPU without one ends the program as the real nvidia-smi ends. */
unsigned int smi_all(nvmlDevice_t *out, unsigned int max);

#endif
