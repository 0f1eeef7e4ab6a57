/* ECC modes and counters, retired pages, remapped rows. */
#include <stdio.h>
#include <string.h>

#include "fields.h"
#include "entry.h"

enum { CORRECTED = 0, UNCORRECTED = 1 };
enum { L2_CACHE = 1, DRAM = 2, SRAM = 7 };

static nvmlReturn_t counter(nvmlDevice_t device, unsigned int type, unsigned int kind, const char *where,
                            unsigned long long *count) {
    char key[64];
    unsigned int enabled;
    if (type > UNCORRECTED || kind > 1 || !count) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = sim_get_flag(device, "ecc_mode", &enabled);
    if (result != NVML_SUCCESS) return result;
    if (!enabled) return NVML_ERROR_NOT_SUPPORTED;
    snprintf(key, sizeof key, "ecc_%s_%s_%s", kind ? "aggregate" : "volatile",
             type == CORRECTED ? "corrected" : "uncorrected", where);
    return sim_get_u64(device, key, count);
}

ENTRY(nvmlDeviceGetEccMode, AT_DEVICE(device),
      (nvmlDevice_t device, unsigned int *current, unsigned int *pending), (device, current, pending)) {
    nvmlReturn_t result = sim_get_flag(device, "ecc_mode", current);
    return result == NVML_SUCCESS ? sim_get_flag(device, "ecc_mode_pending", pending) : result;
}

ENTRY(nvmlDeviceGetDefaultEccMode, AT_DEVICE(device), (nvmlDevice_t device, unsigned int *mode), (device, mode)) {
    return sim_get_flag(device, "ecc_mode_default", mode);
}

ENTRY(nvmlDeviceGetTotalEccErrors, AT_DEVICE(device),
      (nvmlDevice_t device, unsigned int type, unsigned int kind, unsigned long long *count),
      (device, type, kind, count)) {
    unsigned long long dram = 0, sram = 0;
    if (!count) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = counter(device, type, kind, "dram", &dram);
    if (result == NVML_SUCCESS) result = counter(device, type, kind, "sram", &sram);
    if (result == NVML_SUCCESS) *count = dram + sram;
    return result;
}

ENTRY(nvmlDeviceGetMemoryErrorCounter, AT_DEVICE(device),
      (nvmlDevice_t device, unsigned int type, unsigned int kind, unsigned int where, unsigned long long *count),
      (device, type, kind, where, count)) {
    if (where == DRAM) return counter(device, type, kind, "dram", count);
    if (where == SRAM || where == L2_CACHE) return counter(device, type, kind, "sram", count);
    return NVML_ERROR_NOT_SUPPORTED;
}

ENTRY(nvmlDeviceGetDetailedEccErrors, AT_DEVICE(device),
      (nvmlDevice_t device, unsigned int type, unsigned int kind, nvmlEccErrorCounts_t *counts),
      (device, type, kind, counts)) {
    if (!counts) return NVML_ERROR_INVALID_ARGUMENT;
    memset(counts, 0, sizeof *counts);
    nvmlReturn_t result = counter(device, type, kind, "dram", &counts->deviceMemory);
    return result == NVML_SUCCESS ? counter(device, type, kind, "sram", &counts->l2Cache) : result;
}

/* Pages are lines `retired_page = cause=sbe|dbe address=0x… timestamp=…` (µs since 1970); boards that remap rows
 * retire no pages. */
static nvmlReturn_t retired(nvmlDevice_t device, unsigned int cause, unsigned int *count,
                            unsigned long long *addresses, unsigned long long *timestamps) {
    struct sim_call call;
    char text[8];
    unsigned int found = 0;
    if (!count || cause > 1) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = sim_enter(device, &call);
    if (result != NVML_SUCCESS) return result;
    if (!sim_value(call.gpu, "retired_pages_pending")) return sim_leave(NVML_ERROR_NOT_SUPPORTED);
    for (int i = 0; i < call.gpu->count; i++) {
        const char *value = call.gpu->pairs[i].value;
        if (strcmp(call.gpu->pairs[i].key, "retired_page")) continue;
        if (!sim_field(value, "cause", text, sizeof text) || strcmp(text, cause ? "dbe" : "sbe")) continue;
        if (addresses && found < *count) {
            addresses[found] = sim_field_number(value, "address", 0);
            if (timestamps) timestamps[found] = sim_field_number(value, "timestamp", 0);
        }
        found++;
    }
    bool fits = addresses ? found <= *count : found == 0;
    *count = found;
    return sim_leave(fits ? NVML_SUCCESS : NVML_ERROR_INSUFFICIENT_SIZE);
}

ENTRY(nvmlDeviceGetRetiredPages, AT_DEVICE(device),
      (nvmlDevice_t device, unsigned int cause, unsigned int *count, unsigned long long *addresses),
      (device, cause, count, addresses)) {
    return retired(device, cause, count, addresses, NULL);
}

/* pynvml asks for the size with three arguments only: without addresses the timestamps are not looked at. */
ENTRY(nvmlDeviceGetRetiredPages_v2, AT_DEVICE(device),
      (nvmlDevice_t device, unsigned int cause, unsigned int *count, unsigned long long *addresses,
       unsigned long long *timestamps),
      (device, cause, count, addresses, timestamps)) {
    return retired(device, cause, count, addresses, addresses ? timestamps : NULL);
}

ENTRY(nvmlDeviceGetRetiredPagesPendingStatus, AT_DEVICE(device),
      (nvmlDevice_t device, unsigned int *pending), (device, pending)) {
    return sim_get_flag(device, "retired_pages_pending", pending);
}

ENTRY(nvmlDeviceGetRemappedRows, AT_DEVICE(device),
      (nvmlDevice_t device, unsigned int *corrected, unsigned int *uncorrected, unsigned int *pending,
       unsigned int *failure),
      (device, corrected, uncorrected, pending, failure)) {
    nvmlReturn_t result = sim_get_uint(device, "remapped_rows_corrected", corrected);
    if (result == NVML_SUCCESS) result = sim_get_uint(device, "remapped_rows_uncorrected", uncorrected);
    if (result == NVML_SUCCESS) result = sim_get_flag(device, "remapped_rows_pending", pending);
    return result == NVML_SUCCESS ? sim_get_flag(device, "remapped_rows_failure", failure) : result;
}

ENTRY(nvmlDeviceGetRowRemapperHistogram, AT_DEVICE(device),
      (nvmlDevice_t device, nvmlRowRemapperHistogramValues_t *out), (device, out)) {
    char banks[128];
    if (!out) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = sim_get_string(device, "row_remapper_banks", banks, sizeof banks);
    if (result != NVML_SUCCESS) return result;
    *out = (nvmlRowRemapperHistogramValues_t){
        (unsigned int)sim_field_number(banks, "max", 0), (unsigned int)sim_field_number(banks, "high", 0),
        (unsigned int)sim_field_number(banks, "partial", 0), (unsigned int)sim_field_number(banks, "low", 0),
        (unsigned int)sim_field_number(banks, "none", 0)};
    return NVML_SUCCESS;
}
