/* A stand-in for libnvidia-ml.so.1: N GPUs whose true power is a known function of time.
 *
 * The real Python binding loads it by name, so everything above the C interface is tested as it runs
 * in the field. Its settings come from the text file named by NVML_STUB_CONFIG, one `key value` a
 * line; `dev.3.mean_w 250` sets device 3 and `dev.*.mean_w 250` all of them; later lines win. The
 * file is read again whenever it changes, so faults can be switched on while a program runs.
 *
 * All times are seconds since `t0_ns` (CLOCK_BOOTTIME), so that a test can compute the true energy
 * of any stretch in closed form: tests/fixtures/nvml.py holds the same formulas. With `clock_s` the
 * time stands still there until the file says another, and timestamps are exact.
 */
#define _GNU_SOURCE
#include <math.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4,
    NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15, UNKNOWN = 999
};
enum { FIELD_TOTAL_ENERGY = 83, FIELD_POWER_AVERAGE = 185, FIELD_POWER_INSTANT = 186 };
enum { SCOPE_GPU = 0, SCOPE_MODULE = 1 };
enum { MAX_DEVICES = 16, MAX_INSTANCES = 7, MAX_GENERATIONS = 16 };

typedef int nvmlReturn_t;

/* ---- settings -------------------------------------------------------------------------------- */

typedef struct {
    char name[96], uuid[96], wave[16], mig[32];
    double mean_w, amplitude_w, period_s, phase_s;           /* the true power */
    double counter, counter_refresh_ms;                      /* the energy counter; 0: none */
    double power, power_refresh_ms, instant_ms, average_ms;  /* the sensor: what it sees of the power */
    double module_w;                                         /* > 0: drawn by a module around the GPU */
    double fields;                                           /* 0: no nvmlDeviceGetFieldValues */
    double default_limit_w, limit_w;
    double util_pct, memory_total, memory_used, temperature_c, sm_clock_mhz, reasons, pid;
    double samples_ms, samples_kept;                         /* the driver's own samples; 0: none */
    double lost_from_s, lost_to_s, reset_at_s, unknown_p, hang_from_s, hang_s; /* the faults */
    double counter_fail_p, power_fail_p, call_fail_p;        /* of polls: a field, or all of a call */
    double frozen_from_s, frozen_to_s, jump_at_s, jump_j, counter_scale; /* the counter lies */
    double absurd_from_s, absurd_to_s, absurd_w, stuck_from_s;           /* the power sensor lies */
} Device;

typedef struct {
    double t0_ns, devices, clock_s, stamp_call, reload_at_s, reload_s, init_error, init_hang_s;
    Device device[MAX_DEVICES];
} Config;

typedef struct { const char *key; size_t at; } Entry;
#define GLOBAL(member) {#member, offsetof(Config, member)}
#define NUMBER(member) {#member, offsetof(Device, member)}

static const Entry GLOBALS[] = {
    GLOBAL(t0_ns), GLOBAL(devices), GLOBAL(clock_s), GLOBAL(stamp_call), GLOBAL(reload_at_s),
    GLOBAL(reload_s), GLOBAL(init_error), GLOBAL(init_hang_s), {NULL, 0}};
static const Entry NUMBERS[] = {
    NUMBER(mean_w), NUMBER(amplitude_w), NUMBER(period_s), NUMBER(phase_s), NUMBER(counter),
    NUMBER(counter_refresh_ms), NUMBER(power), NUMBER(power_refresh_ms), NUMBER(instant_ms),
    NUMBER(average_ms), NUMBER(module_w), NUMBER(fields), NUMBER(default_limit_w), NUMBER(limit_w),
    NUMBER(util_pct), NUMBER(memory_total), NUMBER(memory_used), NUMBER(temperature_c),
    NUMBER(sm_clock_mhz), NUMBER(reasons), NUMBER(pid), NUMBER(lost_from_s), NUMBER(lost_to_s), NUMBER(reset_at_s),
    NUMBER(unknown_p), NUMBER(hang_from_s), NUMBER(hang_s), NUMBER(samples_ms), NUMBER(samples_kept),
    NUMBER(counter_fail_p), NUMBER(power_fail_p), NUMBER(call_fail_p), NUMBER(frozen_from_s),
    NUMBER(frozen_to_s), NUMBER(jump_at_s), NUMBER(jump_j), NUMBER(counter_scale),
    NUMBER(absurd_from_s), NUMBER(absurd_to_s), NUMBER(absurd_w), NUMBER(stuck_from_s), {NULL, 0}};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Config config;
static struct stat config_read; /* the file that `config` is from */

static void set_number(void *base, const Entry *table, const char *key, const char *value) {
    for (; table->key; table++)
        if (!strcmp(table->key, key)) *(double *)((char *)base + table->at) = strtod(value, NULL);
}

static void set_device(Device *device, const char *key, const char *value) {
    if (!strcmp(key, "name")) snprintf(device->name, sizeof device->name, "%s", value);
    else if (!strcmp(key, "uuid")) snprintf(device->uuid, sizeof device->uuid, "%s", value);
    else if (!strcmp(key, "wave")) snprintf(device->wave, sizeof device->wave, "%s", value);
    else if (!strcmp(key, "mig")) snprintf(device->mig, sizeof device->mig, "%s", value);
    else set_number(device, NUMBERS, key, value);
}

static void set_line(Config *into, char *line) {
    char *value = strchr(line, ' ');
    if (!value) return;
    *value++ = 0;
    value[strcspn(value, "\n")] = 0;
    if (strncmp(line, "dev.", 4)) {
        set_number(into, GLOBALS, line, value);
        return;
    }
    char *key = strchr(line + 4, '.');
    if (!key) return;
    *key++ = 0;
    for (int i = 0; i < MAX_DEVICES; i++)
        if (!strcmp(line + 4, "*") || atoi(line + 4) == i) set_device(&into->device[i], key, value);
}

/* Called with the lock held. The writer replaces the file by rename, so a read sees a whole one, and
 * two in one tick of the kernel's clock are still two inodes. */
static void reread_config(void) {
    const char *path = getenv("NVML_STUB_CONFIG");
    struct stat now;
    if (!path || stat(path, &now)) return;
    if (now.st_ino == config_read.st_ino && now.st_mtim.tv_sec == config_read.st_mtim.tv_sec
        && now.st_mtim.tv_nsec == config_read.st_mtim.tv_nsec) return;
    FILE *file = fopen(path, "r");
    if (!file) return;
    Config fresh = {0};
    char line[256];
    while (fgets(line, sizeof line, file)) set_line(&fresh, line);
    fclose(file);
    config = fresh;
    config_read = now;
}

/* ---- the truth ------------------------------------------------------------------------------- */

static double clock_ns(clockid_t id) {
    struct timespec now;
    clock_gettime(id, &now);
    return now.tv_sec * 1e9 + now.tv_nsec;
}

/* CLOCK_BOOTTIME fits a double to the nanosecond for the first hundred days of uptime. */
static double seconds_now(double t0_ns) {
    return config.clock_s > 0 ? config.clock_s : (clock_ns(CLOCK_BOOTTIME) - t0_ns) / 1e9;
}

/* Wall-clock time of `t`. The two clocks are read until nothing came between the readings; where the
 * time stands still, they are one clock. */
static double wall_us(double t0_ns, double t) {
    double before, wall, after;
    if (config.clock_s > 0) return (t0_ns + t * 1e9) / 1e3;
    do {
        before = clock_ns(CLOCK_BOOTTIME);
        wall = clock_ns(CLOCK_REALTIME);
        after = clock_ns(CLOCK_BOOTTIME);
    } while (after - before > 20000);
    return (wall - (before - t0_ns) + t * 1e9) / 1e3;
}

/* True energy in J from time 0 to t. */
static double energy_j(const Device *device, double t) {
    double a = device->amplitude_w, period = device->period_s, x = t + device->phase_s;
    double e = device->mean_w * t;
    if (!strcmp(device->wave, "square")) {
        double in = fmod(fmod(x, period) + period, period);
        e += a * (in < period / 2 ? in : period - in);
    } else if (!strcmp(device->wave, "sine")) {
        e += a * period / (2 * M_PI) * (1 - cos(2 * M_PI * x / period));
    }
    return e;
}

static double refreshed_s(double t, double refresh_ms) {
    return refresh_ms > 0 ? floor(t * 1000 / refresh_ms) * refresh_ms / 1000 : t;
}

static int within(double from_s, double to_s, double t) {
    return from_s > 0 && t >= from_s && (to_s <= 0 || t < to_s);
}

/* What the sensor shows of the time `window_ms` before `end`. */
static unsigned mean_mw(const Device *device, double end, double window_ms) {
    double length = window_ms / 1000;
    if (within(device->absurd_from_s, device->absurd_to_s, end))
        return (unsigned)lround(1000 * device->absurd_w);
    return (unsigned)lround(1000 * (energy_j(device, end) - energy_j(device, end - length)) / length);
}

/* What the sensor shows at t: the mean over `window_ms` before its last refresh. */
static unsigned sensed_mw(const Device *device, double t, double window_ms) {
    if (within(device->stuck_from_s, 0, t)) t = device->stuck_from_s;
    return mean_mw(device, refreshed_s(t, device->power_refresh_ms), window_ms);
}

/* ---- the library's state --------------------------------------------------------------------- */

typedef struct { int device, instance, generation; } Handle;  /* instance -1: the whole GPU */
typedef const Handle *nvmlDevice_t;

static Handle handles[MAX_GENERATIONS][MAX_DEVICES][1 + MAX_INSTANCES];
static int references, generation;
static double reloads_seen_s;  /* the reload that made this generation's handles */

__attribute__((constructor)) static void seed(void) { srand48(1); } /* unseeded it begins with zeros */

static int passed(double at_s, double t) { return at_s > 0 && t >= at_s; }

static int by_chance(double p) {
    if (p <= 0) return 0;
    pthread_mutex_lock(&lock);
    int hit = drand48() < p;
    pthread_mutex_unlock(&lock);
    return hit;
}

static const Handle *handle_of(int device, int instance) {
    Handle *handle = &handles[generation % MAX_GENERATIONS][device][1 + instance];
    *handle = (Handle){device, instance, generation};
    return handle;
}

/* A driver reload: everything is forgotten, and old handles mean nothing any more. */
static void notice_reload(double t) {
    if (passed(config.reload_at_s, t) && reloads_seen_s != config.reload_at_s) {
        reloads_seen_s = config.reload_at_s;
        references = 0;
        generation++;
    }
}

static nvmlReturn_t enter_library(double *t) {
    pthread_mutex_lock(&lock);
    reread_config();
    *t = seconds_now(config.t0_ns);
    notice_reload(*t);
    nvmlReturn_t result = references > 0 ? SUCCESS : UNINITIALIZED;
    pthread_mutex_unlock(&lock);
    return result;
}

/* Every call on a device begins here: its settings now, and the faults that it shows. */
static nvmlReturn_t enter(nvmlDevice_t handle, Device *device, double *t) {
    nvmlReturn_t result = enter_library(t);
    if (result) return result;
    for (;;) {
        pthread_mutex_lock(&lock);
        reread_config();
        *t = seconds_now(config.t0_ns);
        int valid = handle && handle->generation == generation && handle->device < config.devices;
        if (valid) *device = config.device[handle->device];
        int unknown = valid && drand48() < device->unknown_p;
        pthread_mutex_unlock(&lock);
        if (!valid) return INVALID_ARGUMENT;
        int hung = passed(device->hang_from_s, *t)
                   && (device->hang_s < 0 || *t < device->hang_from_s + device->hang_s);
        if (!hung && unknown) return UNKNOWN;
        if (!hung) break;
        usleep(10000);
    }
    int lost = passed(device->lost_from_s, *t) && (device->lost_to_s <= 0 || *t < device->lost_to_s);
    return lost ? GPU_IS_LOST : SUCCESS;
}

#define ENTER(handle) \
    Device d; \
    double t; \
    nvmlReturn_t entered = enter(handle, &d, &t); \
    if (entered) return entered;
#define ENTER_WHOLE(handle) \
    ENTER(handle) \
    if (handle->instance >= 0) return NOT_SUPPORTED;

nvmlReturn_t nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    pthread_mutex_lock(&lock);
    reread_config();
    double t = seconds_now(config.t0_ns), hang_s = config.init_hang_s;
    notice_reload(t);
    nvmlReturn_t result = (nvmlReturn_t)config.init_error;
    int reloading = passed(config.reload_at_s, t) && t < config.reload_at_s + config.reload_s;
    if (reloading) result = DRIVER_NOT_LOADED;
    if (!result) references++;
    pthread_mutex_unlock(&lock);
    if (hang_s > 0) usleep((useconds_t)(hang_s * 1e6));
    return result;
}
nvmlReturn_t nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

nvmlReturn_t nvmlShutdown(void) {
    pthread_mutex_lock(&lock);
    nvmlReturn_t result = references > 0 ? SUCCESS : UNINITIALIZED;
    if (!result) references--;
    pthread_mutex_unlock(&lock);
    return result;
}

const char *nvmlErrorString(nvmlReturn_t result) {
    switch (result) {
    case SUCCESS: return "Success";
    case UNINITIALIZED: return "Uninitialized";
    case INVALID_ARGUMENT: return "Invalid Argument";
    case NOT_SUPPORTED: return "Not Supported";
    case NO_PERMISSION: return "Insufficient Permissions";
    case NOT_FOUND: return "Not Found";
    case DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case GPU_IS_LOST: return "GPU is lost";
    default: return "Unknown Error";
    }
}

static nvmlReturn_t put_text(char *into, unsigned size, const char *text) {
    return (unsigned)snprintf(into, size, "%s", text) < size ? SUCCESS : INSUFFICIENT_SIZE;
}

nvmlReturn_t nvmlSystemGetDriverVersion(char *into, unsigned size) {
    return put_text(into, size, "560.35.03");
}
nvmlReturn_t nvmlSystemGetNVMLVersion(char *into, unsigned size) {
    return put_text(into, size, "12.560.35.03");
}
nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 12060; return SUCCESS; }

/* ---- finding devices ------------------------------------------------------------------------- */

static int instances_of(const Device *device, int slices[MAX_INSTANCES]) {
    int count = sscanf(device->mig, "%d %d %d %d %d %d %d", &slices[0], &slices[1], &slices[2],
                       &slices[3], &slices[4], &slices[5], &slices[6]);
    return count > 0 ? count : 0;
}

static void uuid_of(int index, int instance, const Device *device, char into[96]) {
    if (instance >= 0) snprintf(into, 96, "MIG-%08x-0000-4000-8000-%012x", 0xa0 + instance, index);
    else if (device->uuid[0]) memcpy(into, device->uuid, 96);
    else snprintf(into, 96, "GPU-%08x-5742-4ab5-8c01-%012x", 0x8f2a1b00 + 0x01010101 * index, index);
}

/* NVML_STUB_SHOWN=0,2 hides all other devices from this process, as a control group does. */
static int is_shown(int index) {
    const char *shown = getenv("NVML_STUB_SHOWN");
    for (; shown && atoi(shown) != index; shown++)
        if (!(shown = strchr(shown, ','))) return 0;
    return index < config.devices;
}

/* The device that has this number among those that are shown; -1: none. */
static int shown_at(unsigned number) {
    for (int index = 0; index < config.devices; index++)
        if (is_shown(index) && number-- == 0) return index;
    return -1;
}

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *count) {
    double t;
    nvmlReturn_t result = enter_library(&t);
    *count = 0;
    if (!result) while (shown_at(*count) >= 0) ++*count;
    return result;
}

static nvmlReturn_t find(int index, int instance, nvmlDevice_t *into) {
    pthread_mutex_lock(&lock);
    const Handle *handle = handle_of(index, instance);
    pthread_mutex_unlock(&lock);
    ENTER(handle)
    *into = handle;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *into) {
    double t;
    nvmlReturn_t result = enter_library(&t);
    if (result) return result;
    int at = shown_at(index);
    return at >= 0 ? find(at, -1, into) : INVALID_ARGUMENT;
}

nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *into) {
    double t;
    nvmlReturn_t result = enter_library(&t);
    if (result) return result;
    pthread_mutex_lock(&lock);
    Config now = config;
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < now.devices; i++) {
        if (!is_shown(i)) continue;
        int slices[MAX_INSTANCES], count = instances_of(&now.device[i], slices);
        for (int instance = -1; instance < count; instance++) {
            char known[96];
            uuid_of(i, instance, &now.device[i], known);
            if (!strcmp(known, uuid)) return find(i, instance, into);
        }
    }
    return NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned *index) {
    ENTER(device)
    *index = 0;
    while (shown_at(*index) != device->device) ++*index;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *into, unsigned size) {
    ENTER(device)
    char name[160];
    int slices[MAX_INSTANCES];
    if (device->instance < 0) return put_text(into, size, d.name);
    instances_of(&d, slices);
    int size_g = slices[device->instance];
    snprintf(name, sizeof name, "%s MIG %dg.%dgb", d.name, size_g, 10 * size_g);
    return put_text(into, size, name);
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *into, unsigned size) {
    ENTER(device)
    char uuid[96];
    uuid_of(device->device, device->instance, &d, uuid);
    return put_text(into, size, uuid);
}

/* ---- MIG ------------------------------------------------------------------------------------- */

nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned *current, unsigned *pending) {
    ENTER_WHOLE(device)
    *current = *pending = d.mig[0] != 0;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned *count) {
    ENTER_WHOLE(device)
    *count = MAX_INSTANCES;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned index,
                                                 nvmlDevice_t *into) {
    ENTER_WHOLE(device)
    int slices[MAX_INSTANCES];
    return (int)index < instances_of(&d, slices) ? find(device->device, (int)index, into) : NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetGpuInstanceId(nvmlDevice_t device, unsigned *id) {
    ENTER(device)
    *id = (unsigned)device->instance + 1;
    return device->instance >= 0 ? SUCCESS : NOT_SUPPORTED;
}

nvmlReturn_t nvmlDeviceGetComputeInstanceId(nvmlDevice_t device, unsigned *id) {
    ENTER(device)
    *id = 0;
    return device->instance >= 0 ? SUCCESS : NOT_SUPPORTED;
}

typedef struct {
    unsigned multiprocessors, copy_engines, decoders, encoders, jpeg, ofa, gpu_slices, compute_slices;
    unsigned long long memory_mb;
} nvmlDeviceAttributes_t;

nvmlReturn_t nvmlDeviceGetAttributes_v2(nvmlDevice_t device, nvmlDeviceAttributes_t *into) {
    ENTER(device)
    int slices[MAX_INSTANCES];
    if (device->instance < 0 || instances_of(&d, slices) <= device->instance) return NOT_SUPPORTED;
    unsigned n = (unsigned)slices[device->instance];
    *into = (nvmlDeviceAttributes_t){.multiprocessors = 14 * n, .gpu_slices = n, .compute_slices = n,
                                     .memory_mb = 10240ull * n};
    return SUCCESS;
}

/* ---- energy and power ------------------------------------------------------------------------ */

static nvmlReturn_t total_energy(int index, const Device *d, double t, uint64_t *mj, double *at) {
    if (!d->counter) return NOT_SUPPORTED;
    if (by_chance(d->counter_fail_p)) return UNKNOWN;
    double base_mj = 1e9 * (index + 1), since = 0;
    if (passed(config.reload_at_s, t)) base_mj = 0, since = config.reload_at_s;
    if (passed(d->reset_at_s, t) && d->reset_at_s > since) base_mj = 0, since = d->reset_at_s;
    *at = refreshed_s(t, d->counter_refresh_ms);
    double until = within(d->frozen_from_s, d->frozen_to_s, *at) ? d->frozen_from_s : *at;
    double value = base_mj + 1000 * (energy_j(d, until) - energy_j(d, since));
    if (passed(d->jump_at_s, *at)) value += 1000 * d->jump_j;
    if (d->counter_scale > 0) value *= d->counter_scale;
    *mj = value > 0 ? (uint64_t)value : 0;
    return SUCCESS;
}

static nvmlReturn_t power(const Device *d, double t, double window_ms, unsigned *mw) {
    if (!d->power || window_ms <= 0) return NOT_SUPPORTED;
    if (by_chance(d->power_fail_p)) return UNKNOWN;
    *mw = sensed_mw(d, t, window_ms);
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t device, unsigned long long *mj) {
    ENTER_WHOLE(device)
    uint64_t value = 0;
    double at;
    nvmlReturn_t result = total_energy(device->device, &d, t, &value, &at);
    *mj = value;
    return result;
}

nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned *mw) {
    ENTER_WHOLE(device)
    return power(&d, t, d.average_ms > 0 ? d.average_ms : d.instant_ms, mw);
}

typedef struct {
    unsigned field, scope;
    long long timestamp_us, latency_us;
    int type;
    nvmlReturn_t result;
    union { double f64; unsigned u32; unsigned long long u64; } value;
} nvmlFieldValue_t;
enum { TYPE_UINT = 1, TYPE_ULONGLONG = 3 };

static void field_value(int index, const Device *d, double t, nvmlFieldValue_t *v) {
    double at = refreshed_s(t, d->power_refresh_ms);
    unsigned mw = 0;
    int module = v->scope == SCOPE_MODULE;
    v->type = TYPE_UINT;
    if (v->field == FIELD_TOTAL_ENERGY) {
        uint64_t mj = 0;
        v->type = TYPE_ULONGLONG;
        v->result = total_energy(index, d, t, &mj, &at);
        v->value.u64 = mj;
    } else if ((v->field == FIELD_POWER_INSTANT || v->field == FIELD_POWER_AVERAGE)
               && (v->scope == SCOPE_GPU || (module && d->module_w > 0))) {
        v->result = power(d, t, v->field == FIELD_POWER_INSTANT ? d->instant_ms : d->average_ms, &mw);
        v->value.u32 = mw + (module ? (unsigned)(1000 * d->module_w) : 0);
    } else {
        v->result = NOT_SUPPORTED;
    }
    v->timestamp_us = (long long)wall_us(config.t0_ns, config.stamp_call ? t : at);
    v->latency_us = 0;
}

nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int count, nvmlFieldValue_t *values) {
    ENTER_WHOLE(device)
    if (!d.fields) return NOT_SUPPORTED;
    if (by_chance(d.call_fail_p)) return UNKNOWN;
    for (int i = 0; i < count; i++) field_value(device->device, &d, t, &values[i]);
    return SUCCESS;
}

typedef struct {
    unsigned long long timestamp_us;
    union { double f64; unsigned u32; unsigned long long u64; } value;
} nvmlSample_t;
enum { TOTAL_POWER_SAMPLES = 0 };

/* The driver's own samples of power that are newer than `seen_us`, oldest first; each is the mean
 * over the time since the one before. */
nvmlReturn_t nvmlDeviceGetSamples(nvmlDevice_t device, int type, unsigned long long seen_us,
                                  int *value_type, unsigned *count, nvmlSample_t *samples) {
    ENTER_WHOLE(device)
    if (type != TOTAL_POWER_SAMPLES || d.samples_ms <= 0 || !d.power) return NOT_SUPPORTED;
    if (by_chance(d.call_fail_p)) return UNKNOWN;
    double step = d.samples_ms / 1000;
    long long last = (long long)floor(t / step), kept = (long long)d.samples_kept;
    double zero_us = wall_us(config.t0_ns, 0);
    unsigned found = 0;
    for (long long k = last - kept + 1; k <= last; k++) {
        unsigned long long at_us = (unsigned long long)(zero_us + k * step * 1e6);
        if (at_us <= seen_us) continue;
        if (samples && found < *count)
            samples[found] = (nvmlSample_t){at_us, {.u32 = mean_mw(&d, k * step, d.samples_ms)}};
        found++;
    }
    *value_type = TYPE_UINT;
    if (samples && found > *count) return INSUFFICIENT_SIZE;
    *count = found;
    return found ? SUCCESS : NOT_FOUND;
}

#define LIMIT(function, member) \
    nvmlReturn_t function(nvmlDevice_t device, unsigned *mw) { \
        ENTER_WHOLE(device) \
        *mw = (unsigned)(1000 * d.member); \
        return d.member > 0 ? SUCCESS : NOT_SUPPORTED; \
    }
LIMIT(nvmlDeviceGetPowerManagementDefaultLimit, default_limit_w)
LIMIT(nvmlDeviceGetPowerManagementLimit, limit_w)
LIMIT(nvmlDeviceGetEnforcedPowerLimit, limit_w)

nvmlReturn_t nvmlDeviceGetPowerManagementLimitConstraints(nvmlDevice_t device, unsigned *low,
                                                          unsigned *high) {
    ENTER_WHOLE(device)
    *low = 100000;
    *high = (unsigned)(1000 * d.default_limit_w);
    return SUCCESS;
}

/* ---- vitals, and what other tools ask for ---------------------------------------------------- */

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, unsigned into[2]) {
    ENTER_WHOLE(device)
    into[0] = into[1] = (unsigned)d.util_pct;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, unsigned long long into[3]) {
    ENTER(device)
    int slices[MAX_INSTANCES], count = instances_of(&d, slices);
    double share = device->instance >= 0 && device->instance < count ? slices[device->instance] / 7.0 : 1;
    into[0] = (unsigned long long)(d.memory_total * share);
    into[2] = (unsigned long long)(d.memory_used * share);
    into[1] = into[0] - into[2];
    return SUCCESS;
}

#define VITAL(function, member) \
    nvmlReturn_t function(nvmlDevice_t device, unsigned which, unsigned *into) { \
        ENTER_WHOLE(device) \
        (void)which; \
        *into = (unsigned)d.member; \
        return SUCCESS; \
    }
#define REASONS(function) \
    nvmlReturn_t function(nvmlDevice_t device, unsigned long long *into) { \
        ENTER_WHOLE(device) \
        *into = (unsigned long long)d.reasons; \
        return SUCCESS; \
    }
#define CONSTANT(function, value) \
    nvmlReturn_t function(nvmlDevice_t device, unsigned *into) { \
        ENTER(device) \
        *into = value; \
        return SUCCESS; \
    }
VITAL(nvmlDeviceGetTemperature, temperature_c)
VITAL(nvmlDeviceGetClockInfo, sm_clock_mhz)
REASONS(nvmlDeviceGetCurrentClocksEventReasons)
REASONS(nvmlDeviceGetCurrentClocksThrottleReasons)
CONSTANT(nvmlDeviceGetPerformanceState, 0)
CONSTANT(nvmlDeviceGetComputeMode, 0)
CONSTANT(nvmlDeviceGetPowerManagementMode, 1)
CONSTANT(nvmlDeviceGetArchitecture, 7) /* Ampere */

typedef struct {
    unsigned pid;
    unsigned long long memory;
    unsigned gpu_instance, compute_instance;
} nvmlProcessInfo_t;

/* One process, `pid`, or none. */
nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned *count,
                                                     nvmlProcessInfo_t *into) {
    ENTER(device)
    unsigned room = *count;
    *count = d.pid > 0;
    if (*count == 0) return SUCCESS;
    if (room == 0 || into == NULL) return INSUFFICIENT_SIZE;
    *into = (nvmlProcessInfo_t){.pid = (unsigned)d.pid, .memory = 1 << 30};
    return SUCCESS;
}
CONSTANT(nvmlDeviceGetGraphicsRunningProcesses_v3, 0)
