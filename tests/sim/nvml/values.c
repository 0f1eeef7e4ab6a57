/* Reading one value of one GPU: what most of NVML's functions come down to. */
#include <stdlib.h>
#include <string.h>

#include "sim.h"

static nvmlReturn_t enter_value(nvmlDevice_t device, const char *key, const void *out, struct sim_call *call,
                                const char **value) {
    if (!out) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = sim_enter(device, call);
    if (result != NVML_SUCCESS) return result;
    *value = sim_value(call->gpu, key);
    return *value ? NVML_SUCCESS : sim_leave(NVML_ERROR_NOT_SUPPORTED);
}

nvmlReturn_t sim_get_u64(nvmlDevice_t device, const char *key, unsigned long long *out) {
    struct sim_call call;
    const char *value;
    nvmlReturn_t result = enter_value(device, key, out, &call, &value);
    if (result != NVML_SUCCESS) return result;
    return sim_leave(sim_number(value, out) ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED);
}

nvmlReturn_t sim_get_uint(nvmlDevice_t device, const char *key, unsigned int *out) {
    unsigned long long wide = 0;
    if (!out) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = sim_get_u64(device, key, &wide);
    if (result == NVML_SUCCESS) *out = (unsigned int)wide;
    return result;
}

nvmlReturn_t sim_get_word(nvmlDevice_t device, const char *key, const struct sim_word *words, unsigned int *out) {
    struct sim_call call;
    const char *value;
    nvmlReturn_t result = enter_value(device, key, out, &call, &value);
    if (result != NVML_SUCCESS) return result;
    for (; words->word; words++)
        if (!strcmp(words->word, value)) {
            *out = words->value;
            return sim_leave(NVML_SUCCESS);
        }
    return sim_leave(NVML_ERROR_NOT_SUPPORTED);
}

nvmlReturn_t sim_get_flag(nvmlDevice_t device, const char *key, unsigned int *out) {
    static const struct sim_word words[] = {{"on", 1}, {"yes", 1}, {"1", 1}, {"off", 0}, {"no", 0}, {"0", 0}, {0}};
    return sim_get_word(device, key, words, out);
}

nvmlReturn_t sim_copy(const char *text, char *out, unsigned int length) {
    if (!out) return NVML_ERROR_INVALID_ARGUMENT;
    if (!text) return NVML_ERROR_NOT_SUPPORTED;
    if (strlen(text) >= length) return NVML_ERROR_INSUFFICIENT_SIZE;
    strcpy(out, text);
    return NVML_SUCCESS;
}

nvmlReturn_t sim_get_string(nvmlDevice_t device, const char *key, char *out, unsigned int length) {
    struct sim_call call;
    const char *value;
    nvmlReturn_t result = enter_value(device, key, out, &call, &value);
    if (result != NVML_SUCCESS) return result;
    return sim_leave(sim_copy(value, out, length));
}
