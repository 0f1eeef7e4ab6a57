/* The facts of one GPU, under the names of `nvidia-smi --query-gpu` (`--help-query-gpu` documents them). */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "smi.h"

#define MIB (1024ULL * 1024ULL)

enum kind { TEXT, NUMBER, NUMBER_OF, HEX, WATTS, MODE, MODE_OF_TWO, YES_NO, SPECIAL };

struct smi_fact {
    const char *name;
    enum kind kind;
    const char *function; /* of NVML */
    int argument;         /* NUMBER_OF: the enum between device and result; MODE_OF_TWO: which; SPECIAL: its own */
    const char *unit;
    bool (*special)(nvmlDevice_t device, int argument, char *out);
};

static nvmlReturn_t answer; /* of the call that decided the last fact */

static bool good(nvmlReturn_t result) {
    answer = result;
    return result == NVML_SUCCESS;
}

const char *smi_absence(void) {
    return answer == NVML_SUCCESS || answer == NVML_ERROR_NOT_SUPPORTED ? "N/A" : smi_error(answer);
}

/* Calls of the shapes that NVML's getters have. */
static bool get_text(const char *function, nvmlDevice_t device, char *out) {
    return good(((nvmlReturn_t(*)(nvmlDevice_t, char *, unsigned int))smi_function(function))(device, out, SMI_TEXT));
}
static bool get_number(const char *function, nvmlDevice_t device, unsigned int *out) {
    return good(((nvmlReturn_t(*)(nvmlDevice_t, unsigned int *))smi_function(function))(device, out));
}
static bool get_number_of(const char *function, nvmlDevice_t device, int which, unsigned int *out) {
    return good(((nvmlReturn_t(*)(nvmlDevice_t, int, unsigned int *))smi_function(function))(device, which, out));
}
static bool get_two(const char *function, nvmlDevice_t device, unsigned int *one, unsigned int *two) {
    nvmlReturn_t (*get)(nvmlDevice_t, unsigned int *, unsigned int *) = smi_function(function);
    return good(get(device, one, two));
}

static bool put(char *out, const char *format, unsigned long long value) {
    snprintf(out, SMI_TEXT, format, value);
    return true;
}

static bool word(const char *const *words, unsigned int count, unsigned int value, char *out) {
    if (value >= count || !words[value]) return false;
    snprintf(out, SMI_TEXT, "%s", words[value]);
    return true;
}

static bool brand(nvmlDevice_t device, int argument, char *out) {
    static const char *const words[] = {"Unknown", "Quadro", "Tesla", "NVS", "GRID", "GeForce", "Titan", NULL, NULL,
                                        NULL, NULL, NULL, "Quadro RTX", "NVIDIA RTX", "NVIDIA", "GeForce RTX"};
    unsigned int value;
    (void)argument;
    return get_number("nvmlDeviceGetBrand", device, &value) && word(words, sizeof words / sizeof *words, value, out);
}

static bool architecture(nvmlDevice_t device, int argument, char *out) {
    static const char *const words[] = {NULL, NULL, "Kepler", "Maxwell", "Pascal", "Volta", "Turing", "Ampere",
                                        "Ada Lovelace", "Hopper", "Blackwell"};
    unsigned int value;
    (void)argument;
    return get_number("nvmlDeviceGetArchitecture", device, &value) &&
           word(words, sizeof words / sizeof *words, value, out);
}

static bool compute_mode(nvmlDevice_t device, int argument, char *out) {
    static const char *const words[] = {"Default", "Exclusive_Thread", "Prohibited", "Exclusive_Process"};
    unsigned int value;
    (void)argument;
    return get_number("nvmlDeviceGetComputeMode", device, &value) && word(words, 4, value, out);
}

static bool virtualization(nvmlDevice_t device, int argument, char *out) {
    static const char *const words[] = {"None", "Pass-Through", "VGPU", "Host VGPU", "Host VSGA"};
    unsigned int value;
    (void)argument;
    return get_number("nvmlDeviceGetVirtualizationMode", device, &value) && word(words, 5, value, out);
}

static bool pstate(nvmlDevice_t device, int argument, char *out) {
    unsigned int value;
    (void)argument;
    return get_number("nvmlDeviceGetPerformanceState", device, &value) && put(out, "P%llu", value);
}

static bool capability(nvmlDevice_t device, int argument, char *out) {
    unsigned int major, minor;
    (void)argument;
    if (!get_two("nvmlDeviceGetCudaComputeCapability", device, &major, &minor)) return false;
    snprintf(out, SMI_TEXT, "%u.%u", major, minor);
    return true;
}

enum { MEMORY_TOTAL, MEMORY_RESERVED, MEMORY_USED, MEMORY_FREE };

static bool memory(nvmlDevice_t device, int which, char *out) {
    nvmlMemory_v2_t info = {.version = NVML_STRUCT_VERSION(nvmlMemory_v2_t, 2)};
    nvmlReturn_t (*get)(nvmlDevice_t, nvmlMemory_v2_t *) = smi_function("nvmlDeviceGetMemoryInfo_v2");
    if (!good(get(device, &info))) return false;
    unsigned long long values[] = {info.total, info.reserved, info.used, info.free};
    return put(out, "%llu", values[which] / MIB);
}

static bool bar1(nvmlDevice_t device, int which, char *out) {
    nvmlBAR1Memory_t info;
    nvmlReturn_t (*get)(nvmlDevice_t, nvmlBAR1Memory_t *) = smi_function("nvmlDeviceGetBAR1MemoryInfo");
    if (!good(get(device, &info))) return false;
    unsigned long long values[] = {info.bar1Total, 0, info.bar1Used, info.bar1Free};
    return put(out, "%llu", values[which] / MIB);
}

enum { PCI_BUS_ID, PCI_DOMAIN, PCI_BUS, PCI_DEVICE, PCI_DEVICE_ID, PCI_SUBSYSTEM_ID };

static bool pci(nvmlDevice_t device, int which, char *out) {
    nvmlPciInfo_t info;
    nvmlReturn_t (*get)(nvmlDevice_t, nvmlPciInfo_t *) = smi_function("nvmlDeviceGetPciInfo_v3");
    if (!good(get(device, &info))) return false;
    switch (which) {
    case PCI_DOMAIN: return put(out, "%04llX", info.domain);
    case PCI_BUS: return put(out, "%02llX", info.bus);
    case PCI_DEVICE: return put(out, "%02llX", info.device);
    case PCI_DEVICE_ID: return put(out, "%08llX", info.pciDeviceId);
    case PCI_SUBSYSTEM_ID: return put(out, "%08llX", info.pciSubSystemId);
    default: snprintf(out, SMI_TEXT, "%s", info.busId); return true;
    }
}

static bool utilization(nvmlDevice_t device, int which, char *out) {
    nvmlUtilization_t info;
    nvmlReturn_t (*get)(nvmlDevice_t, nvmlUtilization_t *) = smi_function("nvmlDeviceGetUtilizationRates");
    return good(get(device, &info)) && put(out, "%llu", which ? info.memory : info.gpu);
}

static bool engine(nvmlDevice_t device, int which, char *out) {
    static const char *const functions[] = {"nvmlDeviceGetEncoderUtilization", "nvmlDeviceGetDecoderUtilization",
                                            "nvmlDeviceGetJpgUtilization", "nvmlDeviceGetOfaUtilization"};
    unsigned int percent, period;
    return get_two(functions[which], device, &percent, &period) && put(out, "%llu", percent);
}

static bool limits(nvmlDevice_t device, int which, char *out) {
    unsigned int low, high;
    if (!get_two("nvmlDeviceGetPowerManagementLimitConstraints", device, &low, &high)) return false;
    snprintf(out, SMI_TEXT, "%.2f", (which ? high : low) / 1000.0);
    return true;
}

/* argument: uncorrected * 100 + aggregate * 10 + memory location (9: all of them). */
static bool ecc(nvmlDevice_t device, int argument, char *out) {
    unsigned long long count;
    unsigned int type = argument / 100, kind = argument / 10 % 10, where = argument % 10;
    nvmlReturn_t result;
    if (where == 9) {
        nvmlReturn_t (*total)(nvmlDevice_t, unsigned int, unsigned int, unsigned long long *) =
            smi_function("nvmlDeviceGetTotalEccErrors");
        result = total(device, type, kind, &count);
    } else {
        nvmlReturn_t (*one)(nvmlDevice_t, unsigned int, unsigned int, unsigned int, unsigned long long *) =
            smi_function("nvmlDeviceGetMemoryErrorCounter");
        result = one(device, type, kind, where, &count);
    }
    return good(result) && put(out, "%llu", count);
}

static bool retired(nvmlDevice_t device, int cause, char *out) {
    unsigned int count = 0;
    nvmlReturn_t (*get)(nvmlDevice_t, int, unsigned int *, void *) = smi_function("nvmlDeviceGetRetiredPages");
    nvmlReturn_t result = get(device, cause, &count, NULL);
    return (result == NVML_ERROR_INSUFFICIENT_SIZE || good(result)) && put(out, "%llu", count);
}

static bool remapped(nvmlDevice_t device, int which, char *out) {
    unsigned int values[4];
    nvmlReturn_t (*get)(nvmlDevice_t, unsigned int *, unsigned int *, unsigned int *, unsigned int *) =
        smi_function("nvmlDeviceGetRemappedRows");
    if (!good(get(device, &values[0], &values[1], &values[2], &values[3]))) return false;
    if (which < 2) return put(out, "%llu", values[which]);
    snprintf(out, SMI_TEXT, "%s", values[which] ? "Yes" : "No");
    return true;
}

static bool histogram(nvmlDevice_t device, int which, char *out) {
    nvmlRowRemapperHistogramValues_t banks;
    nvmlReturn_t (*get)(nvmlDevice_t, nvmlRowRemapperHistogramValues_t *) =
        smi_function("nvmlDeviceGetRowRemapperHistogram");
    if (!good(get(device, &banks))) return false;
    unsigned int values[] = {banks.max, banks.high, banks.partial, banks.low, banks.none};
    return put(out, "%llu", values[which]);
}

static bool inforom(nvmlDevice_t device, int object, char *out) {
    nvmlReturn_t (*get)(nvmlDevice_t, int, char *, unsigned int) = smi_function("nvmlDeviceGetInforomVersion");
    return good(get(device, object, out, SMI_TEXT));
}

static bool get_field(nvmlDevice_t device, int field, nvmlValue_t *out) {
    nvmlFieldValue_t value = {.fieldId = (unsigned int)field};
    nvmlReturn_t (*get)(nvmlDevice_t, int, nvmlFieldValue_t *) = smi_function("nvmlDeviceGetFieldValues");
    if (!good(get(device, 1, &value)) || !good(value.nvmlReturn)) return false;
    *out = value.value;
    return true;
}

static bool temperature_field(nvmlDevice_t device, int field, char *out) {
    nvmlValue_t value;
    if (!get_field(device, field, &value)) return false;
    snprintf(out, SMI_TEXT, "%d", value.siVal);
    return true;
}

static bool margin(nvmlDevice_t device, int argument, char *out) {
    nvmlMarginTemperature_v1_t info = {.version = NVML_STRUCT_VERSION(nvmlMarginTemperature_v1_t, 1)};
    nvmlReturn_t (*get)(nvmlDevice_t, nvmlMarginTemperature_v1_t *) = smi_function("nvmlDeviceGetMarginTemperature");
    (void)argument;
    if (!good(get(device, &info))) return false;
    snprintf(out, SMI_TEXT, "%d", info.marginTemperature);
    return true;
}

static bool recovery(nvmlDevice_t device, int field, char *out) {
    static const char *const words[] = {"None", "Reset", "Reboot", "Drain P2P", "Drain and Reset"};
    nvmlValue_t value;
    return get_field(device, field, &value) && word(words, sizeof words / sizeof *words, value.uiVal, out);
}

enum { FABRIC_STATE, FABRIC_STATUS, FABRIC_CLIQUE, FABRIC_CLUSTER };

/* Clique and cluster are those of a registration that is complete. */
static bool fabric(nvmlDevice_t device, int which, char *out) {
    static const char *const states[] = {NULL, "Not Started", "In Progress", "Completed"};
    nvmlGpuFabricInfo_t info;
    nvmlReturn_t (*get)(nvmlDevice_t, nvmlGpuFabricInfo_t *) = smi_function("nvmlDeviceGetGpuFabricInfo");
    if (!good(get(device, &info))) return false;
    if (which == FABRIC_STATE) return word(states, 4, info.state, out);
    if (info.state != 3) return false;
    if (which == FABRIC_CLIQUE) return put(out, "%llu", info.cliqueId);
    if (which == FABRIC_STATUS) return word((const char *const[]){"Success"}, 1, (unsigned int)info.status, out);
    for (int i = 0, at = 0; i < 16; i++)
        at += snprintf(out + at, SMI_TEXT - (size_t)at, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "",
                       info.clusterUuid[i]);
    return true;
}

static bool reason(nvmlDevice_t device, int bit, char *out) {
    unsigned long long reasons;
    nvmlReturn_t (*get)(nvmlDevice_t, unsigned long long *) = smi_function("nvmlDeviceGetCurrentClocksEventReasons");
    if (!good(get(device, &reasons))) return false;
    snprintf(out, SMI_TEXT, "%s", reasons & (unsigned int)bit ? "Active" : "Not Active");
    return true;
}

static bool reasons(nvmlDevice_t device, int argument, char *out) {
    unsigned long long value;
    nvmlReturn_t (*get)(nvmlDevice_t, unsigned long long *) = smi_function("nvmlDeviceGetCurrentClocksEventReasons");
    (void)argument;
    return good(get(device, &value)) && put(out, "0x%016llX", value);
}

static bool of_system(nvmlDevice_t device, int argument, char *out) {
    static const char *const names[] = {"driver_version", "cuda_version"};
    (void)device;
    return smi_system(names[argument], out);
}

/* Whether its XML is the one that nvsmi_device_v13.dtd describes. */
static bool thirteen(nvmlDevice_t device, int branch, char *out) {
    int major = 0;
    return of_system(device, 0, out) && sscanf(out, "%d", &major) == 1 && major >= branch;
}

static bool count(nvmlDevice_t device, int argument, char *out) {
    (void)device, (void)argument;
    return put(out, "%llu", smi_count());
}

static bool now(nvmlDevice_t device, int argument, char *out) {
    time_t seconds = time(NULL);
    struct tm local;
    (void)device, (void)argument;
    return strftime(out, SMI_TEXT, "%Y/%m/%d %H:%M:%S.000", localtime_r(&seconds, &local)) > 0;
}

static const struct smi_fact facts[] = {
    {"timestamp", SPECIAL, "", 0, "", now},
    {"driver_version", SPECIAL, "", 0, "", of_system},
    {"cuda_version", SPECIAL, "", 1, "", of_system},
    {"v13", SPECIAL, "", 570, "", thirteen},
    {"count", SPECIAL, "", 0, "", count},
    {"name", TEXT, "nvmlDeviceGetName", 0, "", NULL},
    {"gpu_name", TEXT, "nvmlDeviceGetName", 0, "", NULL},
    {"brand", SPECIAL, "", 0, "", brand},
    {"architecture", SPECIAL, "", 0, "", architecture},
    {"serial", TEXT, "nvmlDeviceGetSerial", 0, "", NULL},
    {"gpu_serial", TEXT, "nvmlDeviceGetSerial", 0, "", NULL},
    {"uuid", TEXT, "nvmlDeviceGetUUID", 0, "", NULL},
    {"gpu_uuid", TEXT, "nvmlDeviceGetUUID", 0, "", NULL},
    {"index", NUMBER, "nvmlDeviceGetIndex", 0, "", NULL},
    {"minor_number", NUMBER, "nvmlDeviceGetMinorNumber", 0, "", NULL},
    {"module_id", NUMBER, "nvmlDeviceGetModuleId", 0, "", NULL},
    {"board_id", HEX, "nvmlDeviceGetBoardId", 0, "", NULL},
    {"board_part_number", TEXT, "nvmlDeviceGetBoardPartNumber", 0, "", NULL},
    {"multigpu_board", YES_NO, "nvmlDeviceGetMultiGpuBoard", 0, "", NULL},
    {"vbios_version", TEXT, "nvmlDeviceGetVbiosVersion", 0, "", NULL},
    {"inforom.img", TEXT, "nvmlDeviceGetInforomImageVersion", 0, "", NULL},
    {"inforom.oem", SPECIAL, "", 0, "", inforom},
    {"inforom.ecc", SPECIAL, "", 1, "", inforom},
    {"inforom.pwr", SPECIAL, "", 2, "", inforom},
    {"gsp_firmware_version", TEXT, "nvmlDeviceGetGspFirmwareVersion", 0, "", NULL},
    {"virtualization_mode", SPECIAL, "", 0, "", virtualization},
    {"compute_cap", SPECIAL, "", 0, "", capability},
    {"compute_mode", SPECIAL, "", 0, "", compute_mode},
    {"persistence_mode", MODE, "nvmlDeviceGetPersistenceMode", 0, "", NULL},
    {"accounting.mode", MODE, "nvmlDeviceGetAccountingMode", 0, "", NULL},
    {"display_mode", MODE, "nvmlDeviceGetDisplayMode", 0, "", NULL},
    {"display_active", MODE, "nvmlDeviceGetDisplayActive", 0, "", NULL},
    {"mig.mode.current", MODE_OF_TWO, "nvmlDeviceGetMigMode", 0, "", NULL},
    {"mig.mode.pending", MODE_OF_TWO, "nvmlDeviceGetMigMode", 1, "", NULL},
    {"ecc.mode.current", MODE_OF_TWO, "nvmlDeviceGetEccMode", 0, "", NULL},
    {"ecc.mode.pending", MODE_OF_TWO, "nvmlDeviceGetEccMode", 1, "", NULL},
    {"pci.bus_id", SPECIAL, "", PCI_BUS_ID, "", pci},
    {"gpu_bus_id", SPECIAL, "", PCI_BUS_ID, "", pci},
    {"pci.domain", SPECIAL, "", PCI_DOMAIN, "", pci},
    {"pci.bus", SPECIAL, "", PCI_BUS, "", pci},
    {"pci.device", SPECIAL, "", PCI_DEVICE, "", pci},
    {"pci.device_id", SPECIAL, "", PCI_DEVICE_ID, "", pci},
    {"pci.sub_device_id", SPECIAL, "", PCI_SUBSYSTEM_ID, "", pci},
    {"pcie.link.gen.current", NUMBER, "nvmlDeviceGetCurrPcieLinkGeneration", 0, "", NULL},
    {"pcie.link.gen.max", NUMBER, "nvmlDeviceGetMaxPcieLinkGeneration", 0, "", NULL},
    {"pcie.link.gen.gpumax", NUMBER, "nvmlDeviceGetGpuMaxPcieLinkGeneration", 0, "", NULL},
    {"pcie.link.width.current", NUMBER, "nvmlDeviceGetCurrPcieLinkWidth", 0, "", NULL},
    {"pcie.link.width.max", NUMBER, "nvmlDeviceGetMaxPcieLinkWidth", 0, "", NULL},
    {"pcie.replay_counter", NUMBER, "nvmlDeviceGetPcieReplayCounter", 0, "", NULL},
    {"pcie.tx", NUMBER_OF, "nvmlDeviceGetPcieThroughput", 0, "KB/s", NULL},
    {"pcie.rx", NUMBER_OF, "nvmlDeviceGetPcieThroughput", 1, "KB/s", NULL},
    {"fan.speed", NUMBER, "nvmlDeviceGetFanSpeed", 0, "%", NULL},
    {"pstate", SPECIAL, "", 0, "", pstate},
    {"clocks_event_reasons.active", SPECIAL, "", 0, "", reasons},
    {"clocks_event_reasons.gpu_idle", SPECIAL, "", 0x1, "", reason},
    {"clocks_event_reasons.applications_clocks_setting", SPECIAL, "", 0x2, "", reason},
    {"clocks_event_reasons.sw_power_cap", SPECIAL, "", 0x4, "", reason},
    {"clocks_event_reasons.hw_slowdown", SPECIAL, "", 0x8, "", reason},
    {"clocks_event_reasons.sync_boost", SPECIAL, "", 0x10, "", reason},
    {"clocks_event_reasons.sw_thermal_slowdown", SPECIAL, "", 0x20, "", reason},
    {"clocks_event_reasons.hw_thermal_slowdown", SPECIAL, "", 0x40, "", reason},
    {"clocks_event_reasons.hw_power_brake_slowdown", SPECIAL, "", 0x80, "", reason},
    {"memory.total", SPECIAL, "", MEMORY_TOTAL, "MiB", memory},
    {"memory.reserved", SPECIAL, "", MEMORY_RESERVED, "MiB", memory},
    {"memory.used", SPECIAL, "", MEMORY_USED, "MiB", memory},
    {"memory.free", SPECIAL, "", MEMORY_FREE, "MiB", memory},
    {"bar1.total", SPECIAL, "", MEMORY_TOTAL, "MiB", bar1},
    {"bar1.used", SPECIAL, "", MEMORY_USED, "MiB", bar1},
    {"bar1.free", SPECIAL, "", MEMORY_FREE, "MiB", bar1},
    {"utilization.gpu", SPECIAL, "", 0, "%", utilization},
    {"utilization.memory", SPECIAL, "", 1, "%", utilization},
    {"utilization.encoder", SPECIAL, "", 0, "%", engine},
    {"utilization.decoder", SPECIAL, "", 1, "%", engine},
    {"utilization.jpeg", SPECIAL, "", 2, "%", engine},
    {"utilization.ofa", SPECIAL, "", 3, "%", engine},
    {"ecc.errors.corrected.volatile.dram", SPECIAL, "", 2, "", ecc},
    {"ecc.errors.corrected.volatile.sram", SPECIAL, "", 7, "", ecc},
    {"ecc.errors.corrected.volatile.total", SPECIAL, "", 9, "", ecc},
    {"ecc.errors.corrected.aggregate.dram", SPECIAL, "", 12, "", ecc},
    {"ecc.errors.corrected.aggregate.sram", SPECIAL, "", 17, "", ecc},
    {"ecc.errors.corrected.aggregate.total", SPECIAL, "", 19, "", ecc},
    {"ecc.errors.uncorrected.volatile.dram", SPECIAL, "", 102, "", ecc},
    {"ecc.errors.uncorrected.volatile.sram", SPECIAL, "", 107, "", ecc},
    {"ecc.errors.uncorrected.volatile.total", SPECIAL, "", 109, "", ecc},
    {"ecc.errors.uncorrected.aggregate.dram", SPECIAL, "", 112, "", ecc},
    {"ecc.errors.uncorrected.aggregate.sram", SPECIAL, "", 117, "", ecc},
    {"ecc.errors.uncorrected.aggregate.total", SPECIAL, "", 119, "", ecc},
    {"retired_pages.single_bit_ecc.count", SPECIAL, "", 0, "", retired},
    {"retired_pages.double_bit.count", SPECIAL, "", 1, "", retired},
    {"retired_pages.pending", YES_NO, "nvmlDeviceGetRetiredPagesPendingStatus", 0, "", NULL},
    {"remapped_rows.correctable", SPECIAL, "", 0, "", remapped},
    {"remapped_rows.uncorrectable", SPECIAL, "", 1, "", remapped},
    {"remapped_rows.pending", SPECIAL, "", 2, "", remapped},
    {"remapped_rows.failure", SPECIAL, "", 3, "", remapped},
    {"remapped_rows.histogram.max", SPECIAL, "", 0, "bank(s)", histogram},
    {"remapped_rows.histogram.high", SPECIAL, "", 1, "bank(s)", histogram},
    {"remapped_rows.histogram.partial", SPECIAL, "", 2, "bank(s)", histogram},
    {"remapped_rows.histogram.low", SPECIAL, "", 3, "bank(s)", histogram},
    {"remapped_rows.histogram.none", SPECIAL, "", 4, "bank(s)", histogram},
    {"recovery_action", SPECIAL, "", 230, "", recovery},
    {"fabric.state", SPECIAL, "", FABRIC_STATE, "", fabric},
    {"fabric.status", SPECIAL, "", FABRIC_STATUS, "", fabric},
    {"fabric.clique", SPECIAL, "", FABRIC_CLIQUE, "", fabric},
    {"fabric.cluster", SPECIAL, "", FABRIC_CLUSTER, "", fabric},
    {"temperature.gpu", NUMBER_OF, "nvmlDeviceGetTemperature", 0, "C", NULL},
    {"temperature.gpu.tlimit", SPECIAL, "", 0, "C", margin},
    {"temperature.memory", SPECIAL, "", 82, "C", temperature_field},
    {"tlimit.shutdown", SPECIAL, "", 193, "C", temperature_field},
    {"tlimit.slowdown", SPECIAL, "", 194, "C", temperature_field},
    {"tlimit.memory_max", SPECIAL, "", 195, "C", temperature_field},
    {"tlimit.gpu_max", SPECIAL, "", 196, "C", temperature_field},
    {"temperature.shutdown", NUMBER_OF, "nvmlDeviceGetTemperatureThreshold", 0, "C", NULL},
    {"temperature.slowdown", NUMBER_OF, "nvmlDeviceGetTemperatureThreshold", 1, "C", NULL},
    {"temperature.memory_max", NUMBER_OF, "nvmlDeviceGetTemperatureThreshold", 2, "C", NULL},
    {"temperature.gpu_max", NUMBER_OF, "nvmlDeviceGetTemperatureThreshold", 3, "C", NULL},
    {"power.management", MODE, "nvmlDeviceGetPowerManagementMode", 0, "", NULL},
    {"power.draw", WATTS, "nvmlDeviceGetPowerUsage", 0, "W", NULL},
    {"power.draw.average", WATTS, "nvmlDeviceGetPowerUsage", 0, "W", NULL},
    {"power.draw.instant", WATTS, "nvmlDeviceGetPowerUsage", 0, "W", NULL},
    {"power.limit", WATTS, "nvmlDeviceGetPowerManagementLimit", 0, "W", NULL},
    {"enforced.power.limit", WATTS, "nvmlDeviceGetEnforcedPowerLimit", 0, "W", NULL},
    {"power.default_limit", WATTS, "nvmlDeviceGetPowerManagementDefaultLimit", 0, "W", NULL},
    {"power.min_limit", SPECIAL, "", 0, "W", limits},
    {"power.max_limit", SPECIAL, "", 1, "W", limits},
    {"clocks.gr", NUMBER_OF, "nvmlDeviceGetClockInfo", 0, "MHz", NULL},
    {"clocks.sm", NUMBER_OF, "nvmlDeviceGetClockInfo", 1, "MHz", NULL},
    {"clocks.mem", NUMBER_OF, "nvmlDeviceGetClockInfo", 2, "MHz", NULL},
    {"clocks.video", NUMBER_OF, "nvmlDeviceGetClockInfo", 3, "MHz", NULL},
    {"clocks.current.graphics", NUMBER_OF, "nvmlDeviceGetClockInfo", 0, "MHz", NULL},
    {"clocks.current.sm", NUMBER_OF, "nvmlDeviceGetClockInfo", 1, "MHz", NULL},
    {"clocks.current.memory", NUMBER_OF, "nvmlDeviceGetClockInfo", 2, "MHz", NULL},
    {"clocks.current.video", NUMBER_OF, "nvmlDeviceGetClockInfo", 3, "MHz", NULL},
    {"clocks.max.gr", NUMBER_OF, "nvmlDeviceGetMaxClockInfo", 0, "MHz", NULL},
    {"clocks.max.graphics", NUMBER_OF, "nvmlDeviceGetMaxClockInfo", 0, "MHz", NULL},
    {"clocks.max.sm", NUMBER_OF, "nvmlDeviceGetMaxClockInfo", 1, "MHz", NULL},
    {"clocks.max.mem", NUMBER_OF, "nvmlDeviceGetMaxClockInfo", 2, "MHz", NULL},
    {"clocks.max.memory", NUMBER_OF, "nvmlDeviceGetMaxClockInfo", 2, "MHz", NULL},
    {"clocks.max.video", NUMBER_OF, "nvmlDeviceGetMaxClockInfo", 3, "MHz", NULL},
};

const struct smi_fact *smi_fact_find(const char *name) {
    for (size_t i = 0; i < sizeof facts / sizeof *facts; i++)
        if (!strcmp(facts[i].name, name)) return &facts[i];
    return NULL;
}

const char *smi_fact_unit(const struct smi_fact *fact) { return fact->unit; }

bool smi_fact_read(const struct smi_fact *fact, nvmlDevice_t device, char *out) {
    unsigned int one = 0, two = 0;
    answer = NVML_SUCCESS;
    switch (fact->kind) {
    case TEXT: return get_text(fact->function, device, out);
    case NUMBER: return get_number(fact->function, device, &one) && put(out, "%llu", one);
    case NUMBER_OF: return get_number_of(fact->function, device, fact->argument, &one) && put(out, "%llu", one);
    case HEX: return get_number(fact->function, device, &one) && put(out, "0x%llx", one);
    case WATTS:
        if (!get_number(fact->function, device, &one)) return false;
        snprintf(out, SMI_TEXT, "%.2f", one / 1000.0);
        return true;
    case MODE_OF_TWO:
        if (!get_two(fact->function, device, &one, &two)) return false;
        snprintf(out, SMI_TEXT, "%s", (fact->argument ? two : one) ? "Enabled" : "Disabled");
        return true;
    case MODE:
    case YES_NO:
        if (!get_number(fact->function, device, &one)) return false;
        snprintf(out, SMI_TEXT, "%s", fact->kind == MODE ? one ? "Enabled" : "Disabled" : one ? "Yes" : "No");
        return true;
    default: return fact->special(device, fact->argument, out);
    }
}

void smi_text(const char *name, nvmlDevice_t device, char *out) {
    char value[SMI_TEXT];
    const struct smi_fact *fact = smi_fact_find(name);
    if (!fact) snprintf(out, SMI_TEXT, "N/A");
    else if (!smi_fact_read(fact, device, value)) snprintf(out, SMI_TEXT, "%s", smi_absence());
    else snprintf(out, SMI_TEXT, "%.200s%s%s", value, *fact->unit ? " " : "", fact->unit);
}
