/* What a board does at the moment: power (mW), clocks (MHz), temperature (°C), utilisation (%), fans. */
#include <stdio.h>
#include <string.h>

#include "sim.h"

#define UINT(function, key) \
    NVML_API nvmlReturn_t function(nvmlDevice_t device, unsigned int *out) { return sim_get_uint(device, key, out); }

UINT(nvmlDeviceGetPowerUsage, "power_draw_mw")
UINT(nvmlDeviceGetPowerManagementLimit, "power_limit_mw")
UINT(nvmlDeviceGetEnforcedPowerLimit, "power_limit_mw")
UINT(nvmlDeviceGetPowerManagementDefaultLimit, "power_default_mw")
UINT(nvmlDeviceGetPerformanceState, "pstate")
UINT(nvmlDeviceGetPowerState, "pstate")
UINT(nvmlDeviceGetFanSpeed, "fan_speed")
UINT(nvmlDeviceGetNumFans, "fans")

NVML_API nvmlReturn_t nvmlDeviceGetFanSpeed_v2(nvmlDevice_t device, unsigned int fan, unsigned int *speed) {
    unsigned int fans;
    nvmlReturn_t result = nvmlDeviceGetNumFans(device, &fans);
    if (result != NVML_SUCCESS) return result;
    return fan < fans ? nvmlDeviceGetFanSpeed(device, speed) : NVML_ERROR_INVALID_ARGUMENT;
}

NVML_API nvmlReturn_t nvmlDeviceGetPowerManagementMode(nvmlDevice_t device, unsigned int *mode) {
    unsigned int limit;
    if (!mode) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = nvmlDeviceGetPowerManagementLimit(device, &limit);
    if (result == NVML_SUCCESS) *mode = 1;
    return result;
}

NVML_API nvmlReturn_t nvmlDeviceGetPowerManagementLimitConstraints(nvmlDevice_t device, unsigned int *min,
                                                                   unsigned int *max) {
    nvmlReturn_t result = sim_get_uint(device, "power_min_mw", min);
    return result == NVML_SUCCESS ? sim_get_uint(device, "power_max_mw", max) : result;
}

NVML_API nvmlReturn_t nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t device, unsigned long long *millijoules) {
    return sim_get_u64(device, "energy_mj", millijoules);
}

/* Clock types in NVML's order: graphics, SM, memory, video. */
static nvmlReturn_t clock_of(nvmlDevice_t device, unsigned int type, const char *suffix, unsigned int *mhz) {
    static const char *const names[] = {"graphics", "sm", "memory", "video"};
    char key[64];
    if (type >= sizeof names / sizeof *names) return NVML_ERROR_INVALID_ARGUMENT;
    snprintf(key, sizeof key, "clock_%s%s", names[type], suffix);
    return sim_get_uint(device, key, mhz);
}

NVML_API nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t device, unsigned int type, unsigned int *mhz) {
    return clock_of(device, type, "", mhz);
}

NVML_API nvmlReturn_t nvmlDeviceGetMaxClockInfo(nvmlDevice_t device, unsigned int type, unsigned int *mhz) {
    return clock_of(device, type, "_max", mhz);
}

/* Which: current, application target, application default, customer boost maximum. */
NVML_API nvmlReturn_t nvmlDeviceGetClock(nvmlDevice_t device, unsigned int type, unsigned int which,
                                         unsigned int *mhz) {
    static const char *const suffixes[] = {"", "_max", "_max", "_max"};
    if (which >= sizeof suffixes / sizeof *suffixes) return NVML_ERROR_INVALID_ARGUMENT;
    return clock_of(device, type, suffixes[which], mhz);
}

NVML_API nvmlReturn_t nvmlDeviceGetCurrentClocksEventReasons(nvmlDevice_t device, unsigned long long *reasons) {
    return sim_get_u64(device, "clocks_event_reasons", reasons);
}

NVML_API nvmlReturn_t nvmlDeviceGetCurrentClocksThrottleReasons(nvmlDevice_t device, unsigned long long *reasons) {
    return nvmlDeviceGetCurrentClocksEventReasons(device, reasons);
}

NVML_API nvmlReturn_t nvmlDeviceGetSupportedClocksEventReasons(nvmlDevice_t device, unsigned long long *reasons) {
    nvmlReturn_t result = nvmlDeviceGetCurrentClocksEventReasons(device, reasons);
    if (result == NVML_SUCCESS) *reasons = 0x1ff;
    return result;
}

NVML_API nvmlReturn_t nvmlDeviceGetSupportedClocksThrottleReasons(nvmlDevice_t device, unsigned long long *reasons) {
    return nvmlDeviceGetSupportedClocksEventReasons(device, reasons);
}

NVML_API nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, unsigned int sensor, unsigned int *celsius) {
    return sensor == 0 ? sim_get_uint(device, "temperature", celsius) : NVML_ERROR_INVALID_ARGUMENT;
}

NVML_API nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, nvmlTemperature_v1_t *out) {
    unsigned int celsius;
    if (!out) return NVML_ERROR_INVALID_ARGUMENT;
    if (out->version != NVML_STRUCT_VERSION(nvmlTemperature_v1_t, 1)) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    nvmlReturn_t result = nvmlDeviceGetTemperature(device, out->sensorType, &celsius);
    if (result == NVML_SUCCESS) out->temperature = (int)celsius;
    return result;
}

/* How much hotter it may get before its clocks go down. */
NVML_API nvmlReturn_t nvmlDeviceGetMarginTemperature(nvmlDevice_t device, nvmlMarginTemperature_v1_t *out) {
    unsigned int margin, now, top;
    if (!out) return NVML_ERROR_INVALID_ARGUMENT;
    if (out->version != NVML_STRUCT_VERSION(nvmlMarginTemperature_v1_t, 1)) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (sim_get_flag(device, "temperature_margin", &margin) != NVML_SUCCESS || !margin) return NVML_ERROR_NOT_SUPPORTED;
    nvmlReturn_t result = nvmlDeviceGetTemperature(device, 0, &now);
    if (result == NVML_SUCCESS) result = sim_get_uint(device, "temperature_gpu_max", &top);
    if (result == NVML_SUCCESS) out->marginTemperature = (int)top - (int)now;
    return result;
}

/* Thresholds in NVML's order: shutdown, slowdown, memory maximum, GPU maximum. */
NVML_API nvmlReturn_t nvmlDeviceGetTemperatureThreshold(nvmlDevice_t device, unsigned int type,
                                                        unsigned int *celsius) {
    static const char *const keys[] = {"temperature_shutdown", "temperature_slowdown", "temperature_memory_max",
                                       "temperature_gpu_max"};
    return type < sizeof keys / sizeof *keys ? sim_get_uint(device, keys[type], celsius) : NVML_ERROR_NOT_SUPPORTED;
}

/* A MIG device has no utilisation of its own. */
static nvmlReturn_t utilization(nvmlDevice_t device, const char *key, unsigned int *percent) {
    struct sim_call call;
    nvmlReturn_t result = sim_enter(device, &call);
    if (result != NVML_SUCCESS) return result;
    bool mig = call.is_mig || sim_mig_enabled(call.gpu);
    sim_leave(NVML_SUCCESS);
    return mig ? NVML_ERROR_NOT_SUPPORTED : sim_get_uint(device, key, percent);
}

NVML_API nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *out) {
    if (!out) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = utilization(device, "utilization_gpu", &out->gpu);
    return result == NVML_SUCCESS ? utilization(device, "utilization_memory", &out->memory) : result;
}

#define ENGINE(function, key) \
    NVML_API nvmlReturn_t function(nvmlDevice_t device, unsigned int *percent, unsigned int *period_us) { \
        if (!period_us) return NVML_ERROR_INVALID_ARGUMENT; \
        *period_us = 167000; \
        return utilization(device, key, percent); \
    }
ENGINE(nvmlDeviceGetEncoderUtilization, "utilization_encoder")
ENGINE(nvmlDeviceGetDecoderUtilization, "utilization_decoder")
ENGINE(nvmlDeviceGetJpgUtilization, "utilization_jpeg")
ENGINE(nvmlDeviceGetOfaUtilization, "utilization_ofa")
