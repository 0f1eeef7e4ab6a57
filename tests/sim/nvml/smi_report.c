/* `nvidia-smi -q -x` and `-q`: one outline, written as XML (nvsmi_device_v12.dtd, v13 from driver 570) or as text. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "smi.h"

#define MAX_GPUS 64
#define MAX_MIG 128

/* A line is `tag fact`, `tag =literal`, `tag {` or `}`; `@name` stands for a part that is written by a function.
 * `?fact ` before a line: only where the GPU tells that fact; `!fact `: only where it does not. */
static const char *const outline[] = {
    "product_name name", "product_brand brand", "product_architecture architecture", "display_mode display_mode",
    "display_active display_active", "persistence_mode persistence_mode", "addressing_mode =None",
    "mig_mode {", "current_mig mig.mode.current", "pending_mig mig.mode.pending", "}", "@mig_devices",
    "accounting_mode accounting.mode", "accounting_mode_buffer_size =4000",
    "driver_model {", "current_dm =N/A", "pending_dm =N/A", "}",
    "serial serial", "uuid uuid", "minor_number minor_number", "vbios_version vbios_version",
    "multigpu_board multigpu_board", "board_id board_id", "board_part_number board_part_number",
    "gpu_part_number =N/A", "gpu_fru_part_number =N/A", "gpu_module_id module_id",
    "inforom_version {", "img_version inforom.img", "oem_object inforom.oem", "ecc_object inforom.ecc",
    "pwr_object inforom.pwr", "}",
    "inforom_bbx_flush {", "latest_timestamp =N/A", "latest_duration =N/A", "}",
    "gpu_operation_mode {", "current_gom =N/A", "pending_gom =N/A", "}", "c2c_mode =N/A",
    "gpu_virtualization_mode {", "virtualization_mode virtualization_mode", "host_vgpu_mode =N/A",
    "vgpu_heterogeneous_mode =N/A", "}",
    "!v13 gpu_reset_status {", "!v13 reset_required =No", "!v13 drain_and_reset_recommended =No", "!v13 }",
    "gpu_recovery_action recovery_action",
    "gsp_firmware_version gsp_firmware_version",
    "ibmnpu {", "relaxed_ordering_mode =N/A", "}",
    "pci {", "pci_bus pci.bus", "pci_device pci.device", "pci_domain pci.domain", "pci_base_class =3",
    "pci_sub_class =2", "pci_device_id pci.device_id", "pci_bus_id pci.bus_id",
    "pci_sub_system_id pci.sub_device_id",
    "pci_gpu_link_info {", "pcie_gen {", "max_link_gen pcie.link.gen.max",
    "current_link_gen pcie.link.gen.current", "device_current_link_gen pcie.link.gen.current",
    "max_device_link_gen pcie.link.gen.gpumax", "max_host_link_gen pcie.link.gen.max", "}",
    "link_widths {", "max_link_width pcie.link.width.max", "current_link_width pcie.link.width.current", "}", "}",
    "pci_bridge_chip {", "bridge_chip_type =N/A", "bridge_chip_fw =N/A", "}",
    "replay_counter pcie.replay_counter", "replay_rollover_counter =0", "tx_util pcie.tx", "rx_util pcie.rx",
    "atomic_caps_inbound =N/A", "atomic_caps_outbound =N/A", "}",
    "fan_speed fan.speed", "performance_state pstate",
    "clocks_event_reasons {", "clocks_event_reason_gpu_idle clocks_event_reasons.gpu_idle",
    "clocks_event_reason_applications_clocks_setting clocks_event_reasons.applications_clocks_setting",
    "clocks_event_reason_sw_power_cap clocks_event_reasons.sw_power_cap",
    "clocks_event_reason_hw_slowdown clocks_event_reasons.hw_slowdown",
    "clocks_event_reason_hw_thermal_slowdown clocks_event_reasons.hw_thermal_slowdown",
    "clocks_event_reason_hw_power_brake_slowdown clocks_event_reasons.hw_power_brake_slowdown",
    "clocks_event_reason_sync_boost clocks_event_reasons.sync_boost",
    "clocks_event_reason_sw_thermal_slowdown clocks_event_reasons.sw_thermal_slowdown",
    "clocks_event_reason_display_clocks_setting =Not Active", "}",
    "sparse_operation_mode =N/A",
    "fb_memory_usage {", "total memory.total", "reserved memory.reserved", "used memory.used", "free memory.free", "}",
    "bar1_memory_usage {", "total bar1.total", "used bar1.used", "free bar1.free", "}",
    "cc_protected_memory_usage {", "total =0 MiB", "used =0 MiB", "free =0 MiB", "}",
    "compute_mode compute_mode",
    "utilization {", "gpu_util utilization.gpu", "memory_util utilization.memory",
    "encoder_util utilization.encoder", "decoder_util utilization.decoder", "jpeg_util utilization.jpeg",
    "ofa_util utilization.ofa", "}",
    "encoder_stats {", "session_count =0", "average_fps =0", "average_latency =0", "}",
    "fbc_stats {", "session_count =0", "average_fps =0", "average_latency =0", "}",
    "ecc_mode {", "current_ecc ecc.mode.current", "pending_ecc ecc.mode.pending", "}",
    "ecc_errors {", "volatile {", "sram_correctable ecc.errors.corrected.volatile.sram",
    "sram_uncorrectable_parity ecc.errors.uncorrected.volatile.sram", "sram_uncorrectable_secded =0",
    "dram_correctable ecc.errors.corrected.volatile.dram",
    "dram_uncorrectable ecc.errors.uncorrected.volatile.dram", "}",
    "aggregate {", "sram_correctable ecc.errors.corrected.aggregate.sram",
    "sram_uncorrectable_parity ecc.errors.uncorrected.aggregate.sram", "sram_uncorrectable_secded =0",
    "dram_correctable ecc.errors.corrected.aggregate.dram",
    "dram_uncorrectable ecc.errors.uncorrected.aggregate.dram", "sram_threshold_exceeded =No", "}", "}",
    "retired_pages {", "multiple_single_bit_retirement {", "retired_count retired_pages.single_bit_ecc.count",
    "retired_pagelist =N/A", "}", "double_bit_retirement {", "retired_count retired_pages.double_bit.count",
    "retired_pagelist =N/A", "}", "pending_blacklist retired_pages.pending",
    "pending_retirement retired_pages.pending", "}",
    "remapped_rows {", "remapped_row_corr remapped_rows.correctable",
    "remapped_row_unc remapped_rows.uncorrectable", "remapped_row_pending remapped_rows.pending",
    "remapped_row_failure remapped_rows.failure",
    "row_remapper_histogram {", "row_remapper_histogram_max remapped_rows.histogram.max",
    "row_remapper_histogram_high remapped_rows.histogram.high",
    "row_remapper_histogram_partial remapped_rows.histogram.partial",
    "row_remapper_histogram_low remapped_rows.histogram.low",
    "row_remapper_histogram_none remapped_rows.histogram.none", "}", "}",
    "temperature {", "gpu_temp temperature.gpu", "gpu_temp_tlimit temperature.gpu.tlimit",
    "!temperature.gpu.tlimit gpu_temp_max_threshold temperature.shutdown",
    "!temperature.gpu.tlimit gpu_temp_slow_threshold temperature.slowdown",
    "!temperature.gpu.tlimit gpu_temp_max_gpu_threshold temperature.gpu_max",
    "?temperature.gpu.tlimit gpu_temp_max_tlimit_threshold tlimit.shutdown",
    "?temperature.gpu.tlimit gpu_temp_slow_tlimit_threshold tlimit.slowdown",
    "?temperature.gpu.tlimit gpu_temp_max_gpu_tlimit_threshold tlimit.gpu_max",
    "gpu_target_temperature =N/A", "memory_temp temperature.memory",
    "!temperature.gpu.tlimit gpu_temp_max_mem_threshold temperature.memory_max",
    "?temperature.gpu.tlimit gpu_temp_max_mem_tlimit_threshold tlimit.memory_max", "}",
    "supported_gpu_target_temp {", "gpu_target_temp_min =N/A", "gpu_target_temp_max =N/A", "}",
    "gpu_power_readings {", "power_state pstate", "!v13 power_draw power.draw",
    "?v13 average_power_draw power.draw.average", "?v13 instant_power_draw power.draw.instant",
    "current_power_limit power.limit",
    "requested_power_limit power.limit", "default_power_limit power.default_limit",
    "min_power_limit power.min_limit", "max_power_limit power.max_limit", "}",
    "clocks {", "graphics_clock clocks.gr", "sm_clock clocks.sm", "mem_clock clocks.mem", "video_clock clocks.video",
    "}",
    "applications_clocks {", "graphics_clock =N/A", "mem_clock =N/A", "}",
    "max_clocks {", "graphics_clock clocks.max.gr", "sm_clock clocks.max.sm", "mem_clock clocks.max.mem",
    "video_clock clocks.max.video", "}",
    "clock_policy {", "auto_boost =N/A", "auto_boost_default =N/A", "}",
    "fabric {", "state fabric.state", "status fabric.status", "cliqueId fabric.clique",
    "clusterUuid fabric.cluster", "}", "@processes",
};

struct writer {
    bool xml;
    int depth;
};

static void indent(const struct writer *to) {
    for (int i = 0; i < to->depth; i++) fputs(to->xml ? "\t" : "    ", stdout);
}

/* "gpu_temp_max" -> "Gpu Temp Max": the text report's labels come from the tags. */
static void label(const char *tag, char *out) {
    bool start = true;
    for (; *tag; tag++, out++) {
        *out = *tag == '_' ? ' ' : start && *tag >= 'a' && *tag <= 'z' ? (char)(*tag - 32) : *tag;
        start = *tag == '_';
    }
    *out = '\0';
}

static void escaped(const char *text) {
    for (; *text; text++)
        if (*text == '&') fputs("&amp;", stdout);
        else if (*text == '<') fputs("&lt;", stdout);
        else if (*text == '>') fputs("&gt;", stdout);
        else putchar(*text);
}

static void leaf(const struct writer *to, const char *tag, const char *value) {
    char name[SMI_TEXT];
    indent(to);
    if (to->xml) {
        printf("<%s>", tag);
        escaped(value);
        printf("</%s>\n", tag);
        return;
    }
    label(tag, name);
    printf("%-*s: %s\n", 46 - 4 * to->depth, name, value);
}

static void open_part(struct writer *to, const char *tag) {
    char name[SMI_TEXT];
    indent(to);
    label(tag, name);
    if (to->xml) printf("<%s>\n", tag);
    else printf("%s\n", name);
    to->depth++;
}

static void close_part(struct writer *to, const char *tag) {
    to->depth--;
    if (!to->xml) return;
    indent(to);
    printf("</%s>\n", tag);
}

static void number(const struct writer *to, const char *tag, unsigned int value) {
    char text[32];
    snprintf(text, sizeof text, "%u", value);
    leaf(to, tag, text);
}

static void fact(const struct writer *to, const char *tag, const char *name, nvmlDevice_t device) {
    char value[SMI_TEXT];
    smi_text(name, device, value);
    if (!strncmp(name, "pcie.link.width", 15) && isdigit((unsigned char)*value)) strcat(value, "x");
    leaf(to, tag, value);
}

static void none(const struct writer *to) {
    if (!to->xml) return;
    indent(to);
    puts("None");
}

static void mig_attributes(struct writer *to, nvmlDevice_t mig) {
    nvmlDeviceAttributes_t has = {0};
    ((nvmlReturn_t(*)(nvmlDevice_t, nvmlDeviceAttributes_t *))smi_function("nvmlDeviceGetAttributes_v2"))(mig, &has);
    open_part(to, "device_attributes");
    open_part(to, "shared");
    number(to, "multiprocessor_count", has.multiprocessorCount);
    number(to, "copy_engine_count", has.sharedCopyEngineCount);
    number(to, "encoder_count", has.sharedEncoderCount);
    number(to, "decoder_count", has.sharedDecoderCount);
    number(to, "ofa_count", has.sharedOfaCount);
    number(to, "jpg_count", has.sharedJpegCount);
    close_part(to, "shared");
    close_part(to, "device_attributes");
}

static void mig_device(struct writer *to, nvmlDevice_t mig, unsigned int index) {
    nvmlReturn_t (*get)(nvmlDevice_t, unsigned int *);
    unsigned int gi = 0, ci = 0;
    get = smi_function("nvmlDeviceGetGpuInstanceId");
    get(mig, &gi);
    get = smi_function("nvmlDeviceGetComputeInstanceId");
    get(mig, &ci);
    open_part(to, "mig_device");
    number(to, "index", index);
    number(to, "gpu_instance_id", gi);
    number(to, "compute_instance_id", ci);
    mig_attributes(to, mig);
    open_part(to, "fb_memory_usage");
    fact(to, "total", "memory.total", mig);
    fact(to, "reserved", "memory.reserved", mig);
    fact(to, "used", "memory.used", mig);
    fact(to, "free", "memory.free", mig);
    close_part(to, "fb_memory_usage");
    close_part(to, "mig_device");
}

static void mig_devices(struct writer *to, nvmlDevice_t device) {
    nvmlDevice_t mig;
    unsigned int index = 0;
    open_part(to, "mig_devices");
    for (; index < MAX_MIG && smi_mig_handle(device, index, &mig); index++) mig_device(to, mig, index);
    if (index == 0) none(to);
    close_part(to, "mig_devices");
}

static void process(struct writer *to, const nvmlProcessInfo_t *info, const char *type) {
    char name[SMI_TEXT] = "[Not Found]", memory[64];
    nvmlReturn_t (*name_of)(unsigned int, char *, unsigned int) = smi_function("nvmlSystemGetProcessName");
    name_of(info->pid, name, sizeof name);
    snprintf(memory, sizeof memory, "%llu MiB", info->usedGpuMemory >> 20);
    open_part(to, "process_info");
    if (info->gpuInstanceId == NVML_NO_INSTANCE) leaf(to, "gpu_instance_id", "N/A");
    else number(to, "gpu_instance_id", info->gpuInstanceId);
    if (info->computeInstanceId == NVML_NO_INSTANCE) leaf(to, "compute_instance_id", "N/A");
    else number(to, "compute_instance_id", info->computeInstanceId);
    number(to, "pid", info->pid);
    leaf(to, "type", type);
    leaf(to, "process_name", name);
    leaf(to, "used_memory", memory);
    close_part(to, "process_info");
}

static void processes(struct writer *to, nvmlDevice_t device) {
    static const char *const types[][2] = {{"nvmlDeviceGetComputeRunningProcesses_v3", "C"},
                                           {"nvmlDeviceGetGraphicsRunningProcesses_v3", "G"},
                                           {"nvmlDeviceGetMPSComputeRunningProcesses_v3", "M+C"}};
    nvmlProcessInfo_t infos[256];
    open_part(to, "processes");
    for (int i = 0; i < 3; i++) {
        unsigned int count = sizeof infos / sizeof *infos;
        nvmlReturn_t (*get)(nvmlDevice_t, unsigned int *, nvmlProcessInfo_t *) = smi_function(types[i][0]);
        if (get(device, &count, infos) != NVML_SUCCESS) continue;
        for (unsigned int j = 0; j < count; j++) process(to, &infos[j], types[i][1]);
    }
    close_part(to, "processes");
}

static void outline_line(struct writer *to, const char *line, nvmlDevice_t device, char parts[][64], int *depth) {
    char tag[64];
    const char *rest = strchr(line, ' ');
    if (*line == '?' || *line == '!') {
        char name[64], value[SMI_TEXT];
        snprintf(name, sizeof name, "%.*s", (int)(rest - line - 1), line + 1);
        if (smi_fact_read(smi_fact_find(name), device, value) == (*line == '?'))
            outline_line(to, rest + 1, device, parts, depth);
    } else if (!strcmp(line, "@mig_devices")) mig_devices(to, device);
    else if (!strcmp(line, "@processes")) processes(to, device);
    else if (!strcmp(line, "}")) close_part(to, parts[--*depth]);
    else {
        snprintf(tag, sizeof tag, "%.*s", (int)(rest - line), line);
        if (rest[1] == '{') {
            snprintf(parts[(*depth)++], 64, "%s", tag);
            open_part(to, tag);
        } else if (rest[1] == '=') leaf(to, tag, rest + 2);
        else fact(to, tag, rest + 1, device);
    }
}

static void gpu(struct writer *to, nvmlDevice_t device) {
    char bus_id[SMI_TEXT], parts[8][64];
    int depth = 0;
    smi_text("pci.bus_id", device, bus_id);
    indent(to);
    printf(to->xml ? "<gpu id=\"%s\">\n" : "\nGPU %s\n", bus_id);
    to->depth++;
    for (size_t i = 0; i < sizeof outline / sizeof *outline; i++) outline_line(to, outline[i], device, parts, &depth);
    to->depth--;
    indent(to);
    puts(to->xml ? "</gpu>" : "");
}

static int report(bool xml) {
    nvmlDevice_t devices[MAX_GPUS];
    struct writer to = {.xml = xml, .depth = xml};
    char text[SMI_TEXT];
    time_t seconds = time(NULL);
    struct tm local;
    unsigned int count = smi_all(devices, MAX_GPUS);
    if (xml)
        printf("<?xml version=\"1.0\" ?>\n<!DOCTYPE nvidia_smi_log SYSTEM \"nvsmi_device_%s.dtd\">\n<nvidia_smi_log>\n",
               smi_fact_read(smi_fact_find("v13"), NULL, text) ? "v13" : "v12");
    else puts("\n==============NVSMI LOG==============\n");
    strftime(text, sizeof text, "%a %b %e %H:%M:%S %Y", localtime_r(&seconds, &local));
    leaf(&to, "timestamp", text);
    smi_system("driver_version", text);
    leaf(&to, "driver_version", text);
    smi_system("cuda_version", text);
    leaf(&to, "cuda_version", text);
    number(&to, "attached_gpus", count);
    for (unsigned int i = 0; i < count; i++) gpu(&to, devices[i]);
    if (xml) puts("</nvidia_smi_log>");
    return 0;
}

int smi_xml(void) { return report(true); }
int smi_query(void) { return report(false); }
