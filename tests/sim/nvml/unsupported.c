/* Functions of the API that no simulated board supports. They are here so that a caller gets the same answer as from a
 * board without the feature (Not Supported) and not that of an old library (Function Not Found). */
#include "entry.h"

#define UNSUPPORTED(function) \
    ENTRY(function, AT_DEVICE(first), (const void *first), (first)) { \
        (void)first; \
        return NVML_ERROR_NOT_SUPPORTED; \
    }

UNSUPPORTED(nvmlDeviceClearCpuAffinity)
UNSUPPORTED(nvmlDeviceGetAccountingBufferSize)
UNSUPPORTED(nvmlDeviceGetAccountingPids)
UNSUPPORTED(nvmlDeviceGetAccountingStats)
UNSUPPORTED(nvmlDeviceGetActiveVgpus)
UNSUPPORTED(nvmlDeviceGetAdaptiveClockInfoStatus)
UNSUPPORTED(nvmlDeviceGetApplicationsClock)
UNSUPPORTED(nvmlDeviceGetAutoBoostedClocksEnabled)
UNSUPPORTED(nvmlDeviceGetBridgeChipInfo)
UNSUPPORTED(nvmlDeviceGetBusType)
UNSUPPORTED(nvmlDeviceGetDefaultApplicationsClock)
UNSUPPORTED(nvmlDeviceGetDriverModel)
UNSUPPORTED(nvmlDeviceGetDynamicPstatesInfo)
UNSUPPORTED(nvmlDeviceGetEncoderCapacity)
UNSUPPORTED(nvmlDeviceGetEncoderSessions)
UNSUPPORTED(nvmlDeviceGetEncoderStats)
UNSUPPORTED(nvmlDeviceGetFBCSessions)
UNSUPPORTED(nvmlDeviceGetFBCStats)
UNSUPPORTED(nvmlDeviceGetGpuOperationMode)
UNSUPPORTED(nvmlDeviceGetGridLicensableFeatures_v4)
UNSUPPORTED(nvmlDeviceGetHostVgpuMode)
UNSUPPORTED(nvmlDeviceGetInforomConfigurationChecksum)
UNSUPPORTED(nvmlDeviceGetIrqNum)
UNSUPPORTED(nvmlDeviceGetMaxCustomerBoostClock)
UNSUPPORTED(nvmlDeviceGetNvLinkUtilizationControl)
UNSUPPORTED(nvmlDeviceGetNvLinkUtilizationCounter)
UNSUPPORTED(nvmlDeviceGetPcieLinkMaxSpeed)
UNSUPPORTED(nvmlDeviceGetPcieSpeed)
UNSUPPORTED(nvmlDeviceGetPowerSource)
UNSUPPORTED(nvmlDeviceGetProcessUtilization)
UNSUPPORTED(nvmlDeviceGetRunningProcessDetailList)
UNSUPPORTED(nvmlDeviceGetSamples)
UNSUPPORTED(nvmlDeviceGetSupportedGraphicsClocks)
UNSUPPORTED(nvmlDeviceGetSupportedMemoryClocks)
UNSUPPORTED(nvmlDeviceGetSupportedVgpus)
UNSUPPORTED(nvmlDeviceGetThermalSettings)
UNSUPPORTED(nvmlDeviceGetViolationStatus)
UNSUPPORTED(nvmlDeviceSetCpuAffinity)
UNSUPPORTED(nvmlDeviceValidateInforom)
UNSUPPORTED(nvmlGpmQueryDeviceSupport)
UNSUPPORTED(nvmlSystemGetConfComputeCapabilities)
UNSUPPORTED(nvmlSystemGetConfComputeState)

/* What changes a GPU is for CAP_SYS_ADMIN, and instances for whoever has the capability mig/config as well. */
static nvmlReturn_t refuse(bool configures) {
    struct sim_call call;
    nvmlReturn_t result = sim_enter_system(&call);
    if (result != NVML_SUCCESS) return result;
    bool may = configures ? sim_may_configure(call.state) : sim_admin();
    return sim_leave(may ? NVML_ERROR_NOT_SUPPORTED : NVML_ERROR_NO_PERMISSION);
}

#define FOR_ADMIN(function) \
    ENTRY(function, AT_DEVICE(first), (const void *first), (first)) { \
        (void)first; \
        return refuse(false); \
    }
#define FOR_MIG_CONFIG(function) \
    ENTRY(function, AT_DEVICE(first), (const void *first), (first)) { \
        (void)first; \
        return refuse(true); \
    }

FOR_ADMIN(nvmlDeviceClearEccErrorCounts)
FOR_ADMIN(nvmlDeviceRemoveGpu_v2)
FOR_ADMIN(nvmlDeviceResetApplicationsClocks)
FOR_ADMIN(nvmlDeviceSetApplicationsClocks)
FOR_ADMIN(nvmlDeviceSetComputeMode)
FOR_ADMIN(nvmlDeviceSetEccMode)
FOR_ADMIN(nvmlDeviceSetGpuLockedClocks)
FOR_ADMIN(nvmlDeviceSetMigMode)
FOR_ADMIN(nvmlDeviceSetPersistenceMode)
FOR_ADMIN(nvmlDeviceSetPowerManagementLimit)
FOR_MIG_CONFIG(nvmlDeviceCreateGpuInstance)
FOR_MIG_CONFIG(nvmlDeviceCreateGpuInstanceWithPlacement)
FOR_MIG_CONFIG(nvmlGpuInstanceDestroy)
FOR_MIG_CONFIG(nvmlComputeInstanceDestroy)
