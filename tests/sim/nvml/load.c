/* What a board does at the moment: power (mW), clocks (MHz), temperature (°C), utilisation (%), fans. */
#include <stdio.h>
#include <string.h>

#include "entry.h"


ENTRY_UINT(nvmlDeviceGetPowerUsage, "power_draw_mw")
ENTRY_UINT(nvmlDeviceGetPowerManagementLimit, "power_limit_mw")
ENTRY_UINT(nvmlDeviceGetEnforcedPowerLimit, "power_limit_mw")
ENTRY_UINT(nvmlDeviceGetPowerManagementDefaultLimit, "power_default_mw")
ENTRY_UINT(nvmlDeviceGetPerformanceState, "pstate")
ENTRY_UINT(nvmlDeviceGetPowerState, "pstate")
ENTRY_UINT(nvmlDeviceGetFanSpeed, "fan_speed")
ENTRY_UINT(nvmlDeviceGetNumFans, "fans")

ENTRY(nvmlDeviceGetFanSpeed_v2, AT_DEVICE(device),
      (nvmlDevice_t device, unsigned int fan, unsigned int *speed), (device, fan, speed)) {
    unsigned int fans;
    nvmlReturn_t result = nvmlDeviceGetNumFans(device, &fans);
    if (result != NVML_SUCCESS) return result;
    return fan < fans ? nvmlDeviceGetFanSpeed(device, speed) : NVML_ERROR_INVALID_ARGUMENT;
}

ENTRY(nvmlDeviceGetPowerManagementMode, AT_DEVICE(device),
      (nvmlDevice_t device, unsigned int *mode), (device, mode)) {
    unsigned int limit;
    if (!mode) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = nvmlDeviceGetPowerManagementLimit(device, &limit);
    if (result == NVML_SUCCESS) *mode = 1;
    return result;
}

ENTRY(nvmlDeviceGetPowerManagementLimitConstraints, AT_DEVICE(device),
      (nvmlDevice_t device, unsigned int *min, unsigned int *max), (device, min, max)) {
    nvmlReturn_t result = sim_get_uint(device, "power_min_mw", min);
    return result == NVML_SUCCESS ? sim_get_uint(device, "power_max_mw", max) : result;
}

ENTRY(nvmlDeviceGetTotalEnergyConsumption, AT_DEVICE(device),
      (nvmlDevice_t device, unsigned long long *millijoules), (device, millijoules)) {
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

ENTRY(nvmlDeviceGetClockInfo, AT_DEVICE(device),
      (nvmlDevice_t device, unsigned int type, unsigned int *mhz), (device, type, mhz)) {
    return clock_of(device, type, "", mhz);
}

ENTRY(nvmlDeviceGetMaxClockInfo, AT_DEVICE(device),
      (nvmlDevice_t device, unsigned int type, unsigned int *mhz), (device, type, mhz)) {
    return clock_of(device, type, "_max", mhz);
}

/* Which: current, application target, application default, customer boost maximum. */
ENTRY(nvmlDeviceGetClock, AT_DEVICE(device),
      (nvmlDevice_t device, unsigned int type, unsigned int which, unsigned int *mhz), (device, type, which, mhz)) {
    static const char *const suffixes[] = {"", "_max", "_max", "_max"};
    if (which >= sizeof suffixes / sizeof *suffixes) return NVML_ERROR_INVALID_ARGUMENT;
    return clock_of(device, type, suffixes[which], mhz);
}

ENTRY(nvmlDeviceGetCurrentClocksEventReasons, AT_DEVICE(device),
      (nvmlDevice_t device, unsigned long long *reasons), (device, reasons)) {
    return sim_get_u64(device, "clocks_event_reasons", reasons);
}

ENTRY(nvmlDeviceGetCurrentClocksThrottleReasons, AT_DEVICE(device),
      (nvmlDevice_t device, unsigned long long *reasons), (device, reasons)) {
    return nvmlDeviceGetCurrentClocksEventReasons(device, reasons);
}

ENTRY(nvmlDeviceGetSupportedClocksEventReasons, AT_DEVICE(device),
      (nvmlDevice_t device, unsigned long long *reasons), (device, reasons)) {
    nvmlReturn_t result = nvmlDeviceGetCurrentClocksEventReasons(device, reasons);
    if (result == NVML_SUCCESS) *reasons = 0x1ff;
    return result;
}

ENTRY(nvmlDeviceGetSupportedClocksThrottleReasons, AT_DEVICE(device),
      (nvmlDevice_t device, unsigned long long *reasons), (device, reasons)) {
    return nvmlDeviceGetSupportedClocksEventReasons(device, reasons);
}

ENTRY(nvmlDeviceGetTemperature, AT_DEVICE(device),
      (nvmlDevice_t device, unsigned int sensor, unsigned int *celsius), (device, sensor, celsius)) {
    return sensor == 0 ? sim_get_uint(device, "temperature", celsius) : NVML_ERROR_INVALID_ARGUMENT;
}

ENTRY(nvmlDeviceGetTemperatureV, AT_DEVICE(device), (nvmlDevice_t device, nvmlTemperature_v1_t *out), (device, out)) {
    unsigned int celsius;
    if (!out) return NVML_ERROR_INVALID_ARGUMENT;
    if (out->version != NVML_STRUCT_VERSION(nvmlTemperature_v1_t, 1)) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    nvmlReturn_t result = nvmlDeviceGetTemperature(device, out->sensorType, &celsius);
    if (result == NVML_SUCCESS) out->temperature = (int)celsius;
    return result;
}

/* How much hotter it may get before its clocks go down. */
ENTRY(nvmlDeviceGetMarginTemperature, AT_DEVICE(device),
      (nvmlDevice_t device, nvmlMarginTemperature_v1_t *out), (device, out)) {
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
ENTRY(nvmlDeviceGetTemperatureThreshold, AT_DEVICE(device),
      (nvmlDevice_t device, unsigned int type, unsigned int *celsius), (device, type, celsius)) {
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

ENTRY(nvmlDeviceGetUtilizationRates, AT_DEVICE(device),
      (nvmlDevice_t device, nvmlUtilization_t *out), (device, out)) {
    if (!out) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = utilization(device, "utilization_gpu", &out->gpu);
    return result == NVML_SUCCESS ? utilization(device, "utilization_memory", &out->memory) : result;
}

#define ENGINE(function, key) \
    ENTRY(function, AT_DEVICE(device), (nvmlDevice_t device, unsigned int *percent, unsigned int *period_us), \
          (device, percent, period_us)) { \
        if (!period_us) return NVML_ERROR_INVALID_ARGUMENT; \
        *period_us = 167000; \
        return utilization(device, key, percent); \
    }
ENGINE(nvmlDeviceGetEncoderUtilization, "utilization_encoder")
ENGINE(nvmlDeviceGetDecoderUtilization, "utilization_decoder")
ENGINE(nvmlDeviceGetJpgUtilization, "utilization_jpeg")
ENGINE(nvmlDeviceGetOfaUtilization, "utilization_ofa")
